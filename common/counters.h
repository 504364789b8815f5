/* Counters: one table per program, documented where it is declared, which is also /metrics (Prometheus text format).
 *
 *     #define THING_COUNTERS(X)                                                                          \
 *         X(EVENTS, COUNTER, "sandglass_thing_events_total", NULL, "events accepted")                    \
 *         X(REFUSED_RANGE, COUNTER, "sandglass_thing_refused_total", "code=\"range\"", "events refused")  \
 *         X(SPOOL, GAUGE, "sandglass_thing_spool_bytes", NULL, "bytes on disk")
 *     enum thing_counter { THING_COUNTERS(COUNTERS_ENUM) THING_COUNTER_COUNT };   -> COUNT_EVENTS, COUNT_SPOOL ...
 *     static const struct counter_spec specs[] = {THING_COUNTERS(COUNTERS_SPEC)};
 *
 * Entries of one family stand together and share type and help. Values are relaxed atomics: any thread adds, the
 * operations thread reads. */
#ifndef COMMON_COUNTERS_H
#define COMMON_COUNTERS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buffer.h"

enum counter_type { COUNTER, GAUGE };

/* One series. All pointers are static. */
struct counter_spec {
    const char *name;   /* of the metric family */
    const char *labels; /* `code="malformed"`, fixed; NULL: none */
    enum counter_type type;
    const char *help;
};

#define COUNTERS_ENUM(id, type_, name_, labels_, help_) COUNT_##id,
#define COUNTERS_SPEC(id, type_, name_, labels_, help_)                                                                \
    {.name = (name_), .labels = (labels_), .type = (type_), .help = (help_)},

enum { COUNTERS_MAX = 256 };

/* A program's counters. */
struct counters {
    const struct counter_spec *spec;
    size_t count;
    _Atomic uint64_t value[COUNTERS_MAX];
};

/* All zero. spec is kept as a pointer; count <= COUNTERS_MAX. */
void counters_init(struct counters *c, const struct counter_spec *spec, size_t count);
/* Adds n. */
void counters_add(struct counters *c, size_t index, uint64_t n);
/* Sets a gauge. */
void counters_set(struct counters *c, size_t index, uint64_t v);
/* Reads one. */
uint64_t counters_get(const struct counters *c, size_t index);
/* Appends Prometheus text: HELP and TYPE once per family, a line per series. */
void counters_render(const struct counters *c, struct buffer *out);

#endif
