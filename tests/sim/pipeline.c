/* One schedule of the joined world (pipeline_world.h). */
#include <stdlib.h>
#include <string.h>

#include "aggregator/billing/view.h"
#include "proto/keys.h"
#include "tests/sim/pipeline_world.h"
#include "tests/sim/worlds.h"

enum { STEPS = 500, LATE_STEPS = 120, QUIET_STEPS = 600, BILLING_ACTS = 2, CLOSE_DELAY_MS = MINUTE_MS, RARER = 3 };
/* Supervisors end before the last hour does: usage lies in hours that billing's world knows. */
enum { USAGE_MS = BILLING_HOURS * HOUR_MS - 20 * MINUTE_MS };

/* ---- the view, as the exporters read it ---- */

static struct watermark unknown(void)
{
    return (struct watermark){.kind = WATERMARK_UNKNOWN};
}

static struct watermark mark_of(void *arg)
{
    struct pipeline_shard *h = arg;
    struct view_head head;
    struct sg_fault f;
    return view_head(h->store, h->index, GRACE_MS, &head, &f) == SG_OK ? head.mark : unknown();
}

static size_t due_of(void *arg, struct cycle_due *out)
{
    static struct cycle_due portion[VIEW_DUE_MAX];
    struct pipeline_shard *h = arg;
    struct view_cursor cursor = {0};
    struct sg_fault f;
    size_t total = 0, count = 0;
    for (bool wrapped = false; !wrapped;) {
        if (view_due_read(h->store, h->index, &cursor, portion, &count, &wrapped, &f) != SG_OK) break;
        for (size_t i = 0; i < count && total < BILLING_DUE_MAX; i++) out[total++] = portion[i];
    }
    return total;
}

static struct watermark snapshot_of(void *arg, struct cycle_hour *hours, size_t count, uint64_t vouched[PARTITIONS_MAX])
{
    struct pipeline_shard *h = arg;
    struct view_head head;
    struct sg_fault f;
    if (view_snapshot(h->store, h->index, GRACE_MS, hours, count, &head, &f) != SG_OK) return unknown();
    memcpy(vouched, head.vouched, sizeof head.vouched);
    return head.mark;
}

static void due_done(void *arg, const struct cycle_due *due, size_t count)
{
    struct pipeline_shard *h = arg;
    struct sg_fault f;
    if (view_due_done(h->store, h->index, due, count, &f) != SG_OK)
        sim_trace(h->world->sim, "due of shard %u is not done: %s", h->index, f.text);
}

static uint64_t truth_of(void *arg, int key)
{
    const struct pipeline_shard *h = arg;
    bool ours = shard_of_team(billing_teams[billing_key_at(key).team], h->world->rollup->shards) == h->index;
    return ours ? pipeline_truth(h->world, key) : 0;
}

/* ---- a step ---- */

/* What the brokers of the one world took is what the aggregators of the other read. */
static void hand_over(struct pipeline_world *w)
{
    w->rollup->log = w->collectors->log;
    for (uint32_t p = 0; p < w->rollup->parts; p++) w->rollup->topic[p].committed = w->rollup->log.partition[p].end;
}

static void pass_time(struct sim *s)
{
    uint64_t y = sim_draw(s, 100);
    s->now += y < 50   ? (int64_t)sim_draw(s, SECOND_MS)
              : y < 80 ? (int64_t)sim_draw(s, MINUTE_MS)
                       : (int64_t)sim_draw(s, 8 * MINUTE_MS);
}

/* Everything but the exporters: one of them may be in the middle of a call. */
static void others(void *arg)
{
    struct pipeline_world *w = arg;
    struct sim *s = w->sim;
    s->now += (int64_t)sim_draw(s, 2 * SECOND_MS);
    if (!w->said && sim_draw(s, 4) == 0) collector_act(w->collectors);
    hand_over(w);
    rollup_programs_act(w->rollup);
    rollup_misfortune(w->rollup);
}

static void step(struct pipeline_world *w)
{
    struct sim *s = w->sim;
    pass_time(s);
    if (!w->said) collector_act(w->collectors);
    hand_over(w);
    for (uint64_t i = sim_draw(s, 4); i > 0 && !s->failed; i--) rollup_programs_act(w->rollup);
    rollup_misfortune(w->rollup);
    for (uint32_t i = 0; i < BILLING_ACTS * w->rollup->shards && !s->failed; i++)
        billing_act(w->shard[i % w->rollup->shards].billing);
}

/* ---- quiet ---- */

static void collectors_rest(struct pipeline_world *w, bool finish)
{
    struct sim *s = w->sim;
    int steps = 0;
    if (finish) collector_quiet_step(w->collectors, true);
    while (!s->failed && steps < QUIET_STEPS && !collector_at_rest(w->collectors))
        steps++, collector_quiet_step(w->collectors, false);
    if (steps == QUIET_STEPS) sim_fail(s, "no progress: collectors are not at rest");
    hand_over(w);
}

/* Supervisors have nothing more to say; every hour is over, and every runner tells so. */
static void hours_close(struct pipeline_world *w)
{
    w->sim->quiet = w->said = true;
    collectors_rest(w, false);
    collectors_rest(w, true);
    int64_t end = w->start + BILLING_HOURS * (int64_t)HOUR_MS + 2 * CLOSE_DELAY_MS;
    if (w->sim->now < end) w->sim->now = end;
    collectors_rest(w, true);
    if (!w->sim->failed) collector_check(w->collectors);
    w->sim->quiet = false;
}

