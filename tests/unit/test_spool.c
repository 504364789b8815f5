/* The spool against the disk and against its faults: what was synced is there again, what was torn is cut, what is
 * damaged stops, what is full refuses first. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "collector/spool.h"
#include "proto/batch.h"

enum { STATE_BYTES_MAX = 1 << 20, EPOCH = 1700000000 };

/* The meter of these tests: its state is the last number it was told, as text, and all that was applied. */
struct meter {
    uint64_t covered;
    unsigned snapshots, deltas;
    char last[64];
};

static enum sg_error apply(void *arg, enum spool_record_kind kind, uint64_t seq, const uint8_t *bytes, size_t length,
                           struct sg_fault *f)
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

static char directory[64];

static void make_directory(void)
{
    snprintf(directory, sizeof directory, "/tmp/sandglass-spool-XXXXXX");
    cr_assert(mkdtemp(directory));
}

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *at)
{
    (void)status, (void)kind, (void)at;
    return remove(path);
}

static void remove_directory(void)
{
    cr_assert_eq(nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS), 0);
}

TestSuite(spool, .init = make_directory, .fini = remove_directory);

static struct spool_options options(void)
{
    return (struct spool_options){
        .directory = directory, .runner = "r-1", .now = {EPOCH}, .bytes_max = 128 << 20, .segment_bytes = 1000};
}

static void must_open(struct spool *s, const struct spool_options *o, struct meter *m)
{
    struct sg_fault f = {0};
    *m = (struct meter){0};
    enum sg_error e = spool_open(s, o, apply, m, &f);
    cr_assert_eq(e, SG_OK, "%s", f.text);
}

/* Batch seq of these tests: its bytes can be told from its number. */
static size_t batch_of(uint64_t seq, uint8_t out[static 512])
{
    size_t length = 20 + seq * 37 % 400;
    for (size_t i = 0; i < length; i++) out[i] = (uint8_t)(seq * 131 + i * 7);
    return length;
}

static enum sg_error append(struct spool *s, struct sg_fault *f)
{
    uint8_t batch[512];
    char state[64];
    uint64_t seq = spool_last_seq(s) + 1;
    size_t length = batch_of(seq, batch);
    int n = snprintf(state, sizeof state, "after %llu", (unsigned long long)seq);
    return spool_append(s, batch, length, (uint8_t *)state, (size_t)n, f);
}

static enum sg_error roll(struct spool *s, struct sg_fault *f)
{
    char state[64];
    int n = snprintf(state, sizeof state, "after %llu", (unsigned long long)spool_last_seq(s));
    return spool_roll(s, (uint8_t *)state, (size_t)n, f);
}

static void commit(struct spool *s, unsigned count)
{
    struct sg_fault f = {0};
    for (; count; count--) {
        if (spool_wants_roll(s)) cr_assert_eq(roll(s, &f), SG_OK, "%s", f.text);
        cr_assert_eq(append(s, &f), SG_OK, "%s", f.text);
        cr_assert_eq(spool_sync(s, &f), SG_OK, "%s", f.text);
    }
}

static void expect_batches(struct spool *s, uint64_t first, uint64_t last)
{
    struct sg_fault f = {0};
    for (uint64_t seq = first; seq <= last; seq++) {
        uint8_t want[512];
        const uint8_t *got;
        size_t length, want_length = batch_of(seq, want);
        cr_assert_eq(spool_read(s, seq, &got, &length, &f), SG_OK, "%s", f.text);
        cr_assert_eq(length, want_length);
        cr_assert_arr_eq(got, want, length);
    }
}

Test(spool, a_new_spool_is_empty_and_takes_its_epoch_from_the_time)
{
    struct spool s;
    struct meter m;
    struct spool_options o = options();
    must_open(&s, &o, &m);
    cr_assert_eq(spool_epoch(&s), EPOCH);
    cr_assert_eq(spool_last_seq(&s), 0);
    cr_assert_eq(m.snapshots, 1);
    cr_assert_eq(m.covered, 0);
    spool_close(&s);
    o.now.v++;
    must_open(&s, &o, &m);
    cr_assert_eq(spool_epoch(&s), EPOCH, "an epoch is for the life of a spool");
    spool_close(&s);
}

