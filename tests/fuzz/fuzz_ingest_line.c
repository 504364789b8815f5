/* One line of the ingest contract: an accepted one is within every range, and jansson reads the same members and
 * numbers in it; a malformed one is no object for jansson either; a refused one says where, inside the line; the number
 * that is salvaged from an accepted line is its own. */
#include <assert.h>
#include <jansson.h>
#include <string.h>

#include "proto/ingest_line.h"
#include "sandglass/time.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FIELD_RULE(name, text, kind, min, max) {text, #kind, min, max},
static const struct {
    const char *name, *kind;
    uint64_t min, max;
} rules[] = {INGEST_FIELDS(FIELD_RULE)};

static void check_against_jansson(const struct ingest_event *e, const char *line, size_t size)
{
    json_t *j = json_loadb(line, size, JSON_REJECT_DUPLICATES, NULL);
    assert(j && json_object_size(j) == (size_t)__builtin_popcountll(e->present));
    for (size_t f = 0; f < INGEST_FIELD_COUNT; f++) {
        if (!ingest_has(e, (enum ingest_field)f)) continue;
        const json_t *value = json_object_get(j, rules[f].name);
        bool number = strcmp(rules[f].kind, "NUMBER") == 0;
        assert(value && json_is_integer(value) == number);
        if (!number) continue;
        assert((uint64_t)json_integer_value(value) == e->number[f]);
        assert(e->number[f] >= rules[f].min && e->number[f] <= rules[f].max);
    }
    json_decref(j);
}

/* A line holds no newline, which is a space for jansson; and jansson 2.14 reads over a NUL behind a number. */
static void check_malformed(const char *line, size_t size)
{
    if (memchr(line, '\n', size) || memchr(line, '\0', size)) return;
    json_t *j = json_loadb(line, size, JSON_ALLOW_NUL, NULL);
    assert(!json_is_object(j));
    json_decref(j);
}

static void check_accepted(const struct ingest_event *e, const char *line, size_t size)
{
    struct ingest_salvage left = ingest_line_salvage(line, size);
    assert(e->type < INGEST_TYPE_COUNT && ingest_has(e, INGEST_FIELD_TYPE) && ingest_has(e, INGEST_FIELD_BOOT_MS));
    assert(left.is_hello == (e->type == INGEST_TYPE_HELLO));
    if (ingest_has(e, INGEST_FIELD_N)) assert(left.has_n && left.n == e->number[INGEST_FIELD_N]);
    if (ingest_has(e, INGEST_FIELD_SANDBOX)) assert(id_valid(e->sandbox.s, strlen(e->sandbox.s)));
    if (ingest_has(e, INGEST_FIELD_CGROUP)) assert(*e->cgroup && !strstr(e->cgroup, ".."));
    for (size_t f = 0; f < INGEST_FIELD_COUNT; f++) assert(!(e->present >> f & 1) || e->at[f] < size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ingest_event e;
    size_t at = 0;
    const char *line = (const char *)data;
    if (size >= INGEST_LINE_BYTES_MAX) {
        (void)ingest_line_salvage(line, INGEST_LINE_BYTES_MAX);
        return 0;
    }
    enum ingest_error error = ingest_line_parse(line, size, &e, &at);
    if (error) {
        assert(error < INGEST_UNKNOWN_SANDBOX && error != INGEST_TOO_LONG && at <= size);
        (void)ingest_line_salvage(line, size);
        if (error == INGEST_MALFORMED) check_malformed(line, size);
    } else {
        check_accepted(&e, line, size);
        check_against_jansson(&e, line, size);
    }
    return 0;
}
