/* What exporters talk to: Stripe, by a client that keeps the promises of stripe_client.h in a network that keeps none;
 * and the view, which the linker brings here (-Wl,--wrap) from wherever view.h is called: in this world it is
 * billing_view.c's, elsewhere the code that ships, and around each call others may go on. A process that is dead gets
 * nothing but errors. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/billing/archiver.h"
#include "tests/sim/billing_world.h"

static struct billing_world *world;

void billing_ports_begin(struct billing_world *w)
{
    world = w;
}

/* Others may go on. False: who calls is dead. */
static bool alive_after_interruption(void)
{
    struct sim_actor *a = ports_acting();
    if (a && a->interrupted && !a->dead) a->interrupted(a->arg);
    return !a || !a->dead;
}

/* ---- Stripe's client ---- */

/* A summary is oftener looked at late, and most of all an odd one: only what is nearly a day old shows what that does.
 */
enum { READ_MOMENTS = 6, ODD_MOMENTS = 24 };
enum slot_phase { SLOT_FREE, SLOT_CONNECTING, SLOT_WRITTEN };

struct slot {
    enum slot_phase phase;
    bool is_read;
    const char *identifier;
    char body[LEDGER_BODY_BYTES];
    struct boot_ms begun, deadline;
    void *arg;
    struct billing_key key; /* what it is of: these two */
    int customer;           /* -1: an identifier that nobody knows */
    size_t request;         /* of an attempt */
    struct billing_shown shown;
};

struct stripe_client {
    struct sim_actor *actor;
    size_t slots;
    struct slot slot[STRIPE_CONCURRENCY_MAX];
};

enum sg_error stripe_client_open(struct stripe_client **out, const struct stripe_config *config, struct sg_fault *f)
{
    (void)f;
    *out = calloc(1, sizeof **out);
    if (!*out) abort();
    (*out)->actor = ports_acting();
    (*out)->slots = config->concurrency;
    return SG_OK;
}

void stripe_client_close(struct stripe_client *c)
{
    free(c);
}

size_t stripe_client_free(const struct stripe_client *c)
{
    size_t free_slots = 0;
    for (size_t i = 0; i < c->slots; i++) free_slots += c->slot[i].phase == SLOT_FREE || c->actor->dead;
    return free_slots;
}

/* No more than the configuration allows, and one of a customer and meter at a time. NULL: not begun. */
static struct slot *take(struct stripe_client *c, struct billing_key key, int customer)
{
    struct slot *s = NULL;
    if (c->actor->dead) return NULL;
    world->sim->checks++;
    for (size_t i = 0; i < c->slots; i++) {
        const struct slot *other = &c->slot[i];
        if (other->phase == SLOT_FREE)
            s = s ? s : &c->slot[i];
        else if (customer >= 0 && other->customer == customer && other->key.meter == key.meter)
            sim_fail(world->sim, "two requests of %s for meter %d are under way", billing_customers[customer],
                     key.meter);
    }
    if (!s) {
        sim_fail(world->sim, "more than %zu requests are under way", c->slots);
        return NULL;
    }
    *s = (struct slot){.phase = SLOT_CONNECTING, .begun = clock_boot(), .key = key, .customer = customer};
    return s;
}

enum sg_error stripe_client_post(struct stripe_client *c, const struct stripe_post *post)
{
    struct billing_name *n = billing_named(world, post->identifier);
    struct slot *s = take(c, n ? billing_key_at(n->key) : (struct billing_key){0}, n ? n->customer : -1);
    if (!s) return SG_ERR_NOMEM;
    if (n) n->begun++;
    s->identifier = post->identifier;
    (void)snprintf(s->body, sizeof s->body, "%s", post->body);
    s->deadline = post->deadline;
    s->arg = post->arg;
    return SG_OK;
}

