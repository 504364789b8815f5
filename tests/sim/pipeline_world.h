/* The joined world: supervisors, collectors and their disks, broker, aggregators, Redis, exporters, Stripe; one time
 * and one list of faults. No model stands where they meet: the collectors' world makes the topic, the roll-up's world
 * makes the view of it, and the exporters read that view, bill it and archive it through the code that ships; what is
 * restored comes out of the ledger that they write.
 *
 * EQUATION  after quiet, for every (team, project, region, window, field), what supervisors had accepted, by the
 *           collectors' oracle, is what Redis holds; and for every (team, hour, meter) that is what Stripe holds and
 *           what it dropped, or is pending, held with a note that says why.
 *
 * GAPS      every gap that exists is told by the API's code, silent runners among them, and no other.
 *
 * pipeline.c holds the schedule and joins the worlds, pipeline_check.c the equation, pipeline_gaps.c the gaps. */
#ifndef SIM_PIPELINE_WORLD_H
#define SIM_PIPELINE_WORLD_H

#include "tests/sim/billing_world.h"
#include "tests/sim/collector_world.h"
#include "tests/sim/rollup_world.h"

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
    int64_t start;    /* of the first hour */
    bool said;        /* supervisors have nothing more to say */
    int64_t quiet_at; /* when runners that are still there were heard of at last */
    struct collector_world *collectors;
    struct rollup_world *rollup;
    struct redis_store *store; /* nobody's: to look at what is due */
    struct billing_view view;
    struct billing_world *billing;
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
/* What the API tells of gaps, and of what collectors accepted, is what there is. */
void pipeline_check_gaps(struct pipeline_world *w);
/* The billing cells that it holds are those of the book. arg: the world. */
void pipeline_check_bills(void *arg, uint32_t shard, const struct book *b);

#endif
