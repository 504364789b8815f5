/* The cells in memory: the part of the view that the rollup is working on. Pure.
 *
 * LAYOUT      table: open addressing, a slot points to a cell, twice as many slots as cells. A *group* is what rollups
 * of one (partition, team, project, region) share; it lives as long as a cell or digest points to it, and remembers the
 * cells last used, since rows come in order of time. STATES      unread -> read (cell_load*, or never stored) -> dirty
 * (stands beyond the shard's vector) -> clean (the vector has reached it) -> forgotten. Only clean cells that nobody
 * touched for a while are forgotten, and unread ones; a shard in doubt forgets all of its cells. INVARIANTS  1. a cell
 * that is read holds the true sums of its partition's rows below `offset`.
 *             2. a cell with offset > the vector's offset is in its shard's dirty list, once.
 * Sums that do not fit stay at the largest number: then they are a function of the log in whatever order it is
 * replayed, which an aborted batch would not be; cells_saturated counts it. */
#ifndef ROLLUP_CELLS_H
#define ROLLUP_CELLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/cell.h"
#include "proto/run_cell.h"
#include "sandglass/time.h"

enum {
    CELLS_MINUTE_KEPT_MS = 48 * HOUR_MS,
    CELLS_EXPIRY_STEP_S = 3600, /* expiries are rounded up, so that they are rarely written */
};
#define CELLS_RUN_KEPT_MS (30 * (int64_t)DAY_MS)

enum cell_kind { CELL_ROLLUP, CELL_RUN, CELL_RUN_HOUR };

/* Team, project and region in one partition. */
struct group {
    uint64_t hash;
    uint32_t partition, shard;
    uint32_t references;   /* cells and digests that point here */
    uint64_t digest;       /* number of the digest that used it last, */
    uint32_t digest_index; /* and its place there */
    struct cell *recent[WINDOW_KINDS];
    struct id team, project, region;
};

struct cell {
    uint64_t hash;
    uint64_t offset; /* one past the last batch that contributed */
    uint64_t digest; /* as in struct group */
    uint32_t digest_index;
    uint32_t touched;     /* flush in which it was used last */
    struct group *group;  /* of a rollup */
    struct wall_ms start; /* of the window or hour */
    struct wall_ms last;  /* message time of the last batch that contributed */
    int64_t expiry_s;     /* EXPIREAT that is certainly stored; 0: none */
    uint32_t partition, shard;
    uint8_t kind, window;
    bool read, dirty;
    bool wanted;  /* in a list of cells to be read */
    bool indexed; /* the vector has reached it once, so the index has it */
    bool reborn;  /* of a run: it has started since it was written last */
    struct sums sums;
    struct run *run; /* of a run; owned */
    char *sandbox;   /* of runs and their hours; owned */
};

/* Cells of a shard that stand beyond its vector. */
struct cell_list {
    struct cell **cell;
    size_t count, capacity;
};

/* Zeroed is not initialised. */
struct cells {
    struct cell **slot;
    size_t slot_count, count;
    struct group **group;
    size_t group_slot_count, group_count;
    struct cell_list *dirty; /* by shard */
    uint32_t shards;
    size_t sweep; /* slot where forgetting goes on */
    uint64_t saturated;
};

/* Empty. */
void cells_init(struct cells *c, uint32_t shards);
/* Frees all. Safe on a zeroed struct. */
void cells_destroy(struct cells *c);

/* Hash of an identifier, for cells_group and cells_run. */
uint64_t cells_hash(const char *id);
/* The group, made when there is none. hashes: of team, project, region. */
struct group *cells_group(struct cells *c, uint32_t partition, const char *team, const char *project,
                          const char *region, const uint64_t hashes[3]);
/* The cell of a rollup, made unread when there is none. */
struct cell *cells_rollup(struct cells *c, struct group *g, enum window_kind w, struct wall_ms start);
/* The cell of a run, likewise. */
struct cell *cells_run(struct cells *c, uint32_t partition, uint32_t shard, const char *sandbox, uint64_t hash);
/* The cell of one hour of a run, likewise. */
struct cell *cells_run_hour(struct cells *c, const struct cell *run, struct wall_ms hour);

/* What Redis has for an unread cell (NULL: nothing). vouched: the shard's vector offset for its partition.
 * MALFORMED and so on: as the codec says; the cell stays unread. */
SG_MUST_USE enum sg_error cells_load(struct cells *c, struct cell *cell, const char *text, size_t length,
                                     uint64_t vouched);
/* The cell has changed by the batch before offset. */
void cells_touch(struct cells *c, struct cell *cell, uint64_t offset, struct wall_ms message_time);
/* The shard's vector has reached vouched[partition]: cells that were written and stand below are clean. */
void cells_vouched(struct cells *c, uint32_t shard, const uint64_t *vouched);
/* When the cell is to expire, by the message time of its last batch; 0: never, or not known. */
int64_t cells_expiry_s(const struct cell *cell);
/* Forgets the cells of a shard (partition: UINT32_MAX) or of one partition in all shards (shard: UINT32_MAX). */
void cells_forget(struct cells *c, uint32_t shard, uint32_t partition);
/* Looks at so many slots and forgets clean and unread cells not touched since flush `before`; of all slots, all of
 * them. No digest may be waiting. */
void cells_sweep(struct cells *c, uint32_t before, size_t slots);

/* *sum += v, or the largest number. */
static inline void cells_add(struct cells *c, uint64_t *sum, uint64_t v)
{
    if (__builtin_expect(__builtin_add_overflow(*sum, v, sum), 0)) {
        *sum = UINT64_MAX;
        c->saturated++;
    }
}

#endif
