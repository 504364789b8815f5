/* Producers and the broker. A producer has one request in flight, as the shipper's configuration demands; the broker
 * knows a request that comes again. What a producer had in flight when it ended lands late, at once, or never. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/collector_world.h"

enum { ROUND_TRIP_MS = 40, AWAY_MS = 90 * SECOND_MS, LATE_MS = 2 * MINUTE_MS, REQUEST_MESSAGES_MAX = 8 };
enum { LARGE_LEAST = 200, LARGE_MORE = 4000 };

/* ---- as the shipper's producers (collector/shipper_producer.h) ---- */

struct producer_settings {
    struct collector_runner *runner;
};

enum sg_error producer_settings_new(struct producer_settings **out, const struct shipper_config *config,
                                    struct sg_fault *f)
{
    (void)config;
    *out = malloc(sizeof **out);
    if (!*out) return sg_fail(f, SG_ERR_NOMEM, "no memory");
    (*out)->runner = collector_acting();
    return SG_OK;
}

void producer_settings_free(struct producer_settings *s)
{
    free(s);
}

struct producer *producer_start(const struct producer_settings *s)
{
    struct collector_world *w = s->runner->world;
    for (size_t i = 0; i < COLLECTOR_PRODUCERS; i++)
        if (w->producer[i].held && w->producer[i].runner == s->runner)
            sim_fail(w->sim, "%s has two producers", s->runner->name);
    if (collector_fault(w, SIM_PRODUCER_NOT_MADE)) return NULL;
    for (size_t i = 0; i < COLLECTOR_PRODUCERS; i++) {
        if (w->producer[i].used || w->producer[i].held) continue;
        w->producer[i] = (struct producer){
            .used = true, .open = true, .held = true, .runner = s->runner, .partition = s->runner->index};
        return &w->producer[i];
    }
    return NULL;
}

static void forget_first(struct producer *p, size_t count)
{
    for (size_t i = 0; i < count; i++) free(p->queue[i].bytes);
    p->queued -= count;
    memmove(p->queue, p->queue + count, p->queued * sizeof *p->queue);
}

void producer_retire(struct producer *p)
{
    for (size_t i = p->flight; i < p->queued; i++) free(p->queue[i].bytes);
    p->queued = p->flight;
    p->open = false;
}

/* It takes a while; what the broker still has of it is another matter. */
bool producer_reaped(struct producer *p, uint32_t wait_ms)
{
    if (wait_ms > 0 || p->runner->world->sim->quiet || sim_draw(p->runner->world->sim, 4)) p->held = false;
    return !p->held;
}

bool producer_ready(struct producer *p, const char **fault)
{
    const struct collector_world *w = p->runner->world;
    if (p->knows) return true;
    p->knows = w->sim->now >= w->broker_away_until;
    *fault = p->knows ? NULL : "no broker tells of the topic";
    return p->knows;
}

/* Sent, and neither reported nor known to be. */
static void check_window(const struct producer *p)
{
    size_t bytes = 0;
    for (size_t i = 0; i < p->queued; i++) bytes += p->queue[i].length;
    for (size_t i = 0; i < p->reports; i++) bytes += p->report[i].length;
    if (p->queued + p->reports > SHIPPER_WINDOW_MESSAGES || bytes >= SHIPPER_WINDOW_BYTES + BATCH_BYTES_MAX)
        sim_fail(p->runner->world->sim, "%s: the window is passed", p->runner->name);
}

enum producer_sending producer_send(struct producer *p, uint64_t seq, const uint8_t *bytes, size_t length,
                                    const char **fault)
{
    struct sim *s = p->runner->world->sim;
    *fault = "no memory for a message";
    if (p->queued == COLLECTOR_QUEUE) return PRODUCER_FULL;
    if (collector_fault(p->runner->world, SIM_PRODUCER_FULL)) return sim_draw(s, 4) ? PRODUCER_FULL : PRODUCER_FAILED;
    struct collector_message *m = &p->queue[p->queued++];
    *m = (struct collector_message){seq, malloc(length), length, collector_wall_now(p->runner)};
    if (!m->bytes) abort();
    memcpy(m->bytes, bytes, length);
    check_window(p);
    return PRODUCER_QUEUED;
}

void producer_next(struct producer *p, struct producer_news *out)
{
    *out = (struct producer_news){.kind = PRODUCER_NO_NEWS};
    if (collector_fault(p->runner->world, SIM_PRODUCER_IN_TROUBLE)) {
        p->useless = sim_draw(p->runner->world->sim, 2);
        *out = (struct producer_news){.kind = PRODUCER_TROUBLE,
                                      .fault = "a connection is gone",
                                      .useless = p->useless,
                                      .one_of_many = !p->useless && sim_draw(p->runner->world->sim, 2)};
        return;
    }
    if (!p->reports) return;
    *out = p->report[0];
    memmove(p->report, p->report + 1, --p->reports * sizeof *p->report);
    if (!out->fault && out->seq > p->runner->delivered_most) p->runner->delivered_most = out->seq;
}

