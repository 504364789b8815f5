#include "tests/sim/sim.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

void sim_start(struct sim *s, uint64_t seed)
{
    static const uint32_t rates[] = {0, 15, 80};
    memset(s, 0, sizeof *s);
    s->seed = seed;
    s->random = mix(seed + UINT64_C(0x9E3779B97F4A7C15)) | 1;
    for (int i = 0; i < SIM_FAULT_KINDS; i++) s->rate[i] = rates[sim_draw(s, sizeof rates / sizeof *rates)];
}

uint64_t sim_draw(struct sim *s, uint64_t below)
{
    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    s->random ^= s->random << 17;
    return (s->random >> 11) % below;
}

bool sim_fault(struct sim *s, enum sim_fault kind)
{
    uint64_t n = s->asked[kind]++;
    if (mix(mix(s->seed * SIM_FAULT_KINDS + kind + 1) + n) % 1000 >= s->rate[kind]) return false;
    s->injected[kind]++;
    return true;
}

void sim_fail(struct sim *s, const char *format, ...)
{
    va_list args;
    if (s->failed) return;
    s->failed = true;
    va_start(args, format);
    vsnprintf(s->why, sizeof s->why, format, args);
    va_end(args);
}

void sim_trace(struct sim *s, const char *format, ...)
{
    va_list args;
    if (!s->trace) return;
    printf("%" PRId64 " ", s->now);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}
