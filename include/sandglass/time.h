/* Times and windows. Two clocks that must never be mixed are two types.
 *
 * boot_ms: CLOCK_BOOTTIME, milliseconds since the host booted; every duration that is billed is a difference of two.
 * wall_ms: UTC, milliseconds since 1970; where usage belongs (its minute, hour, day). Never negative here.
 * Windows are half-open, [start, start + length), and start on multiples of their length. (design.md, section 4;
 * ingest.md) */
#ifndef SANDGLASS_TIME_H
#define SANDGLASS_TIME_H

#include <stdint.h>

struct boot_ms {
    uint64_t v;
};
struct wall_ms {
    int64_t v;
};

enum { SECOND_MS = 1000, MINUTE_MS = 60 * SECOND_MS, HOUR_MS = 60 * MINUTE_MS, DAY_MS = 24 * HOUR_MS };

/* Latest instant that any contract accepts: 9999-12-31T23:59:59.999Z. */
#define WALL_MS_MAX INT64_C(253402300799999)

/* Start of the window of window_ms that t lies in. t.v >= 0. */
static inline struct wall_ms wall_floor(struct wall_ms t, int64_t window_ms)
{
    return (struct wall_ms){t.v - t.v % window_ms};
}

/* Kinds of rollup windows, in the order of their letters in keys (proto/redis.md). */
enum window_kind { WINDOW_MINUTE, WINDOW_HOUR, WINDOW_DAY, WINDOW_KINDS };

/* Length of a window in milliseconds. */
static inline int64_t window_length_ms(enum window_kind k)
{
    return k == WINDOW_MINUTE ? MINUTE_MS : k == WINDOW_HOUR ? HOUR_MS : DAY_MS;
}

#endif
