/* What every simulated world shares: dice, faults by seed, the first failure. No threads, no real time, no I/O but
 * printing.
 *
 * SWARM   at a schedule's start each kind of fault gets a rate: none, low or high; a scenario sets them all. A fault's
 *         own dice are a hash of (seed, kind, running number), so that leaving one fault out does not shift the others.
 * PLAN    what of a seed's schedule is run: all of it, or, when a failure is shortened, so many steps and so many of
 *         the faults that it had.
 * TURNS   sim_turn is 0 for the code that ships; else the wrong turn that the product's code takes (turns.py). */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/sim/faults.h"

#define SIM_ENUM_FAULT(name, text) SIM_##name,
enum sim_fault { SIM_FAULTS(SIM_ENUM_FAULT) SIM_FAULT_KINDS };

enum { SIM_HAPPENED_MAX = 4096 }; /* faults of one schedule that are remembered */

/* The number-th time that the kind was asked for. */
struct sim_happened {
    enum sim_fault kind;
    uint64_t number, step;
    int64_t now;
};

/* Zeroed: all of a schedule, rates by seed. */
struct sim_plan {
    const uint32_t *rates;            /* per mille, by kind; NULL: by seed */
    uint64_t steps;                   /* of the faulty phase; 0: as many as the world has */
    bool only;                        /* just these faults happen */
    const struct sim_happened *fault; /* fault_count of them */
    size_t fault_count;
};

struct sim {
    uint64_t seed, random;
    int64_t now; /* ms */
    bool quiet, failed, trace;
    char why[256];
    const struct sim_plan *plan;
    uint32_t rate[SIM_FAULT_KINDS]; /* per mille */
    uint64_t injected[SIM_FAULT_KINDS], asked[SIM_FAULT_KINDS];
    struct sim_happened happened[SIM_HAPPENED_MAX];
    size_t happened_count;
    uint64_t steps, rows, checks;
};

/* Zeroes s and draws its rates. The plan is borrowed. */
void sim_start(struct sim *s, uint64_t seed, const struct sim_plan *plan);
/* The world's own dice: below `below`, which is at least 1. */
uint64_t sim_draw(struct sim *s, uint64_t below);
/* Does a fault of this kind happen now? */
bool sim_fault(struct sim *s, enum sim_fault kind);
/* Before each step of the phase in which faults happen: false when it is over, by the plan or by a failure. */
bool sim_goes_on(struct sim *s);
/* The first one is kept. */
void sim_fail(struct sim *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_trace(struct sim *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A kind of fault by its name in lower case; SIM_FAULT_KINDS when there is none. */
enum sim_fault sim_fault_named(const char *name, size_t length);
const char *sim_fault_name(enum sim_fault kind);
const char *sim_fault_text(enum sim_fault kind);

#endif
