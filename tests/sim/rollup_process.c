/* The programs of the roll-up's world: aggregators with the group that shares the partitions among them, and the
 * archiver. */
#include <stdio.h>
#include <string.h>

#include "aggregator/billing/archiver.h"
#include "tests/sim/rollup_world.h"

void rollup_process_begin(struct rollup_world *w, struct rollup_process *p)
{
    struct sg_fault f = {0};
    memset(p, 0, sizeof *p);
    p->alive = p->member = true;
    (void)snprintf(p->name, sizeof p->name, "a%u", ++w->incarnations);
    p->config = (struct aggregator_config){.instance = p->name,
                                           .kafka_brokers = p->name,
                                           .events_topic = p->name,
                                           .ledger_topic = p->name,
                                           .shards = w->shards,
                                           .cells_max = 20 + (int64_t)sim_draw(w->sim, 2000),
                                           .flush_interval_ms = 100 + sim_draw(w->sim, w->slow ? 500 : 5000)};
    w->acting = p;
    enum sg_error e = aggregator_init(&p->aggregator, &p->config, &f);
    if (!e) e = aggregator_begin(&p->aggregator, &f);
    if (e) sim_fail(w->sim, "%s does not begin: %s", p->name, f.text);
    if (!e) p->aggregator.rollup.chunk_cells = w->chunk_cells;
}

void rollup_process_end(struct rollup_world *w, struct rollup_process *p)
{
    if (!p->alive) return;
    w->acting = p;
    aggregator_destroy(&p->aggregator);
    p->alive = p->member = false;
}

void rollup_process_turn(struct rollup_world *w, struct rollup_process *p)
{
    struct sg_fault f = {0};
    w->acting = p;
    enum sg_error e = aggregator_turn(&p->aggregator, &f);
    if (!e && p->stopping) aggregator_end(&p->aggregator);
    if (e && !p->dead) sim_fail(w->sim, "%s stops: %s", p->name, f.text);
    if (counters_get(&p->aggregator.counters, COUNT_LOG_LOST)) /* the log forgets what all shards have archived */
        sim_fail(w->sim, "%s tells of a loss that there is not", p->name);
    w->acting = NULL;
    if (p->dead || p->stopping) {
        sim_trace(w->sim, "%s has ended", p->name);
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

bool rollup_archive(struct rollup_world *w, uint32_t shard)
{
    struct sg_fault f = {0};
    struct shard *s = &w->archiver->shard[shard];
    struct rollup_process *acting = w->acting;
    s->next_archive.v = 0;
    w->acting = NULL;
    enum sg_error e = archiver_turn(w->archiver, s, &f);
    if (e) sim_trace(w->sim, "archiver: %s", f.text);
    w->acting = acting;
    return e == SG_OK;
}
