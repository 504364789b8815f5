#include "common/clock.h"

#include <assert.h>
#include <time.h>

static int64_t read_ms(clockid_t id)
{
    struct timespec t;
    int status = clock_gettime(id, &t);
    assert(status == 0);
    return (int64_t)t.tv_sec * SECOND_MS + t.tv_nsec / 1000000;
}

struct boot_ms clock_boot(void)
{
    return (struct boot_ms){(uint64_t)read_ms(CLOCK_BOOTTIME)};
}

struct wall_ms clock_wall(void)
{
    return (struct wall_ms){read_ms(CLOCK_REALTIME)};
}

static struct boot_ms real_boot(void *arg)
{
    (void)arg;
    return clock_boot();
}

static struct wall_ms real_wall(void *arg)
{
    (void)arg;
    return clock_wall();
}

const struct clock clock_real = {.boot = real_boot, .wall = real_wall};
