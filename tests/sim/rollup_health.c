/* Health tells the truth (design.md, law 9). When everything is in, Kafka or a shard of Redis falls silent to an
 * aggregator that has partitions. Within ten seconds it is red and names the silent one, and stays so as long as that
 * is silent, also when the group gives its place to others meanwhile. Then whoever runs is green again by itself. */
#include <string.h>

#include "tests/sim/rollup_world.h"

enum { TOLD_MS = 10 * SECOND_MS, SILENCE_MS = 20 * SECOND_MS, WELL_MS = 30 * SECOND_MS, STEP_MS = 200 };

#define NEVER INT64_MAX

static struct rollup_process *with_partitions(struct rollup_world *w)
{
    for (size_t i = 0; i < PROCESSES; i++) {
        size_t count = 0;
        struct rollup_process *p = &w->process[i];
        if (rollup_awake(w, p)) (void)consumer_partitions(p->aggregator.consumer, &count);
        if (count > 0 && p->member && !p->pending) return p;
    }
    return NULL;
}

static void others_take_its_partitions(struct rollup_process *p)
{
    p->member = false;
    p->pending = true;
    memset(p->assigned, 0, sizeof p->assigned);
}

static void red(struct rollup_world *w, struct rollup_process *p, const char *who)
{
    struct health_report r;
    health_judge(&p->aggregator.health, &r);
    if (r.healthy || !strstr(r.reason, who))
        sim_fail(w->sim, "%s is silent, and %s says: %s", who, p->actor.name, r.reason);
}

static void silence(struct rollup_world *w, struct rollup_process *p, const char *who, int64_t expelled_at)
{
    int64_t begun = w->sim->now;
    while (w->sim->now < begun + SILENCE_MS && !w->sim->failed) {
        if (w->sim->now - begun >= expelled_at) {
            others_take_its_partitions(p);
            expelled_at = NEVER;
        }
        rollup_process_turn(w, p);
        w->sim->now += STEP_MS;
        if (w->sim->now >= begun + TOLD_MS) red(w, p, who);
    }
}

static void green_again(struct rollup_world *w)
{
    struct health_report r;
    for (int64_t end = w->sim->now + WELL_MS; w->sim->now < end && !w->sim->failed; w->sim->now += 5 * STEP_MS)
        for (size_t i = 0; i < PROCESSES; i++)
            if (rollup_awake(w, &w->process[i])) rollup_process_turn(w, &w->process[i]);
    for (size_t i = 0; i < PROCESSES && !w->sim->failed; i++) {
        if (!rollup_awake(w, &w->process[i])) continue;
        health_judge(&w->process[i].aggregator.health, &r);
        if (!r.healthy) sim_fail(w->sim, "all is well, and %s says: %s", w->process[i].actor.name, r.reason);
    }
}

void rollup_check_health(struct rollup_world *w)
{
    struct rollup_process *p = with_partitions(w);
    if (!p) return sim_fail(w->sim, "nobody has partitions in quiet");
    if (sim_draw(w->sim, 3)) {
        w->kafka_silent = true;
        int64_t expelled_at[] = {NEVER, 0, (int64_t)sim_draw(w->sim, SILENCE_MS)};
        silence(w, p, "kafka", expelled_at[sim_draw(w->sim, 3)]);
        w->kafka_silent = false;
    } else {
        struct rollup_shard *h = &w->shard[sim_draw(w->sim, w->shards)];
        h->away_until = INT64_MAX;
        silence(w, p, "redis", NEVER);
        h->away_until = 0;
    }
    green_again(w);
}
