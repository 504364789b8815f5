/* Producers and the broker. A producer has one request in flight, as the shipper's configuration demands; the broker
 * knows a request that comes again. What a producer had in flight when it ended lands late, at once, or never. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/collector_world.h"

enum { ROUND_TRIP_MS = 40, AWAY_MS = 90 * SECOND_MS, LATE_MS = 2 * MINUTE_MS, REQUEST_MESSAGES_MAX = 8 };

struct collector_producer *collector_producer_open(struct collector_world *w, uint32_t partition)
{
    for (size_t i = 0; i < COLLECTOR_PRODUCERS; i++) {
        if (w->producer[i].used) continue;
        w->producer[i] = (struct collector_producer){.used = true, .open = true, .partition = partition};
        return &w->producer[i];
    }
    return NULL;
}

static void forget_first(struct collector_producer *p, size_t count)
{
    for (size_t i = 0; i < count; i++) free(p->queue[i].bytes);
    p->queued -= count;
    memmove(p->queue, p->queue + count, p->queued * sizeof *p->queue);
}

void collector_producer_close(struct collector_producer *p)
{
    size_t behind = p->queued - p->flight;
    for (size_t i = p->flight; i < p->queued; i++) free(p->queue[i].bytes);
    p->queued -= behind;
    p->open = false;
}

bool collector_producer_send(struct collector_producer *p, uint64_t seq, const uint8_t *bytes, size_t length,
                             struct wall_ms time)
{
    if (p->queued == COLLECTOR_QUEUE) return false;
    struct collector_message *m = &p->queue[p->queued++];
    *m = (struct collector_message){seq, malloc(length), length, time};
    if (!m->bytes) abort();
    memcpy(m->bytes, bytes, length);
    return true;
}

bool collector_producer_report(struct collector_producer *p, struct collector_report *out)
{
    if (!p->reports) return false;
    *out = p->report[0];
    memmove(p->report, p->report + 1, --p->reports * sizeof *p->report);
    return true;
}

static void report(struct collector_producer *p, size_t count, bool delivered)
{
    for (size_t i = 0; i < count && p->open; i++) {
        assert(p->reports < COLLECTOR_QUEUE);
        p->report[p->reports++] = (struct collector_report){p->queue[i].seq, p->queue[i].length, delivered};
    }
    forget_first(p, count);
}

static void append_flight(struct collector_world *w, struct collector_producer *p)
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
static void land(struct collector_world *w, struct collector_producer *p)
{
    if (p->flight && collector_fault(w, SIM_REQUEST_LANDS_LATE)) {
        p->at = w->sim->now + (int64_t)sim_draw(w->sim, LATE_MS);
        return;
    }
    if (sim_draw(w->sim, 2)) append_flight(w, p);
    forget_first(p, p->queued);
    p->used = false;
}

static void step(struct collector_world *w, struct collector_producer *p)
{
    struct sim *s = w->sim;
    if (!p->open) {
        land(w, p);
        return;
    }
    if (p->broken) { /* behind a refused message nothing is sent */
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
    if (collector_fault(w, SIM_LEADER_MOVES)) { /* the request is sent again, to the next leader */
        p->at = s->now + (int64_t)sim_draw(s, SECOND_MS);
        return;
    }
    if (collector_fault(w, SIM_DELIVERY_FAILS)) {
        if (sim_draw(s, 2)) append_flight(w, p);
        p->broken = true;
        p->flight = 0;
        report(p, p->queued, false);
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
    if (w->sim->quiet) w->broker_away_until = 0;
    if (w->sim->now < w->broker_away_until) return;
    for (size_t i = 0; i < COLLECTOR_PRODUCERS; i++) {
        struct collector_producer *p = &w->producer[i];
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
