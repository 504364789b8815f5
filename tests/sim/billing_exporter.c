/* An exporter around the real book, plan and classification: what exporter.c does, with one attempt at a time and a
 * pause possible between any two steps. A process whose shard was fenced or is in doubt opens it anew; its attempt goes
 * on, and its answer comes too late for the new book. */
#include <assert.h>
#include <stdlib.h>
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

/* The machine's clock goes on being wrong. */
void billing_stop(struct billing_exporter *x)
{
    int64_t skew = x->skew;
    book_destroy(&x->book);
    control_view_destroy(&x->facts);
    free(x->cycle.positions);
    memset(x, 0, sizeof *x);
    x->skew = skew;
}

/* Fenced or in doubt: the shard is opened anew after a while. In quiet people have left one exporter. */
static void reopen(struct billing_world *w, struct billing_exporter *x, enum sg_error why)
{
    if (w->sim->quiet && why == SG_ERR_FENCED) return billing_stop(x);
    book_destroy(&x->book);
    x->started = x->folded = false;
    x->results = 0;
    x->cycle.phase = CYCLE_NONE;
    x->orphan = true;
    x->wake = w->sim->now + (int64_t)sim_draw(w->sim, 10 * MINUTE_MS);
}

bool billing_now(const struct billing_world *w, const struct billing_exporter *x, struct wall_ms *now)
{
    int64_t skew_ms;
    *now = wall(w, x);
    return clock_trust_judge(&x->trust, *now, boot(w), &skew_ms) == CLOCK_TRUST_BELIEVED;
}

/* Whoever names a revision names it alike; no two are named alike. */
static void check_name(struct billing_world *w, const struct ledger_record *r)
{
    int customer = -1, key = billing_index_of(w, r->team.s, r->meter, r->hour);
    for (int c = 0; c < BILLING_CUSTOMERS; c++)
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
    assert(w->names < BILLING_RECORDS);
    struct billing_name *n = &w->name[w->names++];
    *n = (struct billing_name){.key = key, .customer = customer, .revision = r->revision};
    memcpy(n->identifier, r->identifier, sizeof n->identifier);
}

bool billing_commit(struct billing_world *w, struct billing_exporter *x, const struct ledger_record *r, size_t count)
{
    uint64_t first = 0;
    for (size_t i = 0; i < count; i++)
        if (r[i].kind == LEDGER_INTENT) check_name(w, &r[i]);
    enum sg_error e = count ? billing_append(w, x, r, count, &first) : SG_OK;
    if (e != SG_OK) {
        reopen(w, x, e);
        return false;
    }
    for (size_t i = 0; i < count; i++)
        if (book_apply(&x->book, &r[i], first + i, NULL, NULL) != SG_OK)
            sim_fail(w->sim, "a record that was committed does not fold");
    return true;
}

static void commit_results(struct billing_world *w, struct billing_exporter *x)
{
    size_t count = x->results;
    x->results = 0;
    (void)billing_commit(w, x, x->result, count);
}

static struct billing_key key_of(const struct billing_world *w, const struct billing_exporter *x,
                                 const struct book_open *o)
{
    const struct book_entry *e = &x->book.entry[o->entry];
    return billing_key_at(billing_index_of(w, book_name(&x->book, e->team), (enum field)e->meter, e->hour));
}

static void begin_one(struct billing_world *w, struct billing_exporter *x)
{
    struct wall_ms now;
    if (!billing_now(w, x, &now) || x->results == BILLING_RESULTS_MAX) return;
    for (struct book_open *o = x->book.open_first; o; o = o->next) {
        enum plan_attempt p = plan_attempt(o, now, boot(w));
        if (p == PLAN_LATER || (!w->sim->quiet && sim_draw(w->sim, 3) == 0)) continue;
        x->key = key_of(w, x, o);
        x->revision = o->revision;
        x->begun = boot(w);
        x->deadline.v = x->begun.v + PLAN_ATTEMPT_MS;
        x->phase = p == PLAN_READ ? BILLING_READING : BILLING_CONNECTED;
        x->orphan = false;
        o->in_flight = true;
        o->attempts += p == PLAN_SEND;
        if (p == PLAN_READ) billing_summary(w, x->key, o->total.v, &x->shown);
        return;
    }
}

