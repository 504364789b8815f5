/* Runners and the broker of the roll-up's world. A runner has one request of consecutive batches in flight, as the
 * idempotent producer is configured; one that restarts begins a new instance at its cursor, and what the old instance
 * had in flight may still arrive. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/rollup_world.h"

enum { OPERATIONS_SEEN = 5 };

static const char *const team_names[TEAMS] = {"t0", "t1", "t2", "t3"}, *const project_names[PROJECTS] = {"-", "p1"};

static const char *region_of(uint32_t runner)
{
    return runner % 2 ? "us" : "eu";
}

static void *grow(void *p, size_t *capacity, size_t need, size_t size)
{
    if (need <= *capacity) return p;
    *capacity = *capacity ? 2 * *capacity : 64;
    p = reallocarray(p, *capacity, size);
    if (!p) abort();
    return p;
}

void rollup_runners_begin(struct rollup_world *w)
{
    w->builder = batch_builder_new();
    if (!w->builder) abort();
    for (uint32_t i = 0; i < w->runners; i++)
        w->runner[i] = (struct rollup_runner){.partition = i % w->parts, .epoch = 1, .floor = w->era_start};
}

void rollup_runners_end(struct rollup_world *w)
{
    batch_builder_free(w->builder);
    for (size_t i = 0; i < w->batches; i++) free(w->batch[i].bytes);
    arena_empty(&w->reckoned);
    for (uint32_t i = 0; i < RUNNERS_MAX; i++) free(w->runner[i].spool);
    for (uint32_t p = 0; p < PARTS_MAX; p++) free(w->topic[p].place);
    free(w->batch);
    free(w->row);
    events_destroy(&w->log);
}

/* ---- rows ---- */

static void row_add(struct rollup_world *w, struct rollup_row row)
{
    w->row = grow(w->row, &w->row_capacity, w->rows + 1, sizeof *w->row);
    w->row[w->rows++] = row;
    w->sim->rows++;
}

static uint32_t sandbox_new(struct rollup_world *w, struct rollup_runner *q)
{
    uint32_t i = (uint32_t)w->sandboxes++;
    struct rollup_sandbox *b = &w->sandbox[i];
    *b = (struct rollup_sandbox){.runner = (uint32_t)(q - w->runner),
                                 .team = (uint32_t)sim_draw(w->sim, TEAMS),
                                 .project = (uint32_t)sim_draw(w->sim, PROJECTS),
                                 .vcpus = 1 + (uint32_t)sim_draw(w->sim, 4),
                                 .mem_mib = 512,
                                 .disk_mib = 4096,
                                 .era = w->era};
    (void)snprintf(b->id, sizeof b->id, "run%016x", i);
    q->active[q->active_count++] = i;
    return i;
}

static int64_t between(struct sim *s, int64_t from, int64_t to)
{
    return from + (int64_t)sim_draw(s, (uint64_t)(to - from) + 1);
}

static int64_t moment(struct rollup_world *w, const struct rollup_runner *q)
{
    return between(w->sim, q->from, q->to);
}

/* The rows of a batch are of a minute or less. */
static void span_begin(struct rollup_world *w, struct rollup_runner *q)
{
    q->from = between(w->sim, q->floor, w->sim->now);
    q->to = q->from + (int64_t)sim_draw(w->sim, MINUTE_MS);
    if (q->to > w->sim->now) q->to = w->sim->now;
}

static void slice(struct rollup_world *w, const struct rollup_runner *q, uint32_t sandbox)
{
    struct rollup_row r = {.kind = ROW_SLICE, .sandbox = sandbox, .at = moment(w, q)};
    uint64_t most = (uint64_t)(MINUTE_MS - r.at % MINUTE_MS) + 1;
    r.length = (uint32_t)sim_draw(w->sim, most);
    for (int i = 0; i < RISES; i++) r.rise[i] = sim_draw(w->sim, 1000);
    row_add(w, r);
}

