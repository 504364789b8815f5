/* What every simulated world shares: dice, faults by seed, the first failure. No threads, no real time, no I/O but
 * printing.
 *
 * SWARM   at a schedule's start each kind of fault gets a rate: none, low or high. A fault's own dice are a hash of
 *         (seed, kind, running number), so that leaving one fault out does not shift the others.
 * TURNS   sim_turn is 0 for the code that ships; else the wrong turn that the product's code takes (turns.py). */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/sim/faults.h"

#define SIM_ENUM_FAULT(name, text) SIM_##name,
enum sim_fault { SIM_FAULTS(SIM_ENUM_FAULT) SIM_FAULT_KINDS };

struct sim {
    uint64_t seed, random;
    int64_t now; /* ms */
    bool quiet, failed, trace;
    char why[256];
    uint32_t rate[SIM_FAULT_KINDS]; /* per mille */
    uint64_t injected[SIM_FAULT_KINDS], asked[SIM_FAULT_KINDS];
    uint64_t rows, checks;
};

/* Zeroes s and draws its rates. */
void sim_start(struct sim *s, uint64_t seed);
/* The world's own dice: below `below`, which is at least 1. */
uint64_t sim_draw(struct sim *s, uint64_t below);
bool sim_fault(struct sim *s, enum sim_fault kind);
/* The first one is kept. */
void sim_fail(struct sim *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_trace(struct sim *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
