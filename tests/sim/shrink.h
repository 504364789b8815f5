/* A failing schedule made short: fewer steps, fewer faults, still failing. */
#ifndef SIM_SHRINK_H
#define SIM_SHRINK_H

#include "tests/sim/worlds.h"

/* A plan with memory for its own faults. */
struct shrink {
    struct sim_plan plan;
    struct sim_happened fault[SIM_HAPPENED_MAX];
};

/* Shortens the schedule of w that has just failed in s; s is used, and at the end holds the run of out->plan. */
void sim_shrink(const struct sim_world *w, struct sim *s, struct shrink *out);

#endif