Test(spool, what_was_committed_is_there_again_over_many_segments)
{
    struct spool s;
    struct meter m;
    struct spool_options o = options();
    must_open(&s, &o, &m);
    commit(&s, 40);
    cr_assert_gt(s.segment_count, 5u);
    uint8_t sha[SPOOL_SHA256_BYTES];
    memcpy(sha, spool_previous_sha256(&s), sizeof sha);
    spool_close(&s);

    must_open(&s, &o, &m);
    cr_assert_eq(spool_last_seq(&s), 40);
    cr_assert_eq(spool_durable_seq(&s), 40);
    cr_assert_eq(m.snapshots, 1);
    cr_assert_eq(m.covered, 40);
    cr_assert_str_eq(m.last, "after 40");
    cr_assert_arr_eq(sha, spool_previous_sha256(&s), sizeof sha);
    expect_batches(&s, 1, 40);
    expect_batches(&s, 7, 9);
    commit(&s, 3);
    expect_batches(&s, 38, 43);
    spool_close(&s);
}

Test(spool, the_digest_of_the_last_batch_survives_a_roll_without_batches)
{
    struct spool s;
    struct meter m;
    struct spool_options o = options();
    struct sg_fault f = {0};
    must_open(&s, &o, &m);
    commit(&s, 1);
    uint8_t batch[512], sha[SPOOL_SHA256_BYTES];
    size_t length = batch_of(1, batch);
    batch_sha256(batch, length, sha);
    cr_assert_eq(roll(&s, &f), SG_OK);
    cr_assert_eq(roll(&s, &f), SG_ERR_STATE, "a segment without batches is not rolled");
    spool_close(&s);
    must_open(&s, &o, &m);
    cr_assert_arr_eq(sha, spool_previous_sha256(&s), sizeof sha);
    cr_assert_str_eq(m.last, "after 1");
    cr_assert_eq(m.deltas, 0);
    spool_close(&s);
}

Test(spool, delivered_segments_are_deleted_and_the_cursor_is_kept)
{
    struct spool s;
    struct meter m;
    struct spool_options o = options();
    struct sg_fault f = {0};
    must_open(&s, &o, &m);
    commit(&s, 40);
    size_t before = s.segment_count;
    uint64_t bytes = spool_bytes(&s);
    cr_assert_eq(spool_delivered(&s, 30, &f), SG_OK);
    cr_assert_eq(spool_save_cursor(&s, &f), SG_OK);
    cr_assert_lt(s.segment_count, before);
    cr_assert_lt(spool_bytes(&s), bytes);
    expect_batches(&s, 31, 40);
    spool_close(&s);
    must_open(&s, &o, &m);
    cr_assert_eq(spool_delivered_seq(&s), 30);
    expect_batches(&s, 31, 40);
    cr_assert_eq(spool_delivered(&s, 40, &f), SG_OK);
    cr_assert_eq(s.segment_count, 1u, "the newest is never deleted");
    spool_close(&s); /* the cursor stays behind */
    must_open(&s, &o, &m);
    cr_assert_geq(spool_delivered_seq(&s), 30);
    cr_assert_eq(spool_last_seq(&s), 40);
    spool_close(&s);
}

Test(spool, a_second_collector_is_refused)
{
    struct spool s, other;
    struct meter m;
    struct spool_options o = options();
    struct sg_fault f = {0};
    must_open(&s, &o, &m);
    cr_assert_eq(spool_open(&other, &o, apply, &m, &f), SG_ERR_LOCKED);
    cr_assert(strstr(f.text, "another collector"));
    spool_close(&s);
    must_open(&other, &o, &m);
    spool_close(&other);
}

Test(spool, another_runners_spool_is_refused)
{
    struct spool s;
    struct meter m;
    struct spool_options o = options();
    struct sg_fault f = {0};
    must_open(&s, &o, &m);
    spool_close(&s);
    o.runner = "r-2";
    cr_assert_eq(spool_open(&s, &o, apply, &m, &f), SG_ERR_CONFIG);
}
