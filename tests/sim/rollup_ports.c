/* What the programs of the roll-up's world talk to, apart from Redis: clock, log, loop and service manager; the events
 * topic and its group as consumer.h has them; the ledger as txlog.h has it. A process that is dead gets nothing but
 * errors. */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/service.h"
#include "tests/sim/rollup_world.h"

static struct rollup_world *world;

void rollup_ports_begin(struct rollup_world *w)
{
    world = w;
}

/* ---- clock ---- */

struct boot_ms clock_boot(void)
{
    return (struct boot_ms){(uint64_t)(world->sim->now - ROLLUP_START + DAY_MS)};
}
struct wall_ms clock_wall(void)
{
    return (struct wall_ms){world->sim->now};
}
static struct boot_ms boot_of(void *arg)
{
    (void)arg;
    return clock_boot();
}
static struct wall_ms wall_of(void *arg)
{
    (void)arg;
    return clock_wall();
}
const struct clock clock_real = {.boot = boot_of, .wall = wall_of};

/* ---- log, loop, service ---- */

void log_event(enum log_level level, const char *event, const char *format, ...)
{
    char text[512];
    va_list args;
    (void)level;
    if (!world->sim->trace) return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    sim_trace(world->sim, "%s: %s %s", world->acting ? world->acting->name : "archiver", event, text);
}
void log_fault(enum log_level level, const char *event, const struct sg_fault *f)
{
    log_event(level, event, "%s", f->text);
}
const char *log_quote(const char *value, char *out, size_t size)
{
    (void)snprintf(out, size, "%s", value);
    return out;
}
void log_flush(bool all)
{
    (void)all;
}

enum sg_error loop_init(struct loop *l, const struct clock *clock, struct sg_fault *f)
{
    (void)f;
    *l = (struct loop){.clock = clock};
    return SG_OK;
}
void loop_destroy(struct loop *l)
{
    (void)l;
}
enum sg_error loop_turn(struct loop *l, uint32_t wait_ms, struct sg_fault *f)
{
    (void)wait_ms;
    (void)f;
    if (world->acting && (world->acting->dead || world->acting->stopping)) l->stopping = true;
    return SG_OK;
}
bool loop_stopping(const struct loop *l)
{
    return l->stopping;
}
struct boot_ms loop_now(const struct loop *l)
{
    (void)l;
    return clock_boot();
}

void service_ready(void) {}
void service_alive(void) {}

/* ---- the group ---- */

struct consumer {
    struct rollup_process *process;
    uint32_t partition[PARTS_MAX];
    size_t count;
    uint64_t next[PARTS_MAX]; /* of the i-th */
    bool placed, changed, ended[PARTS_MAX];
};

enum sg_error consumer_new(struct consumer **out, const struct consumer_config *config, struct sg_fault *f)
{
    (void)config;
    *out = calloc(1, sizeof **out);
    if (!*out) return sg_fail(f, SG_ERR_NOMEM, "no memory");
    (*out)->process = world->acting;
    return SG_OK;
}
void consumer_free(struct consumer *c)
{
    free(c);
}
enum sg_error consumer_partition_count(struct consumer *c, uint32_t timeout_ms, uint32_t *out, struct sg_fault *f)
{
    (void)c;
    (void)timeout_ms;
    (void)f;
    *out = world->parts;
    return SG_OK;
}
const uint32_t *consumer_partitions(const struct consumer *c, size_t *count)
{
    *count = c->count;
    return c->partition;
}
bool consumer_assigned(const struct consumer *c)
{
    return c->process->member && !c->process->pending;
}
void consumer_park(struct consumer *c)
{
    c->placed = false;
}
bool consumer_placed(const struct consumer *c)
{
    return c->placed;
}
enum sg_error consumer_place(struct consumer *c, const uint64_t *offsets, struct sg_fault *f)
{
    (void)f;
    for (size_t i = 0; i < c->count; i++) {
        c->next[i] = offsets[i];
        c->ended[i] = false;
    }
    c->placed = true;
    return SG_OK;
}
bool consumer_end(const struct consumer *c, uint32_t partition, uint64_t *end)
{
    (void)c;
    *end = world->topic[partition].committed;
    return true;
}
enum sg_error consumer_watermarks(struct consumer *c, uint32_t partition, uint32_t timeout_ms, uint64_t *start,
                                  uint64_t *end, struct sg_fault *f)
{
    if (world->kafka_silent) world->sim->now += timeout_ms;
    if (world->kafka_silent || c->process->dead || rollup_fault(world, SIM_BROKER_AWAY))
        return sg_fail(f, SG_ERR_UNREACHABLE, "no broker answers");
    *start = world->log.partition[partition].start;
    *end = world->topic[partition].committed;
    return SG_OK;
}
void consumer_publish(struct consumer *c, const uint64_t *positions)
{
    (void)c;
    (void)positions;
}
const char *consumer_fault(const struct consumer *c)
{
    (void)c;
    return NULL;
}
void consumer_event_done(struct consumer_event *e)
{
    (void)e;
}