/* One row, now and then more about the life of a sandbox. */
static void row_of(struct rollup_world *w, struct rollup_runner *q)
{
    uint64_t y = sim_draw(w->sim, 100);
    if (y < 6) {
        uint32_t group = (uint32_t)sim_draw(w->sim, TEAMS * PROJECTS);
        uint32_t value = (uint32_t)(sim_draw(w->sim, OPERATIONS_SEEN) * 1000 + (sim_draw(w->sim, 2) ? 200 : 503));
        row_add(w, (struct rollup_row){.kind = ROW_CALL, .sandbox = group, .value = value, .at = moment(w, q)});
        return;
    }
    if (w->sandboxes < SANDBOXES_MAX && (q->active_count == 0 || (y < 9 && q->active_count < ACTIVE_MAX))) {
        uint32_t i = sandbox_new(w, q);
        row_add(w, (struct rollup_row){
                       .kind = ROW_START, .sandbox = i, .value = (uint32_t)sim_draw(w->sim, 4), .at = moment(w, q)});
    }
    size_t k = sim_draw(w->sim, q->active_count);
    uint32_t sandbox = q->active[k];
    if (y < 20) {
        uint32_t codes[] = {0, 1, 137};
        row_add(w, (struct rollup_row){
                       .kind = ROW_EXEC, .sandbox = sandbox, .value = codes[sim_draw(w->sim, 3)], .at = moment(w, q)});
    } else if (y < 26) {
        row_add(w,
                (struct rollup_row){
                    .kind = ROW_STATE, .sandbox = sandbox, .value = (uint32_t)sim_draw(w->sim, 2), .at = moment(w, q)});
    } else if (y < 29 && q->active_count > 1) {
        row_add(w, (struct rollup_row){.kind = ROW_END,
                                       .sandbox = sandbox,
                                       .value = (uint32_t)sim_draw(w->sim, REASONS),
                                       .at = moment(w, q)});
        q->active[k] = q->active[--q->active_count];
    } else {
        slice(w, q, sandbox);
    }
}

/* ---- batches ---- */

static enum sg_error build_row(struct rollup_world *w, const struct rollup_row *r, uint32_t entry)
{
    struct batch_builder *b = w->builder;
    struct wall_ms at = {r->at};
    struct batch_rise rise = {.cpu_us = r->rise[0],
                              .net_rx_bytes = r->rise[1],
                              .net_tx_bytes = r->rise[2],
                              .io_read_bytes = r->rise[3],
                              .io_write_bytes = r->rise[4]};
    switch ((enum row_kind)r->kind) {
    case ROW_SLICE: return batch_builder_slice(b, entry, at, r->length, &rise);
    case ROW_START: return batch_builder_start(b, entry, at, r->value, 12);
    case ROW_STATE: return batch_builder_state(b, entry, at, (enum sandbox_state)r->value);
    case ROW_END: return batch_builder_end(b, entry, at, (enum reason)r->value, 0);
    case ROW_EXEC: return batch_builder_exec(b, entry, at, r->value, 5);
    case ROW_CALL:
        return batch_builder_api_call(b, team_names[r->sandbox % TEAMS], project_names[r->sandbox / TEAMS], at,
                                      (enum operation)(r->value / 1000), r->value % 1000);
    case ROW_KINDS: break;
    }
    return SG_ERR_STATE;
}

static enum sg_error build(struct rollup_world *w, const struct rollup_batch *m)
{
    uint32_t entry_of[SANDBOXES_MAX];
    enum sg_error e = SG_OK;
    memset(entry_of, 0xff, w->sandboxes * sizeof *entry_of);
    for (size_t i = 0; !e && i < m->row_count; i++) {
        const struct rollup_row *r = &w->row[m->row + i];
        bool call = r->kind == ROW_CALL;
        if (!call && entry_of[r->sandbox] == UINT32_MAX) {
            const struct rollup_sandbox *b = &w->sandbox[r->sandbox];
            struct batch_sandbox s = {.id = b->id,
                                      .team = team_names[b->team],
                                      .project = project_names[b->project],
                                      .vcpus = b->vcpus,
                                      .mem_mib = b->mem_mib,
                                      .disk_mib = b->disk_mib};
            e = batch_builder_sandbox(w->builder, &s, &entry_of[r->sandbox]);
        }
        if (!e) e = build_row(w, r, call ? 0 : entry_of[r->sandbox]);
    }
    if (!e && m->source_gap) e = batch_builder_gap(w->builder, (struct wall_ms){m->ct}, (struct wall_ms){m->ct}, 5, 7);
    return e;
}

