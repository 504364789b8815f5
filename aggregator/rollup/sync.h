/* What stands between the rollup and Redis: asks, reads, writes (rollup.h), with the scripts of
 * aggregator/store/scripts.h. Thin: what is decided, the rollup decides. Any doubt becomes rollup_lost() of the shard,
 * and an error here.
 *
 * Errors: MISMATCH (a shard is not what was last seen), UNKNOWN, UNREACHABLE, STATE, ...: the shard is forgotten; ask
 * again. MALFORMED, CORRUPT, VERSION: damaged, or another's: people must look. */
#ifndef ROLLUP_SYNC_H
#define ROLLUP_SYNC_H

#include "aggregator/rollup/rollup.h"
#include "aggregator/store/redis_store.h"

/* Zeroed is not initialised. rollup and store are borrowed. */
struct sync {
    struct rollup *rollup;
    struct redis_store *store;
    struct rollup_read *reads;    /* by shard */
    struct rollup_flush *flushes; /* by shard */
    struct store_request *request;
    struct store_bytes **arg; /* by shard */
    size_t *arg_capacity;
    uint32_t *shard_of; /* of a request */
    char (*key_v)[32], (*key_meta)[32];
    uint64_t read_calls, read_cells, flush_calls, written_cells, mismatches, fenced_flushes; /* counters: they rise */
};

/* The rollup has its measures. */
void sync_init(struct sync *s, struct rollup *rollup, struct redis_store *store);
/* Frees. Safe on a zeroed struct. */
void sync_destroy(struct sync *s);
/* Makes every taken partition known to the shard. STATE with *restore: the shard must be restored first. */
SG_MUST_USE enum sg_error sync_know(struct sync *s, uint32_t shard, bool *restore, struct sg_fault *f);
/* Reads what waiting digests need and applies them. */
SG_MUST_USE enum sg_error sync_apply(struct sync *s, struct sg_fault *f);
/* Writes every shard that has something to write, at once. */
SG_MUST_USE enum sg_error sync_flush(struct sync *s, struct sg_fault *f);

#endif
