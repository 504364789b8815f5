/* The joined world: supervisors, collectors and their disks, broker, aggregators, Redis, exporters, Stripe; one time
 * and one list of faults. No model stands where they meet: the collectors' world makes the topic, the roll-up's world
 * makes the view of it, and the exporters read that view through the code that ships (view.h).
 *
 * EQUATION  after quiet, for every (team, project, region, window, field), what supervisors had accepted, by the
 *           collectors' oracle, is what Redis holds; and for every (team, hour, meter) that is what Stripe holds and
 *           what it dropped, or is pending, held with a note that says why.
 *
 * pipeline.c holds the schedule and joins the worlds, pipeline_check.c the equation. */
#ifndef SIM_PIPELINE_WORLD_H
#define SIM_PIPELINE_WORLD_H

#include "tests/sim/billing_world.h"
#include "tests/sim/collector_world.h"
#include "tests/sim/rollup_world.h"

/* One shard of the ledger: its exporters, and what they look at. */
struct pipeline_shard {
    struct pipeline_world *world;
    uint32_t index;
    struct redis_store *store;
    struct billing_view view;
    struct billing_world *billing;
};

/* One field of one rollup: what is expected of it, and what Redis holds. */
struct pipeline_sum {
    unsigned team, project, region; /* as the collectors' world numbers them */
    enum window_kind window;
    enum field field;
    int64_t start;
    uint64_t accepted, rolled_up;
};

struct pipeline_world {
    struct sim *sim;
    int64_t start; /* of the first hour */
    bool said;     /* supervisors have nothing more to say */
    struct collector_world *collectors;
    struct rollup_world *rollup;
    struct pipeline_shard shard[SHARDS_MOST];
    struct pipeline_sum *sum;
    size_t sums, sum_capacity;
    uint32_t *slot; /* of index + 1, by the sum's name; NULL until everything was said */
};

/* Everything that was said is accepted: from here on the truth is known. */
void pipeline_expect(struct pipeline_world *w);
/* The truth of a key of billing. */
uint64_t pipeline_truth(const struct pipeline_world *w, int key);
/* What Redis holds is what is expected. */
void pipeline_check_view(struct pipeline_world *w);

#endif
