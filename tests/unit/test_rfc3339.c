#include <criterion/criterion.h>
#include <string.h>

#include "common/rfc3339.h"

static bool parse(const char *text, struct wall_ms *out)
{
    return rfc3339_parse(text, strlen(text), out);
}

Test(rfc3339, known_instants_are_written_and_read)
{
    static const struct {
        int64_t ms;
        const char *text;
    } known[] = {{0, "1970-01-01T00:00:00.000Z"},
                 {INT64_C(951782400000), "2000-02-29T00:00:00.000Z"},
                 {INT64_C(1763884800123), "2025-11-23T08:00:00.123Z"},
                 {INT64_C(4107542400000), "2100-03-01T00:00:00.000Z"},
                 {WALL_MS_MAX, "9999-12-31T23:59:59.999Z"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        char text[RFC3339_BYTES];
        struct wall_ms t;
        rfc3339_format((struct wall_ms){known[i].ms}, text);
        cr_assert_str_eq(text, known[i].text);
        cr_assert(parse(text, &t));
        cr_assert_eq(t.v, known[i].ms);
    }
}

Test(rfc3339, every_day_of_eight_centuries_is_read_back)
{
    for (int64_t day = 0; day < INT64_C(292000); day++) {
        char text[RFC3339_BYTES];
        struct wall_ms t;
        rfc3339_format((struct wall_ms){day * DAY_MS}, text);
        cr_assert(parse(text, &t));
        cr_assert_eq(t.v, day * DAY_MS);
    }
}

Test(rfc3339, offsets_fractions_and_unix_seconds_are_understood)
{
    struct wall_ms t;
    cr_assert(parse("2025-11-23T10:00:00+02:00", &t));
    cr_assert_eq(t.v, INT64_C(1763884800000));
    cr_assert(parse("2025-11-23t07:30:00.5-00:30", &t) && t.v == INT64_C(1763884800500));
    cr_assert(parse("2025-11-23 08:00:00.123456789Z", &t) && t.v == INT64_C(1763884800123));
    cr_assert(parse("1763884800", &t) && t.v == INT64_C(1763884800000));
}

Test(rfc3339, what_is_no_instant_is_refused)
{
    static const char *const bad[] = {"",
                                      "-1",
                                      "1.5",
                                      "x",
                                      "2025-11-23",
                                      "2025-11-23T08:00Z",
                                      "2025-11-23T08:00:00",
                                      "2025-13-01T00:00:00Z",
                                      "2025-02-29T00:00:00Z",
                                      "2025-00-01T00:00:00Z",
                                      "2025-01-00T00:00:00Z",
                                      "2025-01-01T24:00:00Z",
                                      "2025-01-01T00:60:00Z",
                                      "2025-01-01T00:00:60Z",
                                      "2025-01-01T00:00:00.Z",
                                      "2025-01-01T00:00:00Zx",
                                      "1969-12-31T23:59:59Z",
                                      "9999999999999",
                                      "2025-01-01T00:00:00+24:00",
                                      "2025-01-01T00:00:00.1234567890Z",
                                      "2025-/1-01T00:00:00Z",
                                      "2025-01-01T00:00:00.5",
                                      "2025-01-01T00:00:00.5:",
                                      "2025-01-01T00:00:00.5/",
                                      "2025-01-01T00:00:00*01:00",
                                      "2025-01-01T00:00:00+01:60",
                                      "1970-01-01T00:00:00+01:00",
                                      "9999-12-31T23:59:59-01:00"};
    struct wall_ms t;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) cr_assert_not(parse(bad[i], &t), "accepted: %s", bad[i]);
}

Test(rfc3339, a_text_may_hold_nul_and_need_not_end_with_it)
{
    struct wall_ms t;
    cr_assert_not(rfc3339_parse("2025-01-01\0"
                                "00:00:00Z",
                                20, &t));
    cr_assert_not(rfc3339_parse("2025-01-01T00:00:00.5Z", 21, &t), "cut behind its fraction");
    cr_assert(rfc3339_parse("2025-01-01T00:00:00zz", 20, &t));
}
