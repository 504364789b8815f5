/* What the aggregators of the roll-up's world read: the events topic and its group, as consumer.h has them. A process
 * that is dead gets nothing but errors. */
#include <stdlib.h>

#include "tests/sim/rollup_world.h"

static struct rollup_world *world;

void rollup_consumers_begin(struct rollup_world *w)
{
    world = w;
}

static uint64_t end_of(uint32_t partition)
{
    return world->topic[partition].committed - world->topic[partition].lost;
}

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
    *end = end_of(partition);
    return true;
}
enum sg_error consumer_watermarks(struct consumer *c, uint32_t partition, uint32_t timeout_ms, uint64_t *start,
                                  uint64_t *end, struct sg_fault *f)
{
    if (world->kafka_silent) world->sim->now += timeout_ms;
    if (world->kafka_silent || c->process->actor.dead || rollup_fault(world, SIM_BROKER_AWAY))
        return sg_fail(f, SG_ERR_UNREACHABLE, "no broker answers");
    *start = world->log.partition[partition].start;
    *end = end_of(partition);
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
    if (c->next[i] < world->log.partition[p].start || c->next[i] > end_of(p)) {
        out->kind = CONSUMER_OUT_OF_RANGE;
    } else if (c->next[i] < end_of(p)) {
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
    if (c->process->actor.dead) return sg_fail(f, SG_ERR_STATE, "killed");
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
