#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "aggregator/api/price.h"

static const char book_text[] =
    "{\"currency\":\"USD\",\"versions\":[{\"version\":\"a\",\"from\":\"1970-01-01T00:00:00Z\",\"vcpu_hour\":\"0.025\","
    "\"gib_hour\":\"0.015\"},"
    "{\"version\":\"b\",\"from\":\"2026-01-01T00:00:00Z\",\"vcpu_hour\":\"0.026\",\"gib_hour\":\"0.015\"}]}";

static struct price_book book(void)
{
    struct price_book b;
    struct sg_fault f = {0};
    cr_assert_eq(price_book_parse(book_text, strlen(book_text), &b, &f), SG_OK, "%s", f.text);
    return b;
}

static int64_t cost(const struct price_book *b, const struct price_sums *s)
{
    struct micro_cents c;
    cr_assert_eq(price_cost(b, s, &c), SG_OK);
    return c.v;
}

Test(price, one_vcpu_and_one_gib_for_90_s_is_a_tenth_of_a_cent)
{
    struct price_book b = book();
    struct price_sums s = {0};
    price_add(&b, &s, (struct wall_ms){0}, (struct amount){90000}, (struct amount){90000 * 1024});
    cr_assert_eq(cost(&b, &s), 100000);
}

Test(price, rounding_is_once_and_half_to_even)
{
    struct price_book b = book();
    struct price_sums s = {0};
    /* 1 vCPU-ms costs 2.5 / 3,600,000 cents = 0.694 micro-cents; 36 of them 25 micro-cents exactly */
    price_add(&b, &s, (struct wall_ms){0}, (struct amount){1}, (struct amount){0});
    cr_assert_eq(cost(&b, &s), 1);
    for (unsigned i = 1; i < 36; i++) price_add(&b, &s, (struct wall_ms){0}, (struct amount){1}, (struct amount){0});
    cr_assert_eq(cost(&b, &s), 25);
    struct price_sums half = {0};
    price_add(&b, &half, (struct wall_ms){0}, (struct amount){18}, (struct amount){0}); /* 12.5 */
    cr_assert_eq(cost(&b, &half), 12);
    price_add(&b, &half, (struct wall_ms){0}, (struct amount){36}, (struct amount){0}); /* 37.5 */
    cr_assert_eq(cost(&b, &half), 38);
}

Test(price, each_hour_has_the_price_in_force_at_its_start)
{
    struct price_book b = book();
    struct price_sums s = {0};
    struct wall_ms before = {INT64_C(1767222000000)}, after = {INT64_C(1767225600000)};
    cr_assert_str_eq(price_version_name(&b, &s, after), "b");
    price_add(&b, &s, before, (struct amount){HOUR_MS}, (struct amount){0});
    cr_assert_eq(cost(&b, &s), 2500000);
    cr_assert_str_eq(price_version_name(&b, &s, after), "a");
    struct price_sums memory_only = {0};
    price_add(&b, &memory_only, before, (struct amount){0}, (struct amount){1});
    cr_assert_str_eq(price_version_name(&b, &memory_only, after), "a");
    price_add(&b, &s, after, (struct amount){HOUR_MS}, (struct amount){0});
    cr_assert_eq(cost(&b, &s), 5100000);
    cr_assert_str_eq(price_version_name(&b, &s, after), "b");
}

Test(price, a_cost_that_does_not_fit_is_an_error)
{
    struct price_book b = book();
    struct price_sums s = {0};
    struct micro_cents c;
    for (unsigned i = 0; i < 2000; i++)
        price_add(&b, &s, (struct wall_ms){0}, (struct amount){UINT64_MAX}, (struct amount){UINT64_MAX});
    cr_assert_eq(price_cost(&b, &s, &c), SG_ERR_OVERFLOW);
}

Test(price, bad_books_are_refused_without_quoting_them)
{
    static const char *const bad[] = {"",
                                      "[]",
                                      "{}",
                                      "{\"currency\":\"EUR\",\"versions\":[]}",
                                      "{\"currency\":\"USD\",\"versions\":[]}",
                                      "{\"currency\":\"USD\",\"versions\":[{\"version\":\"CANARY\",\"from\":\"1970-01-"
                                      "01T00:00:00Z\",\"vcpu_hour\":\"1e5\",\"gib_hour\":\"0\"}]}",
                                      "{\"currency\":\"USD\",\"versions\":[{\"version\":\"CANARY\",\"from\":\"1970-01-"
                                      "01T00:00:01Z\",\"vcpu_hour\":\"1\",\"gib_hour\":\"0\"}]}",
                                      "{\"currency\":\"USD\",\"versions\":[{\"version\":\"CANARY\",\"from\":\"2025-01-"
                                      "01T00:00:00Z\",\"vcpu_hour\":\"1\",\"gib_hour\":\"0\"}]}",
                                      "{\"currency\":\"USD\",\"versions\":[{\"version\":\"CANARY\",\"from\":\"1970-01-"
                                      "01T00:00:00Z\",\"vcpu_hour\":0.025,\"gib_hour\":\"0\"}]}",
                                      "{\"currency\":\"USD\",\"versions\":[{\"version\":\"CANARY\",\"from\":\"1970-01-"
                                      "01T00:00:00Z\",\"vcpu_hour\":\"0.0000000001\",\"gib_hour\":\"0\"}]}"};
    struct price_book b;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct sg_fault f = {0};
        cr_assert_neq(price_book_parse(bad[i], strlen(bad[i]), &b, &f), SG_OK, "accepted %zu", i);
        cr_assert_null(strstr(f.text, "CANARY"));
    }
}

