#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "proto/ingest_line.h"
#include "sandglass/field.h"

static enum ingest_error parse(const char *line, struct ingest_event *e, size_t *at)
{
    return ingest_line_parse(line, strlen(line), e, at);
}

static void expect_refused_at(const char *line, size_t length, enum ingest_error error, size_t at)
{
    struct ingest_event e;
    size_t said;
    enum ingest_error got = ingest_line_parse(line, length, &e, &said);
    cr_expect_eq(got, error, "%s: %s", line, ingest_error_text(got));
    cr_expect_eq(said, at, "%s: at %zu", line, said);
}

static void expect_refused(const char *line, enum ingest_error error, const char *from)
{
    const char *place = strstr(line, from);
    cr_assert_not_null(place);
    expect_refused_at(line, strlen(line), error, (size_t)(place - line));
}

/* As the value of that member, each of these texts is refused where it begins. */
static void expect_each_refused(const char *member, const char *const *values, size_t count, enum ingest_error error)
{
    for (size_t i = 0; i < count; i++) {
        char line[128];
        int at = snprintf(line, sizeof line, "{\"%s\":", member);
        int length = at + snprintf(line + at, sizeof line - (size_t)at, "%s}", values[i]);
        expect_refused_at(line, (size_t)length, error, (size_t)at);
    }
}
#define EXPECT_EACH_REFUSED(member, values, error)                                                                     \
    expect_each_refused(member, values, sizeof(values) / sizeof *(values), error)

#define TICK "\"boot_ms\":7,\"type\":\"tick\""
#define LIFE "\"sandbox\":\"run1\",\"team\":\"t\",\"project\":\"p\",\"vcpus\":2,\"mem_mib\":1024,\"disk_mib\":4096"
#define CREATED(x)                                                                                                     \
    "{\"n\":1,\"boot_ms\":7,\"type\":\"sandbox.created\"," LIFE ",\"origin\":\"fork\",\"create_ms\":12" x "}"

Test(ingest_line, every_field_of_a_creation_is_read)
{
    struct ingest_event e;
    size_t at;
    cr_assert_eq(parse(CREATED(",\"cgroup\":\"a/b\",\"tap\":\"tap0\""), &e, &at), INGEST_OK);
    cr_expect_eq(e.type, INGEST_TYPE_CREATED);
    cr_expect_eq(e.number[INGEST_FIELD_N], 1);
    cr_expect_eq(e.number[INGEST_FIELD_BOOT_MS], 7);
    cr_expect_str_eq(e.sandbox.s, "run1");
    cr_expect_str_eq(e.team.s, "t");
    cr_expect_str_eq(e.project.s, "p");
    cr_expect_eq(e.number[INGEST_FIELD_VCPUS], 2);
    cr_expect_eq(e.number[INGEST_FIELD_MEM_MIB], 1024);
    cr_expect_eq(e.number[INGEST_FIELD_DISK_MIB], 4096);
    cr_expect_eq(e.number[INGEST_FIELD_ORIGIN], ORIGIN_FORK);
    cr_expect_eq(e.number[INGEST_FIELD_CREATE_MS], 12);
    cr_expect_str_eq(e.cgroup, "a/b");
    cr_expect_str_eq(e.tap, "tap0");
    cr_expect_not(ingest_has(&e, INGEST_FIELD_RUNNING));
}

Test(ingest_line, the_order_of_fields_and_space_between_them_are_free)
{
    struct ingest_event e;
    size_t at;
    cr_expect_eq(parse(" {\t\"type\" : \"tick\" , \"boot_ms\":0,\"n\":9007199254740991 } \r", &e, &at), INGEST_OK);
    cr_expect_eq(e.number[INGEST_FIELD_N], COUNTER_MAX);
}

Test(ingest_line, escapes_are_decoded_before_anything_is_compared)
{
    struct ingest_event e;
    size_t at;
    cr_expect_eq(parse("{\"\\u006E\":3,\"boot_ms\":7,\"type\":\"t\\u0069ck\"}", &e, &at), INGEST_OK);
    cr_expect_eq(e.number[INGEST_FIELD_N], 3);
    expect_refused("{\"n\":3,\"\\u006e\":3," TICK "}", INGEST_DUPLICATE_FIELD, "\"\\u006e");
}

