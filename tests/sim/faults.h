/* Every kind of fault that a world may suffer: its name and what happens. */
#ifndef SIM_FAULTS_H
#define SIM_FAULTS_H

#define SIM_FAULTS(X)                                                                                                  \
    X(COMMIT_LOST, "the fate of a commit is not told")                                                                 \
    X(LEDGER_READ_TWICE, "a part of the ledger is read twice")                                                         \
    X(VIEW_STALE, "snapshots are read from a primary that was replaced")                                               \
    X(VIEW_CUT, "a flush of the view is cut between two writes")                                                       \
    X(VIEW_ROLLED_BACK, "the view is rolled back to an earlier state")                                                 \
    X(VIEW_EMPTIED, "the view is emptied")                                                                             \
    X(STRIPE_429, "Stripe throttles")                                                                                  \
    X(STRIPE_REFUSES, "Stripe refuses")                                                                                \
    X(STRIPE_500_BEFORE, "Stripe fails before it commits")                                                             \
    X(STRIPE_500_AFTER, "Stripe fails after it committed")                                                             \
    X(STRIPE_DROPS, "Stripe drops an event that it accepted")                                                          \
    X(STRIPE_CROSSED, "an answer belongs to another request")                                                          \
    X(ANSWER_CUT, "an answer is cut")                                                                                  \
    X(ANSWER_LOST, "an answer is lost")                                                                                \
    X(METER_OFF, "a meter is switched off for hours")                                                                  \
    X(EXPORTER_ADDED, "an exporter is added")                                                                          \
    X(EXPORTER_STOPPED, "an exporter is stopped for hours")                                                            \
    X(EXPORTER_KILLED, "an exporter is killed")                                                                        \
    X(WALL_CLOCK_STEPS, "an exporter's wall clock steps")

#endif
