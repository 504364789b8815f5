/* Instants as text: RFC 3339 in and out, Unix seconds in. UTC, milliseconds, no locale, no time zone database. Pure. */
#ifndef COMMON_RFC3339_H
#define COMMON_RFC3339_H

#include <stdbool.h>
#include <stddef.h>

#include "sandglass/time.h"

/* "2026-11-23T08:00:00.000Z" and its NUL. */
enum { RFC3339_BYTES = 25 };

/* Writes t (0 <= t.v <= WALL_MS_MAX) with milliseconds and Z. */
void rfc3339_format(struct wall_ms t, char out[static RFC3339_BYTES]);
/* Parses RFC 3339 (any offset, fraction of up to nine digits, cut to milliseconds) or Unix seconds (an unsigned
 * decimal). False when text is neither or lies outside 1970..9999. A leap second (:60) is refused. */
__attribute__((warn_unused_result)) bool rfc3339_parse(const char *text, size_t length, struct wall_ms *out);

#endif
