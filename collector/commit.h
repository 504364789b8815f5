/* How what the meter holds becomes durable, and when. Pure but for the spool's own calls, which go through its struct
 * spool_io: no socket, no clock, no log. collector.c is the shell.
 *
 * A COMMIT     settle (bill up to the present) -> seal -> spool_append -> spool_sync -> the meter's numbers are durable
 *              -> a new segment if the old one is full -> acks. At the end of each seal interval, or as soon as the
 * meter says that it is full. FULL SPOOL   spool_roll or spool_append says LIMIT: the sealed batch, or the state, waits
 * (`blocked`), nothing may be taken and no time passes in the meter until Kafka has taken batches and the same call
 * succeeds. FAILURES     What the spool calls IO or CORRUPT, and want of memory, ends the program; starting it is
 * recovery. INVARIANTS   `durable` is called only when the batch with all effects is on disk. Between a seal and the
 * roll that follows it, the meter takes nothing. */
#ifndef COLLECTOR_COMMIT_H
#define COLLECTOR_COMMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collector/meter.h"
#include "collector/spool.h"
#include "common/buffer.h"
#include "sandglass/error.h"
#include "sandglass/time.h"

/* What the spool could not take yet. */
enum commit_blocked { COMMIT_NOT_BLOCKED, COMMIT_BLOCKED_APPEND, COMMIT_BLOCKED_ROLL };

/* Both are borrowed and outlive the commits. durable: what the meter had taken is on disk, acks may leave. */
struct commit_options {
    struct meter *meter;
    struct spool *spool; /* open */
    uint64_t seal_interval_ms, heartbeat_interval_ms;
    void (*durable)(void *arg);
    void *arg;
};

/* The shell reads blocked, seal_at, heartbeat_at, batches and batch_bytes_sum; the rest is the module's own. */
struct commit {
    struct commit_options options;
    enum commit_blocked blocked;
    struct boot_ms seal_at, heartbeat_at; /* when they are due */
    uint64_t batches, batch_bytes_sum;    /* stored since the start */
    const uint8_t *batch, *delta;         /* sealed, while COMMIT_BLOCKED_APPEND; the meter's */
    size_t batch_bytes, delta_bytes;
    struct buffer snapshot;
};

/* Everything is due at once. */
void commit_init(struct commit *c, const struct commit_options *o);
/* Zeroed is valid. */
void commit_destroy(struct commit *c);

/* The spool's apply for a meter: hand it this and the meter. */
enum sg_error commit_recover(void *meter, enum spool_record_kind kind, uint64_t seq, const uint8_t *bytes,
                             size_t length, struct sg_fault *f);

/* All that follow: OK also when the spool is full: see c->blocked. Else IO, CORRUPT, NOMEM end the program. Those of
 * the first group are called while it is not blocked. */

/* A new segment when the old one is full. Once after spool_open, before anything is taken. */
SG_MUST_USE enum sg_error commit_roll(struct commit *c, struct sg_fault *f);
/* Makes durable what the meter holds, because it is full. */
SG_MUST_USE enum sg_error commit_seal(struct commit *c, struct sg_fault *f);
/* Makes durable all that there is up to the present; in part after a leap of time: then the rest is due at once. */
SG_MUST_USE enum sg_error commit_settle(struct commit *c, struct sg_fault *f);
/* Time has come to now; every METER_TICK_MS. */
SG_MUST_USE enum sg_error commit_tick(struct commit *c, struct boot_ms now, struct sg_fault *f);
/* The sampler read this. */
SG_MUST_USE enum sg_error commit_sample(struct commit *c, uint64_t handle, const struct meter_sample *s,
                                        struct boot_ms now, struct sg_fault *f);
/* Heartbeat and seal when they are due, or a seal when somebody waits for room. */
SG_MUST_USE enum sg_error commit_step(struct commit *c, struct boot_ms now, bool wants_room, struct sg_fault *f);

/* While it is blocked: tries again what the spool had no room for. */
SG_MUST_USE enum sg_error commit_unblock(struct commit *c, struct sg_fault *f);

#endif
