/* An exporter around the real book, plan and classification: what shard.c and exporter.c do, with one attempt at a time
 * and a pause possible between any two steps. A process whose shard was fenced or is in doubt opens it anew; its
 * attempt goes on, and its answer comes too late for the new book. */
#include <assert.h>
#include <string.h>

#include "tests/sim/billing_world.h"

enum { IDLE_MS = 10 * MINUTE_MS };

static struct wall_ms wall(const struct billing_world *w, const struct billing_exporter *x)
{
    return (struct wall_ms){w->sim->now + x->skew};
}

static struct boot_ms boot(const struct billing_world *w)
{
    return (struct boot_ms){(uint64_t)(w->sim->now)};
}

void billing_stop(struct billing_exporter *x)
{
    book_destroy(&x->book);
    *x = (struct billing_exporter){0};
}

/* Fenced or in doubt: the shard is opened anew after a while. In quiet people have left one exporter. */
static void reopen(struct billing_world *w, struct billing_exporter *x, enum sg_error why)
{
    if (w->sim->quiet && why == SG_ERR_FENCED) return billing_stop(x);
    book_destroy(&x->book);
    x->started = x->folded = false;
    x->orphan = true;
    x->wake = w->sim->now + (int64_t)sim_draw(w->sim, 10 * MINUTE_MS);
}

/* False: nothing that needs the time may be done now. */
static bool know_time(const struct billing_world *w, const struct billing_exporter *x, struct wall_ms *now)
{
    int64_t skew_ms;
    *now = wall(w, x);
    return clock_trust_judge(&x->trust, *now, boot(w), &skew_ms) == CLOCK_TRUST_BELIEVED;
}

/* Each total as it was at some time: stale, torn, rolled back. */
static void take_snapshot(struct billing_world *w, struct billing_exporter *x)
{
    unsigned kept = w->history_count < HISTORY ? w->history_count : HISTORY;
    bool stale = billing_fault(w, SIM_VIEW_STALE);
    for (int i = 0; i < KEYS; i++) x->snapshot[i] = stale && kept ? w->history[i][sim_draw(w->sim, kept)] : w->truth[i];
    memcpy(x->customer, w->customer, sizeof x->customer);
}

static bool commit(struct billing_world *w, struct billing_exporter *x, const struct ledger_record *r)
{
    uint64_t offset = 0;
    enum sg_error e = billing_append(w, x, r, &offset);
    if (e != SG_OK) {
        reopen(w, x, e);
        return false;
    }
    if (book_apply(&x->book, r, offset, NULL, NULL) == SG_OK) return true;
    sim_fail(w->sim, "a record that was committed does not fold");
    return false;
}

/* Whoever names a revision names it alike; no two are named alike. */
static void check_name(struct billing_world *w, int key, const struct ledger_record *r)
{
    int customer = -1;
    for (int c = 0; c < CUSTOMERS; c++)
        if (strcmp(billing_customers[c], r->customer.s) == 0) customer = c;
    w->sim->checks++;
    for (size_t i = 0; i < w->names; i++) {
        const struct billing_name *n = &w->name[i];
        bool same = n->key == key && n->customer == customer && n->revision == r->revision;
        bool alike = strcmp(n->identifier, r->identifier) == 0;
        if (same && alike) return;
        if (same || alike)
            sim_fail(w->sim, same ? "a revision has two identifiers, key %d" : "two revisions share one, key %d", key);
    }
    assert(w->names < RECORDS);
    struct billing_name *n = &w->name[w->names++];
    *n = (struct billing_name){.key = key, .customer = customer, .revision = r->revision};
    memcpy(n->identifier, r->identifier, sizeof n->identifier);
}

static void plan_one(struct billing_world *w, struct billing_exporter *x, int i)
{
    struct billing_key k = billing_key_at(i);
    int customer = x->customer[k.team];
    struct ledger_record r;
    struct wall_ms now;
    if (!know_time(w, x, &now)) return;
    struct plan_question q = {.account = "main",
                              .meter = &billing_meters[k.meter],
                              .team = billing_teams[k.team],
                              .customer = customer < 0 ? NULL : billing_customers[customer],
                              .hour = billing_hour(w, k),
                              .total = {x->snapshot[i]},
                              .now = now};
    if (plan_revision(&x->book, &q, &r) != PLAN_RECORD) return;
    if (r.kind == LEDGER_INTENT) check_name(w, i, &r);
    (void)commit(w, x, &r);
}

static struct billing_key key_of(const struct billing_world *w, const struct billing_exporter *x,
                                 const struct book_open *o)
{
    const struct book_entry *e = &x->book.entry[o->entry];
    for (int i = 0; i < KEYS; i++) {
        struct billing_key k = billing_key_at(i);
        if (strcmp(billing_teams[k.team], book_name(&x->book, e->team)) == 0 && e->hour.v == billing_hour(w, k).v &&
            billing_meters[k.meter].field == (enum field)e->meter)
            return k;
    }
    assert(!"an open revision of no key");
    return (struct billing_key){0};
}

