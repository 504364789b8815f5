/* Logs: one logfmt line per event to standard error, written by one write(2).
 *
 *     time=2026-11-23T08:00:00.000Z level=info program=sandglass-collector event=segment_sealed bytes=123 path=...
 *
 * Never log input: no byte that came over a socket, from Kafka, Redis or Stripe. Names from our configuration, codes,
 * numbers and static texts only. A value with spaces goes through log_quote. An event that repeats is written
 * LOG_REPEATS_MAX times per LOG_PERIOD_MS; the rest is counted, and one line per period tells the count as suppressed=.
 * Errors (LOG_ERROR) are limited too. Thread-safe. */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include <stdbool.h>
#include <stddef.h>

#include "sandglass/error.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

enum {
    LOG_LINE_BYTES_MAX = 2048, /* longer lines are cut */
    LOG_REPEATS_MAX = 20,      /* lines per event name and period */
    LOG_PERIOD_MS = 10 * 1000,
    LOG_EVENTS_MAX = 128, /* event names whose repeats are counted; further ones are not limited */
};

/* Words of the levels in order, NULL at the end; for a configuration key. */
extern const char *const log_level_words[];

/* program is kept as a pointer. Before it, lines say program=sandglass and the level is LOG_INFO. */
void log_init(const char *program, enum log_level level);
/* True when lines of this level are written. */
bool log_enabled(enum log_level level);
/* One line. event is a static snake_case word; format gives "key=value key=value", "" for none. */
void log_event(enum log_level level, const char *event, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* One line with error=CODE reason="the fault's sentence". */
void log_fault(enum log_level level, const char *event, const struct sg_fault *f);
/* Writes value to out as a logfmt value: bare when it needs no quotes, else quoted with escapes, cut to size (>= 3).
 * Returns out, so that it can stand among the arguments of log_event. */
const char *log_quote(const char *value, char *out, size_t size);
/* Writes the counts of repeats whose period has passed (all: of every event with a count, before exiting). */
void log_flush(bool all);
/* Where lines go instead of standard error; -1: standard error again. For tests. */
void log_to(int fd);

#endif
