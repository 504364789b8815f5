/* One schedule of the joined world (pipeline_world.h). */
#include <stdlib.h>
#include <string.h>

#include "aggregator/billing/view.h"
#include "proto/keys.h"
#include "tests/sim/pipeline_world.h"
#include "tests/sim/worlds.h"

enum { STEPS = 150, LATE_STEPS = 60, QUIET_STEPS = 600, CLOSE_DELAY_MS = MINUTE_MS, RARER = 3, HEARD_ROUNDS = 20 };
/* Supervisors end before the last hour does: usage lies in hours that billing's world knows. */
enum {
    USAGE_MS = BILLING_HOURS * HOUR_MS - 20 * MINUTE_MS,
    SKEW_MS_MOST = 5 * MINUTE_MS,
    SLEEP_MS_MOST = 10 * MINUTE_MS
};

static uint64_t truth_of(void *arg, int key)
{
    return pipeline_truth(arg, key);
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
                       : (int64_t)sim_draw(s, 16 * MINUTE_MS);
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

/* From then on no time passes, for whoever is frozen: supervisors end in an hour that billing's world knows. */
static bool usage_is_over(const struct pipeline_world *w)
{
    return !w->said && w->sim->now >= w->start + USAGE_MS;
}

static void step(void *arg)
{
    struct pipeline_world *w = arg;
    struct sim *s = w->sim;
    if (usage_is_over(w)) return;
    pass_time(s);
    if (!w->said) collector_act(w->collectors);
    hand_over(w);
    for (uint64_t i = sim_draw(s, 4); i > 0 && !s->failed; i--) rollup_programs_act(w->rollup);
    rollup_misfortune(w->rollup);
    if (!s->failed) billing_act(w->billing);
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

/* An hour that billing's world does not know may be due for ever. */
static bool is_due(struct pipeline_world *w, uint32_t shard)
{
    static struct cycle_due due[VIEW_DUE_MAX];
    struct view_cursor cursor = {0};
    struct sg_fault f;
    for (bool wrapped = false; !wrapped;) {
        size_t count = 0;
        uint64_t unread = 0;
        if (view_due_read(w->store, shard, &cursor, due, &count, &unread, &wrapped, &f) != SG_OK) return true;
        for (size_t i = 0; i < count; i++)
            if (billing_index_of(w->billing, due[i].team.s, billing_meters[0].meter.field, due[i].hour) >= 0)
                return true;
    }
    return false;
}

static bool nothing_open(struct pipeline_world *w)
{
    for (uint32_t i = 0; i < w->rollup->shards; i++)
        if (is_due(w, i)) return false;
    return billing_at_rest(w->billing);
}

static void exporters_rest(struct pipeline_world *w)
{
    struct sim *s = w->sim;
    billing_quiet(w->billing);
    for (int steps = 0; steps < QUIET_STEPS && !s->failed; steps++) {
        s->now += billing_quiet_ms(s, steps < QUIET_STEPS / 3);
        billing_quiet_step(w->billing, steps < QUIET_STEPS / 6);
        if (steps > QUIET_STEPS / 6 && nothing_open(w)) return;
    }
}

/* From the archive and the log; and then all is as it was. */
static void rebuild(struct pipeline_world *w)
{
    struct redis_state before[SHARDS_MOST] = {0};
    rollup_rebuild(w->rollup, before);
    for (uint32_t i = 0; i < w->rollup->shards; i++) {
        if (!w->sim->failed) rollup_check_same(w->rollup, &before[i], &w->rollup->shard[i].now);
        redis_state_destroy(&w->rollup->shard[i].now);
        w->rollup->shard[i].now = before[i];
    }
}

/* Aggregators ask for the ends of partitions in which nobody speaks, and write down that they have. */
static void silence_is_heard(struct pipeline_world *w)
{
    for (int i = 0; i < HEARD_ROUNDS && !w->sim->failed; i++) {
        w->sim->now += SECOND_MS;
        rollup_settle(w->rollup, false);
    }
}

static void settle_down(struct pipeline_world *w)
{
    struct sim *s = w->sim;
    s->quiet = true;
    collectors_rest(w, true); /* who is still there is heard of */
    w->quiet_at = s->now;
    rollup_calm(w->rollup);
    rollup_settle(w->rollup, false);
    silence_is_heard(w);
    if (s->failed) return;
    pipeline_expect(w);
    pipeline_check_view(w);
    pipeline_check_gaps(w);
    exporters_rest(w);
    s->now += 4 * PLAN_ATTEMPT_MS + BILLING_SLACK_MS;
    billing_deliver(w->billing);
    billing_check(w->billing);
    if (!s->failed && sim_draw(s, 4) == 0) rebuild(w);
    billing_last_act(w->billing);
}

/* ---- whole ---- */

/* All faults of three worlds: each of the first two is rarer, for billing does little in the hours of a schedule. */
static void make_rarer(struct sim *s)
{
    for (int i = SIM_WALL_CLOCK_STEPS + 1; i < SIM_FAULT_KINDS && !s->plan->rates; i++)
        s->rate[i] = (s->rate[i] + RARER - 1) / RARER;
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
    w->collectors->skew_ms_most = SKEW_MS_MOST;
    w->collectors->sleep_ms_most = SLEEP_MS_MOST;
    collectors_begin(w->collectors);
    w->rollup = zeroed(sizeof *w->rollup);
    w->rollup->sim = s;
    w->rollup->parts = w->collectors->runners;
    w->rollup->shards = 1 + (uint32_t)sim_draw(s, SHARDS_MOST);
    w->rollup->others = others;
    w->rollup->others_arg = w;
    w->rollup->steps_end = STEPS;
    rollup_begin(w->rollup);
    struct redis_store_config config = {.shards = w->rollup->shards};
    struct sg_fault f;
    rollup_act(w->rollup, NULL);
    if (redis_store_new(&w->store, &config, &f) != SG_OK) abort();
    w->view = (struct billing_view){
        .arg = w, .close_delay_ms = CLOSE_DELAY_MS, .truth = truth_of, .check_rows = pipeline_check_bills};
    w->billing = zeroed(sizeof *w->billing);
    w->billing->shards = w->rollup->shards;
    w->billing->others = step;
    w->billing->others_arg = w;
    w->billing->steps_end = STEPS;
    w->billing->frozen_ms_most = 2 * MINUTE_MS; /* usage is to end in time */
    billing_start(w->billing, s, w->start, &w->view, false);
}

static void end(struct pipeline_world *w)
{
    billing_end(w->billing);
    free(w->billing);
    redis_store_free(w->store);
    w->rollup->log = (struct events_log){0}; /* it is the collectors' */
    rollup_end(w->rollup);
    collectors_end(w->collectors);
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
    while (s->steps < STEPS && !usage_is_over(&w) && sim_goes_on(s)) step(&w);
    if (!s->failed) hours_close(&w);
    w.billing->frozen_ms_most = 50 * HOUR_MS;
    w.rollup->steps_end = w.billing->steps_end = s->steps + 2 * LATE_STEPS; /* a step, and one while somebody waits */
    for (int i = 0; i < LATE_STEPS && sim_goes_on(s); i++) step(&w);
    if (!s->failed) settle_down(&w);
    end(&w);
    return !s->failed;
}
