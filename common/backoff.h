/* Exponential backoff with full jitter: the n-th wait is uniform in [1, min(cap, base * 2^n)] ms, so that clients that
 * failed together do not come back together. Pure: the caller gives the seed and does the waiting. */
#ifndef COMMON_BACKOFF_H
#define COMMON_BACKOFF_H

#include <stdint.h>

struct backoff {
    uint32_t base_ms, cap_ms;
    uint32_t attempt; /* failures since the last reset */
    uint64_t state;   /* of the generator */
};

/* 1 <= base_ms <= cap_ms. */
void backoff_init(struct backoff *b, uint32_t base_ms, uint32_t cap_ms, uint64_t seed);
/* Something failed: how long to wait before the next attempt, in ms. */
uint32_t backoff_next(struct backoff *b);
/* It worked: the next failure starts at base again. */
void backoff_reset(struct backoff *b);

#endif
