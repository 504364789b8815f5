/* One schedule of the collectors' world: supervisors talk, programs turn, the broker takes, and by seed the disk, the
 * power, the clocks, the connections and the broker misbehave. Then quiet, in which everything must come to rest within
 * a bounded number of steps; then every batch of the topic is held against what was accepted (collector_oracle.c). */
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/collector_world.h"
#include "tests/sim/worlds.h"

enum {
    STEPS_LEAST = 30,
    STEPS_MORE = 70,
    QUIET_STEPS = 1000, /* of 200 ms on average: what lands late does so within two minutes */
    LINES_A_STEP = 12,
    STEPS_A_FLOOD = 32, /* it may begin in one step of so many: it is a lot */
    SANDBOXES_MAX = 1000,
    ZEROS_SHOWN = 16 << 10,
    SKEW_MS_MOST = 3 * HOUR_MS,
    SLEEP_MS_MOST = 10 * HOUR_MS
};

bool collector_fault(struct collector_world *w, enum sim_fault kind)
{
    return !w->sim->quiet && sim_fault(w->sim, kind);
}

const char *const collector_regions[COLLECTOR_REGIONS] = {"eu", "us"};

struct boot_ms collector_boot_now(const struct collector_runner *r)
{
    return (struct boot_ms){(uint64_t)(r->world->sim->now - r->booted_at)};
}

struct wall_ms collector_wall_now(const struct collector_runner *r)
{
    return (struct wall_ms){r->world->sim->now + r->skew};
}

/* ---- bad days ---- */

/* The power of a host is cut: what was not synced is kept, torn or lost, and all clocks of its boot begin anew. */
static void cut_power(struct collector_runner *r)
{
    collector_program_kill(r);
    disk_cut_power(&r->disk);
    r->booted_at = r->world->sim->now;
    r->reboot = true;
}

/* A spool can only be lost without losing usage when nothing but its supervisors' next lines depends on it. */
static void lose_spool(struct collector_runner *r)
{
    for (size_t i = 0; i < r->sources; i++) {
        const struct collector_source *c = &r->source[i];
        if (!r->alive || c->acked + 1 != meter_next_n(r->collector.meter, c->session[c->slot].source) || !c->greeted)
            return;
    }
    const struct collector *c = &r->collector;
    if (!collector_broker_quiet(r->world) || c->commit.blocked || meter_dirty(c->meter) ||
        spool_delivered_seq(&c->spool) != spool_last_seq(&c->spool))
        return;
    sim_trace(r->world->sim, "%s: its spool is lost", r->name);
    r->lose_spool = false;
    collector_program_kill(r);
    disk_empty(&r->disk);
    r->epochs++;
    r->delivered_most = 0;
    for (size_t i = 0; i < r->sources; i++) collector_source_lost(&r->source[i]);
}

/* With clock = system a host's end, or a spool's, lies where the last tick was: no arithmetic but the meter's knows. */
static void misfortune(struct collector_runner *r)
{
    struct collector_world *w = r->world;
    struct sim *s = w->sim;
    if (r->lose_spool && !r->reboot) lose_spool(r);
    if (sim_draw(s, 4)) return; /* these last: rarer than what happens to a single call */
    if (!w->system_clock && !r->reboot && collector_fault(w, SIM_POWER_CUT)) cut_power(r);
    if (collector_fault(w, SIM_DISK_FULL)) r->disk_full = true;
    if (r->disk_full && sim_draw(s, 4) == 0) r->disk_full = false;
    if (!w->system_clock && collector_fault(w, SIM_SPOOL_LOST)) r->lose_spool = true;
    if (sim_draw(s, 3) == 0 && collector_fault(w, SIM_HOST_SUSPENDED))
        s->now += (int64_t)sim_draw(s, (uint64_t)w->sleep_ms_most / (sim_draw(s, 4) ? 10 : 1));
    if (collector_fault(w, SIM_HOST_CLOCK_STEPS)) {
        r->skew = (int64_t)sim_draw(s, 2 * (uint64_t)w->skew_ms_most) - w->skew_ms_most;
        w->wall_stepped = true;
    }
    if (!r->gone && w->runners > 1 && r->index > 0 && sim_draw(s, 4) == 0 && collector_fault(w, SIM_RUNNER_VANISHES)) {
        collector_program_kill(r);
        r->gone = true;
    }
}

