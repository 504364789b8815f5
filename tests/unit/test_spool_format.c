/* The spool's bytes, and the files of its first version, which are read for ever. */
#include "proto/spool_format.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { EPOCH = 1700000000, FILE_BYTES_MAX = 4096 };

static size_t read_data(const char *name, uint8_t out[static FILE_BYTES_MAX])
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", TEST_DATA_DIR, name);
    FILE *f = fopen(path, "rb");
    cr_assert(f, "%s", path);
    size_t length = fread(out, 1, FILE_BYTES_MAX, f);
    fclose(f);
    return length;
}

/* What the first version's files hold: tests/data/spool.v1.seg, spool.v1.cursor. */
static const struct spool_header V1_HEADER = {
    .epoch = EPOCH, .first_seq = 4711, .runner = {"runner-1_a"}, .previous_sha256 = {1, 2, 3, [31] = 0xff}};
static const struct spool_cursor V1_CURSOR = {.generation = 9, .epoch = EPOCH, .delivered_seq = 4710};
static const char V1_SNAPSHOT[] = "the state of a meter";
static const char *const V1_BATCH[] = {"the first batch", "another batch, a longer one"};
static const char *const V1_STATE[] = {"", "what it changed"};

static size_t put_record(uint8_t *out, struct spool_record r, const char *batch, const char *state)
{
    r.batch_bytes = (uint32_t)strlen(batch);
    r.state_bytes = (uint32_t)strlen(state);
    spool_record_encode(&r, EPOCH, (const uint8_t *)batch, (const uint8_t *)state, out);
    memcpy(out + SPOOL_RECORD_HEADER_BYTES, batch, r.batch_bytes);
    memcpy(out + SPOOL_RECORD_HEADER_BYTES + r.batch_bytes, state, r.state_bytes);
    return spool_record_bytes(&r);
}

static size_t put_segment(uint8_t *out)
{
    spool_header_encode(&V1_HEADER, out);
    size_t length = SPOOL_HEADER_BYTES;
    length += put_record(out + length, (struct spool_record){.kind = SPOOL_SNAPSHOT, .seq = 4710, .durable_seq = 4710},
                         "", V1_SNAPSHOT);
    for (uint64_t i = 0; i < 2; i++)
        length += put_record(out + length,
                             (struct spool_record){.kind = SPOOL_BATCH, .seq = 4711 + i, .durable_seq = 4710 + i},
                             V1_BATCH[i], V1_STATE[i]);
    return length;
}

Test(spool_format, the_first_versions_segment_is_read_for_ever)
{
    uint8_t bytes[FILE_BYTES_MAX], again[FILE_BYTES_MAX];
    size_t length = read_data("spool.v1.seg", bytes);
    struct sg_fault f = {0};
    struct spool_header h;
    cr_assert_eq(spool_header_decode(bytes, length, &h, &f), SG_OK, "%s", f.text);
    cr_assert_eq(h.epoch, V1_HEADER.epoch);
    cr_assert_eq(h.first_seq, 4711u);
    cr_assert_str_eq(h.runner.s, "runner-1_a");
    cr_assert_arr_eq(h.previous_sha256, V1_HEADER.previous_sha256, SPOOL_SHA256_BYTES);

    size_t at = SPOOL_HEADER_BYTES;
    for (size_t i = 0; i < 3; i++) {
        struct spool_record r;
        cr_assert_eq(spool_record_decode(bytes + at, &r, &f), SG_OK, "%s", f.text);
        const uint8_t *body = bytes + at + SPOOL_RECORD_HEADER_BYTES;
        cr_assert(spool_record_check(&r, h.epoch, bytes + at, body));
        cr_assert_not(spool_record_check(&r, h.epoch + 1, bytes + at, body), "a record is of one epoch");
        cr_assert_eq(r.kind, i ? SPOOL_BATCH : SPOOL_SNAPSHOT);
        cr_assert_eq(r.seq, 4710 + i);
        const char *batch = i ? V1_BATCH[i - 1] : "", *state = i ? V1_STATE[i - 1] : V1_SNAPSHOT;
        cr_assert_eq(r.batch_bytes, strlen(batch));
        cr_assert_eq(r.state_bytes, strlen(state));
        cr_assert_eq(memcmp(body, batch, r.batch_bytes), 0);
        cr_assert_eq(memcmp(body + r.batch_bytes, state, r.state_bytes), 0);
        at += spool_record_bytes(&r);
    }
    cr_assert_eq(at, length);
    cr_assert_eq(put_segment(again), length);
    cr_assert_arr_eq(again, bytes, length, "what is written today is the first version too");
}