/* The meter's id is its number. */
enum sg_error stripe_client_read(struct stripe_client *c, const struct stripe_read *read)
{
    int customer = 0;
    while (customer < BILLING_CUSTOMERS - 1 && strcmp(billing_customers[customer], read->customer) != 0) customer++;
    struct slot *s = take(c,
                          (struct billing_key){customer % BILLING_TEAMS, (int)((read->hour.v - world->start) / HOUR_MS),
                                               read->meter_id[0] - '0'},
                          customer);
    if (!s) return SG_ERR_NOMEM;
    s->is_read = true;
    s->deadline = read->deadline;
    s->arg = read->arg;
    return SG_OK;
}

/* What leaves is in the ledger, to the byte. */
static void write_attempt(struct slot *s)
{
    const struct billing_name *n = billing_named(world, s->identifier);
    if (!n || !n->committed) return sim_fail(world->sim, "a request leaves whose intent is not committed");
    if (strcmp(n->intent.body, s->body) != 0)
        return sim_fail(world->sim, "a request's bytes are not the intent's, key %d", n->key);
    struct billing_request *q = &world->request[world->requests];
    uint64_t most = sim_draw(world->sim, 4) ? 20 * SECOND_MS : PLAN_ATTEMPT_MS + BILLING_SLACK_MS;
    *q = (struct billing_request){.at = world->sim->now + (world->sim->quiet ? 0 : (int64_t)sim_draw(world->sim, most)),
                                  .key = billing_key_at(n->key)};
    memcpy(q->identifier, n->intent.identifier, sizeof q->identifier);
    memcpy(q->body, n->intent.body, sizeof q->body);
    s->request = world->requests++;
}

/* The connection is open. False: past the deadline nothing is written. */
static bool write_one(struct slot *s)
{
    if (!plan_may_write(s->deadline, clock_boot()) || world->requests == BILLING_REQUESTS) return false;
    s->phase = SLOT_WRITTEN;
    if (s->is_read)
        billing_summary(world, s->key, s->customer, world->intended[billing_index(s->key)], &s->shown);
    else
        write_attempt(s);
    return true;
}

static bool is_denial(uint32_t status)
{
    return status == 401 || status == 403;
}

/* What Stripe says of the key that an exporter shows. Nothing of it is said by silence, by who stands before Stripe, or
 * by a Stripe that has not looked. */
static void hear_of_key(int64_t *denied_at, uint32_t status, bool accepted)
{
    if (is_denial(status) && *denied_at == 0) *denied_at = world->sim->now;
    if (!is_denial(status) && accepted) *denied_at = 0;
}

/* An answer is passed on. When it denies, that is said at once, by its name, whatever was said before. */
static void pass_on(const struct stripe_reply *r, stripe_answered *each, void *arg)
{
    const struct exporter *x = &((const struct billing_exporter *)ports_acting()->arg)->exporter;
    each(arg, r);
    if (is_denial(r->status) && !strstr(x->health.fault[EXPORTER_STRIPE].reason, "key"))
        sim_fail(world->sim, "its key was not accepted just now, and %s says: %s", ports_acting()->name,
                 x->health.fault[EXPORTER_STRIPE].reason);
}

/* This is the only request of it that was ever begun, and who has begun it knows that: his book is the one to which he
 * committed the intent. */
static bool never_sent(const char *identifier)
{
    const struct billing_exporter *x = ports_acting()->arg;
    const struct billing_name *n = billing_named(world, identifier);
    if (!n || n->begun > 1 || n->by != x) return false;
    uint32_t shard = shard_of_team(n->intent.team.s, world->shards);
    return x->exporter.shard[shard].log && n->record >= x->opened[shard];
}