Test(ingest_line, what_is_no_json_object_is_malformed_where_reading_stops)
{
    expect_refused("garbage", INGEST_MALFORMED, "garbage");
    expect_refused("[1]", INGEST_MALFORMED, "[");
    expect_refused("{\"n\":1," TICK "} x", INGEST_MALFORMED, "x");
    expect_refused("{\"n\":01," TICK "}", INGEST_MALFORMED, "01");
    expect_refused("{\"n\":1x," TICK "}", INGEST_MALFORMED, "1x");
    expect_refused("{\"n\":1 \"boot_ms\":7}", INGEST_MALFORMED, "\"boot_ms");
    expect_refused("{\"n\":1,}", INGEST_MALFORMED, "}");
    expect_refused("{\"n\":1,\"type\":\"ti\x01\"}", INGEST_MALFORMED, "\"ti");
    expect_refused("{\"n\":1,\"type\":\"ti\xff\"}", INGEST_MALFORMED, "\"ti");
    expect_refused("{\"n\":1,\"type\":\"\\ud800\"}", INGEST_MALFORMED, "\"\\ud");
    expect_refused("{\"n\":1,\"type\":\"tick", INGEST_MALFORMED, "\"tick");
    expect_refused("{\"n\":1,\"type\":\"\xc0\xae\"}", INGEST_MALFORMED, "\"\xc0");
    expect_refused("{\"n\":nul}", INGEST_MALFORMED, "nul");
    struct ingest_event e;
    size_t at;
    cr_expect_eq(parse("", &e, &at), INGEST_MALFORMED);
    cr_expect_eq(at, 0);
}

Test(ingest_line, text_that_is_no_utf8_or_has_half_an_escape_is_malformed)
{
    static const char *const values[] = {
        "\"\xc1\xbf\"",       "\"\xf5\x80\x80\x80\"", "\"\xe2\x82\"",         "\"\xe2\x28\xac\"",
        "\"\xe0\x9f\xbf\"",   "\"\xed\xa0\x80\"",     "\"\xf0\x8f\xbf\xbf\"", "\"\xf4\x90\x80\x80\"",
        "\"\\n\x01\"",        "\"\\n\xff\"",          "\"\\n\xc3\x28\"",      "\"\\x41\"",
        "\"\\u00/0\"",        "\"\\u00:0\"",          "\"\\u00@0\"",          "\"\\u00G0\"",
        "\"\\u00`0\"",        "\"\\u00g0\"",          "\"\\udc00\"",          "\"\\udfff\"",
        "\"\\ud800x\"",       "\"\\ud800\\t\"",       "\"\\ud800\\u00zz\"",   "\"\\ud800\\u0041\"",
        "\"\\ud800\\ue000\"",
    };
    EXPECT_EACH_REFUSED("team", values, INGEST_MALFORMED);
}

/* The first and the last of what may be written so, and what stands for one byte: all text, and no identifier. */
Test(ingest_line, text_of_every_length_and_escape_is_read)
{
    static const char *const values[] = {
        "\"\xc2\x80\"",         "\"\xe0\xa0\x80\"",     "\"\xe2\x82\xac\"",
        "\"\xed\x9f\xbf\"",     "\"\xee\x80\x80\"",     "\"\xf0\x90\x80\x80\"",
        "\"\xf1\x80\x80\x80\"", "\"\xf4\x8f\xbf\xbf\"", "\"\\u00e9\"",
        "\"\\u20AC\"",          "\"\\uff5e\"",          "\"\\ud83d\\uDE00\"",
        "\"\\udbff\\udfff\"",   "\"\\n\xc3\xa9\"",      "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
    };
    EXPECT_EACH_REFUSED("team", values, INGEST_BAD_IDENTIFIER);
}

