/* One line of the ingest contract (proto/ingest.md): bytes to a checked event. Pure: no descriptor, no clock, no
 * allocation.
 *
 * What is checked here: JSON, the closed schema, types, ranges, identifiers. What depends on what was said before
 * (numbers, time, states) is the meter's. */
#ifndef PROTO_INGEST_LINE_H
#define PROTO_INGEST_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sandglass/id.h"
#include "sandglass/limits.h"

enum {
    INGEST_LINE_BYTES_MAX = 4096, /* a line with its newline */
    INGEST_CGROUP_BYTES_MAX = 200,
    INGEST_TAP_BYTES_MAX = 15,
    INGEST_CREATE_MS_MAX = 86400000,
    INGEST_VERSION = 1,
};

/* Why a line is refused; the texts are the codes of the contract. The last three close the session. */
#define INGEST_ERRORS(X)                                                                                               \
    X(MALFORMED, "malformed", "lines that are not one JSON object")                                                    \
    X(TOO_LONG, "too_long", "lines longer than 4,096 bytes")                                                           \
    X(UNKNOWN_FIELD, "unknown_field", "lines with a field that their type does not have")                              \
    X(DUPLICATE_FIELD, "duplicate_field", "lines that say a field twice")                                              \
    X(MISSING_FIELD, "missing_field", "lines without a field that their type requires")                                \
    X(BAD_TYPE, "bad_type", "lines with a value of the wrong JSON type")                                               \
    X(OUT_OF_RANGE, "out_of_range", "lines with a value outside its range")                                            \
    X(BAD_IDENTIFIER, "bad_identifier", "lines with a name of forbidden bytes or length")                              \
    X(UNKNOWN_TYPE, "unknown_type", "lines of a type that the contract does not know")                                 \
    X(UNKNOWN_SANDBOX, "unknown_sandbox", "events of a sandbox that their source does not have")                       \
    X(DUPLICATE_SANDBOX, "duplicate_sandbox", "creations of a sandbox that lives")                                     \
    X(BAD_STATE, "bad_state", "transitions that the sandbox's state does not have")                                    \
    X(TIME_WENT_BACK, "time_went_back", "events older than their source's newest")                                     \
    X(TABLE_FULL, "table_full", "creations beyond the table of sandboxes")                                             \
    X(NUMBER_GAP, "number_gap", "sessions closed for a hole in their numbers")                                         \
    X(NOT_GREETED, "not_greeted", "sessions closed for speaking before hello")                                         \
    X(BAD_HELLO, "bad_hello", "sessions closed for a hello that cannot be taken")

#define INGEST_ENUM_ERROR(name, text, help) INGEST_##name,
enum ingest_error { INGEST_OK, INGEST_ERRORS(INGEST_ENUM_ERROR) INGEST_ERROR_COUNT };

/* The code of an error as the contract spells it; static. */
const char *ingest_error_text(enum ingest_error e);

#define INGEST_TYPES(X)                                                                                                \
    X(HELLO, "hello")                                                                                                  \
    X(CREATED, "sandbox.created")                                                                                      \
    X(ADOPTED, "sandbox.adopted")                                                                                      \
    X(USAGE, "sandbox.usage")                                                                                          \
    X(HIBERNATED, "sandbox.hibernated")                                                                                \
    X(RESUMED, "sandbox.resumed")                                                                                      \
    X(DESTROYED, "sandbox.destroyed")                                                                                  \
    X(EXEC_EXITED, "exec.exited")                                                                                      \
    X(API_CALLED, "api.called")                                                                                        \
    X(CAPACITY, "runner.capacity")                                                                                     \
    X(TICK, "tick")

#define INGEST_ENUM_TYPE(name, text) INGEST_TYPE_##name,
enum ingest_type { INGEST_TYPES(INGEST_ENUM_TYPE) INGEST_TYPE_COUNT };

/* Every field of every type, shortest names first (the parser looks names up by their length), with its kind and range.
 */
