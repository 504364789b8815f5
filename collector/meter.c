/* The meter's lines: numbers, checks, transitions.
 *
 *     created/adopted(running) -> RUNNING -> hibernated -> HIBERNATED -> resumed -> RUNNING ... -> destroyed -> gone
 *
 * HAPPY PATH  A line's number is new -> everything that could refuse it is checked, nothing changed -> slices of whole
 *             minutes are billed until one event's rows surely fit (else FULL) -> number, time, rows and state in one
 *             go. So an event is in one batch with all it does, or in none.
 * FAILURES    Refused: the number is used up and counted, nothing else. FULL: nothing was taken.
 * TIME        clock = event: at every settling all that runs is billed up to its source's newest event. clock = system:
 * by ticks on the grid, up to METER_HOLD_MS ago, while the source is connected; an event older than what is billed
 *             takes effect where billing stands, and is counted as late. */
#include "collector/meter.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "collector/meter_internal.h"

static uint64_t latest(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* What an append said. There was room, so it can only be memory. */
static void appended(struct meter *m, enum sg_error e)
{
    assert(e == SG_OK || e == SG_ERR_NOMEM);
    if (e) m->no_memory = true;
}

struct meter *meter_new(const struct meter_config *config)
{
    struct meter *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    m->config = *config;
    buffer_init(&m->removed, (size_t)BATCH_ROWS_MAX * (ID_BYTES_MAX + 1));
    buffer_init(&m->delta, METER_DELTA_BYTES_MAX);
    m->rows = batch_builder_new();
    if (!m->rows) {
        meter_free(m);
        return NULL;
    }
    return m;
}

void meter_free(struct meter *m)
{
    if (!m) return;
    table_destroy(&m->table);
    batch_builder_free(m->rows);
    buffer_destroy(&m->removed);
    buffer_destroy(&m->delta);
    free(m->dirty);
    free(m);
}

/* ---- sources and numbers ---- */

static bool source_find(const struct meter *m, const char *name, unsigned *index)
{
    for (unsigned i = 0; i < SOURCES_MAX; i++)
        if (m->source[i].used && strcmp(m->source[i].name.s, name) == 0) {
            *index = i;
            return true;
        }
    return false;
}

static bool source_add(struct meter *m, const struct id *name, unsigned *index)
{
    for (unsigned i = 0; i < SOURCES_MAX; i++)
        if (!m->source[i].used) {
            m->source[i] = (struct source){.used = true, .name = *name};
            *index = i;
            return true;
        }
    return false;
}

static void source_new_boot(struct source *src, const struct ingest_event *hello)
{
    uint64_t boot = hello->number[INGEST_FIELD_BOOT_MS];
    int64_t offset = (int64_t)hello->number[INGEST_FIELD_WALL_MS] - (int64_t)boot;
    struct id name = src->name;
    *src = (struct source){.used = true,
                           .name = name,
                           .boot_id = hello->boot_id,
                           .greeted_ms = boot,
                           .offset_ms = offset,
                           .target_ms = offset,
                           .slewed_ms = boot};
}

enum meter_verdict meter_hello(struct meter *m, const struct ingest_event *hello, unsigned *source, uint64_t *durable,
                               bool *fresh)
{
    bool known = source_find(m, hello->source.s, source);
    if (!known && !source_add(m, &hello->source, source)) return METER_REFUSED;
    struct source *src = &m->source[*source];
    if (!known || strcmp(src->boot_id.s, hello->boot_id.s) != 0) {
        if (!bill_host_end(m, *source)) return METER_FULL;
        source_new_boot(src, hello);
        m->changed = true;
    } else if (m->config.clock == METER_CLOCK_SYSTEM) {
        src->target_ms = (int64_t)hello->number[INGEST_FIELD_WALL_MS] - (int64_t)hello->number[INGEST_FIELD_BOOT_MS];
        m->changed = true;
    }
    *durable = src->durable_n;
    *fresh = src->n == 0 || (src->durable_n == 0 && src->began_late);
    return METER_ACCEPTED;
}

void meter_connected(struct meter *m, unsigned source, bool connected)
{
    assert(source < SOURCES_MAX && m->source[source].used);
    m->source[source].connected = connected;
    if (connected) m->source[source].behind_ms = BEHIND_SINCE_NOW;
}

uint64_t meter_next_n(const struct meter *m, unsigned source)
{
    return m->source[source].n + 1;
}

uint64_t meter_durable_n(const struct meter *m, unsigned source)
{
    return m->source[source].durable_n;
}

/* ACCEPTED: n is the source's next, or its first. */
static enum meter_verdict check_number(const struct source *src, uint64_t n)
{
    if (n <= src->n) return METER_DUPLICATE;
    return n == src->n + 1 || src->n == 0 ? METER_ACCEPTED : METER_GAP;
}

static struct wall_ms wall_clamped(const struct source *src, uint64_t boot_ms)
{
    struct wall_ms t = source_wall(src, boot_ms);
    if (t.v < 0) t.v = 0;
    if (t.v > WALL_MS_MAX) t.v = WALL_MS_MAX;
    return t;
}

/* Numbers before a new source's first are lost to us: of the time between its host's start and now. */
static void take_number(struct meter *m, struct source *src, uint64_t n, uint64_t boot_ms)
{
    if (n > src->n + 1) {
        appended(m, batch_builder_gap(m->rows, wall_clamped(src, 0), wall_clamped(src, boot_ms), src->n + 1, n - 1));
        m->gaps += n - 1 - src->n;
        src->began_late = true;
    }
    src->n = n;
    m->changed = true;
}

enum meter_verdict meter_refuse(struct meter *m, unsigned source, uint64_t n)
{
    struct source *src = &m->source[source];
    enum meter_verdict v = check_number(src, n);
    if (v != METER_ACCEPTED) return v;
    if (meter_full(m)) return METER_FULL;
    take_number(m, src, n, latest(src->newest_ms, src->greeted_ms));
    m->totals.refused++;
    return METER_REFUSED;
}

/* ---- checks ---- */

static enum ingest_error check_life(const struct meter *m, const struct sandbox *s)
{
    if (s) return INGEST_DUPLICATE_SANDBOX;
    bool room = m->table.count < m->config.sandboxes_max &&
                m->table.state_bytes + STATE_HEAD_BYTES_MAX + ENTRY_BYTES_MAX <= METER_SNAPSHOT_BYTES_MAX;
    return room ? INGEST_OK : INGEST_TABLE_FULL;
}

static enum ingest_error check_state(const struct sandbox *s, enum ingest_type type)
{
    if (type == INGEST_TYPE_HIBERNATED && s->state != SANDBOX_RUNNING) return INGEST_BAD_STATE;
    if (type == INGEST_TYPE_RESUMED && s->state != SANDBOX_HIBERNATED) return INGEST_BAD_STATE;
    return INGEST_OK;
}

/* Everything that can refuse a well-formed event. Changes nothing. */
static struct meter_refusal check_event(const struct meter *m, unsigned source, const struct ingest_event *e,
                                        const struct sandbox *s)
{
    const struct source *src = &m->source[source];
    uint64_t boot = e->number[INGEST_FIELD_BOOT_MS];
    struct meter_refusal r = {INGEST_OK, e->at[INGEST_FIELD_BOOT_MS]};
    struct wall_ms wall = source_wall(src, boot);
    if (boot < src->newest_ms) r.error = INGEST_TIME_WENT_BACK;
    if (!r.error && (wall.v < 0 || wall.v > WALL_MS_MAX)) r.error = INGEST_OUT_OF_RANGE;
    if (r.error || !ingest_has(e, INGEST_FIELD_SANDBOX)) return r;
    r.at = e->at[INGEST_FIELD_SANDBOX];
    if (e->type == INGEST_TYPE_CREATED || e->type == INGEST_TYPE_ADOPTED) {
        r.error = check_life(m, s);
        return r;
    }
    if (!s || s->source != source) {
        r.error = INGEST_UNKNOWN_SANDBOX;
        return r;
    }
    r.error = check_state(s, e->type);
    if (r.error) r.at = e->at[INGEST_FIELD_TYPE];
    return r;
}

/* ---- transitions ---- */

/* What a handler works on. s is NULL for events without a sandbox, and at its creation. */
struct change {
    struct meter *m;
    struct source *src;
    const struct ingest_event *e;
    struct sandbox *s;
    uint64_t boot_ms;
    unsigned source;
};

static struct wall_ms change_wall(const struct change *c)
{
    return source_wall(c->src, c->boot_ms);
}

/* When a transition of a running sandbox takes effect: not before what is billed. */
static uint64_t effective_ms(struct change *c)
{
    if (c->s->state != SANDBOX_RUNNING || c->boot_ms >= c->s->open_ms) return c->boot_ms;
    c->m->late_events++;
    return c->s->open_ms;
}

static void watch_begin(const struct meter *m, const struct sandbox *s)
{
    const struct meter_watch *w = &m->config.watch;
    if (w->begin) w->begin(w->arg, sandbox_handle(s), s->text + s->cgroup_at, s->text + s->tap_at);
}

static void watch_end(const struct meter *m, const struct sandbox *s)
{
    if (m->config.watch.end) m->config.watch.end(m->config.watch.arg, sandbox_handle(s));
}

static void put_state(struct change *c, uint64_t boot_ms, enum sandbox_state state)
{
    appended(c->m, batch_builder_state(c->m->rows, bill_index(c->m, c->s), source_wall(c->src, boot_ms), state));
}

/* created and adopted */
static void on_begin(struct change *c)
{
    const struct ingest_event *e = c->e;
    bool adopted = e->type == INGEST_TYPE_ADOPTED;
    struct sandbox_names names = {e->sandbox.s, e->team.s, e->project.s,
                                  ingest_has(e, INGEST_FIELD_CGROUP) ? e->cgroup : "",
                                  ingest_has(e, INGEST_FIELD_TAP) ? e->tap : ""};
    c->s = table_add(&c->m->table, &names);
    if (!c->s) {
        c->m->no_memory = true;
        return;
    }
    c->s->source = (uint8_t)c->source;
    c->s->vcpus = (uint32_t)e->number[INGEST_FIELD_VCPUS];
    c->s->mem_mib = (uint32_t)e->number[INGEST_FIELD_MEM_MIB];
    c->s->disk_mib = (uint32_t)e->number[INGEST_FIELD_DISK_MIB];
    c->s->open_ms = c->boot_ms;
    c->s->known = adopted ? 0 : (1U << METER_COUNTERS) - 1;
    c->s->state = adopted && !e->number[INGEST_FIELD_RUNNING] ? SANDBOX_HIBERNATED : SANDBOX_RUNNING;
    meter_mark(c->m, c->s, CREATED);
    appended(c->m, batch_builder_start(c->m->rows, bill_index(c->m, c->s), change_wall(c),
                                       adopted ? START_ADOPTED : 1 + (uint32_t)e->number[INGEST_FIELD_ORIGIN],
                                       adopted ? 0 : (uint32_t)e->number[INGEST_FIELD_CREATE_MS]));
    if (c->s->state == SANDBOX_HIBERNATED) {
        put_state(c, c->boot_ms, SANDBOX_HIBERNATED);
        return;
    }
    meter_allocate(c->m, c->s);
    watch_begin(c->m, c->s);
}

static void on_usage(struct change *c)
{
    struct batch_rise rise;
    bill_event_counters(c->s, c->e, &rise);
    meter_mark(c->m, c->s, CHANGED);
    if (bill_has_rise(&rise)) bill_rise(c->m, c->s, c->boot_ms, &rise);
}

static void on_hibernated(struct change *c)
{
    static const struct batch_rise none = {0};
    uint64_t at = effective_ms(c);
    bill_rise(c->m, c->s, at, &none);
    put_state(c, at, SANDBOX_HIBERNATED);
    meter_release(c->m, c->s);
    c->s->state = SANDBOX_HIBERNATED;
    meter_mark(c->m, c->s, CHANGED);
    watch_end(c->m, c->s);
}

static void on_resumed(struct change *c)
{
    uint64_t at = latest(c->boot_ms, c->s->open_ms);
    put_state(c, at, SANDBOX_RUNNING);
    c->s->state = SANDBOX_RUNNING;
    c->s->open_ms = at;
    meter_allocate(c->m, c->s);
    meter_mark(c->m, c->s, CHANGED);
    watch_begin(c->m, c->s);
}

static void on_destroyed(struct change *c)
{
    struct batch_rise rise;
    uint64_t at = effective_ms(c), peak = c->s->mem_peak_bytes;
    bill_event_counters(c->s, c->e, &rise);
    bill_rise(c->m, c->s, at, &rise);
    if (ingest_has(c->e, INGEST_FIELD_MEM_PEAK_BYTES)) peak = c->e->number[INGEST_FIELD_MEM_PEAK_BYTES];
    appended(c->m, batch_builder_end(c->m->rows, bill_index(c->m, c->s), source_wall(c->src, at),
                                     (enum reason)c->e->number[INGEST_FIELD_REASON], peak));
    if (c->s->state == SANDBOX_RUNNING) watch_end(c->m, c->s);
    meter_forget(c->m, c->s);
}

static void on_exec(struct change *c)
{
    appended(c->m, batch_builder_exec(c->m->rows, bill_index(c->m, c->s), change_wall(c),
                                      (uint32_t)c->e->number[INGEST_FIELD_EXIT_CODE],
                                      c->e->number[INGEST_FIELD_DURATION_MS]));
}

static void on_api_call(struct change *c)
{
    const char *project = ingest_has(c->e, INGEST_FIELD_PROJECT) ? c->e->project.s : "-";
    appended(c->m, batch_builder_api_call(c->m->rows, c->e->team.s, project, change_wall(c),
                                          (enum operation)c->e->number[INGEST_FIELD_OPERATION],
                                          (uint32_t)c->e->number[INGEST_FIELD_STATUS]));
}

static void put_capacity(struct meter *m, struct wall_ms at)
{
    struct batch_capacity row = m->capacity;
    row.vcpus_allocated = m->vcpus;
    row.mem_mib_allocated = m->mem_mib;
    row.disk_mib_allocated = m->disk_mib;
    row.sandboxes_running = m->running;
    appended(m, batch_builder_capacity(m->rows, at, &row));
}

static void on_capacity(struct change *c)
{
    c->m->capacity_known = true;
    c->m->capacity.vcpus_total = c->e->number[INGEST_FIELD_VCPUS_TOTAL];
    c->m->capacity.mem_mib_total = c->e->number[INGEST_FIELD_MEM_MIB_TOTAL];
    c->m->capacity.disk_mib_total = c->e->number[INGEST_FIELD_DISK_MIB_TOTAL];
    c->m->capacity.warm = c->e->number[INGEST_FIELD_WARM];
    put_capacity(c->m, change_wall(c));
}

static void on_tick(struct change *c)
{
    c->src->settle_ms = c->boot_ms;
}

static void (*const handlers[INGEST_TYPE_COUNT])(struct change *) = {
    [INGEST_TYPE_CREATED] = on_begin,     [INGEST_TYPE_ADOPTED] = on_begin,
    [INGEST_TYPE_USAGE] = on_usage,       [INGEST_TYPE_HIBERNATED] = on_hibernated,
    [INGEST_TYPE_RESUMED] = on_resumed,   [INGEST_TYPE_DESTROYED] = on_destroyed,
    [INGEST_TYPE_EXEC_EXITED] = on_exec,  [INGEST_TYPE_API_CALLED] = on_api_call,
    [INGEST_TYPE_CAPACITY] = on_capacity, [INGEST_TYPE_TICK] = on_tick,
};

enum meter_verdict meter_event(struct meter *m, unsigned source, const struct ingest_event *e,
                               struct meter_refusal *refusal)
{
    struct source *src = &m->source[source];
    uint64_t n = e->number[INGEST_FIELD_N];
    assert(src->used && e->type != INGEST_TYPE_HELLO);
    enum meter_verdict v = check_number(src, n);
    if (v != METER_ACCEPTED) return v;
    struct sandbox *s = ingest_has(e, INGEST_FIELD_SANDBOX) ? table_find(&m->table, e->sandbox.s) : NULL;
    *refusal = check_event(m, source, e, s);
    if (refusal->error) return meter_refuse(m, source, n);
    struct change c = {m, src, e, s, e->number[INGEST_FIELD_BOOT_MS], source};
    if (meter_full(m) || (s && !bill_minutes_before(m, s, c.boot_ms))) return METER_FULL;
    take_number(m, src, n, c.boot_ms);
    src->newest_ms = c.boot_ms;
    m->totals.events++;
    handlers[e->type](&c);
    return METER_ACCEPTED;
}

/* ---- time ---- */

/* Brings the offset towards the newest anchor, by at most one millisecond in 2,000. */
static void slew(struct meter *m, struct source *src, uint64_t now)
{
    enum { MS_PER_STEP = 1000000 / METER_SLEW_PPM };
    uint64_t steps = now > src->slewed_ms ? (now - src->slewed_ms) / MS_PER_STEP : 0;
    int64_t distance = src->target_ms - src->offset_ms;
    uint64_t wanted = (uint64_t)(distance < 0 ? -distance : distance);
    if (wanted == 0) src->slewed_ms = latest(src->slewed_ms, now);
    if (wanted == 0 || steps == 0) return;
    uint64_t taken = steps < wanted ? steps : wanted;
    src->offset_ms += distance < 0 ? -(int64_t)taken : (int64_t)taken;
    src->slewed_ms += taken * MS_PER_STEP;
    m->changed = true;
}

/* Whether lines of the time before now wait to be read; once a tick. */
static void catch_up(struct source *src, uint64_t now, bool stalled)
{
    if (stalled || src->behind_ms == BEHIND_SINCE_NOW) {
        src->behind_ms = now;
        src->quiet_ticks = 0;
    } else if (src->behind_ms > 0)
        src->quiet_ticks = src->n == src->quiet_n ? src->quiet_ticks + 1 : 0;
    src->quiet_n = src->n;
    if (src->newest_ms >= src->behind_ms || src->quiet_ticks >= METER_QUIET_TICKS) src->behind_ms = 0;
}

/* Up to where a source's sandboxes may be billed. */
static uint64_t source_time(const struct source *src, uint64_t now)
{
    if (!src->connected || src->behind_ms > 0 || now < METER_HOLD_MS) return src->newest_ms;
    return latest(src->newest_ms, now - METER_HOLD_MS);
}

static uint64_t grid_floor(const struct source *src, uint64_t boot_ms)
{
    int64_t into = source_wall(src, boot_ms).v % METER_GRID_MS;
    return into > 0 && boot_ms > (uint64_t)into ? boot_ms - (uint64_t)into : boot_ms;
}

enum meter_verdict meter_tick(struct meter *m, struct boot_ms now)
{
    if (m->config.clock == METER_CLOCK_EVENT) return METER_ACCEPTED;
    bool again = now.v == m->ticked_ms, stalled = now.v - m->ticked_ms > METER_HOLD_MS / 2;
    m->ticked_ms = now.v;
    for (unsigned i = 0; i < SOURCES_MAX; i++) {
        struct source *src = &m->source[i];
        if (!src->used || source_wall(src, now.v).v > WALL_MS_MAX) continue; /* no batch can say that it lived then */
        if (src->connected) {
            src->alive_ms = latest(src->alive_ms, now.v);
            slew(m, src, now.v);
            if (!again) catch_up(src, now.v, stalled);
        }
        uint64_t grid = grid_floor(src, source_time(src, now.v));
        if (grid > src->closed_ms && !bill_source(m, i, grid)) return METER_FULL;
    }
    return METER_ACCEPTED;
}

/* A tick of clock = system settles its own time; with clock = event every event does. */
static uint64_t settle_time(const struct meter *m, const struct source *src)
{
    return m->config.clock == METER_CLOCK_EVENT ? src->newest_ms : src->settle_ms;
}

enum meter_verdict meter_settle(struct meter *m)
{
    for (unsigned i = 0; i < SOURCES_MAX; i++) {
        struct source *src = &m->source[i];
        uint64_t to = settle_time(m, src);
        if (src->used && to > src->closed_ms && !bill_source(m, i, to)) return METER_FULL;
    }
    return METER_ACCEPTED;
}

/* The runner's present time: the latest of its sources. False: none has greeted. */
static bool runner_time(const struct meter *m, struct wall_ms *out)
{
    bool any = false;
    *out = (struct wall_ms){0};
    for (unsigned i = 0; i < SOURCES_MAX; i++) {
        const struct source *src = &m->source[i];
        if (!src->used) continue;
        struct wall_ms t = wall_clamped(src, latest(src->newest_ms, src->closed_ms));
        if (!any || t.v > out->v) *out = t;
        any = true;
    }
    return any;
}

enum meter_verdict meter_heartbeat(struct meter *m)
{
    struct wall_ms at;
    if (meter_full(m)) return METER_FULL;
    if (m->capacity_known && runner_time(m, &at)) put_capacity(m, at);
    m->changed = true;
    return METER_ACCEPTED;
}

enum meter_verdict meter_sample(struct meter *m, uint64_t handle, const struct meter_sample *sample, struct boot_ms now)
{
    struct sandbox *s = (struct sandbox *)(uintptr_t)handle;
    struct batch_rise rise;
    assert(s->state == SANDBOX_RUNNING);
    if (m->config.clock == METER_CLOCK_EVENT) return METER_ACCEPTED;
    const struct source *src = &m->source[s->source];
    struct wall_ms wall = source_wall(src, now.v);
    if (wall.v < 0 || wall.v > WALL_MS_MAX) return METER_ACCEPTED;
    if (meter_full(m)) return METER_FULL;
    if (sample->alive) s->proven_ms = latest(s->proven_ms, now.v);
    bill_sample_counters(s, sample, &rise);
    meter_mark(m, s, CHANGED);
    if (bill_has_rise(&rise)) bill_rise_apart(m, s, now.v, &rise);
    return METER_ACCEPTED;
}

/* ---- sealing ---- */

/* All usage before it is in rows: the runner's time, held back by sources with running sandboxes that are billed less
 * far. Never falls. (design.md, section 2, watermark) */
static void advance_complete_through(struct meter *m)
{
    struct wall_ms through;
    if (!runner_time(m, &through)) return;
    for (unsigned i = 0; i < SOURCES_MAX; i++) {
        const struct source *src = &m->source[i];
        if (!src->used || src->running == 0) continue;
        struct wall_ms t = wall_clamped(src, src->closed_ms);
        if (t.v < through.v) through = t;
    }
    if (through.v > m->complete_through_ms) m->complete_through_ms = through.v;
}

bool meter_dirty(const struct meter *m)
{
    if (m->changed || m->dirty_count > 0) return true; /* so it is when there are rows */
    for (unsigned i = 0; i < SOURCES_MAX; i++)
        if (m->source[i].used && settle_time(m, &m->source[i]) > m->source[i].closed_ms) return true;
    return false;
}

enum sg_error meter_seal(struct meter *m, const struct meter_position *position, const uint8_t **batch,
                         size_t *batch_bytes, const uint8_t **delta, size_t *delta_bytes)
{
    if (m->no_memory) return SG_ERR_NOMEM;
    advance_complete_through(m);
    struct batch_head head = {.runner = m->config.runner,
                              .region = m->config.region,
                              .epoch = position->epoch,
                              .seq = position->seq,
                              .previous_sha256 = position->previous_sha256,
                              .complete_through = {m->complete_through_ms},
                              .totals = m->totals};
    enum sg_error e = batch_builder_seal(m->rows, &head, batch, batch_bytes);
    if (!e) e = meter_encode_delta(m);
    if (e) {
        m->no_memory = true;
        return e;
    }
    *delta = (const uint8_t *)m->delta.data;
    *delta_bytes = m->delta.length;
    meter_unmark_all(m);
    m->changed = false;
    return SG_OK;
}

void meter_durable(struct meter *m)
{
    for (unsigned i = 0; i < SOURCES_MAX; i++) m->source[i].durable_n = m->source[i].n;
}

void meter_watch_all(struct meter *m)
{
    for (size_t i = 0; i < m->table.slots; i++)
        if (m->table.slot[i] && m->table.slot[i]->state == SANDBOX_RUNNING) watch_begin(m, m->table.slot[i]);
}

void meter_stats(const struct meter *m, struct meter_stats *out)
{
    *out = (struct meter_stats){.sandboxes = m->table.count,
                                .running = m->running,
                                .vcpus_allocated = m->vcpus,
                                .mem_mib_allocated = m->mem_mib,
                                .disk_mib_allocated = m->disk_mib,
                                .late_events = m->late_events,
                                .gaps = m->gaps,
                                .saturated = m->saturated,
                                .totals = m->totals,
                                .complete_through = {m->complete_through_ms}};
    for (unsigned i = 0; i < SOURCES_MAX; i++) out->sources += m->source[i].used;
}
