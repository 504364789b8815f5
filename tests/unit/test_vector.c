#include <criterion/criterion.h>
#include <string.h>

#include "proto/vector.h"

static void add(struct vector_entry *e, int64_t ct, int64_t last)
{
    cr_assert_eq(vector_entry_add(e, (struct vector_pair){{ct}, {last}}), SG_OK);
}

Test(vector, only_undominated_pairs_are_kept_whatever_the_order)
{
    static const int64_t pairs[][2] = {{10, 100}, {20, 90}, {5, 50}, {10, 100}, {7, 120}, {30, 130}, {0, 500}};
    for (unsigned rotation = 0; rotation < 7; rotation++) {
        struct vector_entry e = {0};
        char text[512];
        for (unsigned i = 0; i < 7; i++) add(&e, pairs[(i + rotation) % 7][0], pairs[(i + rotation) % 7][1]);
        e.offset = 9;
        e.heard.v = 140;
        size_t length = vector_entry_encode(&e, text);
        cr_assert_leq(length, vector_entry_bytes_max(&e));
        text[length] = '\0';
        cr_assert_str_eq(text, "9 140 5@50 7@120 30@130");
        vector_entry_destroy(&e);
    }
}

Test(vector, a_runner_silent_for_longer_than_the_grace_is_left_out)
{
    struct vector_entry e = {0};
    add(&e, 5, 50);
    add(&e, 7, 120);
    e.heard.v = 150;
    cr_assert_eq(vector_entry_watermark(&e, 100).at.v, 5);
    cr_assert_eq(vector_entry_watermark(&e, 99).at.v, 7);
    cr_assert_eq(vector_entry_watermark(&e, 29).kind, WATERMARK_UNBOUNDED);
    vector_entry_destroy(&e);
}

Test(vector, a_missing_entry_leaves_the_watermark_unknown)
{
    struct watermark at = {WATERMARK_AT, {5}}, unbounded = {.kind = WATERMARK_UNBOUNDED};
    struct watermark unknown = vector_entry_watermark(NULL, 10);
    cr_assert_eq(watermark_min(at, unknown).kind, WATERMARK_UNKNOWN);
    cr_assert_eq(watermark_min(unbounded, unknown).kind, WATERMARK_UNKNOWN);
    cr_assert_eq(watermark_min(unbounded, at).at.v, 5);
    cr_assert_not(watermark_passed(unknown, (struct wall_ms){0}));
    cr_assert(watermark_passed(unbounded, (struct wall_ms){WALL_MS_MAX}));
    cr_assert(watermark_passed(at, (struct wall_ms){5}));
    cr_assert_not(watermark_passed(at, (struct wall_ms){6}));
}

Test(vector, what_encoding_would_not_write_is_refused)
{
    static const char *const bad[] = {"",
                                      "1",
                                      "1 ",
                                      "1 2 ",
                                      "1 2 3",
                                      "1 2 3@",
                                      "1 2 0@4",
                                      "1 2 5@50 5@60",
                                      "1 2 5@50 6@50",
                                      "1 2 6@50 5@60",
                                      "1 2 3@4 x",
                                      "1  2",
                                      "1 99999999999999999"};
    struct vector_entry e = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_assert_neq(vector_entry_decode(bad[i], strlen(bad[i]), &e), SG_OK, "accepted: %s", bad[i]);
    cr_assert_eq(vector_entry_decode("1 2 5@50 6@60", 13, &e), SG_OK);
    cr_assert_eq(e.pair_count, 2);
    vector_entry_destroy(&e);
}

Test(vector, the_lower_of_two_watermarks_whichever_comes_first)
{
    const struct watermark unknown = {.kind = WATERMARK_UNKNOWN}, unbounded = {.kind = WATERMARK_UNBOUNDED},
                           five = {WATERMARK_AT, {5}}, six = {WATERMARK_AT, {6}};
    cr_assert_eq(watermark_min(unknown, five).kind, WATERMARK_UNKNOWN);
    cr_assert_eq(watermark_min(five, unknown).kind, WATERMARK_UNKNOWN);
    cr_assert_eq(watermark_min(five, unbounded).at.v, 5);
    cr_assert_eq(watermark_min(unbounded, five).at.v, 5);
    cr_assert_eq(watermark_min(five, six).at.v, 5);
    cr_assert_eq(watermark_min(six, five).at.v, 5);
    cr_assert_eq(watermark_min(unbounded, unbounded).kind, WATERMARK_UNBOUNDED);
}