/* ---- a step ---- */

static void talk(struct collector_source *c)
{
    struct collector_world *w = c->runner->world;
    collector_source_talk(c, w->system_clock);
    if (!c->connected || !collector_fault(w, SIM_CONNECTION_CUT)) return;
    collector_source_cut(c, sim_draw(w->sim, 2));
    if (sim_draw(w->sim, 2)) return;
    c->retry_at = w->sim->now; /* before what it has said is durable */
    collector_source_talk(c, w->system_clock);
}

static bool flood(struct collector_source *c)
{
    if (c->runner->lose_spool || !collector_fault(c->runner->world, SIM_SOURCE_FLOODS)) return false;
    collector_source_flood(c);
    return true;
}

/* What is said last: nothing that comes after it brings a session to look at its lines again. */
static void say_last(struct collector_world *w)
{
    for (size_t k = 0; k < w->runners; k++) {
        struct collector_runner *r = &w->runner[k];
        for (size_t i = 0; i < r->sources && !r->gone && !r->reboot; i++)
            if (flood(&r->source[i])) collector_source_talk(&r->source[i], true);
    }
}

static void pass_time(struct sim *s)
{
    uint64_t y = sim_draw(s, 100);
    s->now += y < 88   ? (int64_t)sim_draw(s, 400)
              : y < 90 ? MINUTE_MS - s->now % MINUTE_MS
              : y < 98 ? (int64_t)sim_draw(s, 5 * SECOND_MS)
                       : (int64_t)sim_draw(s, 2 * MINUTE_MS);
}

void collector_act(struct collector_world *w)
{
    struct sim *s = w->sim;
    for (size_t k = 0; k < w->runners; k++) {
        struct collector_runner *r = &w->runner[k];
        if (r->gone) continue;
        misfortune(r);
        for (size_t i = 0; i < r->sources && !r->reboot; i++) {
            /* a spool that is to be lost waits for a lull */
            for (uint64_t n = r->lose_spool ? 0 : sim_draw(s, LINES_A_STEP); n; n--)
                collector_source_event(&r->source[i]);
            if (s->steps % STEPS_A_FLOOD == i) (void)flood(&r->source[i]);
            talk(&r->source[i]);
        }
        collector_program_turn(r);
    }
    collector_broker_turn(w);
}

bool collector_at_rest(const struct collector_world *w)
{
    for (size_t k = 0; k < w->runners; k++) {
        const struct collector_runner *r = &w->runner[k];
        if (r->gone) continue;
        if (!collector_program_quiet(r)) return false;
        for (size_t i = 0; i < r->sources; i++)
            if (!collector_source_quiet(&r->source[i])) return false;
    }
    return collector_broker_quiet(w);
}

void collector_quiet_step(struct collector_world *w, bool finish)
{
    w->sim->now += (int64_t)sim_draw(w->sim, 400);
    for (size_t k = 0; k < w->runners; k++) {
        struct collector_runner *r = &w->runner[k];
        if (r->gone) continue;
        r->disk_full = r->die_in_roll = false;
        r->disk.dies_at = 0;
        r->lose_spool = false; /* it waits for a moment at which no runner has anything to send: that may not come */
        for (size_t i = 0; i < r->sources && !r->reboot; i++) {
            if (finish) collector_source_finish(&r->source[i]);
            collector_source_talk(&r->source[i], true);
        }
        collector_program_turn(r);
    }
    collector_broker_turn(w);
}

