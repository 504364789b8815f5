/* The worlds: each runs one schedule from s->seed with real cores in it. Their wrong turns are in turns/<name>.turns.
 */
#ifndef SIM_WORLDS_H
#define SIM_WORLDS_H

#include "tests/sim/sim.h"

/* Totals -> book, plan, ledger -> Stripe (billing_world.h). */
bool billing_schedule(struct sim *s);
/* Runners -> log -> aggregators -> Redis, and the archive (rollup_world.h). */
bool rollup_schedule(struct sim *s);
/* Supervisors -> sessions, meter, spool, shipper's plan -> broker (collector_world.h). */
bool collector_schedule(struct sim *s);
/* The spool alone, on a disk that loses what was not synced (spool.c). */
bool spool_schedule(struct sim *s);
/* Collectors, roll-up and billing in one (pipeline_world.h). */
bool pipeline_schedule(struct sim *s);

/* False from schedule: something that must hold did not. */
static const struct sim_world {
    const char *name;
    bool (*schedule)(struct sim *s);
} sim_worlds[] = {
    {"billing", billing_schedule}, {"rollup", rollup_schedule},     {"collector", collector_schedule},
    {"spool", spool_schedule},     {"pipeline", pipeline_schedule},
};

enum { SIM_WORLDS = sizeof sim_worlds / sizeof *sim_worlds };

#endif