static bool nothing_open(const struct pipeline_world *w)
{
    for (uint32_t i = 0; i < w->rollup->shards; i++) {
        const struct billing_world *b = w->shard[i].billing;
        struct cycle_due due[BILLING_DUE_MAX];
        if (!billing_at_rest(b)) return false;
        size_t count = due_of(b->view->arg, due);
        for (size_t k = 0; k < count; k++)
            if (billing_index_of(b, due[k].team.s, billing_meters[0].meter.field, due[k].hour) >= 0) return false;
    }
    return true;
}

static void exporters_rest(struct pipeline_world *w)
{
    struct sim *s = w->sim;
    for (uint32_t i = 0; i < w->rollup->shards; i++) billing_quiet(w->shard[i].billing);
    for (int steps = 0; steps < QUIET_STEPS && !s->failed; steps++) {
        s->now += billing_quiet_ms(s, steps < QUIET_STEPS / 3);
        for (uint32_t i = 0; i < w->rollup->shards; i++)
            billing_quiet_step(w->shard[i].billing, steps < QUIET_STEPS / 3);
        if (steps > QUIET_STEPS / 3 && nothing_open(w)) return;
    }
}

static void settle_down(struct pipeline_world *w)
{
    struct sim *s = w->sim;
    s->quiet = true;
    rollup_calm(w->rollup);
    rollup_settle(w->rollup, false);
    if (s->failed) return;
    pipeline_expect(w);
    pipeline_check_view(w);
    exporters_rest(w);
    s->now += 4 * PLAN_ATTEMPT_MS + BILLING_SLACK_MS;
    for (uint32_t i = 0; i < w->rollup->shards && !s->failed; i++) {
        billing_deliver(w->shard[i].billing);
        billing_check(w->shard[i].billing);
    }
}

/* ---- whole ---- */

/* All faults of three worlds: each of the first two is rarer, for billing does little in the hours of a schedule. Those
 * that lose usage by right, or move it to other hours, are the collectors' own. */
static void make_rarer(struct sim *s)
{
    static const enum sim_fault none[] = {SIM_RUNNER_VANISHES, SIM_HOST_CLOCK_STEPS, SIM_HOST_SUSPENDED};
    for (int i = SIM_WALL_CLOCK_STEPS + 1; i < SIM_FAULT_KINDS && !s->plan->rates; i++)
        s->rate[i] = (s->rate[i] + RARER - 1) / RARER;
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) s->rate[none[i]] = 0;
}

static void *zeroed(size_t size)
{
    void *p = calloc(1, size);
    if (!p) abort();
    return p;
}

static void begin(struct pipeline_world *w)
{
    struct sim *s = w->sim;
    w->start = COLLECTOR_START;
    s->now = COLLECTOR_START + HOUR_MS / 2 + (int64_t)sim_draw(s, HOUR_MS / 2);
    w->collectors = zeroed(sizeof *w->collectors);
    w->collectors->sim = s;
    collector_begin(w->collectors);
    w->rollup = zeroed(sizeof *w->rollup);
    w->rollup->sim = s;
    w->rollup->parts = w->collectors->runners;
    w->rollup->shards = 1 + (uint32_t)sim_draw(s, SHARDS_MOST);
    w->rollup->others = others;
    w->rollup->others_arg = w;
    w->rollup->steps_end = STEPS + LATE_STEPS;
    rollup_begin(w->rollup);
    for (uint32_t i = 0; i < w->rollup->shards; i++) {
        struct pipeline_shard *h = &w->shard[i];
        struct redis_store_config config = {.shards = w->rollup->shards};
        struct sg_fault f;
        *h = (struct pipeline_shard){.world = w, .index = i, .billing = zeroed(sizeof *h->billing)};
        h->view = (struct billing_view){h, CLOSE_DELAY_MS, mark_of, due_of, snapshot_of, due_done, truth_of};
        w->rollup->acting = NULL;
        if (redis_store_new(&h->store, &config, &f) != SG_OK) abort();
        billing_start(h->billing, s, w->start, &h->view, false);
    }
}

static void end(struct pipeline_world *w)
{
    for (uint32_t i = 0; i < w->rollup->shards; i++) {
        billing_end(w->shard[i].billing);
        free(w->shard[i].billing);
        redis_store_free(w->shard[i].store);
    }
    w->rollup->log = (struct events_log){0}; /* it is the collectors' */
    rollup_end(w->rollup);
    collector_end(w->collectors);
    free(w->rollup);
    free(w->collectors);
    free(w->sum);
    free(w->slot);
}

bool pipeline_schedule(struct sim *s)
{
    struct pipeline_world w = {.sim = s};
    make_rarer(s);
    begin(&w);
    while (s->steps < STEPS && s->now < w.start + USAGE_MS && sim_goes_on(s)) step(&w);
    if (!s->failed) hours_close(&w);
    for (int i = 0; i < LATE_STEPS && sim_goes_on(s); i++) step(&w);
    if (!s->failed) settle_down(&w);
    end(&w);
    return !s->failed;
}