static void settle_down(struct collector_world *w)
{
    struct sim *s = w->sim;
    s->quiet = true;
    int steps = 0;
    while (!s->failed && steps < QUIET_STEPS && !collector_at_rest(w)) steps++, collector_quiet_step(w, false);
    if (!s->failed && steps < QUIET_STEPS && sim_draw(s, 6) == 0) collector_check_health(w);
    if (!s->failed) collector_quiet_step(w, true); /* what lives ends, so that all of it is metered */
    while (!s->failed && steps < QUIET_STEPS && !collector_at_rest(w)) steps++, collector_quiet_step(w, false);
    if (steps == QUIET_STEPS) sim_fail(s, "no progress: not at rest after %d quiet steps", QUIET_STEPS);
}

/* ---- the schedule ---- */

static void begin(struct collector_world *w, struct collector_runner *r, unsigned index)
{
    struct sim *s = w->sim;
    r->world = w;
    r->index = index;
    r->region = index % w->regions;
    snprintf(r->name, sizeof r->name, "r%u", index);
    r->booted_at = s->now - (int64_t)sim_draw(s, DAY_MS);
    r->skew = sim_draw(s, 2) ? (int64_t)sim_draw(s, SECOND_MS) : 0;
    r->io = disk_io(&r->disk);
    r->disk.arg = r;
    r->disk.reserve_shown = sim_draw(s, 8) ? ZEROS_SHOWN : 0;
    snprintf(r->region_name, sizeof r->region_name, "%s", collector_regions[r->region]);
    r->sources = 1 + (unsigned)sim_draw(s, COLLECTOR_SOURCES);
    r->sandboxes_max = SANDBOXES_MAX;
    if (r->sources == 1 && collector_fault(w, SIM_TABLE_FULL)) /* of several the oracle knows no order */
        r->sandboxes_max = 1 + sim_draw(s, COLLECTOR_BOXES / 2);
    for (unsigned i = 0; i < r->sources; i++) {
        struct collector_source *c = &r->source[i];
        c->runner = r;
        c->index = i;
        snprintf(c->name, sizeof c->name, "s%u", i);
        c->session[0].state = c->session[1].state = SESSION_OVER;
        collector_source_boot(c);
    }
}

void collectors_begin(struct collector_world *w)
{
    w->segment_bytes = 3000 + sim_draw(w->sim, 40000);
    w->runners = 1 + (unsigned)sim_draw(w->sim, COLLECTOR_RUNNERS);
    w->regions = 1 + (unsigned)sim_draw(w->sim, COLLECTOR_REGIONS);
    for (unsigned i = 0; i < w->runners; i++) begin(w, &w->runner[i], i);
}

void collectors_end(struct collector_world *w)
{
    for (size_t k = 0; k < w->runners; k++) {
        struct collector_runner *r = &w->runner[k];
        collector_program_kill(r);
        disk_destroy(&r->disk);
        for (size_t i = 0; i < r->sources; i++) collector_source_destroy(&r->source[i]);
    }
    collector_broker_destroy(w);
}

bool collector_schedule(struct sim *s)
{
    struct collector_world *w = calloc(1, sizeof *w);
    if (!w) abort();
    w->sim = s;
    s->now = COLLECTOR_START + (int64_t)sim_draw(s, HOUR_MS);
    w->system_clock = sim_draw(s, 4) == 0;
    w->skew_ms_most = SKEW_MS_MOST;
    w->sleep_ms_most = SLEEP_MS_MOST;
    ports_begin(s);
    w->ahead_ms_most = w->system_clock ? 0 : MINUTE_MS;
    collectors_begin(w);
    for (uint64_t steps = STEPS_LEAST + sim_draw(s, STEPS_MORE); steps && sim_goes_on(s); steps--) {
        pass_time(s);
        collector_act(w);
    }
    if (!s->failed) say_last(w);
    if (!s->failed) settle_down(w);
    if (!s->failed) collector_check(w);
    collectors_end(w);
    free(w);
    return !s->failed;
}
