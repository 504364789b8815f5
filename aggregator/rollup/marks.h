/* Marks of one partition: which batches count, and what its home shard keeps of its runners. Pure.
 *
 * RULES       (design.md, section 5; each was a counterexample in the model before it was a rule)
 *             1. at or beyond `at`: seq > last of (runner, epoch) counts, and a jump is a gap; seq <= last is a
 * duplicate, whose offset is remembered.
 *             2. below `at`, on replay: counts unless it is a remembered duplicate.
 *             3. every epoch of a runner keeps its own last seq.
 * STORED      what changed since the stored marks is written in one command, and only onto the marks that it is a
 * change of (their `at` is compared with what was last seen): so stored marks are always those of one offset. A torn
 *             flush of somebody else may have moved them without moving the vector. */
#ifndef ROLLUP_MARKS_H
#define ROLLUP_MARKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "aggregator/rollup/digest.h"
#include "proto/mark.h"
#include "proto/vector.h"

enum { MARKS_CHANGED_MAX = 2000 }; /* flush before more have changed: one command holds them */
enum { MARKS_CAPACITY_KEPT_MS = 2 * DAY_MS };

struct marks_runner {
    struct id runner;
    uint64_t epoch;
    uint64_t changed; /* value of `at` when it changed last */
    bool superseded;  /* the runner has a newer epoch: this one holds nothing back */
    struct mark mark;
};

/* A runner's newest capacity (hour.v == 0), or the peaks of one hour. */
struct marks_capacity {
    struct id runner;
    struct wall_ms hour;
    struct capacity capacity;
    bool changed, dropped;
};

struct marks_gap {
    uint64_t offset;
    uint32_t index;
    struct gap gap;
};

/* Zeroed is the marks of a partition of which nothing is known. */
struct marks {
    uint64_t at;
    uint64_t stored; /* `at` of the stored marks */
    bool present;    /* there are stored marks */
    struct marks_runner *runner;
    size_t runner_count, runner_capacity;
    uint32_t *slot; /* hash table of index + 1 */
    size_t slot_count;
    uint64_t *duplicate; /* offsets, ascending */
    size_t duplicate_count, duplicate_capacity;
    struct marks_capacity *capacity;
    size_t capacity_count, capacity_capacity;
    struct marks_gap *gap; /* not stored yet */
    size_t gap_count, gap_capacity;
    uint64_t duplicates, gaps, chain_breaks, quarantined; /* counters: rise until the caller takes them */
};

/* Frees and zeroes, but for the counters. */
void marks_clear(struct marks *m);
/* Frees. */
void marks_destroy(struct marks *m);
/* Decides about the batch and moves on: true when its rows count. */
SG_MUST_USE bool marks_decide(struct marks *m, const struct digest *d);
/* How many changes wait to be stored. */
size_t marks_changed(const struct marks *m);
/* Everything up to `at` is stored, and the first duplicates below the log's start, dropped_max at most, are deleted. */
void marks_stored(struct marks *m, uint64_t log_start, size_t dropped_max);
/* How many duplicates stand below an offset; those below the log's start are not needed any more. */
size_t marks_duplicates_below(const struct marks *m, uint64_t offset);
/* Adds the runners' staircase to e. */
void marks_staircase(const struct marks *m, struct vector_entry *e);

/* Loading: one field of the stored hash `marks:<p>`, of `cap:<p>`. MALFORMED. */
SG_MUST_USE enum sg_error marks_load(struct marks *m, const char *field, size_t field_length, const char *text,
                                     size_t length);
/* As above. */
SG_MUST_USE enum sg_error marks_load_capacity(struct marks *m, const char *field, size_t field_length, const char *text,
                                              size_t length);
/* All fields are loaded (none: there are no stored marks). vouched: the home shard's vector offset. CORRUPT: the marks
 * stand behind it. */
SG_MUST_USE enum sg_error marks_loaded(struct marks *m, uint64_t vouched);

#endif
