/* See commit.h. */
#include "collector/commit.h"

#include <string.h>

enum { SEALS_A_TURN_MAX = 64 };

_Static_assert((int)METER_SNAPSHOT_BYTES_MAX <= (int)SPOOL_SNAPSHOT_BYTES_MAX, "a state that was taken can be saved");
_Static_assert((int)METER_DELTA_BYTES_MAX <= (int)SPOOL_DELTA_BYTES_MAX, "a change that was taken can be stored");

void commit_init(struct commit *c, const struct commit_options *o)
{
    *c = (struct commit){.options = *o};
    buffer_init(&c->snapshot, METER_SNAPSHOT_BYTES_MAX);
}

void commit_destroy(struct commit *c)
{
    buffer_destroy(&c->snapshot);
}

enum sg_error commit_recover(void *meter, enum spool_record_kind kind, uint64_t seq, const uint8_t *bytes,
                             size_t length, struct sg_fault *f)
{
    (void)seq;
    return kind == SPOOL_SNAPSHOT ? meter_load(meter, bytes, length, f) : meter_apply(meter, bytes, length, f);
}

/* ---- becoming durable ---- */

/* The sealed batch to the spool. */
static enum sg_error store(struct commit *c, struct sg_fault *f)
{
    enum sg_error e = spool_append(c->options.spool, c->batch, c->batch_bytes, c->delta, c->delta_bytes, f);
    c->blocked = e == SG_ERR_LIMIT ? COMMIT_BLOCKED_APPEND : COMMIT_NOT_BLOCKED;
    if (e == SG_ERR_LIMIT) return SG_OK;
    if (!e) e = spool_sync(c->options.spool, f);
    if (e) return e;
    meter_durable(c->options.meter);
    c->batches++;
    c->batch_bytes_sum += c->batch_bytes;
    return SG_OK;
}

enum sg_error commit_roll(struct commit *c, struct sg_fault *f)
{
    c->blocked = COMMIT_NOT_BLOCKED;
    if (!spool_wants_roll(c->options.spool)) return SG_OK;
    enum sg_error e = meter_save(c->options.meter, &c->snapshot);
    if (e) return sg_fail(f, e, "the meter's state could not be saved");
    e = spool_roll(c->options.spool, (const uint8_t *)c->snapshot.data, c->snapshot.length, f);
    if (e == SG_ERR_LIMIT) c->blocked = COMMIT_BLOCKED_ROLL;
    buffer_destroy(&c->snapshot); /* it is large and seldom needed */
    buffer_init(&c->snapshot, METER_SNAPSHOT_BYTES_MAX);
    return e == SG_ERR_LIMIT ? SG_OK : e;
}

enum sg_error commit_seal(struct commit *c, struct sg_fault *f)
{
    struct spool *s = c->options.spool;
    struct meter_position position = {spool_epoch(s), spool_last_seq(s) + 1, spool_previous_sha256(s)};
    enum sg_error e = meter_seal(c->options.meter, &position, &c->batch, &c->batch_bytes, &c->delta, &c->delta_bytes);
    if (e) return sg_fail(f, e, "sealing batch %llu", (unsigned long long)position.seq);
    e = store(c, f);
    if (!e && !c->blocked) e = commit_roll(c, f);
    if (e || c->blocked == COMMIT_BLOCKED_APPEND) return e;
    c->options.durable(c->options.arg);
    return SG_OK;
}

/* A leap of time makes more batches than may keep sockets, shipper and signals waiting: the rest comes in the next
 * turn, or after the next start. */
enum sg_error commit_settle(struct commit *c, struct sg_fault *f)
{
    enum sg_error e = SG_OK;
    for (int i = 0; i < SEALS_A_TURN_MAX && !e && !c->blocked; i++) {
        enum meter_verdict v = meter_settle(c->options.meter);
        e = commit_seal(c, f);
        if (v != METER_FULL) return e;
    }
    if (!e && !c->blocked) c->seal_at.v = 0;
    return e;
}

enum sg_error commit_unblock(struct commit *c, struct sg_fault *f)
{
    if (c->blocked == COMMIT_BLOCKED_APPEND) {
        enum sg_error e = store(c, f);
        if (e || c->blocked) return e;
        c->options.durable(c->options.arg);
    }
    return commit_roll(c, f);
}

/* ---- what is due ---- */

enum sg_error commit_tick(struct commit *c, struct boot_ms now, struct sg_fault *f)
{
    enum sg_error e = SG_OK;
    while (!e && !c->blocked && meter_tick(c->options.meter, now) == METER_FULL) e = commit_seal(c, f);
    return e;
}

enum sg_error commit_sample(struct commit *c, uint64_t handle, const struct meter_sample *s, struct boot_ms now,
                            struct sg_fault *f)
{
    enum sg_error e = SG_OK;
    while (!e && !c->blocked && meter_sample(c->options.meter, handle, s, now) == METER_FULL) e = commit_seal(c, f);
    return e;
}

enum sg_error commit_step(struct commit *c, struct boot_ms now, bool wants_room, struct sg_fault *f)
{
    enum sg_error e = SG_OK;
    bool beat = now.v >= c->heartbeat_at.v;
    if (beat) {
        c->heartbeat_at.v = now.v + c->options.heartbeat_interval_ms;
        while (!e && !c->blocked && meter_heartbeat(c->options.meter) == METER_FULL) e = commit_seal(c, f);
        if (e || c->blocked) return e;
    }
    if (now.v >= c->seal_at.v && (beat || meter_dirty(c->options.meter))) {
        c->seal_at.v = now.v + c->options.seal_interval_ms;
        return commit_settle(c, f);
    }
    return wants_room ? commit_seal(c, f) : SG_OK;
}
