/* Delta debugging, within RUNS_MAX runs: as few steps as still fail; then faults are left out, first whole kinds, then
 * halves, quarters, ... of what remains; then steps once more. A run counts as failing whatever it fails of: the
 * first failure of a shorter schedule is as good to look at. */
#include "tests/sim/shrink.h"

#include <string.h>

enum { RUNS_MAX = 600 };

struct search {
    const struct sim_world *world;
    struct sim *sim;
    uint64_t seed;
    int runs;
};

static bool fails(struct search *h, const struct sim_plan *plan)
{
    if (h->runs == RUNS_MAX) return false;
    h->runs++;
    sim_start(h->sim, h->seed, plan);
    return !h->world->schedule(h->sim);
}

static void fewer_steps(struct search *h, struct sim_plan *plan, uint64_t enough)
{
    for (uint64_t low = 0; enough - low > 1;) {
        struct sim_plan try = *plan;
        try.steps = low + (enough - low) / 2;
        if (fails(h, &try))
            enough = try.steps;
        else
            low = try.steps;
    }
    plan->steps = enough;
}

/* Tries without the faults for which `left` is true. */
static bool leave_out(struct search *h, struct shrink *out, const bool *left)
{
    static struct sim_happened kept[SIM_HAPPENED_MAX];
    struct sim_plan try = out->plan;
    try.fault = kept;
    try.fault_count = 0;
    for (size_t i = 0; i < out->plan.fault_count; i++)
        if (!left[i]) kept[try.fault_count++] = out->fault[i];
    if (try.fault_count == out->plan.fault_count || !fails(h, &try)) return false;
    memcpy(out->fault, kept, try.fault_count * sizeof *kept);
    out->plan.fault_count = try.fault_count;
    return true;
}

static void fewer_faults(struct search *h, struct shrink *out)
{
    static bool left[SIM_HAPPENED_MAX];
    for (int kind = 0; kind < SIM_FAULT_KINDS; kind++) {
        for (size_t i = 0; i < out->plan.fault_count; i++) left[i] = out->fault[i].kind == (enum sim_fault)kind;
        (void)leave_out(h, out, left);
    }
    for (size_t part = (out->plan.fault_count + 1) / 2; part > 0; part /= 2) {
        for (size_t from = 0; from < out->plan.fault_count;) {
            for (size_t i = 0; i < out->plan.fault_count; i++) left[i] = i >= from && i - from < part;
            if (!leave_out(h, out, left)) from += part;
        }
    }
}

void sim_shrink(const struct sim_world *w, struct sim *s, struct shrink *out)
{
    struct search h = {.world = w, .sim = s, .seed = s->seed};
    out->plan =
        (struct sim_plan){.steps = s->steps, .only = true, .fault = out->fault, .fault_count = s->happened_count};
    memcpy(out->fault, s->happened, s->happened_count * sizeof *s->happened);
    fewer_steps(&h, &out->plan, s->steps);
    fewer_faults(&h, out);
    fewer_steps(&h, &out->plan, out->plan.steps);
    sim_start(s, h.seed, &out->plan);
    (void)w->schedule(s);
}
