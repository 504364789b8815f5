/* The worlds: each runs one schedule from s->seed with real cores in it. False: something that must hold did not. */
#ifndef SIM_WORLDS_H
#define SIM_WORLDS_H

#include "tests/sim/sim.h"

/* Totals -> book, plan, ledger -> Stripe (billing_world.h). */
bool billing_schedule(struct sim *s);

#endif
