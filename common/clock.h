/* Clocks, read in one place so that tests can set them.
 *
 * Two clocks are enough: CLOCK_BOOTTIME for every duration and deadline (it never steps and counts suspend), and
 * CLOCK_REALTIME for where on the calendar something belongs. They are different types (sandglass/time.h). */
#ifndef COMMON_CLOCK_H
#define COMMON_CLOCK_H

#include "sandglass/time.h"

/* What a module reads its time from. clock_real outside of tests. */
struct clock {
    struct boot_ms (*boot)(void *arg);
    struct wall_ms (*wall)(void *arg);
    void *arg;
};

/* The machine's clocks. */
extern const struct clock clock_real;

/* CLOCK_BOOTTIME. Any thread. */
struct boot_ms clock_boot(void);
/* CLOCK_REALTIME. Any thread. */
struct wall_ms clock_wall(void);

/* a - b, 0 when b is later. */
static inline uint64_t clock_since(struct boot_ms a, struct boot_ms b)
{
    return a.v > b.v ? a.v - b.v : 0;
}

#endif
