/* One schedule of the billing world: usage, people, clocks and exporters by seed, then quiet; and what must be true.
 *
 * After quiet, for every (team, meter, hour): Stripe's sum is what the ledger accounts for, or, where a revision is
 * open, that or that revision's total. Where nothing is open it is the truth, or the difference is said in a note. What
 * is open is either too young to be given up and was not answered, or was said to be held. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/billing_world.h"
#include "tests/sim/worlds.h"

enum { STEPS = 1200, QUIET_STEPS = 900 };

const char *const billing_teams[TEAMS] = {"t1", "t2"};
const char *const billing_customers[CUSTOMERS] = {"cus_1", "cus_2", "cus_3", "cus_4"};
const struct plan_meter billing_meters[METERS] = {{FIELD_VCPU_MS, BILL_SET, "c", "v"},
                                                  {FIELD_MEM_MIB_MS, BILL_DELTA, "c", "v"},
                                                  {FIELD_DISK_MIB_MS, BILL_DELTA, "c", "v"}};

int billing_index(struct billing_key k)
{
    return (k.team * HOURS + k.hour) * METERS + k.meter;
}

struct billing_key billing_key_at(int i)
{
    return (struct billing_key){i / (HOURS * METERS), i / METERS % HOURS, i % METERS};
}

struct wall_ms billing_hour(const struct billing_world *w, struct billing_key k)
{
    return (struct wall_ms){w->start + k.hour * (int64_t)HOUR_MS};
}

bool billing_fault(struct billing_world *w, enum sim_fault kind)
{
    return !w->sim->quiet && sim_fault(w->sim, kind);
}

static void usage(struct billing_world *w)
{
    uint64_t rows = 1 + sim_draw(w->sim, 40);
    for (uint64_t i = 0; i < rows; i++) w->truth[sim_draw(w->sim, KEYS)] += w->unit * (1 + sim_draw(w->sim, 50));
    for (int i = 0; i < KEYS; i++) w->history[i][w->history_count % HISTORY] = w->truth[i];
    w->history_count++;
    w->sim->rows += rows;
}

static void new_exporter(struct billing_world *w)
{
    for (size_t i = 0; i < EXPORTERS; i++) {
        if (w->x[i].alive) continue;
        w->x[i].alive = true;
        return;
    }
}

/* Time goes on: mostly by moments, now and then by more than a day. */
static void pass_time(struct billing_world *w)
{
    uint64_t y = sim_draw(w->sim, 1000);
    w->sim->now += y < 350   ? 0
                   : y < 800 ? (int64_t)sim_draw(w->sim, MINUTE_MS)
                   : y < 970 ? (int64_t)sim_draw(w->sim, 20 * MINUTE_MS)
                   : y < 995 ? (int64_t)sim_draw(w->sim, 5 * HOUR_MS)
                             : (int64_t)sim_draw(w->sim, 30 * HOUR_MS);
}

/* Customers are named late, and changed; each is of one team. */
static void change_customer(struct billing_world *w)
{
    int team = (int)sim_draw(w->sim, TEAMS);
    w->customer[team] = sim_draw(w->sim, 4) ? team : TEAMS + team;
}

/* Mostly by less than is noticed, now and then by days. */
static int64_t a_step(struct sim *s)
{
    static const int64_t most[] = {CLOCK_TRUST_SKEW_MS_MAX, 90 * MINUTE_MS, CLOCK_STEP_MS};
    int64_t m = most[sim_draw(s, sizeof most / sizeof *most)];
    return (int64_t)sim_draw(s, 2 * (uint64_t)m) - m;
}

static void misfortune(struct billing_world *w, struct billing_exporter *x)
{
    struct sim *s = w->sim;
    if (sim_draw(s, 10)) return; /* these last: rarer than what happens to a single request */
    if (billing_fault(w, SIM_EXPORTER_ADDED)) new_exporter(w);
    if (x->alive && billing_fault(w, SIM_EXPORTER_STOPPED)) x->wake = s->now + (int64_t)sim_draw(s, 50 * HOUR_MS);
    if (x->alive && billing_fault(w, SIM_EXPORTER_KILLED)) billing_stop(x);
    if (billing_fault(w, SIM_METER_OFF)) w->meter_off_until = s->now + (int64_t)sim_draw(s, 4 * HOUR_MS);
    if (billing_fault(w, SIM_WALL_CLOCK_STEPS)) x->skew = a_step(s);
}

