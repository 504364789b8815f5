/* How often a key may ask: a token bucket per key, in a fixed table. Pure.
 *
 * Keys share a bucket when the table's slots collide: with RATE_SLOTS slots that is rare, and it only makes them share
 * an allowance. */
#ifndef API_RATE_H
#define API_RATE_H

#include <stdbool.h>
#include <stdint.h>

#include "sandglass/time.h"

enum { RATE_SLOTS = 4096, RATE_PER_S_DEFAULT = 100, RATE_BURST_FACTOR = 2 };

struct rate_bucket {
    struct boot_ms at;
    uint64_t tokens_milli; /* thousandths of a request */
};

/* Zero per_s: no limit. */
struct rate {
    uint32_t per_s;
    struct rate_bucket bucket[RATE_SLOTS];
};

/* Takes one request of the key with this hash; false: too many, try again in *retry_after_s. */
bool rate_take(struct rate *r, uint64_t hash, struct boot_ms now, uint32_t *retry_after_s);

#endif
