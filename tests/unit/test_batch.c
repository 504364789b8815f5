#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/batch.h"

static const struct wall_ms noon = {INT64_C(1763884800000)};

static struct batch_head head_of(uint64_t seq)
{
    static const uint8_t sha[SHA256_BYTES] = {1, 2, 3};
    return (struct batch_head){.runner = "r1",
                               .region = "eu",
                               .epoch = 7,
                               .seq = seq,
                               .previous_sha256 = sha,
                               .complete_through = noon,
                               .totals = {1, 2, 3, 4, 5, 6}};
}

static uint32_t add_sandbox(struct batch_builder *b, const char *id)
{
    uint32_t index;
    struct batch_sandbox s = {id, "team-a", "p_1", 2, 1024, 4096};
    cr_assert_eq(batch_builder_sandbox(b, &s, &index), SG_OK);
    return index;
}

static void add_one_of_each(struct batch_builder *b)
{
    uint32_t s = add_sandbox(b, "run1");
    struct batch_rise rise = {.cpu_us = 5, .mem_bytes = 9};
    struct batch_capacity c = {64, 1000, 2000, 3, 2, 1024, 4096, 1};
    cr_assert_eq(batch_builder_start(b, s, noon, 1 + ORIGIN_FORK, 12), SG_OK);
    cr_assert_eq(batch_builder_slice(b, s, noon, MINUTE_MS, &rise), SG_OK);
    cr_assert_eq(batch_builder_slice(b, s, (struct wall_ms){noon.v - 1}, 1, &(struct batch_rise){0}), SG_OK);
    cr_assert_eq(batch_builder_state(b, s, noon, SANDBOX_HIBERNATED), SG_OK);
    cr_assert_eq(batch_builder_end(b, s, noon, REASON_OOM, 77), SG_OK);
    cr_assert_eq(batch_builder_exec(b, s, noon, 137, 4), SG_OK);
    cr_assert_eq(batch_builder_api_call(b, "team-b", "-", noon, OPERATION_FILE_READ, 404), SG_OK);
    cr_assert_eq(batch_builder_capacity(b, noon, &c), SG_OK);
    cr_assert_eq(batch_builder_gap(b, noon, noon, 3, 9), SG_OK);
}

static void seal(struct batch_builder *b, uint64_t seq, const uint8_t **bytes, size_t *length)
{
    struct batch_head h = head_of(seq);
    cr_assert_eq(batch_builder_seal(b, &h, bytes, length), SG_OK);
}

Test(batch, what_is_sealed_is_what_is_decoded)
{
    struct batch_builder *b = batch_builder_new();
    struct batch_decoder d;
    struct batch out;
    struct sg_fault f = {0};
    const uint8_t *bytes;
    size_t length;
    add_one_of_each(b);
    cr_assert_eq(batch_builder_rows(b), 9);
    size_t bound = batch_builder_bytes(b);
    seal(b, 2, &bytes, &length);
    cr_assert_leq(length, bound);
    cr_assert_eq(batch_builder_rows(b), 0);
    cr_assert_eq(batch_decoder_init(&d), SG_OK);
    cr_assert_eq(batch_decode(&d, bytes, length, &out, &f), SG_OK, "%s", f.text);
    cr_assert_str_eq(out.runner, "r1");
    cr_assert_eq(out.seq, 2);
    cr_assert_eq(out.previous_sha256[2], 3);
    cr_assert_eq(out.complete_through_ms, noon.v);
    cr_assert_eq(batch_row_count(&out), 9);
    cr_assert_str_eq(out.sandboxes.id[0], "run1");
    cr_assert_eq(column_u32(out.sandboxes.mem_mib, 0), 1024);
    cr_assert_eq(out.base_ms + column_i64(out.slices.start_ms, 1), noon.v - 1);
    cr_assert_eq(column_u32(out.slices.length_ms, 0), MINUTE_MS);
    cr_assert_eq(column_u64(out.slices.cpu_us, 0), 5);
    cr_assert_null(out.slices.net_rx_bytes);
    cr_assert_eq(column_u32(out.ends.reason, 0), REASON_OOM);
    cr_assert_str_eq(out.projects[column_u32(out.api_calls.project, 0)], "-");
    cr_assert_eq(column_u64(out.gaps.last_n, 0), 9);
    cr_assert_eq(out.totals.refused, 6);
    batch_decoder_destroy(&d);
    batch_builder_free(b);
}

