#include "mix.h"

#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

void mix_allocation(struct rng *rng, struct slot *slot)
{
    static const uint32_t vcpus[] = {1, 1, 1, 1, 1, 2, 2, 4, 8, 3};
    static const uint32_t mem_mib[] = {1024, 1024, 1024, 512, 2048, 4096, 8192, 1, 1536};
    static const uint32_t disk_mib[] = {4096, 4096, 4096, 0, 10240, 1025};
    slot->vcpus = vcpus[rng_below(rng, COUNT(vcpus))];
    slot->mem_mib = mem_mib[rng_below(rng, COUNT(mem_mib))];
    slot->disk_mib = disk_mib[rng_below(rng, COUNT(disk_mib))];
    memset(slot->counters, 0, sizeof slot->counters);
    slot->mem_bytes = 0;
    slot->mem_peak_bytes = 0;
}

uint64_t mix_lifetime(struct rng *rng, uint32_t lasting, uint32_t capacity)
{
    static const struct {
        uint32_t percent; /* cumulative */
        uint32_t share;   /* made only while capacity / share exceeds the lasting ones; 0: always */
        uint64_t low_ms, high_ms;
    } classes[] = {
        {2, 0, 0, 5},
        {50, 0, 6, 999},
        {78, 0, 1000, MIX_LASTING_MS - 1},
        {90, 2, MIX_LASTING_MS, 600000},
        {98, 4, 600000, 7200000},
        {100, 8, SLOT_NEVER, SLOT_NEVER},
    };
    uint64_t dice = rng_below(rng, 100);
    for (size_t i = 0; i < COUNT(classes); i++) {
        if (dice >= classes[i].percent) continue;
        if (classes[i].share != 0 && lasting >= (capacity + classes[i].share - 1) / classes[i].share) break;
        if (classes[i].low_ms == SLOT_NEVER) return SLOT_NEVER;
        return rng_between(rng, classes[i].low_ms, classes[i].high_ms);
    }
    return rng_between(rng, classes[1].low_ms, classes[1].high_ms);
}

void mix_counters(struct rng *rng, struct slot *slot, struct event *event)
{
    static const uint64_t steps[COUNTERS] = {2000000, 5000000, 3000000, 8000000, 9000000};
    bool reset = rng_one_in(rng, 150);
    for (int i = 0; i < COUNTERS; i++) {
        uint64_t *counter = &slot->counters[i];
        if (reset)
            *counter = rng_below(rng, *counter);
        else if (!rng_one_in(rng, 8))
            *counter += rng_below(rng, steps[i]);
        if (rng_one_in(rng, 20000)) *counter += UINT64_C(1) << 40;
        event->counters[i] = *counter;
    }
    slot->mem_bytes = rng_below(rng, (uint64_t)slot->mem_mib << 20);
    if (slot->mem_bytes > slot->mem_peak_bytes) slot->mem_peak_bytes = slot->mem_bytes;
    event->present = rng_one_in(rng, 4) ? (uint32_t)rng_below(rng, 1U << COUNTERS) : (1U << COUNTERS) - 1;
    event->has_mem = !rng_one_in(rng, 8);
    event->mem_bytes = slot->mem_bytes;
    event->has_mem_peak = !rng_one_in(rng, 4);
    event->mem_peak_bytes = slot->mem_peak_bytes;
}

uint32_t mix_exit_code(struct rng *rng)
{
    static const uint8_t codes[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 127, 137, 143, 255};
    return rng_one_in(rng, 20) ? (uint32_t)rng_below(rng, EXIT_CODES) : codes[rng_below(rng, COUNT(codes))];
}

uint32_t mix_status(struct rng *rng)
{
    static const uint16_t statuses[] = {200, 200, 200, 200, 200, 201, 201, 204, 400, 401, 404, 409, 429, 500, 503, 302};
    return rng_one_in(rng, 50) ? (uint32_t)rng_between(rng, 100, 599) : statuses[rng_below(rng, COUNT(statuses))];
}

enum event_reason mix_reason(struct rng *rng)
{
    static const uint8_t reasons[] = {REASON_API,     REASON_API,     REASON_API, REASON_API,   REASON_API, REASON_API,
                                      REASON_TIMEOUT, REASON_TIMEOUT, REASON_OOM, REASON_CRASH, REASON_HOST};
    return reasons[rng_below(rng, COUNT(reasons))];
}

enum mix_filler mix_filler(struct rng *rng)
{
    static const uint8_t percent[FILLERS] = {
        [FILLER_CREATE] = 24, [FILLER_USAGE] = 82, [FILLER_EXEC] = 90,
        [FILLER_API] = 97,    [FILLER_TICK] = 99,  [FILLER_CAPACITY] = 100,
    };
    uint64_t dice = rng_below(rng, 100);
    int filler = 0;
    while (dice >= percent[filler]) filler++;
    return (enum mix_filler)filler;
}