static void begin_one(struct billing_world *w, struct billing_exporter *x)
{
    struct wall_ms now;
    if (!know_time(w, x, &now)) return;
    for (struct book_open *o = x->book.open_first, *next; o; o = next) {
        next = o->next;
        struct ledger_record note;
        enum plan_attempt p = plan_attempt(o, now, boot(w));
        if (p == PLAN_TOO_OLD && plan_hold(&x->book, o, now, &note)) {
            if (!commit(w, x, &note)) return;
        }
        if (p != PLAN_SEND || (!w->sim->quiet && sim_draw(w->sim, 3) == 0)) continue;
        x->key = key_of(w, x, o);
        x->revision = o->revision;
        x->deadline.v = boot(w).v + PLAN_ATTEMPT_MS;
        x->phase = BILLING_CONNECTED;
        x->orphan = false;
        o->in_flight = true;
        o->attempts++;
        return;
    }
}

static struct book_open *open_of(const struct billing_world *w, const struct billing_exporter *x)
{
    if (x->orphan) return NULL;
    return book_find_open(&x->book, billing_teams[x->key.team], billing_meters[x->key.meter].field,
                          billing_hour(w, x->key), x->revision);
}

static void settle(struct billing_world *w, struct billing_exporter *x, const struct answer_input *in,
                   const struct clock_trust_date *date)
{
    struct book_open *o = open_of(w, x);
    struct ledger_record r;
    struct plan_reply reply = {.status = in->status,
                               .request_id = "",
                               .random = (uint32_t)sim_draw(w->sim, UINT32_MAX),
                               .wall = wall(w, x),
                               .boot = boot(w)};
    reply.answer = answer_classify(in, &reply.reason);
    clock_trust_hear(&x->trust, date);
    x->phase = BILLING_IDLE;
    if (o && plan_settle(&x->book, o, &reply, &r)) (void)commit(w, x, &r);
}

/* The connection is open. */
static void write_one(struct billing_world *w, struct billing_exporter *x)
{
    const struct book_open *o = open_of(w, x);
    struct billing_request *q = &w->request[w->requests];
    if (!o || w->requests == REQUESTS || !plan_may_write(x->deadline, boot(w))) {
        settle(w, x, &(struct answer_input){.untouched = true, .identifier = ""}, &(struct clock_trust_date){0});
        return;
    }
    uint64_t delay = w->sim->quiet ? 0 : sim_draw(w->sim, PLAN_ATTEMPT_MS + SLACK_MS);
    *q = (struct billing_request){.at = w->sim->now + (int64_t)delay, .written = boot(w), .key = x->key};
    memcpy(q->identifier, o->identifier, sizeof q->identifier);
    memcpy(q->body, o->body, sizeof q->body);
    x->request = w->requests++;
    x->phase = BILLING_WAITING;
}

static void hear_one(struct billing_world *w, struct billing_exporter *x)
{
    const struct billing_request *q = &w->request[x->request];
    if (!q->answered && boot(w).v <= x->deadline.v + SLACK_MS) return;
    struct answer_input in = {.complete = q->answered && q->status,
                              .status = q->answered ? q->status : 0,
                              .body = q->answer,
                              .body_length = strlen(q->answer),
                              .identifier = q->identifier};
    struct clock_trust_date date = {in.complete, {q->at / SECOND_MS * SECOND_MS}, q->written};
    settle(w, x, &in, &date);
}

/* Asks for the meters, whose answer tells Stripe's time. */
static void ask_time(struct billing_world *w, struct billing_exporter *x)
{
    int64_t *at = &x->answer_at;
    if (!*at) {
        *at = w->sim->now + (int64_t)sim_draw(w->sim, MINUTE_MS / 2);
        x->asking = (struct clock_trust_date){true, {*at / SECOND_MS * SECOND_MS}, boot(w)};
    } else if (*at <= w->sim->now) {
        if (!billing_fault(w, SIM_ANSWER_LOST)) clock_trust_hear(&x->trust, &x->asking);
        *at = 0;
    }
}

void billing_step(struct billing_world *w, struct billing_exporter *x)
{
    struct sim *s = w->sim;
    struct wall_ms ignored;
    if (!x->started) {
        billing_fence(w, x);
        x->started = true;
    } else if (!x->folded) {
        billing_fold(w, &x->book);
        x->folded = true;
        take_snapshot(w, x);
    } else if (x->phase == BILLING_CONNECTED) {
        write_one(w, x);
    } else if (x->phase == BILLING_WAITING && sim_draw(s, 2)) {
        hear_one(w, x);
    } else if (x->phase == BILLING_IDLE && (x->answer_at || !know_time(w, x, &ignored)) && sim_draw(s, 2)) {
        ask_time(w, x);
    } else if (sim_draw(s, 3) == 0) {
        take_snapshot(w, x);
    } else if (x->phase == BILLING_IDLE && sim_draw(s, 2)) {
        begin_one(w, x);
    } else {
        plan_one(w, x, (int)sim_draw(s, KEYS));
    }
}
