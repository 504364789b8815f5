#include <criterion/criterion.h>
#include <string.h>

#include "aggregator/billing/summary.h"

#define HOUR INT64_C(1763884800000)
#define BUCKET(start, sum)                                                                                             \
    "{\"start_time\":" start ",\"aggregated_value\":" sum ",\"id\":\"m-1\\\"2\\\\\",\"new\":[{},-1.5E+7,true]}"
#define OURS(sum)           BUCKET("1763884800", sum)
#define PAGE(more, buckets) "{\"object\":\"list\",\"has_more\":" more ",\"data\":[" buckets "],\"url\":\"/v1\"}"

static enum sg_error take(const char *text, struct summary *out)
{
    struct sg_fault f = {0};
    enum sg_error e = summary_take(text, strlen(text), (struct wall_ms){HOUR}, out, &f);
    cr_assert_eq(e != SG_OK, f.text[0] != '\0');
    return e;
}

static struct summary taken(const char *text)
{
    struct summary s;
    cr_assert_eq(take(text, &s), SG_OK, "%s", text);
    return s;
}

Test(summary, the_bucket_of_the_hour_counts_and_none_is_nothing)
{
    struct summary s = taken(PAGE("false", OURS("12")));
    cr_assert(s.whole && s.sum.v == 12);
    s = taken(PAGE("false", ""));
    cr_assert(s.whole && s.sum.v == 0);
    s = taken(PAGE("false", BUCKET("1763888400", "7") "," OURS("12") "," BUCKET("1763881200", "9")));
    cr_assert(s.whole && s.sum.v == 12);
    s = taken(PAGE("false", BUCKET("1763888400", "7")));
    cr_assert(s.whole && s.sum.v == 0);
    s = taken("{\"data\":[]}");
    cr_assert(s.whole && s.sum.v == 0);
}

Test(summary, only_a_whole_number_that_a_double_can_tell_is_a_sum)
{
    static const struct {
        const char *text;
        bool whole;
        uint64_t sum;
    } table[] = {
        {PAGE("false", OURS("0")), true, 0},
        {PAGE("false", OURS("12.0")), true, 12},
        {PAGE("false", OURS("12.000")), true, 12},
        {PAGE("false", OURS("999999999999999")), true, 999999999999999},
        {PAGE("false", OURS("999999999999999.0")), true, 999999999999999},
        {PAGE("false", OURS("9007199254740991")), true, 9007199254740991},
        {PAGE("false", OURS("9007199254740991.0")), true, 9007199254740991},
        {PAGE("false", OURS("9007199254740992")), false, 0},
        {PAGE("false", OURS("9007199254740992.0")), false, 0},
        {PAGE("false", OURS("9223372036854775807")), false, 0},
        {PAGE("false", OURS("1e300")), false, 0},
        {PAGE("false", OURS("1.2e1")), false, 0},
        {PAGE("false", OURS("654000000000000.0625")), false, 0}, /* a double would lose it */
        {PAGE("false", OURS("12.00000000000000000000001")), false, 0},
        {PAGE("false", OURS("12.5")), false, 0},
        {PAGE("false", OURS("12.05")), false, 0},
        {PAGE("false", OURS("3.0000000000000004")), false, 0},
        {PAGE("false", OURS("2.9999999999999996")), false, 0},
        {PAGE("false", OURS("1e-9")), false, 0},
        {PAGE("false", OURS("-12")), false, 0},
        {PAGE("false", OURS("-0.0")), false, 0},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct summary s = taken(table[i].text);
        cr_assert(s.whole == table[i].whole && s.sum.v == table[i].sum, "line %zu", i);
    }
}

Test(summary, what_is_not_understood_says_nothing)
{
    static const char *const table[] = {
        "",
        "null",
        "[]",
        "{}",
        "<html>",
        "{\"data\":7}",
        "{\"data\":{}}",
        "{\"data\":[],\"data\":[]}",
        PAGE("true", OURS("12")),
        PAGE("0", OURS("12")),
        PAGE("null", ""),
        PAGE("false", "7"),
        PAGE("false", "null"),
        PAGE("false", "[]"),
        PAGE("false", "{}"),
        PAGE("false", "{\"start_time\":1763884800}"),
        PAGE("false", "{\"aggregated_value\":12}"),
        PAGE("false", OURS("\"12\"")),
        PAGE("false", OURS("null")),
        PAGE("false", OURS("NaN")),
        PAGE("false", OURS("1e400")),
        PAGE("false", BUCKET("1763884800.0", "12")),
        PAGE("false", BUCKET("\"1763884800\"", "12")),
        PAGE("false", OURS("12") "," OURS("12")),
        PAGE("false", OURS("12") ",{}"),
        PAGE("false", OURS("12")) "x",
    };
    struct summary ignored;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        cr_assert_eq(take(table[i], &ignored), SG_ERR_MALFORMED, "line %zu", i);
}

Test(summary, a_page_that_is_cut_anywhere_says_nothing)
{
    static const char text[] = PAGE("false", OURS("12"));
    struct summary ignored;
    for (size_t n = 0; n + 1 < sizeof text; n++)
        cr_assert_eq(summary_take(text, n, (struct wall_ms){HOUR}, &ignored, NULL), SG_ERR_MALFORMED, "at %zu", n);
}
