#include "tests/sim/sim.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

/* A kind's own, so that one more at the end of the list changes nothing for the others. */
static uint64_t dice_of(uint64_t seed, int kind)
{
    return mix(mix(seed) + (uint64_t)kind + 1);
}

void sim_start(struct sim *s, uint64_t seed, const struct sim_plan *plan)
{
    static const uint32_t rates[] = {0, 15, 80};
    memset(s, 0, sizeof *s);
    s->seed = seed;
    s->plan = plan;
    s->random = mix(seed + UINT64_C(0x9E3779B97F4A7C15)) | 1;
    for (int i = 0; i < SIM_FAULT_KINDS; i++) s->rate[i] = rates[dice_of(seed, i) % (sizeof rates / sizeof *rates)];
    if (plan->rates) memcpy(s->rate, plan->rates, sizeof s->rate);
}

uint64_t sim_draw(struct sim *s, uint64_t below)
{
    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    s->random ^= s->random << 17;
    return (s->random >> 11) % below;
}

static bool happens(const struct sim *s, enum sim_fault kind, uint64_t number)
{
    const struct sim_plan *p = s->plan;
    if (!p->only) return mix(dice_of(s->seed, kind) + number + 1) % 1000 < s->rate[kind];
    for (size_t i = 0; i < p->fault_count; i++)
        if (p->fault[i].kind == kind && p->fault[i].number == number) return true;
    return false;
}

bool sim_fault(struct sim *s, enum sim_fault kind)
{
    uint64_t number = s->asked[kind]++;
    if (!happens(s, kind, number)) return false;
    s->injected[kind]++;
    if (s->happened_count < SIM_HAPPENED_MAX)
        s->happened[s->happened_count++] = (struct sim_happened){kind, number, s->steps, s->now};
    sim_trace(s, "fault: %s", sim_fault_text(kind));
    return true;
}

bool sim_goes_on(struct sim *s)
{
    if (s->failed || (s->plan->steps && s->steps == s->plan->steps)) return false;
    s->steps++;
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

static const struct {
    const char *name, *text;
} kinds[] = {
#define KIND(name, text) {#name, text},
    SIM_FAULTS(KIND)
#undef KIND
};

enum sim_fault sim_fault_named(const char *name, size_t length)
{
    for (int i = 0; i < SIM_FAULT_KINDS; i++)
        if (strlen(kinds[i].name) == length && strncasecmp(kinds[i].name, name, length) == 0) return (enum sim_fault)i;
    return SIM_FAULT_KINDS;
}

const char *sim_fault_name(enum sim_fault kind)
{
    return kinds[kind].name;
}

const char *sim_fault_text(enum sim_fault kind)
{
    return kinds[kind].text;
}