/* complete_through rises to somewhere between the last one and now; later rows are not earlier. */
static void seal(struct rollup_world *w, struct rollup_runner *q, struct rollup_batch *m)
{
    char runner[16];
    const uint8_t *bytes;
    (void)snprintf(runner, sizeof runner, "r%u", m->runner);
    struct batch_head head = {.runner = runner,
                              .region = region_of(m->runner),
                              .epoch = m->epoch,
                              .seq = m->seq,
                              .previous_sha256 = q->sha256,
                              .complete_through = {m->ct}};
    enum sg_error e = build(w, m);
    if (!e) e = batch_builder_seal(w->builder, &head, &bytes, &m->length);
    if (e) abort();
    m->bytes = malloc(m->length);
    if (!m->bytes) abort();
    memcpy(m->bytes, bytes, m->length);
    batch_sha256(m->bytes, m->length, q->sha256);
}

void rollup_produce(struct rollup_world *w, struct rollup_runner *q, bool idle)
{
    size_t first = w->rows, count = idle ? 0 : sim_draw(w->sim, w->rows_most + 1);
    span_begin(w, q);
    for (size_t i = 0; i < count; i++) row_of(w, q);
    struct rollup_batch m = {.runner = (uint32_t)(q - w->runner),
                             .epoch = q->epoch,
                             .seq = q->sealed + 1,
                             .row = first,
                             .row_count = w->rows - first,
                             .least = INT64_MAX,
                             .source_gap = rollup_fault(w, SIM_SOURCE_GAP)};
    for (size_t i = first; i < w->rows; i++)
        if (w->row[i].at < m.least) m.least = w->row[i].at;
    q->floor = idle ? w->sim->now : between(w->sim, q->floor, w->sim->now);
    m.ct = q->floor;
    seal(w, q, &m);
    w->batch = grow(w->batch, &w->batch_capacity, w->batches + 1, sizeof *w->batch);
    w->batch[w->batches] = m;
    q->spool = grow(q->spool, &q->capacity, q->sealed + 1, sizeof *q->spool);
    q->spool[q->sealed++] = (uint32_t)w->batches++;
}

/* ---- the wire ---- */

void rollup_send(struct rollup_world *w, struct rollup_runner *q)
{
    struct rollup_topic *t = &w->topic[q->partition];
    if (q->in_flight || w->sim->now < q->away_until || t->requests == REQUESTS_MAX) return;
    if (q->cursor < q->sealed && rollup_fault(w, SIM_BATCH_MISSING)) q->cursor++;
    q->sent = q->cursor;
    if (q->sent == q->sealed) return;
    struct rollup_request *r = &t->request[t->requests++];
    *r = (struct rollup_request){.runner = (uint32_t)(q - w->runner), .instance = q->instance, .sent = w->sim->now};
    size_t most = 1 + sim_draw(w->sim, REQUEST_BATCHES);
    while (r->count < most && q->sent < q->sealed) r->batch[r->count++] = q->spool[q->sent++];
    q->in_flight = true;
}

static bool living(const struct rollup_world *w, const struct rollup_request *r)
{
    return w->runner[r->runner].instance == r->instance;
}

static void place_append(struct rollup_world *w, uint32_t p, struct rollup_place place, const uint8_t *bytes,
                         size_t length)
{
    struct rollup_topic *t = &w->topic[p];
    uint64_t offset = events_append(&w->log, p, bytes, length, (struct wall_ms){place.time});
    t->place = grow(t->place, &t->capacity, offset + 1, sizeof *t->place);
    t->place[offset] = place;
}

void rollup_append(struct rollup_world *w, uint32_t p)
{
    static const uint8_t garbage[] = {0xff, 0x01, 0x02};
    struct rollup_topic *t = &w->topic[p];
    size_t waiting = 0;
    if (rollup_fault(w, SIM_BATCH_UNREADABLE))
        place_append(w, p, (struct rollup_place){.verdict = UNREADABLE, .time = w->sim->now}, garbage, sizeof garbage);
    for (size_t i = 0; i < t->requests; i++) waiting += !t->request[i].appended;
    if (waiting == 0) return;
    size_t which = sim_draw(w->sim, waiting), i = 0;
    while (t->request[i].appended || which-- > 0) i++;
    struct rollup_request r = t->request[i];
    r.appended = true;
    for (size_t k = 0; k < r.count; k++) {
        const struct rollup_batch *m = &w->batch[r.batch[k]];
        place_append(w, p, (struct rollup_place){.batch = r.batch[k], .time = r.sent}, m->bytes, m->length);
    }
    memmove(&t->request[i], &t->request[i + 1], (t->requests - i - 1) * sizeof *t->request);
    t->request[t->requests - 1] = r; /* appended ones stand in the order of the log */
}

