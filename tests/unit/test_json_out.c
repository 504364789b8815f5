#include <criterion/criterion.h>
#include <signal.h>

#include "common/json_out.h"

static struct buffer buffer;
static struct json_out j;

static void set_up(void)
{
    buffer_init(&buffer, 4096);
    json_out_init(&j, &buffer);
}

static void tear_down(void)
{
    buffer_destroy(&buffer);
}

TestSuite(json_out, .init = set_up, .fini = tear_down);

static void assert_text(const char *expected)
{
    cr_assert_eq(json_out_finish(&j), SG_OK);
    cr_assert_str_eq(buffer.data, expected);
}

Test(json_out, writes_objects_and_arrays)
{
    json_out_object_begin(&j, NULL);
    json_out_u64(&j, "a", UINT64_MAX);
    json_out_i64(&j, "b", INT64_MIN);
    json_out_array_begin(&j, "c");
    json_out_bool(&j, NULL, true);
    json_out_null(&j, NULL);
    json_out_object_begin(&j, NULL);
    json_out_object_end(&j);
    json_out_array_end(&j);
    json_out_string(&j, "d", NULL);
    json_out_time(&j, "e", (struct wall_ms){0});
    json_out_u128(&j, "f", (unsigned __int128)-1);
    json_out_object_end(&j);
    assert_text("{\"a\":18446744073709551615,\"b\":-9223372036854775808,\"c\":[true,null,{}],\"d\":null,"
                "\"e\":\"1970-01-01T00:00:00.000Z\",\"f\":340282366920938463463374607431768211455}");
}

Test(json_out, writes_decimals_exactly_and_without_trailing_zeros)
{
    static const struct {
        int64_t micro;
        const char *text;
    } cases[] = {
        {0, "0"},
        {1, "0.000001"},
        {100000, "0.1"},
        {2000000, "2"},
        {12345678, "12.345678"},
        {-1500000, "-1.5"},
        {-1, "-0.000001"},
        {10, "0.00001"},
        {INT64_MAX, "9223372036854.775807"},
        {1000000000, "1000"},
        {INT64_MIN, "-9223372036854.775808"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        buffer_reset(&buffer);
        json_out_init(&j, &buffer);
        json_out_micro(&j, NULL, cases[i].micro);
        assert_text(cases[i].text);
    }
}

Test(json_out, writes_the_extremes_of_128_bits)
{
    unsigned __int128 one = 1;
    json_out_array_begin(&j, NULL);
    json_out_micro(&j, NULL, -(__int128)((one << 127) - 1) - 1);
    json_out_milli(&j, NULL, (__int128)((one << 127) - 1));
    json_out_milli(&j, NULL, 1500);
    json_out_array_end(&j);
    assert_text("[-170141183460469231731687303715884.105728,170141183460469231731687303715884105.727,1.5]");
}

Test(json_out, escapes_strings)
{
    json_out_string(&j, NULL, "a\"b\\c\b\f\n\r\t\x01\x7f/");
    assert_text("\"a\\\"b\\\\c\\b\\f\\n\\r\\t\\u0001\\u007f/\"");
}

Test(json_out, keeps_utf8_and_replaces_what_is_not)
{
    static const struct {
        const char *bytes;
        size_t length;
        const char *text;
    } cases[] = {
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x99\x82", 9, "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x99\x82\""},
        {"\xc0\xaf", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\""},                                 /* overlong */
        {"\xed\xa0\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},                 /* surrogate */
        {"\xf4\x90\x80\x80", 4, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""}, /* beyond U+10FFFF */
        {"\xe2\x82", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\""},                                 /* cut */
        {"\xe0\x80\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},                 /* overlong */
        {"\xe2\x82(", 3, "\"\xef\xbf\xbd\xef\xbf\xbd(\""},
        {"\xffz", 2, "\"\xef\xbf\xbdz\""},
        {"a\0b", 3, "\"a\\u0000b\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        buffer_reset(&buffer);
        json_out_init(&j, &buffer);
        json_out_bytes(&j, NULL, cases[i].bytes, cases[i].length);
        assert_text(cases[i].text);
    }
}

Test(json_out, tells_a_full_buffer_once_at_the_end)
{
    struct buffer small;
    buffer_init(&small, 8);
    json_out_init(&j, &small);
    json_out_array_begin(&j, NULL);
    for (int i = 0; i < 100; i++) json_out_u64(&j, NULL, 7);
    json_out_array_end(&j);
    cr_assert_eq(json_out_finish(&j), SG_ERR_LIMIT);
    buffer_destroy(&small);
}

Test(json_out, aborts_on_a_key_in_an_array, .signal = SIGABRT)
{
    json_out_array_begin(&j, NULL);
    json_out_u64(&j, "key", 1);
}

Test(json_out, aborts_on_a_value_without_a_key_in_an_object, .signal = SIGABRT)
{
    json_out_object_begin(&j, NULL);
    json_out_u64(&j, NULL, 1);
}

Test(json_out, aborts_on_unbalanced_ends, .signal = SIGABRT)
{
    json_out_array_begin(&j, NULL);
    json_out_object_end(&j);
}

Test(json_out, aborts_on_a_second_outermost_value, .signal = SIGABRT)
{
    json_out_null(&j, NULL);
    json_out_null(&j, NULL);
}
