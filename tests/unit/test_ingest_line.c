#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "proto/ingest_line.h"
#include "sandglass/field.h"

static enum ingest_error parse(const char *line, struct ingest_event *e, size_t *at)
{
    return ingest_line_parse(line, strlen(line), e, at);
}

static void expect_refused(const char *line, enum ingest_error error, const char *from)
{
    struct ingest_event e;
    size_t at;
    const char *place = strstr(line, from);
    cr_assert_not_null(place);
    cr_expect_eq(parse(line, &e, &at), error, "%s: %s", line, ingest_error_text(parse(line, &e, &at)));
    cr_expect_eq(at, (size_t)(place - line), "%s: at %zu", line, at);
}

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
    cr_expect_not(salvage("").has_n);
}

Test(ingest_line, a_refused_greeting_is_known_as_one)
{
    cr_expect(salvage("{\"v\":9,\"type\":\"hello\"}").is_hello);
    cr_expect(salvage("{\"bogus\":[],\"type\":\"hello\",").is_hello);
    cr_expect_not(salvage("{\"type\":\"tick\",\"type\":\"hello\"}").is_hello);
    cr_expect_not(salvage("{\"source\":\"hello\"}").is_hello);
}
