/* One line of the ingest contract: an accepted one is within every range; a refused one says where, inside the line;
 * the number that is salvaged from an accepted line is its own. */
#include <assert.h>
#include <string.h>

#include "proto/ingest_line.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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
    } else
        check_accepted(&e, line, size);
    return 0;
}
