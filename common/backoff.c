#include "common/backoff.h"

#include <assert.h>

/* splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014) */
static uint64_t next(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void backoff_init(struct backoff *b, uint32_t base_ms, uint32_t cap_ms, uint64_t seed)
{
    assert(base_ms >= 1 && base_ms <= cap_ms);
    *b = (struct backoff){.base_ms = base_ms, .cap_ms = cap_ms, .state = seed};
}

uint32_t backoff_next(struct backoff *b)
{
    uint64_t ceiling = b->attempt < 32 ? (uint64_t)b->base_ms << b->attempt : b->cap_ms;
    if (ceiling > b->cap_ms) ceiling = b->cap_ms;
    if (b->attempt < UINT32_MAX) b->attempt++;
    return (uint32_t)(1 + next(&b->state) % ceiling);
}

void backoff_reset(struct backoff *b)
{
    b->attempt = 0;
}