static void answer_attempt(struct slot *s, bool untouched, stripe_answered *each, void *arg)
{
    const struct billing_request *q = untouched ? NULL : &world->request[s->request];
    bool answered = q && q->answered && q->status;
    struct answer_input in = {.complete = answered,
                              .untouched = untouched,
                              .status = answered ? q->status : 0,
                              .body = answered ? q->answer : "",
                              .body_length = answered ? strlen(q->answer) : 0,
                              .identifier = s->identifier};
    struct stripe_reply r = {.arg = s->arg, .status = in.status};
    if (answered) r.date = (struct clock_trust_date){true, {q->at / SECOND_MS * SECOND_MS}, s->begun};
    if (in.status == 429 && sim_draw(world->sim, 2)) r.retry_after_ms = sim_draw(world->sim, 5 * MINUTE_MS);
    r.answer = answer_classify(&in, &r.reason);
    s->phase = SLOT_FREE;
    struct billing_exporter *x = ports_acting()->arg;
    uint64_t told = counters_get(&x->exporter.counters, COUNT_FOREIGN);
    bool duplicate = r.answer == ANSWER_DUPLICATE, foreign = duplicate && never_sent(s->identifier);
    hear_of_key(&x->denied_at, in.status, duplicate || r.answer == ANSWER_ACCEPTED || r.answer == ANSWER_REFUSED);
    pass_on(&r, each, arg);
    if (foreign && counters_get(&x->exporter.counters, COUNT_FOREIGN) == told)
        sim_fail(world->sim, "Stripe knows an identifier that was never sent, and nobody was told");
}

static void answer_read(struct slot *s, bool untouched, stripe_answered *each, void *arg)
{
    const struct billing_shown *shown = &s->shown;
    bool told = !untouched && shown->status;
    struct answer_input in = {.complete = told,
                              .untouched = untouched,
                              .status = told ? shown->status : 0,
                              .body = shown->text,
                              .body_length = strlen(shown->text)};
    struct stripe_reply r = {.arg = s->arg, .is_read = true, .status = in.status};
    struct billing_exporter *x = ports_acting()->arg;
    int i = billing_index(s->key);
    if (told) r.date = (struct clock_trust_date){true, {shown->at / SECOND_MS * SECOND_MS}, s->begun};
    r.read = answer_classify_read(&in, billing_hour(world, s->key), &r.summary);
    if (r.read == ANSWER_READ_TOLD && shown->at > world->told_at[i]) world->told_at[i] = shown->at;
    s->phase = SLOT_FREE;
    hear_of_key(&x->read_denied_at, in.status, r.read == ANSWER_READ_TOLD || r.read == ANSWER_READ_REFUSED);
    pass_on(&r, each, arg);
}

static bool is_here(const struct slot *s)
{
    return s->is_read ? world->sim->now >= s->shown.told_at : world->request[s->request].answered;
}

/* Time to connect, and time in all, are over at some moment after that; what else is ready at it may come first. */
static void progress(struct slot *s, stripe_answered *each, void *arg)
{
    if (ports_acting()->dead || world->silent == BILLING_SILENT_STRIPE) return;
    bool late = clock_since(clock_boot(), s->begun) > STRIPE_TOTAL_MS && sim_draw(world->sim, 2), untouched = false;
    if (s->phase == SLOT_CONNECTING && !late && (world->sim->quiet || sim_draw(world->sim, 2))) {
        untouched = !write_one(s);
        billing_deliver(world);
    }
    bool done = untouched || late || (s->phase == SLOT_WRITTEN && is_here(s));
    if (!done || world->sim->failed) return;
    untouched = s->phase == SLOT_CONNECTING;
    (s->is_read ? answer_read : answer_attempt)(s, untouched, each, arg);
}

void stripe_client_turn(struct stripe_client *c, uint32_t wait_ms, int extra_fd, stripe_answered *each, void *arg)
{
    (void)extra_fd;
    if (!alive_after_interruption()) return;
    world->sim->now += 1 + (int64_t)sim_draw(world->sim, wait_ms);
    billing_deliver(world);
    size_t first = sim_draw(world->sim, c->slots);
    for (size_t i = 0; i < c->slots && !c->actor->dead; i++) {
        struct slot *s = &c->slot[(first + i) % c->slots];
        int moments = !s->is_read ? 1 : world->odd[billing_index(s->key)] ? ODD_MOMENTS : READ_MOMENTS;
        if (s->phase == SLOT_FREE) continue;
        while (moments-- > 0 && alive_after_interruption()) {
        }
        progress(s, each, arg);
    }
}