/* ---- what befalls a request ---- */

static void report(struct producer *p, size_t count, bool delivered)
{
    for (size_t i = 0; i < count && p->open; i++) {
        assert(p->reports < COLLECTOR_QUEUE);
        p->report[p->reports++] = (struct producer_news){.kind = PRODUCER_REPORT,
                                                         .seq = p->queue[i].seq,
                                                         .length = p->queue[i].length,
                                                         .fault = delivered ? NULL : "a delivery fails"};
    }
    forget_first(p, count);
}

static void append_flight(struct collector_world *w, struct producer *p)
{
    for (size_t i = 0; i < p->flight && !p->appended; i++) {
        const struct collector_message *m = &p->queue[i];
        uint64_t offset = events_append(&w->log, p->partition, m->bytes, m->length, m->time);
        sim_trace(w->sim, "partition %u offset %llu: batch %llu%s", p->partition, (unsigned long long)offset,
                  (unsigned long long)m->seq, p->open ? "" : ", of a producer that is gone");
    }
    p->appended = true;
}

/* The request of a producer that is gone. */
static void land(struct collector_world *w, struct producer *p)
{
    if (p->flight && collector_fault(w, SIM_REQUEST_LANDS_LATE)) {
        p->at = w->sim->now + (int64_t)sim_draw(w->sim, LATE_MS);
        return;
    }
    if (sim_draw(w->sim, 2)) append_flight(w, p);
    forget_first(p, p->queued);
    p->used = false;
}

static void refuse(struct producer *p)
{
    p->broken = true;
    p->flight = 0;
    report(p, p->queued, false);
}

/* A message of the request is larger than the topic takes now. */
static bool holds_large(const struct collector_world *w, const struct producer *p)
{
    bool large = false;
    for (size_t i = 0; i < p->flight; i++) large |= p->queue[i].length > w->message_bytes_most;
    return large && w->sim->now < w->large_refused_until;
}

static void step(struct collector_world *w, struct producer *p)
{
    struct sim *s = w->sim;
    if (!p->open) {
        land(w, p);
        return;
    }
    if (p->useless) return; /* it sends nothing any more, nor says so again */
    if (p->broken) {        /* behind a refused message nothing is sent */
        report(p, p->queued, false);
        return;
    }
    if (!p->flight) {
        p->flight = 1 + sim_draw(s, REQUEST_MESSAGES_MAX);
        if (p->flight > p->queued) p->flight = p->queued;
        p->appended = false;
        p->at = s->now + (int64_t)sim_draw(s, ROUND_TRIP_MS);
        return;
    }
    if (holds_large(w, p)) {
        refuse(p);
        return;
    }
    if (collector_fault(w, SIM_LEADER_MOVES)) { /* the request is sent again, to the next leader */
        p->at = s->now + (int64_t)sim_draw(s, SECOND_MS);
        return;
    }
    if (collector_fault(w, SIM_DELIVERY_FAILS)) {
        if (sim_draw(s, 2)) append_flight(w, p);
        refuse(p);
        return;
    }
    append_flight(w, p);
    p->at = s->now + (int64_t)sim_draw(s, ROUND_TRIP_MS);
    if (collector_fault(w, SIM_BROKER_ANSWER_LOST)) return;
    size_t count = p->flight;
    p->flight = 0;
    report(p, count, true);
}

void collector_broker_turn(struct collector_world *w)
{
    if (collector_fault(w, SIM_BROKER_AWAY)) /* now and then long enough for the window to fill */
        w->broker_away_until = w->sim->now + (int64_t)sim_draw(w->sim, sim_draw(w->sim, 4) ? AWAY_MS : 10 * AWAY_MS);
    if (collector_fault(w, SIM_MESSAGE_TOO_LARGE)) {
        w->large_refused_until = w->sim->now + (int64_t)sim_draw(w->sim, AWAY_MS);
        w->message_bytes_most = LARGE_LEAST + sim_draw(w->sim, LARGE_MORE);
    }
    if (w->sim->quiet) w->large_refused_until = 0;
    if (w->sim->quiet) w->broker_away_until = w->broker_silent ? INT64_MAX : 0;
    if (w->sim->now < w->broker_away_until) return;
    for (size_t i = 0; i < COLLECTOR_PRODUCERS; i++) {
        struct producer *p = &w->producer[i];
        for (int k = 0; k < 4 && p->used && (p->queued || !p->open) && p->at <= w->sim->now; k++) step(w, p);
    }
}

bool collector_broker_quiet(const struct collector_world *w)
{
    for (size_t i = 0; i < COLLECTOR_PRODUCERS; i++)
        if (w->producer[i].used && (w->producer[i].queued || !w->producer[i].open)) return false;
    return true;
}

void collector_broker_destroy(struct collector_world *w)
{
    for (size_t i = 0; i < COLLECTOR_PRODUCERS; i++)
        if (w->producer[i].used) forget_first(&w->producer[i], w->producer[i].queued);
    events_destroy(&w->log);
}
