/* Health tells the truth (design.md, law 9). When nothing is left to be billed, an exporter is well, but for what
 * people must look at. Then Stripe, Kafka or Redis falls silent: within ten seconds it is red and names the silent one,
 * for as long as that is silent. Then it is well again by itself. */
#include <string.h>

#include "tests/sim/billing_world.h"

enum { TOLD_MS = 10 * SECOND_MS, SILENCE_MS = 30 * SECOND_MS, WELL_MS = 40 * SECOND_MS, TURNS_MOST = 300 };

static const struct {
    enum billing_silent who;
    const char *name;
} silent[] = {{BILLING_SILENT_STRIPE, "stripe"}, {BILLING_SILENT_KAFKA, "kafka"}, {BILLING_SILENT_REDIS, "redis"}};

static void turn(struct billing_world *w)
{
    w->sim->now += (int64_t)sim_draw(w->sim, SECOND_MS / 2);
    billing_exporter_turn(w, &w->x[w->owner]);
}

/* Nothing but what is refused or held for people, and summaries that show why. */
static void check_well(struct billing_world *w)
{
    struct billing_exporter *x = &w->x[w->owner];
    const struct health *h = &x->exporter.health;
    struct health_report r;
    health_judge(&x->exporter.health, &r);
    w->sim->checks++;
    const char *held = h->fault[EXPORTER_HELD].reason, *summary = h->fault[EXPORTER_SUMMARY].reason;
    bool by_right = *r.reason && (*held || *summary);
    for (size_t i = 0; i < h->component_count; i++)
        if (i != EXPORTER_HELD && i != EXPORTER_SUMMARY && strstr(r.reason, h->component[i].name)) by_right = false;
    if (!r.healthy && !by_right) sim_fail(w->sim, "all is well, and %s says: %s", x->actor.name, r.reason);
    for (size_t i = 0; i < x->exporter.shard_count; i++)
        for (const struct book_open *o = x->exporter.shard[i].book.open_first; o; o = o->next)
            if (o->noted[LEDGER_HELD_SUM] && !*held)
                sim_fail(w->sim, "%s holds a revision, and says: %s", x->actor.name, r.reason);
}

static void go_on(struct billing_world *w, int64_t ms)
{
    for (int64_t end = w->sim->now + ms; w->sim->now < end && !w->sim->failed;) turn(w);
}

void billing_check_health(struct billing_world *w)
{
    size_t i = sim_draw(w->sim, sizeof silent / sizeof *silent);
    struct billing_exporter *x = &w->x[w->owner];
    struct health_report r;
    go_on(w, WELL_MS);
    if (!w->sim->failed) check_well(w);
    w->silent = silent[i].who;
    ledgers_silence(w->silent == BILLING_SILENT_KAFKA);
    for (int64_t begun = w->sim->now; w->sim->now < begun + SILENCE_MS && !w->sim->failed;) {
        turn(w);
        health_judge(&x->exporter.health, &r);
        if (w->sim->now >= begun + TOLD_MS && (r.healthy || !strstr(r.reason, silent[i].name)))
            sim_fail(w->sim, "%s is silent, and %s says: %s", silent[i].name, x->actor.name, r.reason);
    }
    w->silent = BILLING_SILENT_NOBODY;
    ledgers_silence(false);
    go_on(w, WELL_MS);
    if (!w->sim->failed) check_well(w);
    for (int turns = 0; turns < TURNS_MOST && !billing_at_rest(w) && !w->sim->failed; turns++) turn(w);
}