enum sg_error stripe_client_meters(struct stripe_client *c, struct meter_slot *slots, size_t count,
                                   struct clock_trust_date *date, struct sg_fault *f)
{
    struct boot_ms asked = clock_boot();
    struct sim *s = world->sim;
    struct billing_exporter *x = c->actor->arg;
    assert(c->actor->dead || stripe_client_free(c) == c->slots); /* nothing is in flight */
    if (!alive_after_interruption()) return sg_fail(f, SG_ERR_UNREACHABLE, "killed");
    if (world->silent == BILLING_SILENT_STRIPE) {
        billing_wait(world, STRIPE_TOTAL_MS);
        return sg_fail(f, SG_ERR_UNREACHABLE, "Stripe does not answer");
    }
    /* in quiet only one is silent at a time: who waits for another cannot be told of in time */
    s->now += (int64_t)sim_draw(s, s->quiet ? 2 * SECOND_MS : STRIPE_TOTAL_MS);
    bool dated = s->quiet || sim_draw(s, 3); /* or it tells no time */
    *date = (struct clock_trust_date){dated, {s->now / SECOND_MS * SECOND_MS}, asked};
    x->untold = !alive_after_interruption() || billing_fault(world, SIM_ANSWER_LOST);
    if (x->untold) return sg_fail(f, SG_ERR_UNREACHABLE, "Stripe does not answer");
    bool denied = s->now < world->key_off_until;
    hear_of_key(&x->denied_at, denied ? 401 : 200, true);
    if (denied) return sg_fail(f, SG_ERR_DENIED, "Stripe does not accept the key");
    for (size_t i = 0; i < count; i++) {
        slots[i] = billing_meters[i];
        if (world->replaced) slots[i].meter.mode = slots[i].meter.mode == BILL_SET ? BILL_DELTA : BILL_SET;
        (void)snprintf(slots[i].meter.id, sizeof slots[i].meter.id, "%zu", i);
    }
    return c->actor->dead ? sg_fail(f, SG_ERR_UNREACHABLE, "killed") : SG_OK;
}

bool stripe_client_probe(struct stripe_client *c)
{
    if (world->silent == BILLING_SILENT_STRIPE) billing_wait(world, STRIPE_PROBE_MS);
    return !c->actor->dead && world->silent != BILLING_SILENT_STRIPE && !billing_fault(world, SIM_PROBE_FAILS);
}

/* ---- the view ---- */

enum { REDIS_MS = 2 * SECOND_MS }; /* how long a call waits in vain */

/* What this world has in its place; NULL: nothing, the code that ships runs. */
static const struct billing_view *own_view(void)
{
    return world && world->view->head ? world->view : NULL;
}

static enum sg_error no_answer(struct sg_fault *f)
{
    return sg_fail(f, SG_ERR_UNREACHABLE, "nobody answers");
}

/* Whoever calls may do so, and Redis answers. */
static bool view_is_there(void)
{
    if (!alive_after_interruption()) return false;
    if (!world || world->silent != BILLING_SILENT_REDIS) return true;
    billing_wait(world, REDIS_MS);
    return false;
}

extern __typeof__(view_head) __real_view_head, __wrap_view_head;
enum sg_error __wrap_view_head(struct redis_store *s, uint32_t shard, int64_t grace_ms, struct view_head *out,
                               struct sg_fault *f)
{
    const struct billing_view *v = own_view();
    if (!view_is_there()) return no_answer(f);
    if (!v) return __real_view_head(s, shard, grace_ms, out, f);
    v->head(v->arg, out);
    return alive_after_interruption() ? SG_OK : no_answer(f);
}