Test(ingest_line, a_line_may_end_anywhere_and_is_malformed_then)
{
    static const char *const lines[] = {
        "{\"team",
        "{\"team\"",
        "{\"team\":",
        "{\"team\":\"\\",
        "{\"team\":\"\\u00",
        "{\"n\":",
        "{\"team\":\"\\n",
        "{\"team\":\"\xe2\x82",
        "{\"team\":\"\\ud800\\u",
        "{\"running\":",
        "{\"n\":1",
        "{\"n\":1,",
        "{",
        "{\"n\":-",
        "{\"team\":\"\\n\xf0\x9f\x98",
    };
    static const size_t at[] = {1, 7, 8, 8, 8, 5, 8, 8, 8, 11, 6, 7, 1, 5, 8};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        expect_refused_at(lines[i], strlen(lines[i]), INGEST_MALFORMED, at[i]);
    expect_refused_at("{\"team\":\"\\\0\"}", 12, INGEST_MALFORMED, 8); /* a NUL is no escape */
}

Test(ingest_line, numbers_have_jsons_form)
{
    static const char *const malformed[] = {"-",  "-x", "1.", "1.x", "1e", "1E+", "1e-x",
                                            "00", "+1", "1-", "1\"", ":",  "/"};
    static const char *const not_whole[] = {"1.0", "1E2", "1e+2", "1e-2", "-1.5e7"};
    static const char *const too_large[] = {"18446744073709551615", "18446744073709551616", "184467440737095516150"};
    EXPECT_EACH_REFUSED("n", malformed, INGEST_MALFORMED);
    EXPECT_EACH_REFUSED("n", not_whole, INGEST_BAD_TYPE);
    EXPECT_EACH_REFUSED("n", too_large, INGEST_OUT_OF_RANGE);
}

Test(ingest_line, another_type_of_json_is_told_from_what_is_none)
{
    static const char *const others[] = {"true", "false", "null", "[1]", "{}", "\"1\""};
    static const char *const none[] = {"nullx", "truefalse", "falsy", "\"1", "}"};
    static const char *const not_text[] = {"1", "-1.5", "true", "null", "[]"};
    EXPECT_EACH_REFUSED("n", others, INGEST_BAD_TYPE);
    EXPECT_EACH_REFUSED("n", none, INGEST_MALFORMED);
    EXPECT_EACH_REFUSED("team", not_text, INGEST_BAD_TYPE);
    expect_refused("{\"running\":truth}", INGEST_MALFORMED, "truth");
    expect_refused("{\"n\" 1}", INGEST_MALFORMED, "1}");
    expect_refused("{\"a_name_that_is_longer_than_every_field\":1}", INGEST_UNKNOWN_FIELD, "\"a_name");
}

Test(ingest_line, the_schema_is_closed)
{
    expect_refused("{\"n\":1,\"image\":\"x\"," TICK "}", INGEST_UNKNOWN_FIELD, "\"image");
    expect_refused("{\"n\":1,\"N\":1," TICK "}", INGEST_UNKNOWN_FIELD, "\"N\"");
    expect_refused("{\"n\":1,\"sandbox\":\"x\"," TICK "}", INGEST_UNKNOWN_FIELD, "\"sandbox");
    expect_refused("{\"n\":1,\"team\":\"t\",\"sandbox\":\"x\"," TICK "}", INGEST_UNKNOWN_FIELD, "\"team");
    expect_refused("{\"\":1," TICK "}", INGEST_UNKNOWN_FIELD, "\"\"");
    expect_refused(CREATED(",\"running\":true"), INGEST_UNKNOWN_FIELD, "\"running");
    expect_refused(
        "{\"v\":1,\"n\":1,\"type\":\"hello\",\"source\":\"s\",\"boot_id\":\"b\",\"boot_ms\":1,\"wall_ms\":1}",
        INGEST_UNKNOWN_FIELD, "\"n\"");
}

Test(ingest_line, fields_are_said_once_and_none_is_missing)
{
    expect_refused("{\"n\":1,\"n\":1," TICK "}", INGEST_DUPLICATE_FIELD, "\"n\":1,\"b");
    expect_refused("{" TICK "}", INGEST_MISSING_FIELD, "}");
    expect_refused("{\"n\":1,\"boot_ms\":7}", INGEST_MISSING_FIELD, "}");
    expect_refused("{}", INGEST_MISSING_FIELD, "}");
    expect_refused("{\"n\":1,\"boot_ms\":7,\"type\":\"exec.exited\",\"sandbox\":\"x\",\"exit_code\":0}",
                   INGEST_MISSING_FIELD, "}");
}

