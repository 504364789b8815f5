#include "aggregator/api/rate.h"

enum { MILLI = 1000 };

bool rate_take(struct rate *r, uint64_t hash, struct boot_ms now, uint32_t *retry_after_s)
{
    struct rate_bucket *b = &r->bucket[hash % RATE_SLOTS];
    uint64_t full = (uint64_t)r->per_s * RATE_BURST_FACTOR * MILLI;
    uint64_t passed = now.v > b->at.v ? now.v - b->at.v : 0;
    if (r->per_s == 0) return true;
    /* per_s requests a second are per_s thousandths a millisecond */
    bool fills = b->at.v == 0 || passed >= (uint64_t)RATE_BURST_FACTOR * MILLI;
    b->tokens_milli = fills ? full : b->tokens_milli + passed * r->per_s;
    if (b->tokens_milli > full) b->tokens_milli = full;
    b->at = now;
    if (b->tokens_milli < MILLI) {
        *retry_after_s = 1;
        return false;
    }
    b->tokens_milli -= MILLI;
    return true;
}
