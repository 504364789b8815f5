/* What the cells of one shard should hold, by the world's own arithmetic over the rows that count. */
#ifndef SIM_ROLLUP_ORACLE_H
#define SIM_ROLLUP_ORACLE_H

#include "tests/sim/arena.h"
#include "tests/sim/rollup_world.h"

struct oracle_extra {
    uint64_t value;
    uint32_t field;
};

/* Sums of a cell; of runs and their hours only running_ms, the rises and execs. Few have extra fields, so the room for
 * those is elsewhere: there are thousands of them, and they are gone through again and again. */
struct oracle_sums {
    uint64_t plain[PLAIN_FIELDS];
    struct oracle_extra *extra;
    uint32_t extras, room;
};

enum oracle_kind { ORACLE_ROLLUP, ORACLE_RUN, ORACLE_RUN_HOUR, ORACLE_KINDS };

/* Which cell: all of it is set, zeros too. No padding, as bytes are compared. */
struct oracle_name {
    uint32_t kind, window, partition, team, project, us;
    uint64_t sandbox;
    int64_t start;
};
_Static_assert(sizeof(struct oracle_name) == 6 * sizeof(uint32_t) + 2 * sizeof(uint64_t), "no padding");

/* What a batch brings to a cell. */
struct oracle_part {
    struct oracle_name name;
    struct oracle_sums sums;
};

struct oracle_cell {
    struct oracle_name name;
    bool stored;
    uint64_t stored_offset; /* what the stored cell says; 0: there is none */
    uint64_t last;          /* one past the last offset below the vector's that brings something to it */
    struct oracle_sums want, got;
};

/* Zeroed is empty. Its room is kept for the next use: the simulator makes thousands of them a second. */
struct oracle {
    struct oracle_cell *cell;
    size_t count, capacity;
    uint32_t *slot;
    uint32_t last[ORACLE_KINDS][WINDOW_KINDS]; /* index of the one asked for last */
    struct arena extras;
};

/* The last of a runner's newest epoch that counts; seq 0: there is none. */
struct oracle_heard {
    uint64_t epoch, seq;
    int64_t time, ct;
};

/* Empties. */
void oracle_reset(struct oracle *o);
/* Made when there is none. Until the next one is made. */
struct oracle_cell *oracle_cell(struct oracle *o, const struct oracle_name *name);
/* Every row of the shard's teams below what each cell says is added to what it should hold. Windows and runs of earlier
 * eras are left out where they do not live so long. vouched: by partition. */
void oracle_add_rows(struct oracle *o, struct rollup_world *w, uint32_t shard,
                     const uint64_t vouched[static PARTS_MAX]);
bool oracle_same(const struct oracle_sums *a, const struct oracle_sums *b);
/* Adds to an extra field of a cell's sums. */
void oracle_add(struct oracle *o, struct oracle_sums *s, uint32_t field, uint64_t value);
/* Of each runner what counts of a partition below the offset. */
void oracle_listen(const struct rollup_world *w, uint32_t p, uint64_t offset,
                   struct oracle_heard heard[static RUNNERS_MAX]);

#endif
