/* Exporters, people, clocks and Stripe, whatever the view they look at: what happens in a step, how it ends, and what
 * must then be true.
 *
 * After quiet, for every (team, meter, hour): Stripe's sum and what it dropped are what the ledger accounts for, or,
 * where a revision is open, that or that revision's total. Where nothing is open it is the truth, or the difference is
 * said in a note. What is open is held for people, who were told, and had odd summaries: an event that was accepted and
 * then dropped, one that is not ours, or a number that was never sent. Where nothing comes late, an hour has one
 * revision. */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/billing_world.h"

const char *const billing_teams[BILLING_TEAMS] = {"t1", "t2"};
const char *const billing_customers[BILLING_CUSTOMERS] = {"cus_1", "cus_2", "cus_3", "cus_4"};
const struct meter_slot billing_meters[BILLING_METERS] = {{{FIELD_VCPU_MS, BILL_SET, "c", "v", "m"}, true},
                                                          {{FIELD_MEM_MIB_MS, BILL_DELTA, "c", "v", "m"}, true},
                                                          {{FIELD_DISK_MIB_MS, BILL_DELTA, "c", "v", "m"}, true}};

int billing_index(struct billing_key k)
{
    return (k.team * BILLING_HOURS + k.hour) * BILLING_METERS + k.meter;
}

struct billing_key billing_key_at(int i)
{
    return (struct billing_key){i / (BILLING_HOURS * BILLING_METERS), i / BILLING_METERS % BILLING_HOURS,
                                i % BILLING_METERS};
}

int billing_index_of(const struct billing_world *w, const char *team, enum field meter, struct wall_ms hour)
{
    for (int i = 0; i < BILLING_KEYS; i++) {
        struct billing_key k = billing_key_at(i);
        if (strcmp(billing_teams[k.team], team) == 0 && billing_hour(w, k).v == hour.v &&
            billing_meters[k.meter].meter.field == meter)
            return i;
    }
    return -1;
}

struct wall_ms billing_hour(const struct billing_world *w, struct billing_key k)
{
    return (struct wall_ms){w->start + k.hour * (int64_t)HOUR_MS};
}

bool billing_fault(struct billing_world *w, enum sim_fault kind)
{
    return !w->sim->quiet && sim_fault(w->sim, kind);
}

static void new_exporter(struct billing_world *w)
{
    for (size_t i = 0; i < BILLING_EXPORTERS; i++) {
        if (w->x[i].alive || w->x[i].busy) continue;
        billing_exporter_begin(w, &w->x[i]);
        return;
    }
}

size_t billing_account_fact(const struct billing_world *w, struct control_chain *chain, int team, const char *customer,
                            char text[static CONTROL_BYTES_MAX])
{
    size_t length = 0;
    struct control_fact fact = {.kind = CONTROL_ACCOUNT_SET, .at = {w->sim->now}, .by = {"a"}};
    memcpy(fact.team.s, billing_teams[team], strlen(billing_teams[team]) + 1);
    memcpy(fact.customer.s, customer, strlen(customer) + 1);
    if (control_encode(chain, &fact, text, &length) != SG_OK) abort();
    return length;
}

void billing_set_customer(struct billing_world *w, int team, const char *customer)
{
    char text[CONTROL_BYTES_MAX];
    ledgers_say(text, billing_account_fact(w, &w->chain, team, customer, text));
}

/* Customers are named late, and changed; each is of one team. */
static void change_customer(struct billing_world *w)
{
    int team = (int)sim_draw(w->sim, BILLING_TEAMS);
    billing_set_customer(w, team, billing_customers[sim_draw(w->sim, 4) ? team : BILLING_TEAMS + team]);
}

/* Mostly by less than is noticed, now and then by days. */
static int64_t a_step(struct sim *s)
{
    static const int64_t most[] = {CLOCK_TRUST_SKEW_MS_MAX, 90 * MINUTE_MS, BILLING_CLOCK_STEP_MS};
    int64_t m = most[sim_draw(s, sizeof most / sizeof *most)];
    return (int64_t)sim_draw(s, 2 * (uint64_t)m) - m;
}