Test(ingest_line, values_have_the_json_type_of_their_field)
{
    expect_refused("{\"n\":\"1\"," TICK "}", INGEST_BAD_TYPE, "\"1\"");
    expect_refused("{\"n\":1.5," TICK "}", INGEST_BAD_TYPE, "1.5");
    expect_refused("{\"n\":1e0," TICK "}", INGEST_BAD_TYPE, "1e0");
    expect_refused("{\"n\":null," TICK "}", INGEST_BAD_TYPE, "null");
    expect_refused("{\"n\":{\"a\":1}," TICK "}", INGEST_BAD_TYPE, "{\"a");
    expect_refused("{\"n\":1,\"boot_ms\":7,\"type\":3}", INGEST_BAD_TYPE, "3");
    expect_refused("{\"n\":1,\"boot_ms\":true,\"type\":\"tick\"}", INGEST_BAD_TYPE, "true");
    expect_refused("{\"running\":1}", INGEST_BAD_TYPE, "1");
    expect_refused("{\"sandbox\":[\"x\"]}", INGEST_BAD_TYPE, "[");
}

Test(ingest_line, numbers_and_words_lie_in_their_range)
{
    expect_refused("{\"n\":0," TICK "}", INGEST_OUT_OF_RANGE, "0");
    expect_refused("{\"n\":-1," TICK "}", INGEST_OUT_OF_RANGE, "-1");
    expect_refused("{\"n\":9007199254740992," TICK "}", INGEST_OUT_OF_RANGE, "9007");
    expect_refused("{\"n\":99999999999999999999999," TICK "}", INGEST_OUT_OF_RANGE, "9999");
    expect_refused("{\"vcpus\":1025}", INGEST_OUT_OF_RANGE, "1025");
    expect_refused("{\"vcpus\":0}", INGEST_OUT_OF_RANGE, "0");
    expect_refused("{\"exit_code\":256}", INGEST_OUT_OF_RANGE, "256");
    expect_refused("{\"status\":99}", INGEST_OUT_OF_RANGE, "99");
    expect_refused("{\"create_ms\":86400001}", INGEST_OUT_OF_RANGE, "86400001");
    expect_refused("{\"origin\":\"clone\"}", INGEST_OUT_OF_RANGE, "\"clone");
    expect_refused("{\"reason\":\"API\"}", INGEST_OUT_OF_RANGE, "\"API");
    expect_refused("{\"operation\":\"sandbox.steal\"}", INGEST_OUT_OF_RANGE, "\"sandbox.steal");
    expect_refused("{\"v\":2}", INGEST_OUT_OF_RANGE, "2");
    expect_refused("{\"type\":\"sandbox.paused\"}", INGEST_UNKNOWN_TYPE, "\"sandbox.paused");
}

Test(ingest_line, names_have_only_the_bytes_that_names_have)
{
    expect_refused("{\"sandbox\":\"\"}", INGEST_BAD_IDENTIFIER, "\"\"");
    expect_refused("{\"project\":\"-\"}", INGEST_BAD_IDENTIFIER, "\"-\"");
    expect_refused("{\"team\":\"a b\"}", INGEST_BAD_IDENTIFIER, "\"a b");
    expect_refused("{\"team\":\"a\\u0000\"}", INGEST_BAD_IDENTIFIER, "\"a\\u");
    expect_refused("{\"team\":\"\xc3\xa9\"}", INGEST_BAD_IDENTIFIER, "\"\xc3");
    expect_refused("{\"cgroup\":\"a/../b\"}", INGEST_BAD_IDENTIFIER, "\"a/");
    expect_refused("{\"tap\":\"sixteen-letters-\"}", INGEST_BAD_IDENTIFIER, "\"six");
    expect_refused("{\"tap\":\"a/b\"}", INGEST_BAD_IDENTIFIER, "\"a/b");
    char line[128], id[ID_BYTES_MAX + 2];
    memset(id, 'x', sizeof id - 1);
    id[sizeof id - 1] = '\0';
    snprintf(line, sizeof line, "{\"team\":\"%s\"}", id);
    expect_refused(line, INGEST_BAD_IDENTIFIER, "\"x");
}