/* The group tells its new assignment; who was expelled joins again. */
static bool assignment(struct consumer *c)
{
    struct rollup_process *p = c->process;
    if (!p->member && !world->kafka_silent) {
        p->member = true;
        rollup_rebalance(world);
    }
    if (!p->pending) return false;
    p->pending = false;
    c->count = 0;
    c->placed = false;
    for (uint32_t i = 0; i < world->parts; i++)
        if (p->assigned[i]) c->partition[c->count++] = i;
    return true;
}

static void fetch(struct consumer *c, size_t i, struct consumer_event *out)
{
    uint32_t p = c->partition[i];
    if (world->topic[p].withheld && c->next[i] >= world->topic[p].withheld) return;
    const struct events_message *m = events_at(&world->log, p, c->next[i]);
    out->partition = p;
    out->offset = c->next[i];
    if (c->next[i] < world->log.partition[p].start) {
        out->kind = CONSUMER_OUT_OF_RANGE;
    } else if (c->next[i] < world->topic[p].committed) {
        out->kind = CONSUMER_MESSAGE;
        out->time = m->time;
        out->bytes = m->bytes;
        out->length = m->length;
        c->next[i]++;
        c->ended[i] = false;
    } else if (!c->ended[i]) {
        out->kind = CONSUMER_END;
        c->ended[i] = true;
    }
}

enum sg_error consumer_poll(struct consumer *c, uint32_t timeout_ms, struct consumer_event *out, struct sg_fault *f)
{
    (void)timeout_ms;
    *out = (struct consumer_event){.kind = CONSUMER_NOTHING};
    if (c->process->dead) return sg_fail(f, SG_ERR_STATE, "killed");
    if (assignment(c)) {
        out->kind = CONSUMER_ASSIGNMENT;
        return SG_OK;
    }
    if (!c->placed || world->kafka_silent || (!world->hurried && sim_draw(world->sim, world->slow ? 2 : 16) == 0))
        return SG_OK;
    size_t first = sim_draw(world->sim, c->count);
    for (size_t i = 0; i < c->count && out->kind == CONSUMER_NOTHING; i++) fetch(c, (first + i) % c->count, out);
    return SG_OK;
}

/* ---- the ledger ---- */

struct txlog {
    uint32_t shard;
};

enum sg_error txlog_append(struct txlog *log, const struct txlog_bytes *records, size_t count, uint64_t *offsets,
                           struct sg_fault *f)
{
    struct rollup_ledger *l = &world->ledger[log->shard];
    (void)offsets;
    bool lost = rollup_fault(world, SIM_COMMIT_LOST);
    if (lost && sim_draw(world->sim, 2)) return sg_fail(f, SG_ERR_UNKNOWN, "the fate of a commit is not known");
    for (size_t i = 0; i < count; i++) {
        if (l->count == l->capacity) {
            l->capacity = l->capacity ? 2 * l->capacity : 16;
            l->record = reallocarray(l->record, l->capacity, sizeof *l->record);
            if (!l->record) abort();
        }
        struct rollup_record *r = &l->record[l->count++];
        *r = (struct rollup_record){malloc(records[i].length), records[i].length};
        if (!r->bytes) abort();
        memcpy(r->bytes, records[i].bytes, r->length);
    }
    return lost ? sg_fail(f, SG_ERR_UNKNOWN, "the fate of a commit is not known") : SG_OK;
}