Test(spool_format, the_first_versions_cursor_is_read_for_ever)
{
    uint8_t bytes[FILE_BYTES_MAX], again[SPOOL_CURSOR_BYTES];
    size_t length = read_data("spool.v1.cursor", bytes);
    struct spool_cursor c;
    cr_assert_eq(spool_cursor_decode(bytes, length, &c, NULL), SG_OK);
    cr_assert_eq(c.generation, V1_CURSOR.generation);
    cr_assert_eq(c.epoch, V1_CURSOR.epoch);
    cr_assert_eq(c.delivered_seq, V1_CURSOR.delivered_seq);
    spool_cursor_encode(&c, again);
    cr_assert_arr_eq(again, bytes, sizeof again);
}

Test(spool_format, an_unknown_version_is_refused_with_its_number)
{
    uint8_t bytes[SPOOL_HEADER_BYTES];
    struct spool_header h;
    struct sg_fault f = {0};
    spool_header_encode(&V1_HEADER, bytes);
    bytes[8] = 77;
    cr_assert_eq(spool_header_decode(bytes, sizeof bytes, &h, &f), SG_ERR_VERSION);
    cr_assert(strstr(f.text, "77"), "%s", f.text);
    uint8_t cursor[SPOOL_CURSOR_BYTES];
    struct spool_cursor c;
    spool_cursor_encode(&V1_CURSOR, cursor);
    cursor[8] = 78;
    cr_assert_eq(spool_cursor_decode(cursor, sizeof cursor, &c, &f), SG_ERR_VERSION);
    cr_assert(strstr(f.text, "78"), "%s", f.text);
}

