/* The collector's program: the shell of collector.c, ingest.c and shipper.c without their sockets, loop and librdkafka.
 */
#include <stdio.h>
#include <string.h>

#include "collector/meter_internal.h" /* to ask what a recovered meter knows, without a greeting that would change it */
#include "tests/sim/collector_world.h"

enum { SEAL_INTERVAL_MS = 200, HEARTBEAT_INTERVAL_MS = 10 * SECOND_MS, RESTART_MS = 3 * SECOND_MS, CALLS_TO_LIVE = 40 };

/* ---- the disk's faults ---- */

static bool disk_happens(void *arg, enum disk_event event)
{
    static const enum sim_fault kinds[] = {[DISK_WRITE_SHORT] = SIM_WRITE_SHORT,
                                           [DISK_WRITE_FAILS] = SIM_WRITE_FAILS,
                                           [DISK_READ_FAILS] = SIM_READ_FAILS,
                                           [DISK_SYNC_FAILS] = SIM_SYNC_FAILS};
    struct collector_runner *r = arg;
    if (event == DISK_KEEPS) return sim_draw(r->world->sim, 2);
    if (event == DISK_FULL) return r->disk_full;
    if (event == DISK_READ_FAILS && sim_draw(r->world->sim, 32)) return false; /* recovery reads a lot */
    return collector_fault(r->world, kinds[event]);
}

/* A kill that waits for the moment in which a segment has its name, and nobody has synced that. */
static void before_call(void *arg, const char *name)
{
    struct collector_runner *r = arg;
    if (r->die_in_roll && strcmp(r->last_call, "rename") == 0) r->disk.dies_at = r->disk.calls + 1;
    r->last_call = name;
}

/* ---- begin and end ---- */

static void durable(void *arg)
{
    (void)arg; /* sources ask by themselves */
}

static void release(struct collector_runner *r)
{
    for (size_t i = 0; i < r->sources; i++) {
        struct collector_source *c = &r->source[i];
        collector_source_cut(c, false);
        for (size_t k = 0; k < 2; k++) session_end(&c->session[k]);
    }
    sessions_destroy(&r->sessions);
    if (r->producer) collector_producer_close(r->producer);
    r->producer = NULL;
    spool_close(&r->spool);
    meter_free(r->meter);
    commit_destroy(&r->commit);
    disk_restart(&r->disk);
    r->alive = false;
    r->start_at = r->world->sim->now + (int64_t)sim_draw(r->world->sim, RESTART_MS);
}

void collector_program_kill(struct collector_runner *r)
{
    if (!r->alive) return;
    sim_trace(r->world->sim, "%s: killed", r->name);
    release(r);
}

/* What the recovered meter knows of the boot of a life; false: nothing. */
static bool known(const struct collector_runner *r, const struct collector_source *c, uint64_t *n)
{
    char boot_id[16];
    snprintf(boot_id, sizeof boot_id, "b%zu", c->life[c->lives - 1].boot);
    for (size_t i = 0; i < SOURCES_MAX; i++) {
        const struct source *s = &r->meter->source[i];
        *n = s->durable_n;
        if (s->used && strcmp(s->name.s, c->name) == 0 && strcmp(s->boot_id.s, boot_id) == 0) return true;
    }
    *n = 0;
    return false;
}

/* What was acknowledged is there, and nothing that was not said; the anchor of what is not there may come anew. */
static void expect_recovered(struct collector_runner *r)
{
    for (size_t i = 0; i < r->sources; i++) {
        struct collector_source *c = &r->source[i];
        struct collector_life *life = collector_life(c);
        uint64_t n;
        life->anchored &= known(r, c, &n);
        if (n < c->acked && c->acked >= life->first_n)
            sim_fail(r->world->sim, "%s %s: acknowledged lines are gone: %llu of %llu", r->name, c->name,
                     (unsigned long long)n, (unsigned long long)c->acked);
        if (n > c->boot[life->boot].count)
            sim_fail(r->world->sim, "%s %s: line %llu was never said", r->name, c->name, (unsigned long long)n);
        if (r->reboot) life->last_n = n >= life->first_n ? n : life->first_n - 1;
    }
    if (spool_delivered_seq(&r->spool) > r->delivered_most)
        sim_fail(r->world->sim, "%s: a position beyond what Kafka said", r->name);
}