static struct book_open *open_of(const struct billing_world *w, const struct billing_exporter *x)
{
    if (x->orphan) return NULL;
    return book_find_open(&x->book, billing_teams[x->key.team], billing_meters[x->key.meter].meter.field,
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
    if (o && plan_settle(&x->book, o, &reply, &r)) x->result[x->results++] = r;
}

/* The connection is open. */
static void write_one(struct billing_world *w, struct billing_exporter *x)
{
    const struct book_open *o = open_of(w, x);
    struct billing_request *q = &w->request[w->requests];
    if (!o || w->requests == BILLING_REQUESTS || !plan_may_write(x->deadline, boot(w))) {
        settle(w, x, &(struct answer_input){.untouched = true, .identifier = ""}, &(struct clock_trust_date){0});
        return;
    }
    uint64_t delay = w->sim->quiet ? 0 : sim_draw(w->sim, PLAN_ATTEMPT_MS + BILLING_SLACK_MS);
    *q = (struct billing_request){.at = w->sim->now + (int64_t)delay, .written = boot(w), .key = x->key};
    memcpy(q->identifier, o->identifier, sizeof q->identifier);
    memcpy(q->body, o->body, sizeof q->body);
    x->request = w->requests++;
    x->phase = BILLING_WAITING;
}

static void hear_one(struct billing_world *w, struct billing_exporter *x)
{
    const struct billing_request *q = &w->request[x->request];
    if (!q->answered && boot(w).v <= x->deadline.v + BILLING_SLACK_MS) return;
    struct answer_input in = {.complete = q->answered && q->status,
                              .status = q->answered ? q->status : 0,
                              .body = q->answer,
                              .body_length = strlen(q->answer),
                              .identifier = q->identifier};
    struct clock_trust_date date = {in.complete, {q->at / SECOND_MS * SECOND_MS}, q->written};
    settle(w, x, &in, &date);
}

/* The summary is here: what rests upon it counts from when it was asked for. */
static void hear_summary(struct billing_world *w, struct billing_exporter *x)
{
    const struct answer_input in = {.complete = x->shown.status,
                                    .status = x->shown.status,
                                    .body = x->shown.text,
                                    .body_length = strlen(x->shown.text)};
    const struct clock_trust_date date = {in.complete, {x->shown.at / SECOND_MS * SECOND_MS}, x->begun};
    struct plan_sight sight = {.asked = x->begun, .random = (uint32_t)sim_draw(w->sim, UINT32_MAX), .boot = boot(w)};
    struct book_open *o = open_of(w, x);
    struct ledger_record r;
    if (w->sim->now < x->shown.told_at) return;
    clock_trust_hear(&x->trust, &date);
    x->phase = BILLING_IDLE;
    if (!o) return;
    enum answer_read read = answer_classify_read(&in, billing_hour(w, x->key), &sight.summary);
    sight.told = billing_now(w, x, &sight.wall) && read == ANSWER_READ_TOLD;
    enum plan_reading reading = plan_reconcile(&x->book, o, &sight, &r);
    bool held = reading == PLAN_READING_COMMIT && r.kind == LEDGER_NOTE;
    if (held && x->shown.at - o->at.v < DAY_MS - 2 * CLOCK_TRUST_SKEW_MS_MAX)
        sim_fail(w->sim, "held by what was shown too early, key %d", billing_index(x->key));
    if (reading == PLAN_READING_COMMIT) x->result[x->results++] = r;
    if (reading != PLAN_READING_COPY) return;
    x->phase = BILLING_CONNECTED;
    o->attempts++;
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
    } else if (x->cycle.phase != CYCLE_NONE) {
        billing_cycle_step(w, x);
    } else if (x->results && (x->results == BILLING_RESULTS_MAX || sim_draw(s, 2))) {
        commit_results(w, x);
    } else if (x->phase == BILLING_READING) {
        hear_summary(w, x);
    } else if (x->phase == BILLING_CONNECTED) {
        write_one(w, x);
    } else if (x->phase == BILLING_WAITING && sim_draw(s, 2)) {
        hear_one(w, x);
    } else if (x->phase == BILLING_IDLE && (x->answer_at || !billing_now(w, x, &ignored)) && sim_draw(s, 2)) {
        ask_time(w, x);
    } else if (x->phase == BILLING_IDLE && x->book.open_first && sim_draw(s, 4)) {
        begin_one(w, x);
    } else {
        billing_cycle_step(w, x);
    }
}
