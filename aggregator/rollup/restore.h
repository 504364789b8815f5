/* Restoring a shard that is empty: from the archive in the ledger topic (proto/archive.md), partition = shard.
 *
 * HAPPY PATH  claim the shard's meta (restoring, ours) -> read the ledger to its end: archived cells where they are
 * newer than what is stored, the newest whole marks of each partition -> meta says ready. The vector stays empty: the
 * rollup then replays the log from its start, and offsets say what is already in. FAILURES    anything: begin again,
 * from the beginning; what is written twice is the same. Somebody else restores: wait for as long as he makes progress.
 * A fresh installation is the same path over an empty topic. One thread; blocks for as long as it takes, and calls
 * `pulse` several times a second. */
#ifndef ROLLUP_RESTORE_H
#define ROLLUP_RESTORE_H

#include <stdbool.h>
#include <stdint.h>

#include "aggregator/store/redis_store.h"
#include "common/config.h"
#include "sandglass/time.h"

enum { RESTORE_PATIENCE_MS = 5000 }; /* somebody else's restore that stands still this long is taken over */

/* What every restore needs; borrowed. */
struct restore_config {
    const char *brokers, *ledger_topic, *client_id;
    const struct config_list *properties; /* "NAME VALUE" of librdkafka */
    uint32_t shards, partitions;
    bool (*pulse)(void *arg); /* true asks to give up */
    void *arg;
};

/* What is known of somebody else's restore. Zeroed at first. */
struct restore_wait {
    char progress[24];
    struct boot_ms until;
};

/* OK: the shard is ready. STATE: somebody else restores it, or we were asked to give up: try again later. CONFIG: made
 * for other measures. Others: try again. *cells: how many archived cells were read. */
SG_MUST_USE enum sg_error restore_shard(const struct restore_config *config, struct redis_store *store, uint32_t shard,
                                        struct restore_wait *wait, uint64_t *cells, struct sg_fault *f);

#endif