/* A host that was booted again has new boots of its sources, once it is known what of the old ones was taken. */
static void after_reboot(struct collector_runner *r)
{
    if (!r->reboot) return;
    r->reboot = false;
    for (size_t i = 0; i < r->sources; i++) {
        collector_life(&r->source[i])->rebooted = true;
        collector_source_boot(&r->source[i]);
    }
}

static void start(struct collector_runner *r)
{
    struct collector_world *w = r->world;
    struct meter_config m = {.runner = r->name,
                             .region = collector_regions[r->region],
                             .clock = w->system_clock ? METER_CLOCK_SYSTEM : METER_CLOCK_EVENT,
                             .sandboxes_max = r->sandboxes_max};
    struct spool_options o = {.directory = "spool",
                              .runner = r->name,
                              .now = {w->sim->now},
                              .bytes_max = SPOOL_BYTES_MIN,
                              .segment_bytes = w->segment_bytes,
                              .io = &r->io};
    struct sg_fault f = {0};
    r->disk.happens = disk_happens;
    r->disk.before = before_call;
    r->last_call = "";
    r->die_in_roll = false;
    r->meter = meter_new(&m);
    enum sg_error e = spool_open(&r->spool, &o, commit_recover, r->meter, &f);
    if (e) {
        bool may = e == SG_ERR_IO || e == SG_ERR_LIMIT;
        sim_trace(w->sim, "%s: does not start: %s", r->name, f.text);
        if (!may || w->sim->quiet) sim_fail(w->sim, "%s does not start: %s", r->name, f.text);
        meter_free(r->meter);
        disk_restart(&r->disk);
        r->start_at = w->sim->now + (int64_t)sim_draw(w->sim, RESTART_MS);
        return;
    }
    sim_trace(w->sim, "%s: starts, batch %llu, delivered %llu", r->name, (unsigned long long)spool_last_seq(&r->spool),
              (unsigned long long)spool_delivered_seq(&r->spool));
    r->alive = true;
    r->second_at = 0;
    expect_recovered(r);
    commit_init(&r->commit, &(struct commit_options){.meter = r->meter,
                                                     .spool = &r->spool,
                                                     .seal_interval_ms = SEAL_INTERVAL_MS,
                                                     .heartbeat_interval_ms = HEARTBEAT_INTERVAL_MS,
                                                     .durable = durable});
    sessions_init(&r->sessions, &(struct sessions_options){.meter = r->meter, .counters = &r->counters});
    shipper_plan_init(&r->plan, spool_delivered_seq(&r->spool), r->index + 1);
    after_reboot(r);
    if (commit_roll(&r->commit, &f)) release(r);
}

/* ---- a turn ---- */

static enum sg_error send_batches(struct collector_runner *r, struct sg_fault *f)
{
    for (uint64_t seq; (seq = shipper_plan_next(&r->plan, spool_durable_seq(&r->spool)));) {
        const uint8_t *batch;
        size_t length;
        enum sg_error e = spool_read(&r->spool, seq, &batch, &length, f);
        if (e) return e;
        if (!collector_producer_send(r->producer, seq, batch, length, collector_wall_now(r))) break;
        shipper_plan_sent(&r->plan, length);
        if (r->plan.sent_seq - r->plan.reported_seq > SHIPPER_WINDOW_MESSAGES ||
            r->plan.window_bytes >= SHIPPER_WINDOW_BYTES + BATCH_BYTES_MAX)
            sim_fail(r->world->sim, "%s: the window is passed", r->name);
    }
    return SG_OK;
}