#define INGEST_FIELDS(X)                                                                                               \
    X(N, "n", NUMBER, 1, COUNTER_MAX)                                                                                  \
    X(V, "v", NUMBER, INGEST_VERSION, INGEST_VERSION)                                                                  \
    X(TAP, "tap", TAP, 0, 0)                                                                                           \
    X(TYPE, "type", TYPE, 0, 0)                                                                                        \
    X(TEAM, "team", ID, 0, 0)                                                                                          \
    X(WARM, "warm", NUMBER, 0, COUNTER_MAX)                                                                            \
    X(VCPUS, "vcpus", NUMBER, 1, VCPUS_MAX)                                                                            \
    X(SOURCE, "source", ID, 0, 0)                                                                                      \
    X(ORIGIN, "origin", ORIGIN, 0, 0)                                                                                  \
    X(REASON, "reason", REASON, 0, 0)                                                                                  \
    X(STATUS, "status", NUMBER, 100, 599)                                                                              \
    X(CPU_US, "cpu_us", NUMBER, 0, COUNTER_MAX)                                                                        \
    X(CGROUP, "cgroup", CGROUP, 0, 0)                                                                                  \
    X(SANDBOX, "sandbox", ID, 0, 0)                                                                                    \
    X(PROJECT, "project", ID, 0, 0)                                                                                    \
    X(BOOT_MS, "boot_ms", NUMBER, 0, COUNTER_MAX)                                                                      \
    X(BOOT_ID, "boot_id", ID, 0, 0)                                                                                    \
    X(WALL_MS, "wall_ms", NUMBER, 0, WALL_MS_MAX)                                                                      \
    X(MEM_MIB, "mem_mib", NUMBER, 1, MEM_MIB_MAX)                                                                      \
    X(RUNNING, "running", BOOLEAN, 0, 1)                                                                               \
    X(DISK_MIB, "disk_mib", NUMBER, 0, DISK_MIB_MAX)                                                                   \
    X(CREATE_MS, "create_ms", NUMBER, 0, INGEST_CREATE_MS_MAX)                                                         \
    X(EXIT_CODE, "exit_code", NUMBER, 0, 255)                                                                          \
    X(MEM_BYTES, "mem_bytes", NUMBER, 0, COUNTER_MAX)                                                                  \
    X(OPERATION, "operation", OPERATION, 0, 0)                                                                         \
    X(VCPUS_TOTAL, "vcpus_total", NUMBER, 0, COUNTER_MAX)                                                              \
    X(DURATION_MS, "duration_ms", NUMBER, 0, COUNTER_MAX)                                                              \
    X(NET_RX_BYTES, "net_rx_bytes", NUMBER, 0, COUNTER_MAX)                                                            \
    X(NET_TX_BYTES, "net_tx_bytes", NUMBER, 0, COUNTER_MAX)                                                            \
    X(IO_READ_BYTES, "io_read_bytes", NUMBER, 0, COUNTER_MAX)                                                          \
    X(MEM_MIB_TOTAL, "mem_mib_total", NUMBER, 0, COUNTER_MAX)                                                          \
    X(IO_WRITE_BYTES, "io_write_bytes", NUMBER, 0, COUNTER_MAX)                                                        \
    X(MEM_PEAK_BYTES, "mem_peak_bytes", NUMBER, 0, COUNTER_MAX)                                                        \
    X(DISK_MIB_TOTAL, "disk_mib_total", NUMBER, 0, COUNTER_MAX)

#define INGEST_ENUM_FIELD(name, text, kind, min, max) INGEST_FIELD_##name,
enum ingest_field { INGEST_FIELDS(INGEST_ENUM_FIELD) INGEST_FIELD_COUNT };

/* A parsed line. Only what ingest_has() says is there may be read. Strings are NUL-terminated copies. */
struct ingest_event {
    enum ingest_type type;
    uint64_t present;                    /* bit f: field f is there */
    uint64_t number[INGEST_FIELD_COUNT]; /* numbers; 0/1 of booleans; enum origin, reason, operation */
    uint16_t at[INGEST_FIELD_COUNT];     /* where the field's value starts in the line */
    struct id source, boot_id, sandbox, team, project;
    char cgroup[INGEST_CGROUP_BYTES_MAX + 1];
    char tap[INGEST_TAP_BYTES_MAX + 1];
};

/* True when the line had the field. */
static inline bool ingest_has(const struct ingest_event *e, enum ingest_field f)
{
    return e->present >> f & 1;
}

/* Parses line[0..length), without its newline, length < INGEST_LINE_BYTES_MAX. On an error *at is the offset of the
 * first thing wrong, and e is not to be read. */
__attribute__((warn_unused_result)) enum ingest_error ingest_line_parse(const char *line, size_t length,
                                                                        struct ingest_event *e, size_t *at);

/* What can still be read of a refused line (or of the beginning of one that is too long). */
struct ingest_salvage {
    bool has_n, is_hello;
    uint64_t n;
};
/* Reads as far as line[0..length) is JSON: the first top-level "n" that is in range, and whether the first "type" is
 * hello. */
struct ingest_salvage ingest_line_salvage(const char *line, size_t length);

#endif
