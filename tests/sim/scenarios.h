/* The bad days that have a name: those of design.md and of what is known of Kafka, Redis and Stripe. A scenario is a
 * world in which just these faults happen, and often. */
#ifndef SIM_SCENARIOS_H
#define SIM_SCENARIOS_H

#include "tests/sim/sim.h"

enum { SCENARIO_FAULTS_MAX = 6, SCENARIO_SOME = 20, SCENARIO_OFTEN = 100, SCENARIO_MOSTLY = 500 }; /* per mille */

static const struct sim_scenario {
    const char *name, *world, *text;
    struct {
        enum sim_fault kind;
        uint32_t rate; /* per mille; 0: ends the list */
    } fault[SCENARIO_FAULTS_MAX];
} sim_scenarios[] = {
    {"answer_lost_after_the_effect",
     "billing",
     "Stripe has taken the event, and the exporter never learns of it",
     {{SIM_ANSWER_LOST, SCENARIO_MOSTLY}}},
    {"stripe_fails_after_it_committed",
     "billing",
     "a 500 says nothing about what was done",
     {{SIM_STRIPE_500_AFTER, SCENARIO_OFTEN}, {SIM_STRIPE_500_BEFORE, SCENARIO_OFTEN}}},
    {"zombie_exporters",
     "billing",
     "exporters stopped for longer than a day go on with what they had begun",
     {{SIM_EXPORTER_ADDED, SCENARIO_OFTEN}, {SIM_EXPORTER_STOPPED, SCENARIO_OFTEN}}},
    {"commit_in_doubt",
     "billing",
     "the fate of a commit is decided by whoever comes next",
     {{SIM_COMMIT_LOST, SCENARIO_OFTEN}, {SIM_EXPORTER_KILLED, SCENARIO_OFTEN}}},
    {"clock_set_back",
     "billing",
     "an exporter's wall clock is set back by days, so that what Stripe has forgotten looks young",
     {{SIM_WALL_CLOCK_STEPS, SCENARIO_OFTEN},
      {SIM_EXPORTER_KILLED, SCENARIO_SOME},
      {SIM_EXPORTER_STOPPED, SCENARIO_SOME},
      {SIM_ANSWER_LOST, SCENARIO_OFTEN}}},
    {"old_primary_is_read",
     "billing",
     "an exporter reads its snapshots from a primary that was replaced",
     {{SIM_VIEW_STALE, SCENARIO_MOSTLY}}},
    {"view_rolled_back",
     "billing",
     "cells, vector and due are of an earlier time, or torn",
     {{SIM_VIEW_ROLLED_BACK, SCENARIO_OFTEN}, {SIM_VIEW_CUT, SCENARIO_OFTEN}, {SIM_VIEW_EMPTIED, SCENARIO_SOME}}},
    {"fenced_transaction",
     "billing",
     "exporters are added while others have transactions under way",
     {{SIM_EXPORTER_ADDED, SCENARIO_MOSTLY}, {SIM_COMMIT_LOST, SCENARIO_SOME}, {SIM_EXPORTER_KILLED, SCENARIO_OFTEN}}},
    {"killed_between_request_and_answer",
     "billing",
     "the request has left, and nobody is there for its answer",
     {{SIM_EXPORTER_KILLED, SCENARIO_MOSTLY}}},
    {"throttled_and_refused",
     "billing",
     "what Stripe did not execute is sent again with the same bytes",
     {{SIM_STRIPE_429, SCENARIO_OFTEN}, {SIM_STRIPE_REFUSES, SCENARIO_OFTEN}}},
    {"crossed_answers",
     "billing",
     "answers are cut, or belong to another request",
     {{SIM_STRIPE_CROSSED, SCENARIO_OFTEN}, {SIM_ANSWER_CUT, SCENARIO_OFTEN}}},
    {"identifiers_forgotten",
     "billing",
     "answers are lost and exporters stopped for longer than Stripe remembers",
     {{SIM_ANSWER_LOST, SCENARIO_MOSTLY}, {SIM_EXPORTER_STOPPED, SCENARIO_OFTEN}, {SIM_METER_OFF, SCENARIO_OFTEN}}},
    {"refused_after_it_was_accepted",
     "billing",
     "an event that was accepted is dropped later: Stripe is short of just that, and of nothing else",
     {{SIM_STRIPE_DROPS, SCENARIO_OFTEN}, {SIM_ANSWER_LOST, SCENARIO_OFTEN}}},
    {"ledger_read_twice",
     "billing",
     "a part of the ledger is read again",
     {{SIM_LEDGER_READ_TWICE, SCENARIO_MOSTLY}, {SIM_EXPORTER_KILLED, SCENARIO_SOME}}},
    {"meter_deactivated", "billing", "a meter is off for hours", {{SIM_METER_OFF, SCENARIO_OFTEN}}},
};

enum { SIM_SCENARIOS = sizeof sim_scenarios / sizeof *sim_scenarios };

#endif