Test(spool_format, every_flipped_bit_is_seen)
{
    uint8_t bytes[FILE_BYTES_MAX];
    size_t length = put_segment(bytes);
    struct spool_header h;
    struct spool_record first;
    cr_assert_eq(spool_record_decode(bytes + SPOOL_HEADER_BYTES, &first, NULL), SG_OK);
    size_t end = SPOOL_HEADER_BYTES + spool_record_bytes(&first);
    cr_assert_lt(end, length);
    for (size_t bit = 0; bit < end * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        struct spool_record r;
        bool valid;
        if (bit / 8 < SPOOL_HEADER_BYTES)
            valid = spool_header_decode(bytes, length, &h, NULL) == SG_OK;
        else
            valid = spool_record_decode(bytes + SPOOL_HEADER_BYTES, &r, NULL) == SG_OK &&
                    spool_record_bytes(&r) <= length - SPOOL_HEADER_BYTES &&
                    spool_record_check(&r, EPOCH, bytes + SPOOL_HEADER_BYTES,
                                       bytes + SPOOL_HEADER_BYTES + SPOOL_RECORD_HEADER_BYTES);
        cr_assert_not(valid, "bit %zu", bit);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

Test(spool_format, only_what_was_durable_proves_damage)
{
    uint8_t bytes[FILE_BYTES_MAX] = {0};
    size_t length = 13; /* anywhere */
    struct spool_record r = {.kind = SPOOL_BATCH, .seq = 9, .durable_seq = 6};
    length += put_record(bytes + length, r, "batch", "state");
    cr_assert(spool_proves_damage(bytes, length, EPOCH, 6));
    cr_assert_not(spool_proves_damage(bytes, length, EPOCH, 7), "7 and 8 were written with it, in one group");
    cr_assert_not(spool_proves_damage(bytes, length - 1, EPOCH, 6));
    cr_assert_not(spool_proves_damage(bytes, length, EPOCH + 1, 6), "of another spool");
}

Test(spool_format, records_reach_as_far_as_their_headers_say)
{
    uint8_t bytes[FILE_BYTES_MAX] = {0};
    struct spool_record r = {.kind = SPOOL_BATCH, .seq = 9, .durable_seq = 6};
    size_t length = 13 + put_record(bytes + 13, r, "batch", "state");
    cr_assert_eq(spool_records_reach(bytes, length), length);
    cr_assert_eq(spool_records_reach(bytes, length + 5), length + 5);
    cr_assert_eq(spool_records_reach(bytes, length - 9), length);
    cr_assert_eq(spool_records_reach(bytes, 13 + SPOOL_RECORD_HEADER_BYTES - 1), 13 + SPOOL_RECORD_HEADER_BYTES - 1,
                 "of half a header nothing is said");
}

/* What a batch record says of its lengths, beside a state of ten bytes. */
Test(spool_format, a_batch_is_of_one_byte_at_least_and_of_a_message_at_most)
{
    static const struct {
        uint32_t batch_bytes;
        enum sg_error expected;
    } cases[] = {{0, SG_ERR_CORRUPT}, {1, SG_OK}, {BATCH_BYTES_MAX, SG_OK}, {BATCH_BYTES_MAX + 1, SG_ERR_CORRUPT}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const uint32_t length = SPOOL_RECORD_HEADER_BYTES + 10 + cases[i].batch_bytes;
        uint8_t bytes[SPOOL_RECORD_HEADER_BYTES] = {[4] = SPOOL_BATCH, [8] = 2, [16] = 1};
        struct spool_record r;
        for (size_t b = 0; b < 4; b++) {
            bytes[b] = (uint8_t)(length >> 8 * b);
            bytes[24 + b] = (uint8_t)(cases[i].batch_bytes >> 8 * b);
        }
        cr_assert_eq(spool_record_decode(bytes, &r, NULL), cases[i].expected, "%u bytes", cases[i].batch_bytes);
    }
}

Test(spool_format, names_are_numbers_of_twenty_digits)
{
    char name[SPOOL_NAME_BYTES];
    uint64_t seq;
    spool_name(4711, name);
    cr_assert_str_eq(name, "00000000000000004711.seg");
    cr_assert(spool_name_parse(name, &seq));
    cr_assert_eq(seq, 4711u);
    spool_name(UINT64_MAX, name);
    cr_assert(spool_name_parse(name, &seq));
    cr_assert_eq(seq, UINT64_MAX);
    static const char *const bad[] = {"",
                                      "1.seg",
                                      "00000000000000000000.seg",
                                      "99999999999999999999.seg",
                                      "0000000000000000471x.seg",
                                      "0000000000000000471/.seg",
                                      "18446744073709551616.seg",
                                      "00000000000000004711.sag",
                                      "00000000000000004711.seg.tmp",
                                      "cursor.0"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) cr_assert_not(spool_name_parse(bad[i], &seq), "%s", bad[i]);
}

/* The header's checksum stands in its last eight bytes: made right again after a change. */
static void sign(uint8_t *bytes, size_t checked)
{
    uint64_t sum = XXH3_64bits(bytes, checked);
    for (size_t i = 0; i < 8; i++) bytes[checked + i] = (uint8_t)(sum >> 8 * i);
}

Test(spool_format, what_encoding_would_not_write_is_refused_with_a_right_checksum_too)
{
    static const struct {
        size_t at;
        uint8_t value;
    } headers[] = {{12, 0}, {12, 9}, {12, ID_BYTES_MAX + 1}, {13, 1}, {16, 0}, {24, 0}, {32, '.'}, {60, 'x'}},
      cursors[] = {{12, 1}, {16, 0}, {24, 0}};
    struct spool_header h, small = V1_HEADER;
    struct spool_cursor c, little = {.generation = 1, .epoch = 1, .delivered_seq = 1};
    uint8_t bytes[SPOOL_HEADER_BYTES];
    small.epoch = small.first_seq = 1;
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        spool_header_encode(&small, bytes);
        bytes[headers[i].at] = headers[i].value;
        sign(bytes, SPOOL_HEADER_BYTES - 8);
        cr_assert_eq(spool_header_decode(bytes, sizeof bytes, &h, NULL), SG_ERR_CORRUPT, "byte %zu", headers[i].at);
    }
    cr_assert_eq(spool_header_decode(bytes, sizeof bytes - 1, &h, NULL), SG_ERR_CORRUPT);
    for (size_t i = 0; i < sizeof cursors / sizeof *cursors; i++) {
        spool_cursor_encode(&little, bytes);
        bytes[cursors[i].at] = cursors[i].value;
        sign(bytes, SPOOL_CURSOR_BYTES - 8);
        cr_assert_eq(spool_cursor_decode(bytes, SPOOL_CURSOR_BYTES, &c, NULL), SG_ERR_CORRUPT, "byte %zu",
                     cursors[i].at);
    }
}