Test(batch, an_empty_batch_is_a_heartbeat)
{
    struct batch_builder *b = batch_builder_new();
    struct batch_decoder d;
    struct batch out;
    const uint8_t *bytes;
    size_t length;
    seal(b, 1, &bytes, &length);
    cr_assert_eq(batch_decoder_init(&d), SG_OK);
    cr_assert_eq(batch_decode(&d, bytes, length, &out, NULL), SG_OK);
    cr_assert_eq(batch_row_count(&out), 0);
    batch_decoder_destroy(&d);
    batch_builder_free(b);
}

Test(batch, every_truncation_and_every_flipped_byte_is_refused_or_decodes_to_checked_rows)
{
    struct batch_builder *b = batch_builder_new();
    struct batch_decoder d;
    struct batch out;
    const uint8_t *bytes;
    size_t length;
    add_one_of_each(b);
    seal(b, 2, &bytes, &length);
    cr_assert_eq(batch_decoder_init(&d), SG_OK);
    for (size_t cut = 0; cut < length; cut++) {
        uint8_t *copy = malloc(cut ? cut : 1);
        memcpy(copy, bytes, cut);
        (void)!batch_decode(&d, copy, cut, &out, NULL);
        free(copy);
    }
    for (size_t i = 0; i < length; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            uint8_t *copy = malloc(length);
            memcpy(copy, bytes, length);
            copy[i] ^= (uint8_t)(1u << bit);
            if (batch_decode(&d, copy, length, &out, NULL) == SG_OK)
                for (size_t s = 0; s < out.slices.count; s++)
                    cr_assert_lt(column_u32(out.slices.sandbox, s), out.sandboxes.count);
            free(copy);
        }
    }
    batch_decoder_destroy(&d);
    batch_builder_free(b);
}

Test(batch, an_unknown_version_is_refused_with_its_number)
{
    struct batch_builder *b = batch_builder_new();
    struct batch_decoder d;
    struct batch out;
    struct sg_fault f = {0};
    const uint8_t *bytes;
    size_t length;
    seal(b, 1, &bytes, &length);
    uint8_t *copy = malloc(length);
    memcpy(copy, bytes, length);
    cr_assert_eq(copy[0], 0x08);
    copy[1] = 9;
    cr_assert_eq(batch_decoder_init(&d), SG_OK);
    cr_assert_eq(batch_decode(&d, copy, length, &out, &f), SG_ERR_VERSION);
    cr_assert_not_null(strstr(f.text, "9"));
    free(copy);
    batch_decoder_destroy(&d);
    batch_builder_free(b);
}

Test(batch, fields_that_are_unknown_or_repeated_are_refused)
{
    static const uint8_t unknown[] = {0x08, 0x01, 0xf8, 0x01, 0x01};
    static const uint8_t twice[] = {0x08, 0x01, 0x08, 0x01};
    static const uint8_t endless[] = {0x88, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00, 0x01};
    static uint8_t longer[BATCH_BYTES_MAX + 1];
    struct batch_decoder d;
    struct batch out;
    struct sg_fault f = {0};
    cr_assert_eq(batch_decoder_init(&d), SG_OK);
    cr_assert_eq(batch_decode(&d, unknown, sizeof unknown, &out, &f), SG_ERR_MALFORMED);
    cr_assert_str_eq(f.text, "batch: head: unknown field");
    cr_assert_eq(batch_decode(&d, twice, sizeof twice, &out, &f), SG_ERR_MALFORMED);
    cr_assert_str_eq(f.text, "batch: head: fields out of order");
    cr_assert_eq(batch_decode(&d, endless, sizeof endless, &out, &f), SG_ERR_MALFORMED);
    cr_assert_str_eq(f.text, "batch: head: bad tag", "a number of more than 64 bits");
    cr_assert_eq(batch_decode(&d, longer, sizeof longer, &out, &f), SG_ERR_LIMIT);
    batch_decoder_destroy(&d);
}

