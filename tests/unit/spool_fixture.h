/* What the spool's tests share: a directory, a meter that remembers one text, batches that can be told by number. */
#ifndef TESTS_SPOOL_FIXTURE_H
#define TESTS_SPOOL_FIXTURE_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/spool.h"
#include "tests/unit/tree_fixture.h"

enum { EPOCH = 1700000000 };

/* The meter of these tests: its state is the last text that it was given. */
struct meter {
    uint64_t covered;
    unsigned snapshots, deltas;
    char last[64];
};

static char directory[64];

/* A spool_apply for struct meter. */
static inline enum sg_error apply(void *arg, enum spool_record_kind kind, uint64_t seq, const uint8_t *bytes,
                                  size_t length, struct sg_fault *f)
{
    (void)f;
    struct meter *m = arg;
    cr_assert_lt(length, sizeof m->last);
    if (length) memcpy(m->last, bytes, length);
    m->last[length] = '\0';
    m->covered = seq;
    if (kind == SPOOL_SNAPSHOT) m->snapshots++;
    if (kind == SPOOL_BATCH) m->deltas++;
    return SG_OK;
}

/* Makes `directory`. */
static inline void make_directory(void)
{
    snprintf(directory, sizeof directory, P_tmpdir "/sandglass-spool-XXXXXX");
    cr_assert(mkdtemp(directory));
}

/* Removes it with what is in it. */
static inline void remove_directory(void)
{
    remove_tree(directory);
}

/* Small segments in `directory`. */
static inline struct spool_options options(void)
{
    return (struct spool_options){
        .directory = directory, .runner = "r-1", .now = {EPOCH}, .bytes_max = 128 << 20, .segment_bytes = 1000};
}

/* Opens, or the test fails; *m is what recovery said. */
static inline void must_open(struct spool *s, const struct spool_options *o, struct meter *m)
{
    struct sg_fault f = {0};
    *m = (struct meter){0};
    enum sg_error e = spool_open(s, o, apply, m, &f);
    cr_assert_eq(e, SG_OK, "%s", f.text);
}

/* Batch seq of these tests: its bytes can be told from its number. */
static inline size_t batch_of(uint64_t seq, uint8_t out[static 512])
{
    size_t length = 20 + seq * 37 % 400;
    for (size_t i = 0; i < length; i++) out[i] = (uint8_t)(seq * 131 + i * 7);
    return length;
}

/* Appends the next batch. */
static inline enum sg_error append(struct spool *s, struct sg_fault *f)
{
    uint8_t batch[512];
    char state[64];
    uint64_t seq = spool_last_seq(s) + 1;
    size_t length = batch_of(seq, batch);
    int n = snprintf(state, sizeof state, "after %llu", (unsigned long long)seq);
    return spool_append(s, batch, length, (uint8_t *)state, (size_t)n, f);
}

/* Rolls with the state of the last one. */
static inline enum sg_error roll(struct spool *s, struct sg_fault *f)
{
    char state[64];
    int n = snprintf(state, sizeof state, "after %llu", (unsigned long long)spool_last_seq(s));
    return spool_roll(s, (uint8_t *)state, (size_t)n, f);
}

/* count times append and sync, rolling when it is asked for. */
static inline void commit(struct spool *s, unsigned count)
{
    struct sg_fault f = {0};
    for (; count; count--) {
        if (spool_wants_roll(s)) cr_assert_eq(roll(s, &f), SG_OK, "%s", f.text);
        cr_assert_eq(append(s, &f), SG_OK, "%s", f.text);
        cr_assert_eq(spool_sync(s, &f), SG_OK, "%s", f.text);
    }
}

/* Reads batches first..last and compares. */
static inline void expect_batches(struct spool *s, uint64_t first, uint64_t last)
{
    struct sg_fault f = {0};
    for (uint64_t seq = first; seq <= last; seq++) {
        uint8_t want[512];
        const uint8_t *got;
        size_t length, want_length = batch_of(seq, want);
        cr_assert_eq(spool_read(s, seq, &got, &length, &f), SG_OK, "%s", f.text);
        cr_assert_eq(length, want_length);
        cr_assert(memcmp(got, want, length) == 0, "batch %llu differs", (unsigned long long)seq);
    }
}

#endif