extern __typeof__(view_due_read) __real_view_due_read, __wrap_view_due_read;
enum sg_error __wrap_view_due_read(struct redis_store *s, uint32_t shard, struct view_cursor *cursor,
                                   struct cycle_due *out, size_t *count, uint64_t *unread, bool *wrapped,
                                   struct sg_fault *f)
{
    const struct billing_view *v = own_view();
    if (!view_is_there()) return no_answer(f);
    if (!v) return __real_view_due_read(s, shard, cursor, out, count, unread, wrapped, f);
    *count = v->due(v->arg, out);
    *wrapped = true;
    return alive_after_interruption() ? SG_OK : no_answer(f);
}

extern __typeof__(view_due_done) __real_view_due_done, __wrap_view_due_done;
enum sg_error __wrap_view_due_done(struct redis_store *s, uint32_t shard, const struct cycle_due *due, size_t count,
                                   struct sg_fault *f)
{
    const struct billing_view *v = own_view();
    if (!view_is_there()) return no_answer(f);
    if (!v) return __real_view_due_done(s, shard, due, count, f);
    v->done(v->arg, due, count);
    return alive_after_interruption() ? SG_OK : no_answer(f);
}

extern __typeof__(view_snapshot) __real_view_snapshot, __wrap_view_snapshot;
enum sg_error __wrap_view_snapshot(struct redis_store *s, uint32_t shard, int64_t grace_ms, struct cycle_hour *hours,
                                   size_t count, struct view_head *head, struct sg_fault *f)
{
    const struct billing_view *v = own_view();
    if (!view_is_there()) return no_answer(f);
    if (!v) return __real_view_snapshot(s, shard, grace_ms, hours, count, head, f);
    v->snapshot(v->arg, hours, count, head);
    return alive_after_interruption() ? SG_OK : no_answer(f);
}

static void check_rows_written(const struct view_rows *rows)
{
    const struct billing_exporter *x = world ? ports_acting()->arg : NULL;
    if (x && rows->count > x->exporter.rows_most)
        sim_fail(world->sim, "%zu billing cells are written at once, of at most %zu", rows->count,
                 x->exporter.rows_most);
}

extern __typeof__(view_rows_write) __real_view_rows_write, __wrap_view_rows_write;
enum sg_error __wrap_view_rows_write(struct redis_store *s, uint32_t shard, struct view_rows *rows, uint64_t from,
                                     uint64_t at, struct sg_fault *f)
{
    const struct billing_view *v = own_view();
    if (!view_is_there()) return no_answer(f);
    check_rows_written(rows);
    if (!v) return __real_view_rows_write(s, shard, rows, from, at, f);
    bool written = v->rows(v->arg, rows, from, at);
    rows->count = 0;
    if (!written) return sg_fail(f, SG_ERR_MISMATCH, "billing cells were lost");
    billing_check_rows(world, at);
    return alive_after_interruption() ? SG_OK : no_answer(f);
}

extern __typeof__(redis_store_probe) __real_redis_store_probe, __wrap_redis_store_probe;
enum sg_error __wrap_redis_store_probe(struct redis_store *s, uint32_t shards, struct sg_fault *f)
{
    if (!world) return __real_redis_store_probe(s, shards, f); /* an aggregator's, or the archiver's */
    if (!view_is_there()) return no_answer(f);
    return own_view() ? SG_OK : __real_redis_store_probe(s, shards, f);
}

/* This world has nothing to archive. */
extern __typeof__(archiver_turn) __real_archiver_turn, __wrap_archiver_turn;
enum sg_error __wrap_archiver_turn(struct exporter *x, struct shard *s, struct sg_fault *f)
{
    if (!own_view()) return __real_archiver_turn(x, s, f);
    s->next_archive.v = clock_boot().v + x->config->archive_interval_ms;
    s->archived_at = clock_boot();
    return SG_OK;
}
