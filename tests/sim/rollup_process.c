/* The programs of the roll-up's world: aggregators with the group that shares the partitions among them, and the
 * archiver. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/billing/archiver.h"
#include "tests/sim/rollup_world.h"

void rollup_act(struct rollup_world *w, struct rollup_process *p)
{
    w->acting = p;
    (void)ports_act(p ? &p->actor : NULL);
}

void rollup_process_begin(struct rollup_world *w, struct rollup_process *p)
{
    struct sg_fault f = {0};
    memset(p, 0, sizeof *p);
    p->alive = p->member = true;
    (void)snprintf(p->actor.name, sizeof p->actor.name, "a%u", ++w->incarnations);
    p->config =
        (struct aggregator_config){.instance = p->actor.name,
                                   .kafka_brokers = p->actor.name,
                                   .events_topic = p->actor.name,
                                   .ledger_topic = p->actor.name,
                                   .shards = w->shards,
                                   .cells_max = 20 + (int64_t)sim_draw(w->sim, sim_draw(w->sim, 2) ? 100 : 2000),
                                   .flush_interval_ms = 100 + sim_draw(w->sim, w->slow ? 500 : 5000)};
    rollup_act(w, p);
    enum sg_error e = aggregator_init(&p->aggregator, &p->config, &f);
    if (!e) e = aggregator_begin(&p->aggregator, &f);
    if (e) sim_fail(w->sim, "%s does not begin: %s", p->actor.name, f.text);
    if (!e) p->aggregator.rollup.chunk_cells = w->chunk_cells;
}

void rollup_process_end(struct rollup_world *w, struct rollup_process *p)
{
    if (!p->alive) return;
    rollup_act(w, p);
    aggregator_destroy(&p->aggregator);
    p->alive = p->member = false;
}

/* Cells that a torn flush has left beyond what was applied: they wait until the vector has come there. */
static size_t ahead(const struct rollup *r)
{
    size_t count = 0;
    for (uint32_t s = 0; s < r->shards; s++)
        for (size_t i = 0; i < r->cells.dirty[s].count; i++) {
            const struct cell *cell = r->cells.dirty[s].cell[i];
            count += cell->offset > r->partition[cell->partition].position;
        }
    return count;
}

/* Who goes on reading has written and swept what it held, when that was as much as it may hold. */
static void check_cells(struct rollup_world *w, const struct rollup_process *p)
{
    const struct rollup *r = &p->aggregator.rollup;
    size_t most = (size_t)p->config.cells_max;
    w->sim->checks++;
    if (consumer_placed(p->aggregator.consumer) && r->cells.count >= most && r->cells.count - ahead(r) >= most)
        sim_fail(w->sim, "%s holds %zu cells of at most %zu, and goes on", p->actor.name, r->cells.count, most);
}

void rollup_process_turn(struct rollup_world *w, struct rollup_process *p)
{
    struct sg_fault f = {0};
    rollup_act(w, p);
    enum sg_error e = aggregator_turn(&p->aggregator, &f);
    if (!e && p->actor.stopping) aggregator_end(&p->aggregator);
    if (e && !p->actor.dead) sim_fail(w->sim, "%s stops: %s", p->actor.name, f.text);
    if (!e && !p->actor.dead) check_cells(w, p);
    if (counters_get(&p->aggregator.counters, COUNT_LOG_LOST)) /* the log forgets what all shards have archived */
        sim_fail(w->sim, "%s tells of a loss that there is not", p->actor.name);
    rollup_act(w, NULL);
    if (p->actor.dead || p->actor.stopping) {
        sim_trace(w->sim, "%s has ended", p->actor.name);
        rollup_process_end(w, p);
    }
}

void rollup_rebalance(struct rollup_world *w)
{
    struct rollup_process *member[PROCESSES];
    size_t count = 0;
    for (size_t i = 0; i < PROCESSES; i++) {
        struct rollup_process *p = &w->process[i];
        if (!p->alive || !p->member) continue;
        p->pending = true;
        memset(p->assigned, 0, sizeof p->assigned);
        member[count++] = p;
    }
    if (count && sim_draw(w->sim, 3) == 0) { /* what others had alone one has together */
        member[0] = member[sim_draw(w->sim, count)];
        count = 1;
    }
    for (uint32_t i = 0; count && i < w->parts; i++) member[sim_draw(w->sim, count)]->assigned[i] = true;
}

/* ---- the archiver ---- */

void rollup_archiver_begin(struct rollup_world *w)
{
    static char name[] = "archiver", meter[] = "vcpu_ms";
    static char *meters[] = {meter};
    struct sg_fault f;
    w->archiver = calloc(1, sizeof *w->archiver);
    if (!w->archiver) abort();
    w->archiver_config = (struct exporter_config){.instance = name,
                                                  .cluster = name,
                                                  .ledger_topic = name,
                                                  .control_topic = name,
                                                  .meters = {meters, 1},
                                                  .shards = w->shards,
                                                  .runner_grace_ms = GRACE_MS};
    rollup_act(w, NULL);
    if (exporter_init(w->archiver, &w->archiver_config, &f)) abort();
}

void rollup_archiver_end(struct rollup_world *w)
{
    exporter_destroy(w->archiver);
    free(w->archiver);
    w->archiver = NULL;
}

/* A doubt about the ledger closes it; here it can be opened at once. */
bool rollup_archive(struct rollup_world *w, uint32_t shard)
{
    struct sg_fault f = {0};
    struct shard *s = &w->archiver->shard[shard];
    struct rollup_process *acting = w->acting;
    if (w->archiving) return false;
    w->archiving = true;
    s->next_archive.v = 0;
    rollup_act(w, NULL);
    if (!s->log) shard_open(w->archiver, s);
    enum sg_error e = s->log ? archiver_turn(w->archiver, s, &f) : s->closed_by.code;
    if (e) sim_trace(w->sim, "archiver: %s", f.text);
    w->archiving = false;
    rollup_act(w, acting);
    return e == SG_OK;
}