static void act(struct billing_world *w)
{
    struct sim *s = w->sim;
    struct billing_exporter *x = &w->x[sim_draw(s, 10) < 6 ? w->owner : sim_draw(s, EXPORTERS)];
    pass_time(w);
    billing_deliver(w);
    uint64_t y = sim_draw(s, 1000);
    if (y < 150) usage(w);
    if (y >= 150 && y < 160) change_customer(w);
    misfortune(w, x);
    if (!w->x[w->owner].alive) new_exporter(w);
    if (x->alive && x->wake <= s->now) billing_step(w, x);
}

/* Zombies have woken or died; the last owner goes on. */
static void settle_down(struct billing_world *w)
{
    struct sim *s = w->sim;
    s->quiet = true;
    w->quiet_from = s->now;
    w->meter_off_until = 0;
    for (int i = 0; i < TEAMS; i++)
        if (w->customer[i] < 0) w->customer[i] = i;
    for (size_t i = 0; i < EXPORTERS; i++) w->x[i].wake = w->x[i].skew = 0;
    for (int i = 0; i < QUIET_STEPS && !s->failed; i++) {
        s->now += (int64_t)sim_draw(s, MINUTE_MS / 2);
        billing_deliver(w);
        if (i < QUIET_STEPS / 3)
            for (size_t k = 0; k < EXPORTERS; k++)
                if (w->x[k].alive && k != w->owner) billing_step(w, &w->x[k]);
        if (!w->x[w->owner].alive) w->x[w->owner].alive = true;
        billing_step(w, &w->x[w->owner]);
    }
    s->now += 4 * PLAN_ATTEMPT_MS + SLACK_MS;
    billing_deliver(w);
}

static void check_key(struct billing_world *w, const struct book *b, int i)
{
    struct sim *s = w->sim;
    struct billing_key k = billing_key_at(i);
    const struct book_entry *e = book_find(b, billing_teams[k.team], billing_meters[k.meter].field, billing_hour(w, k));
    uint64_t accounted = e ? e->total.v : 0, billed = w->billed[i];
    const struct book_open *o = e ? e->open : NULL;
    s->checks++;
    if (o && billed != accounted && billed != o->total.v) sim_fail(s, "neither old nor new, key %d", i);
    if (o && w->quiet_from - o->at.v < PLAN_COPY_MS / 2) sim_fail(s, "open though Stripe answers, key %d", i);
    if (o && s->now - o->at.v > PLAN_COPY_MS + 2 * CLOCK_TRUST_SKEW_MS_MAX && !o->noted[LEDGER_HELD_AGE])
        sim_fail(s, "held, and nobody was told, key %d", i);
    if (!o && billed != accounted) sim_fail(s, "the ledger says otherwise than Stripe, key %d", i);
    bool told = e && e->noted_digits == e->revision + 1;
    if (!o && billed != w->truth[i] && !told) sim_fail(s, "Stripe does not hold the truth, key %d", i);
}

static void check_end(struct billing_world *w)
{
    struct billing_exporter last = {.alive = true};
    if (w->sim->failed) return;
    w->undecided_length = 0;
    billing_fold(w, &last.book);
    for (int i = 0; i < KEYS && !w->sim->failed; i++) check_key(w, &last.book, i);
    book_destroy(&last.book);
}

bool billing_schedule(struct sim *s)
{
    struct billing_world *w = calloc(1, sizeof *w);
    if (!w) abort();
    w->sim = s;
    w->unit = sim_draw(s, 8) ? 1 : UINT64_C(2000000000000);
    w->start = BILLING_START + (int64_t)sim_draw(s, 1000) * HOUR_MS;
    s->now = w->start + 3 * (int64_t)HOUR_MS;
    for (int i = 0; i < TEAMS; i++) w->customer[i] = sim_draw(s, 2) ? i : -1;
    new_exporter(w);
    for (int i = 0; i < STEPS && sim_goes_on(s); i++) act(w);
    if (!s->failed) settle_down(w);
    check_end(w);
    for (size_t i = 0; i < EXPORTERS; i++) book_destroy(&w->x[i].book);
    for (size_t i = 0; i < w->records; i++) free(w->record[i]);
    free(w);
    return !s->failed;
}
