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

/* A gap that the marks tell of, or a runner that is silent (open: to is 0). */
struct view_gap {
    struct id runner, region;
    struct wall_ms from, to;
};
/* Calls each for every known gap; kind and numbers are for the log and `sandglass status`. */
typedef enum sg_error view_each_gap(void *arg, const struct view_gap *gap);
/* As above. */
SG_MUST_USE enum sg_error view_gaps(struct view *v, view_each_gap *each, void *arg, struct sg_fault *f);

#endif
