/* The last act of some schedules, when everything else was looked at, for the equation cannot be demanded behind it:
 * what the exporter rests upon is not what it was. It must not go on as if nothing had happened, and must say what is
 * wrong.
 *
 * LEDGER    its end is gone, as after an unclean election. Redis has billing cells of what is gone: the exporter that
 *           opens the shard next sends nothing and commits nothing, and names the ledger.
 * CONTROL   a fact does not follow the one before: nothing that stands behind it is taken, and the control topic is
 *           named.
 * METERS    a meter's name is that of another one now, which adds up what the old one did not, or the other way round:
 *           late usage of an hour that the old one has is held for people, who are told once. */
#include <string.h>

#include "tests/sim/billing_world.h"

enum {
    CHANCES = 4, /* a schedule has one last act */
    LAST_RECORDS = 12,
    SILENCE_MS = 6 * SECOND_MS,
    TOLD_MS = 45 * SECOND_MS
};

static bool happens(struct billing_world *w, enum sim_fault kind)
{
    bool once = false;
    for (int i = 0; i < CHANCES; i++) once |= sim_fault(w->sim, kind);
    return once;
}

static bool nobody_looks(void *arg)
{
    (void)arg;
    return false;
}

static void turn(struct billing_world *w)
{
    w->sim->now += (int64_t)sim_draw(w->sim, SECOND_MS / 2);
    billing_exporter_turn(w, &w->x[w->owner]);
}

static void start_anew(struct billing_world *w)
{
    for (size_t i = 0; i < BILLING_EXPORTERS; i++) billing_exporter_end(&w->x[i]);
    billing_exporter_begin(w, &w->x[w->owner]);
}

static void check_red(struct billing_world *w, enum exporter_component c, const char *what)
{
    struct billing_exporter *x = &w->x[w->owner];
    struct health_report r;
    health_judge(&x->exporter.health, &r);
    w->sim->checks++;
    if (r.healthy || !x->exporter.health.fault[c].reason[0])
        sim_fail(w->sim, "%s, and %s says: %s", what, x->actor.name, r.reason);
}

/* ---- the ledger ---- */

/* In half of them Redis, which knows more, answers late. */
static void ledger_loses_its_end(struct billing_world *w)
{
    struct sim *s = w->sim;
    size_t most = w->records < LAST_RECORDS ? w->records : LAST_RECORDS, requests = w->requests, records = w->records;
    if (most == 0) return;
    const struct billing_place *first = &w->record[w->records - 1 - sim_draw(s, most)];
    ledgers_cut(shard_of_team(billing_teams[billing_key_at(first->key).team], w->shards), first->offset);
    start_anew(w);
    w->onlooker = (struct txlog_waiter){nobody_looks, NULL};
    w->silent = sim_draw(s, 2) ? BILLING_SILENT_REDIS : BILLING_SILENT_NOBODY;
    for (int64_t begun = s->now; s->now < begun + TOLD_MS && !s->failed;) {
        turn(w);
        if (s->now > begun + SILENCE_MS) w->silent = BILLING_SILENT_NOBODY;
        if (w->requests > requests) sim_fail(s, "a request leaves by a ledger that has lost its end");
        if (w->records > records) sim_fail(s, "a record is committed to a ledger that has lost its end");
    }
    if (!s->failed) check_red(w, EXPORTER_LEDGER, "the ledger has lost its end");
}

/* ---- control ---- */

/* The team gets its other customer. */
static void say(struct billing_world *w, struct control_chain *chain, int team, bool torn)
{
    char text[CONTROL_BYTES_MAX];
    size_t length = billing_account_fact(w, chain, team, billing_customers[BILLING_TEAMS + team], text);
    ledgers_say(text, length - torn);
}

/* A fact is another than the one that the next one follows, or torn, or missing. Behind it stand such as follow it, or
 * as would follow if it were not there. */
static void break_chain(struct billing_world *w)
{
    enum { FORGED, TORN, MISSING, WAYS } way = sim_draw(w->sim, WAYS);
    struct control_chain broken = w->chain;
    char text[CONTROL_BYTES_MAX];
    int team = (int)sim_draw(w->sim, BILLING_TEAMS);
    if (way == FORGED) broken.hash[0] ^= 1;
    if (way == MISSING)
        (void)billing_account_fact(w, &broken, team, billing_customers[team], text);
    else
        say(w, &broken, team, way == TORN);
    say(w, way == MISSING || sim_draw(w->sim, 2) ? &broken : &w->chain, team, false);
    say(w, &w->chain, BILLING_TEAMS - 1 - team, false);
}

static void check_facts(struct billing_world *w)
{
    const struct exporter *x = &w->x[w->owner].exporter;
    for (int i = 0; i < BILLING_TEAMS; i++) {
        const struct control_account *a = control_view_account(&x->facts, billing_teams[i]);
        if (!a || strcmp(a->customer.s, billing_customers[i]) != 0)
            sim_fail(w->sim, "a fact behind a broken one is taken, team %s", billing_teams[i]);
    }
}

static void chain_breaks(struct billing_world *w)
{
    struct sim *s = w->sim;
    break_chain(w);
    if (sim_draw(s, 2)) start_anew(w);
    for (int64_t begun = s->now; s->now < begun + TOLD_MS && !s->failed;) turn(w);
    if (s->failed) return;
    check_red(w, EXPORTER_CONTROL, "the control topic's chain is broken");
    check_facts(w);
}

/* ---- meters ---- */

/* From a random one on, the first that was billed and is not open; -1: none is. */
static int billed_key(struct billing_world *w, const struct book *b)
{
    int first = (int)sim_draw(w->sim, BILLING_KEYS);
    for (int n = 0; n < BILLING_KEYS; n++) {
        int i = (first + n) % BILLING_KEYS;
        struct billing_key k = billing_key_at(i);
        const struct book_entry *e =
            book_find(b, billing_teams[k.team], billing_meters[k.meter].meter.field, billing_hour(w, k));
        if (e && e->revision && !e->open) return i;
    }
    return -1;
}

/* Of this world's own view, and so of one shard. */
static void meters_are_replaced(struct billing_world *w)
{
    struct sim *s = w->sim;
    const struct exporter *x = &w->x[w->owner].exporter;
    size_t requests = w->requests;
    int key = billed_key(w, &x->shard[0].book);
    if (key < 0) return;
    w->replaced = true;
    start_anew(w);
    w->view->late(w->view->arg, key);
    for (int64_t begun = s->now; s->now < begun + TOLD_MS && !s->failed;) {
        turn(w);
        if (w->requests > requests) sim_fail(s, "an hour is billed in two ways, key %d", key);
    }
    if (s->failed) return;
    check_red(w, EXPORTER_HELD, "an hour's meter counts otherwise");
    bool told = false;
    for (size_t i = 0; i < sizeof w->noted[key][0]; i++) told |= w->noted[key][LEDGER_HELD_MODE][i];
    if (!told) sim_fail(s, "an hour's meter counts otherwise, and nobody was told, key %d", key);
}

void billing_last_act(struct billing_world *w)
{
    if (w->sim->failed) return;
    if (happens(w, SIM_LEDGER_CUT))
        ledger_loses_its_end(w);
    else if (happens(w, SIM_CONTROL_BROKEN))
        chain_breaks(w);
    else if (w->view->late && happens(w, SIM_METER_REPLACED))
        meters_are_replaced(w);
}