/* ---- the wire ---- */

/* The least that is a batch: version, runner, region, epoch, seq. */
#define HEAD                                                                                                           \
    "\x08\x01\x12\x01r\x1a\x01"                                                                                        \
    "e\x20\x01\x28\x01"
#define NINE_ONES   "\xff\xff\xff\xff\xff\xff\xff\xff\xff"
#define TEN_PADS    "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80"
#define CASE(bytes) bytes, sizeof bytes - 1

static enum sg_error decode(const char *bytes, size_t length, struct batch *out, struct sg_fault *f)
{
    static struct batch_decoder d;
    uint8_t *copy = calloc(1, length + !length); /* its end is known to sanitizers */
    memcpy(copy, bytes, length);
    enum sg_error e = batch_decode(&d, copy, length, out, f);
    free(copy);
    return e;
}

Test(batch, what_is_not_the_wire_format_is_refused_by_its_rule)
{
    static const struct {
        const char *bytes;
        size_t length;
        const char *why;
    } cases[] = {
        {CASE("\x00\x00"), "batch: head: unknown field"},
        {CASE("\x0a\x00"), "batch: head: bad wire type"},
        {CASE("\x08\x80"), "batch: head: bad number"},
        {CASE("\x88\x80\x80\x80\x80\x00\x01"), "batch: head: bad tag"},
        {CASE("\x88\x80\x80\x80\x10\x01"), "batch: head: bad tag"},
        {CASE("\x08\x01\x12\x81\x80\x80\x80\x80\x00r"), "batch: head: bad length"},
        {CASE("\x08\x01\x12\x05r"), "batch: head: bad length"},
        {CASE("\x08\x01\x12\x80"), "batch: head: bad length"},
        {CASE("\x08\x01\x12\x02r\x00"), "batch: runner: bad identifier"},
        {CASE("\x08\x01"), "batch: head: runner or region is missing"},
        {CASE("\x08\x01\x12\x01r"), "batch: head: runner or region is missing"},
        {CASE("\x08\x01\x12\x01r\x1a\x01"
              "e\x28\x01"),
         "batch: head: epoch or seq is missing"},
        {CASE("\x08\x01\x12\x01r\x1a\x01"
              "e\x20\x01"),
         "batch: head: epoch or seq is missing"},
        {CASE("\x08\x01\x12\x01r\x1a\x01"
              "e\x20\x00"),
         "batch: head: epoch out of range"},
        {CASE("\x08\x01\x12\x01r\x1a\x01"
              "e\x20\x01\x28\x02"),
         "batch: head: previous_sha256 has a wrong length"},
        {CASE(HEAD "\x32\x02xx"), "batch: head: previous_sha256 has a wrong length"},
        {CASE(HEAD "\x32\x20"
                   "01234567890123456789012345678901"),
         "batch: head: previous_sha256 has a wrong length"},
        {CASE(HEAD "\x4a\x05t"), "batch: teams: bad length"},
        {CASE(HEAD "\x4a\x01t\x4a"), "batch: teams: bad length"},
        {CASE(HEAD "\x4a\x01 "), "batch: teams: bad identifier"},
        {CASE(HEAD "\x4a\x01-"), "batch: teams: bad identifier"},
        {CASE(HEAD "\x62\x02\x08\x00"), "batch: slices: bad wire type"},
        {CASE(HEAD "\x62\x02\x52\x00"), "batch: slices: unknown field"},
        {CASE(HEAD "\x62\x03\x0a\x01\x80"), "batch: slices: bad number"},
        {CASE(HEAD "\x62\x03\x0a\x01\x00"), "batch: slices: sandbox out of range"},
        {CASE(HEAD "\x62\x03\x12\x01\x00"), "batch: slices: columns differ in length"},
        {CASE(HEAD "\x5a\x09\x0a\x01"
                   "a\x22\x01\x01\x2a\x01\x01"),
         "batch: sandboxes: team out of range"},
        {CASE(HEAD "\x4a\x01t\x52\x01-\x5a\x0d\x0a\x01"
                   "a\x22\x05\x81\x80\x80\x80\x10\x2a\x01\x01"),
         "batch: sandboxes: allocation out of range"}, /* 1 in its low 32 bits */
        {CASE(HEAD "\x92\x01\x0f\x0a\x01\x00\x12\x0a" NINE_ONES "\x02"), "batch: capacities: bad number"},
        {CASE(HEAD "\x92\x01\x10\x0a\x01\x00\x12\x0b" TEN_PADS "\x00"), "batch: capacities: bad number"},
        {CASE(HEAD "\x92\x01\x4b\x0a\x01\x00\x12\x46" TEN_PADS TEN_PADS TEN_PADS TEN_PADS TEN_PADS TEN_PADS
                   "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00"),
         "batch: capacities: bad number"},
        {CASE(HEAD "\x9a\x01\x0c\x0a\x0a" NINE_ONES "\x02"), "batch: gaps: bad number"},
        {CASE(HEAD "\x4a\x01t\x52\x01-\x5a\x0f\x0a\x01"
                   "a\x22\x0a" NINE_ONES "\x02"),
         "batch: sandboxes: bad number"},
        {CASE(HEAD "\xa2\x01\x02\x38\x01"), "batch: totals: unknown field"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct batch out;
        struct sg_fault f = {0};
        cr_expect_eq(decode(cases[i].bytes, cases[i].length, &out, &f), SG_ERR_MALFORMED, "%zu", i);
        cr_expect_str_eq(f.text, cases[i].why, "%zu: %s", i, f.text);
    }
}

Test(batch, without_a_version_it_is_of_none)
{
    struct batch out;
    struct sg_fault f = {0};
    cr_expect_eq(decode("", 0, &out, &f), SG_ERR_VERSION);
    cr_expect_str_eq(f.text, "batch: has no version");
    cr_expect_eq(decode(CASE("\x08\x81\x80\x80\x80\x10"), &out, &f), SG_ERR_VERSION);
    cr_expect_str_eq(f.text, "batch: version 4294967297 is unknown");
}

Test(batch, any_encoding_of_good_rows_is_taken)
{
    struct batch out;
    struct sg_fault f = {0};
    cr_assert_eq(decode(CASE(HEAD), &out, &f), SG_OK, "%s", f.text);
    cr_assert_eq(decode(CASE("\x88\x00\x81\x00\x12\x81\x00r\x1a\x01"
                             "e\x20\x01\x28\x01\x52\x01-\xd2\x00\x01p\x62\x02\x0a\x00"),
                        &out, &f),
                 SG_OK, "padded, and an empty column: %s", f.text);
    cr_expect_eq(out.project_count, 2);
    cr_expect_str_eq(out.projects[0], "-");
    cr_expect_str_eq(out.projects[1], "p");
    cr_expect_null(out.slices.sandbox);
    cr_assert_eq(decode(CASE(HEAD "\x92\x01\x0f\x0a\x01\x00\x12\x0a" NINE_ONES "\x01"), &out, &f), SG_OK);
    cr_expect_eq(out.capacities.vcpus_total[0], UINT64_MAX);
    cr_assert_eq(
        decode(CASE(HEAD "\x92\x01\x0f\x0a\x01\x00\x12\x0a\x81\x80\x80\x80\x80\x80\x80\x80\x80\x00"), &out, &f), SG_OK);
    cr_expect_eq(out.capacities.vcpus_total[0], 1);
    cr_assert_eq(decode(CASE(HEAD "\x4a\x01t\x52\x01-\x5a\x11\x0a\x01"
                                  "a\x22\x09\x82\x80\x80\x80\x80\x80\x80\x80\x00\x2a\x01\x01"),
                        &out, &f),
                 SG_OK, "%s", f.text);
    cr_expect_eq(out.sandboxes.vcpus[0], 2);
}

/* Numbers of every length at every place of the decoder's blocks. */
Test(batch, numbers_of_all_lengths_follow_each_other)
{
    enum { ROWS = 700 };
    static struct batch_capacity said[ROWS];
    static int64_t at[ROWS];
    static uint32_t took[ROWS];
    struct batch_builder *b = batch_builder_new();
    struct batch out;
    struct sg_fault f = {0};
    const uint8_t *bytes;
    size_t length;
    uint64_t state = 1;
    uint32_t sandbox = add_sandbox(b, "run1");
    for (size_t i = 0; i < ROWS; i++) {
        uint64_t *v = (uint64_t *)&said[i];
        for (size_t k = 0; k < sizeof said[i] / sizeof *v; k++) {
            state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            v[k] = (state ^ state >> 29) >> (state >> 58); /* of 0 to 64 bits */
        }
        at[i] = noon.v + (int64_t)(state >> (state >> 58) % 24 >> 40) * (state % 2 ? 1 : -1);
        took[i] = (uint32_t)(said[i].warm % DAY_MS);
        cr_assert_eq(batch_builder_start(b, sandbox, (struct wall_ms){at[i]}, 1, took[i]), SG_OK);
        cr_assert_eq(batch_builder_capacity(b, (struct wall_ms){at[i]}, &said[i]), SG_OK);
    }
    seal(b, 1, &bytes, &length);
    cr_assert_eq(decode((const char *)bytes, length, &out, &f), SG_OK, "%s", f.text);
    cr_assert_eq(out.capacities.count, ROWS);
    for (size_t i = 0; i < ROWS; i++) {
        cr_assert_eq(out.base_ms + out.starts.at_ms[i], at[i], "%zu", i);
        cr_assert_eq(out.starts.create_ms[i], took[i], "%zu", i);
        cr_assert_eq(out.base_ms + out.capacities.at_ms[i], at[i], "%zu", i);
        cr_assert_eq(out.capacities.vcpus_total[i], said[i].vcpus_total, "%zu", i);
        cr_assert_eq(out.capacities.mem_mib_total[i], said[i].mem_mib_total, "%zu", i);
        cr_assert_eq(out.capacities.disk_mib_total[i], said[i].disk_mib_total, "%zu", i);
        cr_assert_eq(out.capacities.warm[i], said[i].warm, "%zu", i);
        cr_assert_eq(out.capacities.vcpus_allocated[i], said[i].vcpus_allocated, "%zu", i);
        cr_assert_eq(out.capacities.mem_mib_allocated[i], said[i].mem_mib_allocated, "%zu", i);
        cr_assert_eq(out.capacities.disk_mib_allocated[i], said[i].disk_mib_allocated, "%zu", i);
        cr_assert_eq(out.capacities.sandboxes_running[i], said[i].sandboxes_running, "%zu", i);
    }
    batch_builder_free(b);
}

Test(batch, a_full_builder_refuses_and_loses_nothing)
{
    struct batch_builder *b = batch_builder_new();
    struct batch_decoder d;
    struct batch out;
    const uint8_t *bytes;
    size_t length, rows = 0;
    char id[32];
    enum sg_error e = SG_OK;
    cr_assert_not(batch_builder_full(b, 1));
    for (unsigned i = 0; e == SG_OK; i++) {
        uint32_t index;
        snprintf(id, sizeof id, "run%016x", i);
        struct batch_sandbox s = {id, "team-a", "p_1", 2, 1024, 4096};
        struct batch_rise rise = {COUNTER_MAX, COUNTER_MAX, COUNTER_MAX, COUNTER_MAX, COUNTER_MAX, COUNTER_MAX};
        e = batch_builder_sandbox(b, &s, &index);
        if (e == SG_OK) e = batch_builder_slice(b, index, noon, 1, &rise);
        rows += e == SG_OK;
    }
    cr_assert_eq(e, SG_ERR_LIMIT);
    cr_assert(batch_builder_full(b, 1));
    cr_assert_eq(batch_builder_rows(b), rows);
    seal(b, 1, &bytes, &length);
    cr_assert_leq(length, BATCH_BYTES_MAX);
    cr_assert_eq(batch_decoder_init(&d), SG_OK);
    cr_assert_eq(batch_decode(&d, bytes, length, &out, NULL), SG_OK);
    cr_assert_eq(out.slices.count, rows);
    batch_decoder_destroy(&d);
    batch_builder_free(b);
}

/* What fills a builder, by one row more; the row may bring a name of this length. */
enum filling { ROWS, LONG_ROWS, SANDBOXES, TEAMS, PROJECTS };

static enum sg_error one_more(struct batch_builder *b, enum filling what, unsigned i, int name_bytes)
{
    const uint64_t most = UINT64_MAX;
    char name[ID_BYTES_MAX + 1];
    uint32_t index;
    snprintf(name, sizeof name, "%0*u", name_bytes, i);
    if (what == ROWS) return batch_builder_exec(b, 0, noon, 0, 0);
    if (what == LONG_ROWS)
        return batch_builder_capacity(b, noon,
                                      &(struct batch_capacity){most, most, most, most, most, most, most, most});
    if (what == SANDBOXES) return batch_builder_sandbox(b, &(struct batch_sandbox){name, "t", "p", 1, 1, 1}, &index);
    if (what == TEAMS) return batch_builder_api_call(b, name, "-", noon, OPERATION_FILE_READ, 200);
    return batch_builder_api_call(b, "t", name, noon, OPERATION_FILE_READ, 200);
}

Test(batch, a_builder_is_full_by_rows_by_names_or_by_bytes_and_what_it_took_is_decoded)
{
    static const struct {
        enum filling what;
        int name_bytes;
        size_t at_least, at_most;
    } cases[] = {
        {ROWS, 1, BATCH_ROWS_MAX, BATCH_ROWS_MAX},
        {LONG_ROWS, 1, 9000, BATCH_ROWS_MAX - 1},
        {SANDBOXES, 5, BATCH_NAMES_MAX, BATCH_NAMES_MAX},
        {SANDBOXES, 64, 9000, BATCH_NAMES_MAX - 1},
        {TEAMS, 5, BATCH_NAMES_MAX - 1, BATCH_NAMES_MAX - 1}, /* one is the first sandbox's */
        {TEAMS, 64, 9000, BATCH_NAMES_MAX - 2},
        {PROJECTS, 5, BATCH_NAMES_MAX - 1, BATCH_NAMES_MAX - 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct batch_builder *b = batch_builder_new();
        struct batch_decoder d;
        struct batch out;
        struct sg_fault f = {0};
        const uint8_t *bytes;
        size_t length, count = 0;
        (void)add_sandbox(b, "run1");
        enum sg_error e = SG_OK;
        for (bool full = false; !e; count += !e) {
            full = full || batch_builder_full(b, 1);
            e = one_more(b, cases[i].what, (unsigned)count, cases[i].name_bytes);
            cr_assert(!e || full, "%zu: it was full and did not say so before", i);
        }
        cr_expect_eq(e, SG_ERR_LIMIT);
        count += cases[i].what == SANDBOXES;
        cr_expect_geq(count, cases[i].at_least, "%zu: %zu", i, count);
        cr_expect_leq(count, cases[i].at_most, "%zu: %zu", i, count);
        seal(b, 1, &bytes, &length);
        cr_assert_eq(batch_decoder_init(&d), SG_OK);
        cr_assert_eq(batch_decode(&d, bytes, length, &out, &f), SG_OK, "%s", f.text);
        cr_expect_eq(cases[i].what == SANDBOXES ? out.sandboxes.count : batch_row_count(&out), count);
        (void)add_sandbox(b, "run1");
        cr_expect_eq(one_more(b, cases[i].what, 0, cases[i].name_bytes), SG_OK, "it is empty again");
        batch_decoder_destroy(&d);
        batch_builder_free(b);
    }
}

Test(batch, the_first_version_is_read_for_ever)
{
    struct batch_decoder d;
    struct batch out;
    struct sg_fault f = {0};
    uint8_t bytes[4096];
    FILE *file = fopen(TEST_DATA_DIR "/batch.v1", "rb");
    cr_assert_not_null(file);
    size_t length = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    cr_assert_eq(batch_decoder_init(&d), SG_OK);
    cr_assert_eq(batch_decode(&d, bytes, length, &out, &f), SG_OK, "%s", f.text);
    cr_assert_eq(batch_row_count(&out), 9);
    cr_assert_str_eq(out.teams[column_u32(out.api_calls.team, 0)], "team-b");
    batch_decoder_destroy(&d);
}