static enum sg_error ship(struct collector_runner *r, struct boot_ms now, struct sg_fault *f)
{
    struct boot_ms next = {UINT64_MAX};
    struct collector_report got;
    enum sg_error e = SG_OK;
    if (!r->producer && shipper_plan_may_start(&r->plan, now)) {
        r->producer = collector_producer_open(r->world, r->index);
        if (!r->producer) shipper_plan_not_started(&r->plan, now);
    }
    if (r->producer) {
        while (!r->plan.doubt && collector_producer_report(r->producer, &got)) {
            (void)shipper_plan_report(&r->plan, got.seq, got.bytes, got.delivered);
            if (got.delivered && got.seq > r->delivered_most) r->delivered_most = got.seq;
        }
        e = spool_delivered(&r->spool, r->plan.reported_seq, f);
        if (!e) e = send_batches(r, f);
        if (e) return e;
        if (shipper_plan_retires(&r->plan, spool_delivered_seq(&r->spool), now)) {
            collector_producer_close(r->producer);
            r->producer = NULL;
        }
    }
    shipper_plan_mark(&r->plan, spool_delivered_seq(&r->spool), spool_durable_seq(&r->spool), now);
    if (spool_cursor_saved(&r->spool) || !shipper_plan_saves_cursor(&r->plan, now, &next)) return SG_OK;
    return spool_save_cursor(&r->spool, f);
}

static void take_again(struct collector_runner *r)
{
    sessions_continue(&r->sessions);
    for (size_t i = 0; i < r->sources; i++)
        for (size_t k = 0; k < 2; k++) session_take(&r->source[i].session[k]);
}

static enum sg_error work(struct collector_runner *r, struct boot_ms now, struct sg_fault *f)
{
    enum sg_error e = SG_OK;
    if (r->world->sim->now >= r->second_at) {
        r->second_at = r->world->sim->now + METER_TICK_MS;
        e = commit_tick(&r->commit, now, f);
        if (e || r->commit.blocked) return e;
    }
    return commit_step(&r->commit, now, r->sessions.wants_seal, f);
}

/* What has a limit is within it, also while nobody reads or nothing can be sent. */
static void expect_limits(struct collector_runner *r)
{
    struct meter_stats stats;
    meter_stats(r->meter, &stats);
    r->world->late |= stats.late_events > 0;
    if (stats.sandboxes > r->sandboxes_max)
        sim_fail(r->world->sim, "%s: %zu sandboxes of %zu", r->name, stats.sandboxes, r->sandboxes_max);
    for (size_t i = 0; i < 2 * r->sources; i++) {
        const struct session *s = &r->source[i / 2].session[i % 2];
        if (s->state == SESSION_OVER) continue;
        if (s->refused.count > SESSION_REFUSALS_MAX || s->in_used > sizeof s->in || s->out_used > sizeof s->out)
            sim_fail(r->world->sim, "%s %s: a session passes a limit", r->name, r->source[i / 2].name);
    }
    r->world->sim->checks++;
}

void collector_program_turn(struct collector_runner *r)
{
    struct boot_ms now = collector_boot_now(r);
    struct sg_fault f = {0};
    if (!r->alive && r->world->sim->now >= r->start_at) start(r);
    if (!r->alive) return;
    if (collector_fault(r->world, SIM_COLLECTOR_KILLED)) {
        r->die_in_roll = sim_draw(r->world->sim, 3) == 0;
        if (!r->die_in_roll) r->disk.dies_at = r->disk.calls + 1 + sim_draw(r->world->sim, CALLS_TO_LIVE);
    }
    bool was_blocked = r->commit.blocked != COMMIT_NOT_BLOCKED;
    enum sg_error e = was_blocked ? commit_unblock(&r->commit, &f) : work(r, now, &f);
    if (!e && r->commit.blocked)
        sessions_pause(&r->sessions);
    else if (!e && (was_blocked || r->sessions.wants_seal))
        take_again(r);
    if (!e) e = ship(r, now, &f);
    expect_limits(r);
    if (!e) return;
    sim_trace(r->world->sim, "%s: ends: %s", r->name, f.text);
    if (!r->disk.dead && (e != SG_ERR_IO || r->world->sim->quiet))
        sim_fail(r->world->sim, "%s ends: %s", r->name, f.text);
    release(r);
}

bool collector_program_quiet(const struct collector_runner *r)
{
    return r->alive && !r->commit.blocked && !meter_dirty(r->meter) && !r->reboot &&
           spool_delivered_seq(&r->spool) == spool_last_seq(&r->spool);
}
