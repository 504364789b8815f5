/* Reading the view (proto/redis.md): what the API and the command line ask of Redis, as values.
 *
 * One script call reads what belongs together; long indexes are read in chunks. The watermark is read before the
 * numbers, so that it never claims more than they hold. Unreadable text in Redis is CORRUPT and names the key's kind: a
 * damaged view is rebuilt, not guessed at. Blocking; one thread per view (redis_store.h). */
#ifndef API_VIEW_H
#define API_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "aggregator/api/params.h"
#include "proto/cell.h"
#include "proto/mark.h"
#include "proto/run_cell.h"
#include "proto/vector.h"
#include "sandglass/error.h"

struct redis_store;

/* The store is borrowed. */
struct view {
    struct redis_store *store;
    uint32_t shards, partitions; /* partitions: from the shards' meta */
    int64_t grace_ms;
};

/* Reads a shard's meta: partitions. STATE: the view is being rebuilt (also when it is empty). */
SG_MUST_USE enum sg_error view_refresh(struct view *v, uint32_t shard, struct sg_fault *f);
/* The shard's watermark, and the newest moment heard of over its partitions. */
SG_MUST_USE enum sg_error view_watermark(struct view *v, uint32_t shard, struct watermark *out, struct wall_ms *heard,
                                         struct sg_fault *f);

/* One rollup, summed over its partitions. Valid during the call. */
struct view_rollup {
    struct wall_ms start;
    const char *project, *region;
    const struct sums *sums;
};
/* Takes a rollup; anything but OK ends the reading and is what it returns. */
typedef enum sg_error view_each_rollup(void *arg, const struct view_rollup *rollup);
/* Calls each for the team's rollups whose windows start in [from, to), ascending. */
SG_MUST_USE enum sg_error view_rollups(struct view *v, const char *team, enum window_kind w, struct wall_ms from,
                                       struct wall_ms to, view_each_rollup *each, void *arg, struct sg_fault *f);

/* One cell of a rollup as it is stored (proto/cell.h). Valid during the call. */
struct view_cell {
    struct wall_ms start;
    const char *project, *region;
    uint32_t partition;
    const char *text;
    size_t length;
};
/* Takes a cell; anything but OK ends the reading and is what it returns. */
typedef enum sg_error view_each_cell(void *arg, const struct view_cell *cell);
/* As view_rollups, cell by cell: by start, then by project and region as they stand in the index, then by partition. */
SG_MUST_USE enum sg_error view_cells(struct view *v, const char *team, enum window_kind w, struct wall_ms from,
                                     struct wall_ms to, view_each_cell *each, void *arg, struct sg_fault *f);

/* What fell into one hour of a run. */
struct view_run_hour {
    struct wall_ms start;
    struct run usage; /* only the counters are set */
};
/* A run over all partitions that tell of it: newest life's attributes, all lives' usage. Owns hour. */
struct view_run {
    struct id sandbox;
    struct run run;
    struct view_run_hour *hour; /* ascending; the sum over them is the run's usage */
    size_t hour_count;
};
/* Frees what r owns and zeroes it. */
void view_run_destroy(struct view_run *r);
/* Reads one run. NOT_FOUND: not known, or another team's. */
SG_MUST_USE enum sg_error view_run(struct view *v, const char *team, const char *sandbox, struct view_run *out,
                                   struct sg_fault *f);
/* Takes a run and where a list would go on behind it. */
typedef enum sg_error view_each_run(void *arg, const struct view_run *run, struct page behind);
enum view_runs { VIEW_RUNS_ENDED, VIEW_RUNS_ACTIVE };
/* Calls each for the team's ended runs, newest end first, or its active ones, newest first, from page on (page.set
 * false: from the top). each may return SG_ERR_LIMIT to end the reading; that is OK then. Runs whose record has expired
 * are skipped. */
SG_MUST_USE enum sg_error view_runs(struct view *v, const char *team, enum view_runs which, struct page page,
                                    view_each_run *each, void *arg, struct sg_fault *f);

/* A gap that the log tells of, or a runner that is silent (then `to` is 0: it goes on). */
struct view_gap {
    struct id runner, region;
    struct wall_ms from, to;
};
/* Takes a gap; anything but OK ends the reading. */
typedef enum sg_error view_each_gap(void *arg, const struct view_gap *gap);
/* Calls each for every known gap, over all partitions. */
SG_MUST_USE enum sg_error view_gaps(struct view *v, view_each_gap *each, void *arg, struct sg_fault *f);

/* What the runners said of themselves, by the collector's own sums: all epochs, all partitions. */
struct view_accepted {
    struct amount vcpu_ms, mem_mib_ms, disk_mib_ms, running_ms, events, refused;
};
/* Sums the marks. OVERFLOW. */
SG_MUST_USE enum sg_error view_accepted(struct view *v, struct view_accepted *out, struct sg_fault *f);

/* A runner's newest capacity and the peaks of the last hour; no team, no sandbox. */
struct view_capacity {
    struct id runner;
    struct capacity is;
    struct batch_capacity peak; /* of the last hour; only what is allocated counts */
};
/* Takes a runner's capacity; anything but OK ends the reading. */
typedef enum sg_error view_each_capacity(void *arg, const struct view_capacity *capacity);
/* Calls each once per runner. */
SG_MUST_USE enum sg_error view_capacities(struct view *v, view_each_capacity *each, void *arg, struct sg_fault *f);

/* One revision that was pushed (proto/ledger.md). */
struct view_revision {
    struct wall_ms hour;
    uint64_t revision;
    struct amount value, total;
    struct id customer;
    char meter[FIELD_NAME_BYTES_MAX], kind[16], state[16], identifier[128];
};
/* Takes a revision and where a list would go on behind it; SG_ERR_LIMIT ends the reading, which is OK then. */
typedef enum sg_error view_each_revision(void *arg, const struct view_revision *revision, struct page behind);
/* Calls each for the team's revisions of hours before `to`, newest hour first, from page on. */
SG_MUST_USE enum sg_error view_revisions(struct view *v, const char *team, struct wall_ms to, struct page page,
                                         view_each_revision *each, void *arg, struct sg_fault *f);
/* One account of an hour: what is accounted for, and the state of its newest revision. */
struct view_account {
    struct wall_ms hour;
    char meter[FIELD_NAME_BYTES_MAX], state[16];
    struct amount total;
};
/* Takes an account; anything but OK ends the reading. */
typedef enum sg_error view_each_account(void *arg, const struct view_account *account);
/* Calls each for the team's accounts, in no order. */
SG_MUST_USE enum sg_error view_accounts(struct view *v, const char *team, view_each_account *each, void *arg,
                                        struct sg_fault *f);
/* Takes a team that has rollups in a shard; anything but OK ends the reading. */
typedef enum sg_error view_each_team(void *arg, const char *team);
/* Calls each once per team of the shard, in no order. */
SG_MUST_USE enum sg_error view_teams(struct view *v, uint32_t shard, view_each_team *each, void *arg,
                                     struct sg_fault *f);

#endif
