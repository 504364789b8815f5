/* What tests of the rollup share: real batches in, the words of a flush out. */
#ifndef TESTS_ROLLUP_FIXTURE_H
#define TESTS_ROLLUP_FIXTURE_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/rollup/rollup.h"
#include "proto/keys.h"

/* 2025-11-23T08:00:00Z, the start of an hour */
#define HOUR INT64_C(1763884800000)

static struct rollup r;
static struct batch_builder *builder;
static struct batch_decoder decoder;
static struct rollup_flush flush;
static uint64_t seq, next_offset;

/* Every shard's entry of every taken partition. */
static inline void know(const char *entry)
{
    struct wordlist none = {0};
    struct sg_fault f;
    struct rollup_stored stored = {entry, strlen(entry), &none, &none};
    for (uint32_t s = 0; s < r.shards; s++)
        for (uint32_t p = 0; p < r.partitions; p++)
            if (r.partition[p].taken) cr_assert_eq(rollup_know(&r, s, p, &stored, &f), SG_OK);
}

/* Partition 0 is taken, and nothing is stored. */
static inline void begin_with(uint32_t shards, uint32_t partitions)
{
    rollup_init(&r, shards, partitions);
    builder = batch_builder_new();
    cr_assert_eq(batch_decoder_init(&decoder), SG_OK);
    rollup_take(&r, 0);
    know("");
    seq = next_offset = 0;
}

static inline void end(void)
{
    rollup_flush_destroy(&flush);
    batch_builder_free(builder);
    batch_decoder_destroy(&decoder);
    rollup_destroy(&r);
}

static inline struct wall_ms at(int64_t ms)
{
    return (struct wall_ms){HOUR + ms};
}

static inline uint32_t sandbox_of(const char *id, const char *team, const char *project)
{
    const struct batch_sandbox s = {id, team, project, 2, 1024, 4096};
    uint32_t index;
    cr_assert_eq(batch_builder_sandbox(builder, &s, &index), SG_OK);
    return index;
}

static inline uint32_t sandbox(const char *id)
{
    return sandbox_of(id, "t1", "p1");
}

static inline void slice(uint32_t s, int64_t start, uint32_t length, uint64_t cpu)
{
    const struct batch_rise rise = {.cpu_us = cpu, .net_rx_bytes = 1, .mem_bytes = 100 + cpu};
    cr_assert_eq(batch_builder_slice(builder, s, at(start), length, &rise), SG_OK);
}

/* Reads come back empty until what waits is applied. */
static inline void nothing_is_stored(void)
{
    struct rollup_read *q = calloc(r.shards, sizeof *q);
    do {
        while (rollup_needs(&r, q))
            for (uint32_t s = 0; s < r.shards; s++)
                for (size_t i = 0; i < q[s].count; i++) cr_assert_eq(rollup_loaded(&r, &q[s], i, NULL, 0), SG_OK);
    } while (!rollup_apply(&r));
    for (uint32_t s = 0; s < r.shards; s++) rollup_read_destroy(&q[s]);
    free(q);
}

static const uint8_t no_sha256[SHA256_BYTES];

/* What was appended waits in a partition under this head. */
static inline void enqueue_under(uint32_t partition, const struct batch_head *head)
{
    const uint8_t *bytes;
    size_t length;
    struct batch b;
    uint64_t offset = rollup_next(&r, partition);
    cr_assert_eq(batch_builder_seal(builder, head, &bytes, &length), SG_OK);
    cr_assert_eq(batch_decode(&decoder, bytes, length, &b, NULL), SG_OK);
    rollup_enqueue(&r, partition, offset, at((int64_t)offset), &b, no_sha256);
}

/* Likewise, as batch `number` of an epoch. */
static inline void enqueue_in(uint32_t partition, uint64_t epoch, uint64_t number)
{
    const struct batch_head head = {"r1", "eu", epoch, number, no_sha256, at((int64_t)number), {0}};
    enqueue_under(partition, &head);
}

/* Likewise at the end of partition 0, and it is applied. */
static inline void land_as(uint64_t epoch, uint64_t number)
{
    cr_assert_eq(rollup_next(&r, 0), next_offset);
    enqueue_in(0, epoch, number);
    next_offset++;
    nothing_is_stored();
}

static inline void land(void)
{
    land_as(1, ++seq);
}

static inline bool word_is(size_t i, const char *text)
{
    size_t length;
    const char *p = wordlist_at(&flush.words, i, &length);
    return length == strlen(text) && memcmp(p, text, length) == 0;
}

/* The words of the chunk as one text, command after command; until the next call. */
static inline char *words_of_chunk(void)
{
    static char *text;
    size_t total = 0;
    for (size_t i = 0; i < flush.words.count; i++) {
        size_t length;
        (void)wordlist_at(&flush.words, i, &length);
        total += length + 1;
    }
    free(text);
    char *end = text = malloc(total + 1);
    for (size_t i = 0; i < flush.words.count; i++) {
        size_t length;
        const char *p = wordlist_at(&flush.words, i, &length);
        memcpy(end, p, length);
        end += length;
        *end++ = '|';
    }
    *end = '\0';
    return text;
}

/* Those of the first chunk of a flush of the shard. */
static inline char *flushed_of(uint32_t shard)
{
    cr_assert(rollup_flush_begin(&r, shard, &flush));
    rollup_flush_chunk(&r, &flush);
    return words_of_chunk();
}

static inline char *flushed(void)
{
    return flushed_of(0);
}

static inline void acknowledge(void)
{
    cr_assert(flush.last);
    cr_assert_not(rollup_flush_ok(&r, &flush));
}
#define SAYS(text, part)     cr_assert(strstr(text, part), "%s is not in %s", part, text)
#define SAYS_NOT(text, part) cr_assert_null(strstr(text, part), "%s is in %s", part, text)

#endif
