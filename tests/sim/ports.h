/* What every program of a simulated world talks to: clock, log, loop and service manager. Whoever acts is told to them
 * first: a program has a wall clock of its own, is asked to stop, and a dead one is asked to stop, too, so that it
 * unwinds; what it calls on its way is for its world to refuse. */
#ifndef SIM_PORTS_H
#define SIM_PORTS_H

#include "tests/sim/sim.h"

/* A program. */
struct sim_actor {
    char name[16];
    bool dead, stopping;
    int64_t skew_ms;   /* of its wall clock */
    int64_t booted_at; /* when its host's boot clock began; 0: like the others' */
    /* Others may go on: called wherever a program may be interrupted. NULL: nowhere but in its calls. */
    void (*interrupted)(void *arg);
    void *arg;
};

/* Time and trace are those of s, and nobody acts. */
void ports_begin(struct sim *s);
/* Who acts from now on; NULL: nobody. Returns who did before. */
struct sim_actor *ports_act(struct sim_actor *a);
/* NULL: nobody. */
struct sim_actor *ports_acting(void);

#endif
