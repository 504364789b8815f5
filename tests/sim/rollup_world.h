/* The world of the roll-up: runners and a broker, several aggregators, a Redis of some shards, an archiver and the
 * ledger that it writes.
 *
 * The aggregators are the program's own: aggregator.c, sync.c, restore.c and everything under them, the archiver and
 * the scripts likewise. What is ours are the things they talk to: consumer.h, redis_store.h (over redis_lua.h),
 * txlog.h (ledgers.h), clock, loop and log (ports.h).
 *
 * NESTING  the one thread runs one process's turn at a time; but whenever a process calls Redis, the others may go on
 *          for a while before the call takes effect and before its answer is read: so a process is frozen in the
 *          middle of anything, for as long as it takes to lose its partitions, and goes on as a zombie. A process that
 *          is killed in a call has every later call fail until its turn has unwound.
 *
 * ERAS     a schedule is one or two storms of faults, each followed by quiet in which everything must come right.
 *          Between them a month passes: the log forgets what is archived, minutes and runs expire.
 *
 * ORACLE   the world keeps every row that a runner accepted and the place of every batch in the log; what counts
 *          follows from proto/batch.md and design.md alone, by its own arithmetic (rollup_oracle.c).
 *
 * rollup.c holds the schedule, rollup_staged.c what chance does not bring about, rollup_runner.c runners and broker,
 * rollup_consumer.c and rollup_redis.c what the programs talk to, rollup_process.c the programs, rollup_check.c what
 * must be true, rollup_answers.c what the API says of it, rollup_health.c what must be told, rollup_damage.c
 * what must not be gone on with. */
#ifndef SIM_ROLLUP_WORLD_H
#define SIM_ROLLUP_WORLD_H

#include "aggregator/billing/exporter.h"
#include "aggregator/rollup/aggregator.h"
#include "tests/sim/arena.h"
#include "tests/sim/events_log.h"
#include "tests/sim/ledgers.h"
#include "tests/sim/redis_state.h"
#include "tests/sim/sim.h"

enum { TEAMS = 4, PROJECTS = 2, PARTS_MAX = 3, SHARDS_MOST = 3, RUNNERS_MAX = 4, PROCESSES = 4, SANDBOXES_MAX = 512 };
enum { REQUEST_BATCHES = 3, REQUESTS_MAX = 64, LATE_MAX = 16, ACTIVE_MAX = 4, NESTED_MAX = 3 };
enum { GRACE_MS = 5 * MINUTE_MS, RISES = 5 };
#define ROLLUP_START INT64_C(1763850000000)

/* ---- what runners accept ---- */

enum row_kind { ROW_SLICE, ROW_START, ROW_STATE, ROW_END, ROW_EXEC, ROW_CALL, ROW_KINDS };

struct rollup_row {
    uint8_t kind;
    uint32_t sandbox; /* of a call: team + TEAMS * project */
    uint32_t value;   /* origin, state, reason, exit code; of a call operation * 1000 + status */
    uint32_t length;
    int64_t at;
    uint64_t rise[RISES]; /* cpu, rx, tx, read, write */
};

struct rollup_sandbox {
    char id[24];
    uint32_t runner, team, project, vcpus, mem_mib, disk_mib, era;
    bool running, ended;
    int64_t created; /* as the first batch that counts says; 0: none does */
};

struct rollup_batch {
    uint32_t runner;
    uint64_t epoch, seq;
    size_t row, row_count; /* rows of the world */
    uint8_t *bytes;
    size_t length;
    int64_t ct, least;        /* earliest row; INT64_MAX: none */
    bool source_gap;          /* it tells of numbers 5..7 that never came */
    struct oracle_part *part; /* what it brings, once that was reckoned (rollup_oracle.h), in the world's memory */
    size_t parts;
};

/* What stands at an offset. */
enum verdict { COUNTS, DUPLICATE, UNREADABLE };
struct rollup_place {
    uint32_t batch;
    enum verdict verdict;
    uint64_t gap_first, gap_last; /* 0: no jump */
    int64_t time;
};

/* A request on its way, or appended and not committed. */
struct rollup_request {
    uint32_t runner, instance, batch[REQUEST_BATCHES];
    size_t count;
    int64_t sent;
    bool appended;
};

struct rollup_runner {
    uint32_t partition, instance;
    uint64_t epoch;
    uint32_t *spool; /* batches of this epoch, by seq - 1 */
    size_t sealed, sent, cursor, capacity;
    bool in_flight, acked; /* one request; it is committed and the answer is on its way */
    int64_t floor;         /* no later row is earlier */
    int64_t from, to;      /* when the rows of the batch under way are */
    int64_t away_until;    /* it is not heard of */
    uint8_t sha256[SHA256_BYTES];
    uint32_t active[ACTIVE_MAX];
    size_t active_count;
    uint64_t counted_epoch, counted_seq; /* as of the log's end */
};