Test(ingest_line, paths_have_the_bytes_of_paths_and_never_two_dots)
{
    static const char *const cgroups[] = {"\"\"",   "\"a b\"",      "\"a;\"", "\"a[\"",   "\"a`\"",
                                          "\"a{\"", "\"a\\u0000\"", "\"..\"", "\"a/..\"", "\"a\x7f\""};
    static const char *const taps[] = {"\"\"", "\".\"", "\"..\"", "\"a/b\"", "\"a:b\"", "\"sixteen-letters-\""};
    struct ingest_event e;
    size_t at;
    EXPECT_EACH_REFUSED("cgroup", cgroups, INGEST_BAD_IDENTIFIER);
    EXPECT_EACH_REFUSED("tap", taps, INGEST_BAD_IDENTIFIER);
    cr_assert_eq(parse(CREATED(",\"cgroup\":\"azAZ09_.\\/:@-.\",\"tap\":\"a.b\""), &e, &at), INGEST_OK);
    cr_expect_str_eq(e.cgroup, "azAZ09_./:@-.");
    cr_expect_str_eq(e.tap, "a.b");
    cr_assert_eq(parse(CREATED(",\"tap\":\"x\""), &e, &at), INGEST_OK);
    cr_expect_str_eq(e.tap, "x");
}

Test(ingest_line, names_of_fields_are_ordered_by_their_length)
{
    static const char *const names[] = {
#define NAME(name, text, kind, min, max) text,
        INGEST_FIELDS(NAME)
#undef NAME
    };
    for (size_t i = 1; i < INGEST_FIELD_COUNT; i++)
        cr_expect_leq(strlen(names[i - 1]), strlen(names[i]), "%s", names[i]);
}

static struct ingest_salvage salvage(const char *line)
{
    return ingest_line_salvage(line, strlen(line));
}

Test(ingest_line, the_number_of_a_refused_line_is_found_where_json_still_holds)
{
    cr_expect_eq(salvage("{\"image\":[1,{\"n\":3}],\"n\":8,\"boot").n, 8);
    cr_expect_eq(salvage("{\"n\":8,\"n\":9}").n, 8);
    cr_expect_eq(salvage("{\"n\":-1,\"n\":9}").n, 9);
    cr_expect(salvage("{\"x\":\"}\\\"\",\"n\":8").has_n);
    cr_expect_not(salvage("{\"x\" \"n\":8}").has_n);
    cr_expect_not(salvage("garbage \"n\":8").has_n);
    cr_expect_not(salvage("{\"m\":{\"n\":8}}").has_n);
    cr_expect_not(salvage("{\"x\":").has_n);
    cr_expect_not(salvage("{\"x\":[1,").has_n);
    cr_expect_not(salvage("{\"x\":,\"n\":8}").has_n, "no value, so what follows has no meaning");
    cr_expect_not(salvage("{\"x\":},\"n\":8}").has_n);
    cr_expect_not(salvage("{\"x\":],\"n\":8}").has_n);
    cr_expect_not(salvage("{\"x\":[\"\x01\"],\"n\":8}").has_n);
    cr_expect_not(salvage("").has_n);
}

Test(ingest_line, a_refused_greeting_is_known_as_one)
{
    cr_expect(salvage("{\"v\":9,\"type\":\"hello\"}").is_hello);
    cr_expect(salvage("{\"bogus\":[],\"type\":\"hello\",").is_hello);
    cr_expect_not(salvage("{\"type\":\"tick\",\"type\":\"hello\"}").is_hello);
    cr_expect_not(salvage("{\"source\":\"hello\"}").is_hello);
    cr_expect_not(salvage("{\"type\":\"hallo\"}").is_hello);
    cr_expect_not(salvage("{\"type\":\"hell\xc3\"").is_hello);
    cr_expect_not(salvage("{\"type\":").is_hello);
    cr_expect(salvage("{\"type\":5,\"type\":\"hello\"").is_hello, "only a text says a type");
}