static const struct counter_spec archiver_counters[] = {EXPORTER_COUNTERS(COUNTERS_SPEC)};
static const struct health_component archiver_components[] = {
#define COMPONENT(id, name, allowance, hold) {name, allowance, hold},
    EXPORTER_COMPONENTS(COMPONENT)
#undef COMPONENT
};

void rollup_archiver_begin(struct rollup_world *w)
{
    w->archiver = calloc(1, sizeof *w->archiver);
    struct exporter *x = w->archiver;
    if (!x || !(x->shard = calloc(w->shards, sizeof *x->shard))) abort();
    struct redis_store_config store = {.shards = w->shards};
    struct sg_fault f;
    w->acting = NULL;
    w->archiver_config = (struct exporter_config){.runner_grace_ms = GRACE_MS, .hour_close_delay_ms = 0};
    x->config = &w->archiver_config;
    counters_init(&x->counters, archiver_counters, EXPORTER_COUNTER_COUNT);
    health_init(&x->health, archiver_components, EXPORTER_COMPONENT_COUNT, NULL);
    x->shard_count = w->shards;
    if (redis_store_new(&x->store, &store, &f)) abort();
    for (uint32_t s = 0; s < w->shards; s++) {
        x->shard[s].index = s;
        x->shard[s].log = malloc(sizeof *x->shard[s].log);
        if (!x->shard[s].log) abort();
        x->shard[s].log->shard = s;
    }
}

void rollup_archiver_end(struct rollup_world *w)
{
    for (uint32_t s = 0; s < w->shards; s++) free(w->archiver->shard[s].log);
    redis_store_free(w->archiver->store);
    health_destroy(&w->archiver->health);
    free(w->archiver->shard);
    free(w->archiver);
    w->archiver = NULL;
}

/* A doubt about the ledger closes the shard's log; here it can be opened at once. */
void shard_close(struct exporter *x, struct shard *s, const struct sg_fault *why)
{
    (void)x;
    (void)why;
    s->incarnation++;
}

struct txlog_reader {
    const struct rollup_process *process;
    uint32_t shard;
    uint64_t position;
};

enum sg_error txlog_reader_open(struct txlog_reader **out, const struct txlog_config *config, uint64_t from,
                                struct sg_fault *f)
{
    *out = calloc(1, sizeof **out);
    if (!*out) return sg_fail(f, SG_ERR_NOMEM, "no memory");
    **out = (struct txlog_reader){world->acting, config->partition, from};
    return SG_OK;
}
enum sg_error txlog_reader_poll(struct txlog_reader *r, uint32_t timeout_ms, size_t max, txlog_each *each, void *arg,
                                struct sg_fault *f)
{
    const struct rollup_ledger *l = &world->ledger[r->shard];
    enum sg_error e = SG_OK;
    (void)timeout_ms;
    if (r->process->dead || rollup_fault(world, SIM_BROKER_AWAY))
        return sg_fail(f, SG_ERR_UNREACHABLE, "no broker answers");
    size_t most = world->sim->quiet ? max : 1 + sim_draw(world->sim, 4);
    for (size_t i = 0; !e && i < most && r->position < l->count; i++) {
        struct txlog_record record = {
            .offset = r->position, .bytes = l->record[r->position].bytes, .length = l->record[r->position].length};
        r->position++;
        e = each(arg, &record, f);
    }
    return e;
}
enum sg_error txlog_reader_lag(struct txlog_reader *r, uint32_t timeout_ms, uint64_t *lag, struct sg_fault *f)
{
    (void)timeout_ms;
    if (r->process->dead) return sg_fail(f, SG_ERR_UNREACHABLE, "no broker answers");
    *lag = world->ledger[r->shard].count - r->position;
    return SG_OK;
}
uint64_t txlog_reader_position(const struct txlog_reader *r)
{
    return r->position;
}
void txlog_reader_destroy(struct txlog_reader *r)
{
    free(r);
}