struct rollup_topic {
    struct rollup_place *place; /* by offset */
    size_t capacity;
    uint64_t committed; /* what readers see the end of */
    struct rollup_request request[REQUESTS_MAX];
    size_t requests;
    uint64_t withheld; /* who reads gets nothing from here on; 0: all there is */
    uint64_t lost;     /* of what is committed, so many at the end are gone */
};

/* ---- what programs talk to ---- */

struct rollup_shard {
    struct redis_state now, old; /* old: a primary that does not know that it was replaced */
    bool has_old;
    int64_t away_until;
    unsigned watched;     /* after each of so many chunks it is looked at */
    uint64_t stale_reads; /* so many of the next are answered by a replica that lags */
    bool cut_next;        /* flushes are cut until one has not come to its end */
    bool late_next;       /* the next flush is given up, and comes late: in the middle of one that has more chunks */
    bool meets;           /* that one is on its way */
};

/* A script whose caller has given up waiting. */
struct rollup_late {
    uint32_t shard;
    struct store_request request;
    char *bytes;
};

struct rollup_process {
    struct sim_actor actor;
    bool alive, busy, member;
    bool old[SHARDS_MOST]; /* talks to the old primary */
    int64_t asleep_until;
    bool pending, assigned[PARTS_MAX]; /* an assignment that it was not told yet */
    struct aggregator_config config;
    struct aggregator aggregator;
};

struct rollup_world {
    struct sim *sim;
    uint32_t parts, shards, runners, era;
    int64_t era_start;
    size_t rows_most, chunk_cells;
    bool slow; /* aggregators get a message or two at a time and flush often: they stand where they stood before */
    struct rollup_row *row;
    size_t rows, row_capacity;
    struct rollup_batch *batch;
    size_t batches, batch_capacity;
    struct arena reckoned;
    struct rollup_sandbox sandbox[SANDBOXES_MAX];
    size_t sandboxes;
    struct batch_builder *builder;
    struct rollup_runner runner[RUNNERS_MAX];
    struct events_log log;
    struct rollup_topic topic[PARTS_MAX];
    struct rollup_shard shard[SHARDS_MOST];
    struct rollup_late late[LATE_MAX];
    size_t lates;
    struct rollup_process *process; /* PROCESSES */
    struct rollup_process *acting;
    struct exporter *archiver; /* of which the archiver is all that runs; NULL: others archive */
    struct exporter_config archiver_config;
    bool archiving; /* the archiver is in the middle of a call */
    unsigned depth, incarnations;
    uint64_t steps_end;         /* of this storm */
    bool kafka_silent;          /* nothing comes of it, no answer and no error */
    bool twins, two_lost, meet; /* what is staged when the storm is over (rollup_staged.c) */
    bool leaves;                /* one of the runners does, when the storm is over */
    uint32_t gone;              /* that one; as many as there are runners: none */
    bool hurried;               /* in this quiet messages come as fast as they are taken */
    /* What goes on while a program waits; NULL: rollup_step. */
    void (*others)(void *arg);
    void *others_arg;
};

/* It lives, and is not stopped. */
static inline bool rollup_awake(const struct rollup_world *w, const struct rollup_process *p)
{
    return p->alive && p->asleep_until <= w->sim->now;
}

/* One of the world's faults happens now; never in quiet. */
bool rollup_fault(struct rollup_world *w, enum sim_fault kind);
/* One step of the storm: time, runners, broker, programs, misfortunes. */
void rollup_step(struct rollup_world *w);

/* w->sim, parts, shards and runners are set. */
void rollup_begin(struct rollup_world *w);
/* Frees what w holds. */
void rollup_end(struct rollup_world *w);
/* The parts of a step: what befalls Redis and the programs; a program's turn. */
void rollup_misfortune(struct rollup_world *w);
void rollup_programs_act(struct rollup_world *w);
/* The storm is over: nobody talks to old primaries, who sleeps has lost its partitions, somebody has them. */
void rollup_calm(struct rollup_world *w);
/* A shard fails over, and back when both primaries have the same vector (rollup_staged.c). */
void rollup_twins(struct rollup_world *w);
/* A shard that was rolled back reads again, and another one is lost meanwhile. */
void rollup_two_lost(struct rollup_world *w);
/* A flush that was given up arrives between two chunks of the next one, which knows more. */
void rollup_flushes_meet(struct rollup_world *w);
/* In quiet: all shards are emptied, which they were before, and others fill them anew. */
void rollup_rebuild(struct rollup_world *w, struct redis_state before[static SHARDS_MOST]);
/* In quiet: turns until everything that is committed is in, and, archived, in the archive. */
void rollup_settle(struct rollup_world *w, bool archived);

