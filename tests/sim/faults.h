/* Every kind of fault that a world may suffer: its name and what happens. New ones are added at the end: so seeds keep
 * their schedules. */
#ifndef SIM_FAULTS_H
#define SIM_FAULTS_H

#define SIM_FAULTS(X)                                                                                                  \
    X(COMMIT_LOST, "the fate of a commit is not told")                                                                 \
    X(LEDGER_READ_TWICE, "a part of the ledger is read twice")                                                         \
    X(VIEW_UNREAD, "a cell of an hour is not understood")                                                              \
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
    X(SUMMARY_LAGS, "summaries show for hours what they receive only hours later")                                     \
    X(SUMMARY_STALE, "a summary comes of a replica that is behind")                                                    \
    X(SUMMARY_UNTOLD, "a summary is asked for and not told")                                                           \
    X(SUMMARY_ODD, "a summary shows a number that is none of ours")                                                    \
    X(ANSWER_CUT, "an answer is cut")                                                                                  \
    X(ANSWER_LOST, "an answer is lost")                                                                                \
    X(METER_OFF, "a meter is switched off for hours")                                                                  \
    X(EXPORTER_ADDED, "an exporter is added")                                                                          \
    X(EXPORTER_REMOVED, "an exporter is asked to stop")                                                                \
    X(EXPORTER_STOPPED, "an exporter is stopped for hours")                                                            \
    X(EXPORTER_KILLED, "an exporter is killed")                                                                        \
    X(WALL_CLOCK_STEPS, "an exporter's wall clock steps")                                                              \
    X(BROKER_AWAY, "no broker answers")                                                                                \
    X(BROKER_ANSWER_LOST, "the answer to a producer is lost")                                                          \
    X(BATCH_MISSING, "a batch never comes")                                                                            \
    X(BATCH_UNREADABLE, "a message is no batch")                                                                       \
    X(SOURCE_GAP, "a runner tells of events that never came")                                                          \
    X(COLLECTOR_RESTARTS, "a collector restarts, with a request on its way")                                           \
    X(SPOOL_LOST, "a spool is lost")                                                                                   \
    X(RUNNER_VANISHES, "a runner is not heard of")                                                                     \
    X(LEADER_MOVES, "a leader moves; what was not committed is gone")                                                  \
    X(SCRIPT_CUT, "a script is cut in the middle")                                                                     \
    X(SCRIPT_LATE, "a script runs after its caller gave up")                                                           \
    X(REDIS_ANSWER_LOST, "Redis' answer is lost")                                                                      \
    X(REDIS_FULL, "Redis is out of memory")                                                                            \
    X(REDIS_AWAY, "a shard does not answer for a while")                                                               \
    X(REDIS_ROLLED_BACK, "a shard is rolled back")                                                                     \
    X(REDIS_EMPTIED, "a shard is emptied")                                                                             \
    X(REDIS_FAILS_OVER, "a shard fails over; some still talk to the old primary")                                      \
    X(REDIS_FAILS_BACK, "a shard fails over, and back when both primaries have the same vector")                       \
    X(REDIS_TWO_LOST, "a shard was rolled back and reads again, and another one is lost meanwhile")                    \
    X(FLUSHES_MEET, "a flush that was given up arrives in the middle of the next one")                                 \
    X(REDIS_READ_STALE, "the next reads of a shard are answered by a replica that lags")                               \
    X(AGGREGATOR_KILLED, "an aggregator is killed")                                                                    \
    X(AGGREGATOR_FROZEN, "an aggregator is frozen in a call, and loses its partitions")                                \
    X(AGGREGATOR_STOPPED, "an aggregator is stopped for minutes")                                                      \
    X(AGGREGATOR_ADDED, "an aggregator is added")                                                                      \
    X(AGGREGATOR_REMOVED, "an aggregator is removed")                                                                  \
    X(REBALANCE, "the partitions are shared anew")                                                                     \
    X(WRITE_SHORT, "a write to the spool is short")                                                                    \
    X(WRITE_FAILS, "a write to the spool fails")                                                                       \
    X(READ_FAILS, "a read of the spool fails")                                                                         \
    X(SYNC_FAILS, "a sync of the spool fails, and half is lost")                                                       \
    X(DISK_FULL, "the collector's disk is full")                                                                       \
    X(COLLECTOR_KILLED, "a collector is killed at one of its next calls")                                              \
    X(POWER_CUT, "a host's power is cut, and it boots anew")                                                           \
    X(HOST_SUSPENDED, "hosts sleep for hours")                                                                         \
    X(HOST_CLOCK_STEPS, "a host's wall clock steps")                                                                   \
    X(CONNECTION_CUT, "a supervisor loses its connection")                                                             \
    X(SOURCE_DOES_NOT_READ, "a supervisor does not read")                                                              \
    X(SOURCE_REPEATS, "a supervisor says lines again")                                                                 \
    X(DELIVERY_FAILS, "a delivery fails")                                                                              \
    X(REQUEST_LANDS_LATE, "a dead producer's request lands late")                                                      \
    X(LOG_FORGETS, "a month passes, and the log forgets")                                                              \
    X(SCRIPT_FAILS, "a script fails in the middle")                                                                    \
    X(LOG_ENDS_EARLY, "the log ends below what the view has of it")                                                    \
    X(MARKS_BEHIND, "marks stand behind their vector")                                                                 \
    X(VIEW_DAMAGED, "what a shard says of itself cannot be read, or is of another view")                               \
    X(CELL_DAMAGED, "a cell cannot be read")                                                                           \
    X(KEY_REVOKED, "Stripe does not accept the key for hours")                                                         \
    X(STRIPE_RARE, "Stripe, or who stands before it, answers as it rarely does")                                       \
    X(FOREIGN_WRITER, "somebody else's event is on a meter")                                                           \
    X(LEDGER_CUT, "the ledger loses its end")                                                                          \
    X(CONTROL_BROKEN, "a control fact does not follow the one before")                                                 \
    X(METER_REPLACED, "meters are replaced by such that count otherwise")                                              \
    X(FOREIGN_IDENTIFIER, "Stripe has somebody else's event of our identifier")                                        \
    X(SPOOL_DAMAGED, "a copy of a spool is damaged while nobody has it, or while it is read")                          \
    X(COUNTERS_BEGIN_ANEW, "all counters of a sandbox begin anew")                                                     \
    X(SOURCE_FLOODS, "a supervisor says a thousand lines that are refused, and reads nothing")                         \
    X(TABLE_FULL, "a collector may hold few sandboxes")                                                                \
    X(SOURCE_TALKS_NONSENSE, "a supervisor says what is refused, or what ends its session")                            \
    X(COLLECTOR_STOPS, "a collector is asked to stop")                                                                 \
    X(PRODUCER_FULL, "a producer does not take a batch")                                                               \
    X(MESSAGE_TOO_LARGE, "brokers refuse what is large, until somebody lets them take it")                             \
    X(PRODUCER_NOT_MADE, "no producer can be made")                                                                    \
    X(PRODUCER_IN_TROUBLE, "a producer tells of trouble, and may send nothing any more")                               \
    X(PROBE_FAILS, "Stripe cannot be reached for a moment")

#endif
