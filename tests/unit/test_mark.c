#include <criterion/criterion.h>
#include <string.h>

#include "proto/mark.h"

static struct mark example(void)
{
    struct mark m = {
        .seq = 12, .ct = {WALL_MS_MAX}, .last = {5}, .region = {"eu"}, .totals = {1, 2, 3, 4, 5, UINT64_MAX}};
    for (int i = 0; i < SHA256_BYTES; i++) m.sha256[i] = (uint8_t)(i * 8 + 7);
    return m;
}

Test(mark, a_mark_is_read_back)
{
    struct mark m = example(), back;
    char text[MARK_BYTES_MAX], again[MARK_BYTES_MAX];
    size_t length = mark_encode(&m, text);
    cr_assert_eq(mark_decode(text, length, &back), SG_OK);
    cr_assert_eq(mark_encode(&back, again), length);
    cr_assert_eq(memcmp(text, again, length), 0);
    for (size_t cut = 0; cut + 20 < length; cut++) cr_assert_eq(mark_decode(text, cut, &back), SG_ERR_MALFORMED);
}

Test(mark, a_field_names_runner_and_epoch)
{
    char field[MARK_FIELD_BYTES_MAX];
    struct id runner;
    uint64_t epoch;
    size_t length = mark_field_encode("r-1", UINT64_MAX, field);
    cr_assert(mark_field_decode(field, length, &runner, &epoch));
    cr_assert_str_eq(runner.s, "r-1");
    cr_assert_eq(epoch, UINT64_MAX);
    static const char *const bad[] = {"", "r:", "r:x", "r:x:", "r:x:01", "r::1", "d:1", "r:a.b:1", "r:x:1 "};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_assert_not(mark_field_decode(bad[i], strlen(bad[i]), &runner, &epoch));
}

Test(mark, what_encoding_would_not_write_is_refused)
{
    struct mark m = example(), back;
    char text[MARK_BYTES_MAX];
    size_t length = mark_encode(&m, text);
    for (size_t i = 0; i < length; i++) {
        char was = text[i];
        text[i] = '/';
        cr_assert_eq(mark_decode(text, length, &back), SG_ERR_MALFORMED, "byte %zu", i);
        text[i] = was;
    }
}

Test(mark, a_capacity_is_read_back)
{
    struct capacity c = {.region = {"us"}, .at = {7}, .is = {1, 2, 3, 4, 5, 6, 7, UINT64_MAX}}, back;
    char text[CAPACITY_BYTES_MAX], again[CAPACITY_BYTES_MAX];
    size_t length = capacity_encode(&c, text);
    cr_assert_eq(capacity_decode(text, length, &back), SG_OK);
    cr_assert_eq(capacity_encode(&back, again), length);
    cr_assert_eq(memcmp(text, again, length), 0);
    cr_assert_eq(capacity_decode(text, length - 40, &back), SG_ERR_MALFORMED);
}

Test(mark, the_longest_texts_fit)
{
    struct gap g = {GAP_QUARANTINED, {"-"}, {"-"}, {WALL_MS_MAX}, {WALL_MS_MAX}, UINT64_MAX, UINT64_MAX};
    struct mark m = example();
    char text[MARK_BYTES_MAX], gap[GAP_BYTES_MAX], field[MARK_FIELD_BYTES_MAX];
    memset(g.runner.s, 'x', ID_BYTES_MAX);
    memset(g.region.s, 'x', ID_BYTES_MAX);
    memset(m.region.s, 'x', ID_BYTES_MAX);
    m.seq = UINT64_MAX;
    memset(&m.totals, 0xff, sizeof m.totals);
    cr_assert_leq(gap_encode(&g, gap), GAP_BYTES_MAX);
    cr_assert_leq(mark_encode(&m, text), MARK_BYTES_MAX);
    cr_assert_leq(mark_field_encode(g.runner.s, UINT64_MAX, field), MARK_FIELD_BYTES_MAX);
}

Test(mark, a_digest_is_lower_case_hex_and_a_time_is_one)
{
    struct mark m = example(), back;
    char text[MARK_BYTES_MAX];
    size_t length = mark_encode(&m, text);
    text[length] = '\0';
    char *digit = strstr(text, "sha=") + 4;
    for (const char *bad = "g:@`AF"; *bad; bad++) {
        char was = *digit;
        *digit = *bad;
        cr_assert_eq(mark_decode(text, length, &back), SG_ERR_MALFORMED, "%c", *bad);
        *digit = was;
    }
    static const char late[] = "seq=12 ct=9999999999999999 last=5 region=eu";
    cr_assert_eq(mark_decode(late, sizeof late - 1, &back), SG_ERR_MALFORMED);
}