#define VERSION(name, from, vcpu, gib)                                                                                 \
    "{\"version\":" name ",\"from\":" from ",\"vcpu_hour\":" vcpu ",\"gib_hour\":" gib "}"
#define BOOK(versions) "{\"currency\":\"USD\",\"versions\":[" versions "]}"
#define FIRST          "\"1970-01-01T00:00:00Z\""

Test(price, every_rule_of_a_book_is_kept)
{
    static const char *const bad[] = {
        "{\"currency\":\"USD\"}",
        "{\"currency\":7,\"versions\":[]}",
        "{\"currency\":\"USD\",\"versions\":{}}",
        "{\"currency\":\"USD\",\"version\":[]}",
        "{\"currency\":\"USD\",\"versions\":[],\"x\":1}",
        "7",
        BOOK("7"),
        BOOK("{}"),
        BOOK(VERSION("\"a.b\"", FIRST, "\"1\"", "\"1\"")),
        BOOK(VERSION("\"a23456789012345678901234567890123\"", FIRST, "\"1\"", "\"1\"")),
        BOOK(VERSION("\"a\"", "\"yesterday\"", "\"1\"", "\"1\"")),
        BOOK(VERSION("\"a\"", FIRST, "\"1\"", "\"1\"") "," VERSION("\"b\"", FIRST, "\"1\"", "\"1\"")),
        BOOK(VERSION("\"a\"", FIRST, "\"\"", "\"1\"")),
        BOOK(VERSION("\"a\"", FIRST, "\".5\"", "\"1\"")),
        BOOK(VERSION("\"a\"", FIRST, "\"5.\"", "\"1\"")),
        BOOK(VERSION("\"a\"", FIRST, "\"1.2.3\"", "\"1\"")),
        BOOK(VERSION("\"a\"", FIRST, "\"1/2\"", "\"1\"")),
        BOOK(VERSION("\"a\"", FIRST, "\"1:2\"", "\"1\"")),
        BOOK(VERSION("\"a\"", FIRST, "\"1234567890123456789\"", "\"1\"")),
        BOOK(VERSION("\"a\"", FIRST, "\"999999999999999999\"", "\"1\"")),
        BOOK(VERSION("\"a\"", FIRST, "\"1001\"", "\"1\"")),
        BOOK(VERSION("\"a\"", FIRST, "\"1\"", "\"-1\"")),
    };
    struct price_book b;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_assert_neq(price_book_parse(bad[i], strlen(bad[i]), &b, NULL), SG_OK, "accepted %s", bad[i]);
    static const char good[] = BOOK(VERSION("\"a\"", FIRST, "\"1000\"", "\"0.123456789\""));
    cr_assert_eq(price_book_parse(good, sizeof good - 1, &b, NULL), SG_OK);
    cr_assert_eq(b.version[0].gib_hour_nano_usd, 123456789);
}

Test(price, a_book_of_too_many_versions_is_refused)
{
    static char text[PRICE_VERSIONS_MAX * 16];
    struct price_book b;
    char *end = text + snprintf(text, sizeof text, "{\"currency\":\"USD\",\"versions\":[1");
    for (int i = 0; i < PRICE_VERSIONS_MAX; i++) end += snprintf(end, 3, ",1");
    snprintf(end, 3, "]}");
    cr_assert_eq(price_book_parse(text, strlen(text), &b, NULL), SG_ERR_LIMIT);
}

Test(price, a_cost_that_does_not_even_fit_128_bits_is_an_error)
{
    struct price_book b = book();
    const unsigned __int128 most = ~(unsigned __int128)0;
    struct price_sums vcpu = {.vcpu_ms = {most}}, mem = {.mem_mib_ms = {most}},
                      both = {.vcpu_ms = {most / 1024 / 25000000}, .mem_mib_ms = {most / 15000000}};
    struct micro_cents c;
    cr_assert_eq(price_cost(&b, &vcpu, &c), SG_ERR_OVERFLOW);
    cr_assert_eq(price_cost(&b, &mem, &c), SG_ERR_OVERFLOW);
    cr_assert_eq(price_cost(&b, &both, &c), SG_ERR_OVERFLOW);
}
