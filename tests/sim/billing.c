/* One schedule of the billing world by itself: usage and flushes of its own view, beside what happens to exporters,
 * people and clocks (billing_people.c); then quiet. */
#include <stdlib.h>

#include "tests/sim/billing_world.h"
#include "tests/sim/worlds.h"

enum { STEPS = 600, LAST_FLUSHES = 4 };
enum { QUIET_STEPS = 2000, REST_STEPS = 20, ZOMBIE_STEPS = 40, YOUNG_STEPS = 150 }; /* the latter two: from its start */

/* This world by itself. */
struct one {
    struct billing_world *billing;
    struct billing_store *store;
};

/* Time goes on: mostly by moments, now and then by more than a day. */
static void pass_time(struct sim *s)
{
    uint64_t y = sim_draw(s, 1000);
    s->now += y < 350   ? 0
              : y < 800 ? (int64_t)sim_draw(s, MINUTE_MS)
              : y < 970 ? (int64_t)sim_draw(s, 20 * MINUTE_MS)
              : y < 995 ? (int64_t)sim_draw(s, 5 * HOUR_MS)
                        : (int64_t)sim_draw(s, 30 * HOUR_MS);
}

static void step(void *arg)
{
    struct one *o = arg;
    struct sim *s = o->billing->sim;
    pass_time(s);
    if (sim_draw(s, 100) < 16) billing_store_usage(o->store);
    if (sim_draw(s, 100) < 30) billing_store_flush(o->store);
    billing_act(o->billing);
}

static void settle(void *arg)
{
    billing_store_settle(arg);
}

static void settle_down(struct billing_world *w, struct billing_store *t)
{
    struct sim *s = w->sim;
    for (int i = 0; i < LAST_FLUSHES; i++) billing_store_flush(t);
    bool back = sim_fault(s, SIM_VIEW_ROLLED_BACK); /* when everything is at rest */
    s->quiet = true;
    billing_quiet(w);
    if (sim_draw(s, 2)) billing_check_told(w, settle, t);
    billing_store_settle(t);
    size_t records = 0;
    for (int i = 0, resting = 0; i < QUIET_STEPS && resting < REST_STEPS && !s->failed; i++) {
        bool zombies = i < ZOMBIE_STEPS;
        s->now += billing_quiet_ms(s, i < YOUNG_STEPS);
        billing_quiet_step(w, zombies);
        resting = zombies || w->records > records || !billing_at_rest(w) ? 0 : resting + 1;
        records = w->records;
        if (back && resting == REST_STEPS / 2) {
            back = false;
            resting = 0;
            billing_store_roll_back(t);
            billing_store_settle(t);
        }
        if (i == YOUNG_STEPS) billing_check_young(w);
    }
    if (!s->failed && sim_draw(s, 4) == 0) billing_check_health(w);
    s->now += 4 * PLAN_ATTEMPT_MS + BILLING_SLACK_MS;
    billing_deliver(w);
}

bool billing_schedule(struct sim *s)
{
    struct billing_world *w = calloc(1, sizeof *w);
    if (!w) abort();
    int64_t start = BILLING_START + (int64_t)sim_draw(s, 1000) * HOUR_MS;
    bool punctual = sim_draw(s, 2);
    s->now = start + (BILLING_HOURS + 1) * (int64_t)HOUR_MS;
    struct billing_store *t = billing_store_new(s, start, sim_draw(s, 8) ? 1 : UINT64_C(2000000000000), punctual);
    struct one one = {w, t};
    w->shards = 1;
    w->others = step;
    w->others_arg = &one;
    w->steps_end = STEPS;
    w->frozen_ms_most = 50 * HOUR_MS;
    ports_begin(s);
    ledgers_begin(s);
    billing_start(w, s, start, billing_store_view(t), punctual);
    while (s->steps < STEPS && sim_goes_on(s)) step(&one);
    if (!s->failed) settle_down(w, t);
    billing_check(w);
    billing_last_act(w);
    billing_end(w);
    ledgers_end();
    billing_store_free(t);
    free(w);
    return !s->failed;
}