/* ---- runners and broker ---- */

void rollup_runners_begin(struct rollup_world *w);
void rollup_runners_end(struct rollup_world *w);
/* The runner seals a batch. idle: of no rows, with the time of now. */
void rollup_produce(struct rollup_world *w, struct rollup_runner *q, bool idle);
void rollup_send(struct rollup_world *w, struct rollup_runner *q);
/* Some request reaches the leader of the partition. */
void rollup_append(struct rollup_world *w, uint32_t partition);
/* What was appended is committed. */
void rollup_commit(struct rollup_world *w, uint32_t partition);
/* The runner learns what was committed. */
void rollup_acknowledge(struct rollup_world *w, struct rollup_runner *q);
void rollup_runner_restarts(struct rollup_world *w, struct rollup_runner *q);
void rollup_spool_lost(struct rollup_world *w, struct rollup_runner *q);
/* What was not committed is gone from the log; living producers send it again. */
void rollup_leader_moves(struct rollup_world *w, uint32_t partition);
/* Everything that is sealed comes into the log. */
void rollup_runners_drain(struct rollup_world *w);

/* ---- programs ---- */

/* Consumers that are made belong to this world. */
void rollup_consumers_begin(struct rollup_world *w);
/* Who acts from now on; NULL: nobody of this world. */
void rollup_act(struct rollup_world *w, struct rollup_process *p);
void rollup_process_begin(struct rollup_world *w, struct rollup_process *p);
void rollup_process_end(struct rollup_world *w, struct rollup_process *p);
/* One turn; a process that has died in it is gone. */
void rollup_process_turn(struct rollup_world *w, struct rollup_process *p);
/* The members share the partitions anew. */
void rollup_rebalance(struct rollup_world *w);
/* A portion of the archiver's round for some shard. True: its round is complete, and nothing is left to be archived. */
bool rollup_archive(struct rollup_world *w, uint32_t shard);
void rollup_archiver_begin(struct rollup_world *w);
void rollup_archiver_end(struct rollup_world *w);

/* ---- Redis ---- */

/* Stores that are made belong to this world; NULL: to none, and are of no use. */
void rollup_redis_begin(struct rollup_world *w);
/* A store of somebody who looks at the shards as they are; redis_store_free. */
struct redis_store *rollup_onlooker(struct rollup_world *w);
/* A late script takes effect. */
void rollup_late_arrives(struct rollup_world *w);
void rollup_late_drop(struct rollup_world *w);
void rollup_roll_back(struct rollup_world *w, uint32_t shard);
void rollup_empty(struct rollup_world *w, uint32_t shard);
void rollup_fail_over(struct rollup_world *w, uint32_t shard);
/* There is one primary again; wins: the old one. */
void rollup_old_gone(struct rollup_world *w, uint32_t shard, bool wins);

/* ---- what must be true ---- */

/* Of any state at any time: the watermark claims no more than the log does. */
void rollup_check_claims(struct rollup_world *w, uint32_t shard, const struct redis_state *s);
/* Of any state at any time: cells are true at their own offsets, the vector claims no more than they hold, and the
 * watermark no more than the log does. whole: of the newest state in quiet: everything is in, indexed and reported. */
void rollup_check_state(struct rollup_world *w, uint32_t shard, const struct redis_state *s, bool whole);
/* At any time: what the API tells of gaps and of silent runners is so (rollup_answers.c). */
void rollup_check_answers(struct rollup_world *w);
/* Whether it says now that the runner is silent. */
bool rollup_tells_silence(struct rollup_world *w, uint32_t runner);
/* In quiet, at the end: what no program can put right, and what they do about it (rollup_damage.c). */
void rollup_check_damage(struct rollup_world *w);
/* In quiet: who misses an answer says so in time, and all is well again (rollup_health.c). */
void rollup_check_health(struct rollup_world *w);
/* The shard was rebuilt: cells, marks and gaps are the same bytes as before, when its state was found right and whole;
 * so sums are not reckoned again. (What rollup_check_health did to it since then would differ.) Everything is in,
 * indexed and reported. */
void rollup_check_rebuilt(struct rollup_world *w, uint32_t shard, const struct redis_state *before,
                          const struct redis_state *now);
/* The same of the bytes alone. */
void rollup_check_same(struct rollup_world *w, const struct redis_state *before, const struct redis_state *now);

#endif