/* When the run was created: by the first batch that counts and tells of it. */
static void runs_created(struct rollup_world *w, const struct rollup_batch *m)
{
    for (size_t i = 0; i < m->row_count; i++) {
        const struct rollup_row *r = &w->row[m->row + i];
        if (r->kind == ROW_CALL || w->sandbox[r->sandbox].created) continue;
        int64_t start = 0, least = INT64_MAX;
        for (size_t k = i; k < m->row_count; k++) {
            const struct rollup_row *o = &w->row[m->row + k];
            if (o->kind == ROW_CALL || o->sandbox != r->sandbox) continue;
            if (o->kind == ROW_START && !start) start = o->at;
            if (o->at < least) least = o->at;
        }
        w->sandbox[r->sandbox].created = start ? start : least;
    }
}

static void judge(struct rollup_world *w, struct rollup_place *place)
{
    if (place->verdict == UNREADABLE) return;
    const struct rollup_batch *m = &w->batch[place->batch];
    struct rollup_runner *q = &w->runner[m->runner];
    if (m->epoch < q->counted_epoch) {
        /* of a spool that was lost: every epoch has its own numbers */
        uint64_t last = 0;
        for (uint64_t o = 0; &w->topic[q->partition].place[o] != place; o++) {
            const struct rollup_place *before = &w->topic[q->partition].place[o];
            const struct rollup_batch *b = &w->batch[before->batch];
            if (before->verdict == COUNTS && b->runner == m->runner && b->epoch == m->epoch) last = b->seq;
        }
        place->verdict = m->seq > last ? COUNTS : DUPLICATE;
        if (m->seq > last + 1) *place = (struct rollup_place){place->batch, COUNTS, last + 1, m->seq - 1, place->time};
    } else {
        if (m->epoch > q->counted_epoch) q->counted_seq = 0;
        q->counted_epoch = m->epoch;
        place->verdict = m->seq > q->counted_seq ? COUNTS : DUPLICATE;
        if (m->seq > q->counted_seq + 1) {
            place->gap_first = q->counted_seq + 1;
            place->gap_last = m->seq - 1;
        }
        if (m->seq > q->counted_seq) q->counted_seq = m->seq;
    }
    if (place->verdict == COUNTS) runs_created(w, m);
}

void rollup_commit(struct rollup_world *w, uint32_t p)
{
    struct rollup_topic *t = &w->topic[p];
    size_t kept = 0;
    for (; t->committed < w->log.partition[p].end; t->committed++) judge(w, &t->place[t->committed]);
    for (size_t i = 0; i < t->requests; i++) {
        struct rollup_request *r = &t->request[i];
        if (!r->appended)
            t->request[kept++] = *r;
        else if (living(w, r))
            w->runner[r->runner].acked = true;
    }
    t->requests = kept;
}

void rollup_acknowledge(struct rollup_world *w, struct rollup_runner *q)
{
    if (!q->acked) return;
    if (rollup_fault(w, SIM_BROKER_ANSWER_LOST)) return rollup_runner_restarts(w, q);
    q->cursor = q->sent;
    q->in_flight = q->acked = false;
}

void rollup_runner_restarts(struct rollup_world *w, struct rollup_runner *q)
{
    (void)w;
    q->instance++;
    q->sent = q->cursor;
    q->in_flight = q->acked = false;
}

/* What is neither in the log nor on its way never was. */
void rollup_spool_lost(struct rollup_world *w, struct rollup_runner *q)
{
    q->epoch++;
    q->sealed = q->cursor = 0;
    rollup_runner_restarts(w, q);
}

void rollup_leader_moves(struct rollup_world *w, uint32_t p)
{
    struct rollup_topic *t = &w->topic[p];
    size_t kept = 0;
    events_truncate(&w->log, p, t->committed);
    for (size_t i = 0; i < t->requests; i++) {
        struct rollup_request r = t->request[i];
        if (r.appended && !living(w, &r)) continue;
        r.appended = false;
        t->request[kept++] = r;
    }
    t->requests = kept;
}

void rollup_runners_drain(struct rollup_world *w)
{
    for (bool more = true; more;) {
        more = false;
        for (uint32_t p = 0; p < w->parts; p++) {
            for (size_t i = w->topic[p].requests; i > 0; i--) rollup_append(w, p);
            rollup_commit(w, p);
        }
        for (uint32_t i = 0; i < w->runners; i++) {
            struct rollup_runner *q = &w->runner[i];
            q->away_until = 0;
            rollup_acknowledge(w, q);
            rollup_send(w, q);
            more |= q->in_flight;
        }
    }
}