static void misfortune(struct billing_world *w, struct billing_exporter *x)
{
    struct sim *s = w->sim;
    if (sim_draw(s, 6)) return; /* these last: rarer than what happens to a single request */
    if (billing_fault(w, SIM_EXPORTER_ADDED)) new_exporter(w);
    if (x->alive && billing_fault(w, SIM_EXPORTER_REMOVED)) x->actor.stopping = true;
    if (billing_fault(w, SIM_METER_OFF)) w->meter_off_until = s->now + (int64_t)sim_draw(s, 4 * HOUR_MS);
    if (billing_fault(w, SIM_WALL_CLOCK_STEPS)) x->actor.skew_ms = a_step(s);
    if (billing_fault(w, SIM_SUMMARY_LAGS)) {
        w->lags_until = s->now + (int64_t)sim_draw(s, 50 * HOUR_MS);
        w->lag_ms = sim_draw(s, 2) ? BILLING_LAG_MS : 1 + (int64_t)sim_draw(s, BILLING_LAG_MS);
    }
    if (billing_fault(w, SIM_KEY_REVOKED)) w->key_off_until = s->now + (int64_t)sim_draw(s, 3 * HOUR_MS);
    if (sim_draw(s, 3) == 0 && billing_fault(w, SIM_FOREIGN_WRITER)) billing_foreign_event(w); /* its mark remains */
}

void billing_start(struct billing_world *w, struct sim *s, int64_t start, const struct billing_view *view,
                   bool punctual)
{
    static const int64_t remembers[] = {DAY_MS, DAY_MS + 1, 3 * (int64_t)DAY_MS};
    w->sim = s;
    w->start = start;
    w->view = view;
    w->punctual = punctual;
    w->open_most = sim_draw(s, 4) ? EXPORTER_OPEN_MAX : 1 + sim_draw(s, 6);
    w->remembers_ms = remembers[sim_draw(s, sizeof remembers / sizeof *remembers)];
    w->x = calloc(BILLING_EXPORTERS, sizeof *w->x);
    if (!w->x) abort();
    billing_ports_begin(w);
    billing_ledger_begin(w);
    for (int i = 0; i < BILLING_TEAMS; i++)
        if (sim_draw(s, 2)) billing_set_customer(w, i, billing_customers[i]);
    new_exporter(w);
}

void billing_end(struct billing_world *w)
{
    for (size_t i = 0; i < BILLING_EXPORTERS; i++) billing_exporter_end(&w->x[i]);
    billing_ledger_end(w);
    billing_ports_begin(NULL);
    free(w->x);
}

void billing_act(struct billing_world *w)
{
    struct sim *s = w->sim;
    struct billing_exporter *x = &w->x[sim_draw(s, 10) < 6 ? w->owner : sim_draw(s, BILLING_EXPORTERS)];
    billing_deliver(w);
    if (sim_draw(s, 250) == 0) change_customer(w);
    misfortune(w, x);
    if (!w->x[w->owner].alive) new_exporter(w);
    if (x->alive && !x->busy) billing_exporter_turn(w, x);
}

void billing_quiet(struct billing_world *w)
{
    w->quiet_from = w->sim->now;
    w->meter_off_until = w->key_off_until = w->lags_until = 0;
    for (int i = 0; i < BILLING_TEAMS; i++) billing_set_customer(w, i, billing_customers[i]);
    for (size_t i = 0; i < BILLING_EXPORTERS; i++) {
        w->x[i].actor.skew_ms = 0;
        billing_make_room(w, &w->x[i]);
    }
}

int64_t billing_quiet_ms(struct sim *s, bool first)
{
    bool leap = !first && sim_draw(s, 8) == 0;
    return (int64_t)sim_draw(s, leap ? 4 * HOUR_MS : first ? MINUTE_MS / 2 : 10 * SECOND_MS);
}

static bool all_open(const struct billing_exporter *x)
{
    for (size_t i = 0; i < x->exporter.shard_count; i++)
        if (!x->exporter.shard[i].log) return false;
    return true;
}

void billing_quiet_step(struct billing_world *w, bool zombies)
{
    billing_deliver(w);
    for (size_t k = 0; k < BILLING_EXPORTERS; k++) {
        struct billing_exporter *x = &w->x[k];
        if (k == w->owner || !x->alive) continue;
        if (zombies && all_open(x))
            billing_exporter_turn(w, x);
        else
            billing_exporter_end(x); /* people have left one exporter */
    }
    struct billing_exporter *owner = &w->x[w->owner];
    if (!owner->alive) billing_exporter_begin(w, owner);
    billing_exporter_turn(w, owner);
}

enum { FRESH_MS = 10 * MINUTE_MS }; /* it was begun a moment ago */

void billing_check_young(struct billing_world *w)
{
    const struct exporter *x = &w->x[w->owner].exporter;
    for (size_t i = 0; i < x->shard_count; i++)
        for (const struct book_open *o = x->shard[i].book.open_first; o; o = o->next)
            if (w->quiet_from - o->at.v < PLAN_COPY_MS / 2 && w->sim->now - o->at.v > FRESH_MS)
                sim_fail(w->sim, "open though Stripe answers");
}

bool billing_at_rest(const struct billing_world *w)
{
    const struct billing_exporter *x = &w->x[w->owner];
    if (!x->alive || !all_open(x)) return false;
    for (size_t i = 0; i < x->exporter.shard_count; i++) {
        const struct shard *s = &x->exporter.shard[i];
        if (s->result_count) return false;
        for (const struct book_open *o = s->book.open_first; o; o = o->next)
            if (!o->noted[LEDGER_HELD_SUM]) return false;
    }
    return true;
}

/* ---- what must be true ---- */

/* The entry of a key, in whatever shard it is. */
static const struct book_entry *entry_of(struct billing_world *w, const struct book *b, struct billing_key k)
{
    const struct book_entry *found = NULL;
    for (uint32_t s = 0; s < w->shards; s++) {
        const struct book_entry *e =
            book_find(&b[s], billing_teams[k.team], billing_meters[k.meter].meter.field, billing_hour(w, k));
        if (e && found) sim_fail(w->sim, "two shards bill the same hour");
        if (e) found = e;
    }
    return found;
}

static void check_key(struct billing_world *w, const struct book *b, int i)
{
    struct sim *s = w->sim;
    const struct book_entry *e = entry_of(w, b, billing_key_at(i));
    uint64_t accounted = e ? e->total.v : 0, billed = w->billed[i] + w->dropped[i];
    const struct book_open *o = e ? e->open : NULL;
    s->checks++;
    if (o && billed != accounted && billed != o->total.v) sim_fail(s, "neither old nor new, key %d", i);
    if (o && !o->noted[LEDGER_HELD_SUM]) sim_fail(s, "open, and nobody was told, key %d", i);
    if (o && !w->odd[i]) sim_fail(s, "held though nothing was odd, key %d", i);
    if (!o && billed != accounted) sim_fail(s, "the ledger says otherwise than Stripe, key %d", i);
    bool told = e && e->noted_digits == e->revision + 1;
    if (!o && billed != w->view->truth(w->view->arg, i) && !told)
        sim_fail(s, "Stripe does not hold the truth, key %d", i);
    if (w->punctual && e && e->revision > 1) sim_fail(s, "an hour was billed before all of it was in, key %d", i);
}

static enum sg_error fold(void *arg, const struct txlog_record *record, struct sg_fault *f)
{
    struct ledger_record r;
    if (!ledger_is_billing(record->bytes, record->length)) return SG_OK;
    enum sg_error e = ledger_decode(record->bytes, record->length, &r, f);
    return e == SG_OK ? book_apply(arg, &r, record->offset, NULL, f) : e;
}

void billing_check(struct billing_world *w)
{
    struct book last[LEDGERS_MOST] = {0};
    struct sg_fault f = {0};
    if (w->sim->failed) return;
    ledgers_forget_undecided();
    for (uint32_t s = 0; s < w->shards; s++)
        if (ledgers_read(s, fold, &last[s], &f) != SG_OK) sim_fail(w->sim, "the ledger does not fold: %s", f.text);
    for (int i = 0; i < BILLING_KEYS && !w->sim->failed; i++) check_key(w, last, i);
    for (uint32_t s = 0; s < w->shards; s++) {
        if (!w->sim->failed) w->view->check_rows(w->view->arg, s, &last[s]);
        book_destroy(&last[s]);
    }
}
