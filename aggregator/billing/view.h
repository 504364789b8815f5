/* The Redis view as the exporter uses it: hours that changed, snapshots of their cells, and the billing cells.
 *
 * A snapshot is one script: cells and vector of one moment. All else may be stale or torn; the plan bears that. Errors
 * as in store/redis_store.h, CORRUPT for a text that is none of ours and on which all others rest (a single one of many
 * is passed by and counted); nothing read is ever quoted. */
#ifndef BILLING_VIEW_H
#define BILLING_VIEW_H

#include "aggregator/billing/cycle.h"
#include "aggregator/store/redis_store.h"

enum { VIEW_DUE_MAX = 4096, VIEW_HOURS_MAX = 64, VIEW_ROWS_MAX = 200 };

/* For scripts: what a command reads, or '' where the key is of another type, which so stops nothing but itself. Any
 * other error is the script's. */
#define VIEW_LUA_READ                                                                                                  \
    "local function read(...)\n"                                                                                       \
    "  local found = redis.pcall(...)\n"                                                                               \
    "  if type(found) ~= 'table' or not found.err then return found end\n"                                             \
    "  return string.find(found.err, 'WRONGTYPE', 1, true) and '' or redis.call(...)\n"                                \
    "end\n"

/* What a shard says of itself. */
struct view_head {
    bool ready;                       /* meta says so */
    uint32_t partitions;              /* 0: not known */
    uint64_t ledger_at;               /* one past the ledger offset up to which the billing cells are written */
    struct watermark mark;            /* unknown while it is not ready */
    uint64_t vouched[PARTITIONS_MAX]; /* by partition: below this offset every cell is whole */
};
/* Reads it. grace_ms: a runner silent for longer does not hold the watermark back. */
SG_MUST_USE enum sg_error view_head(struct redis_store *s, uint32_t shard, int64_t grace_ms, struct view_head *out,
                                    struct sg_fault *f);

/* A hash that is read round and round, a portion at a time. Zeroed is the beginning. */
struct view_cursor {
    char text[24];
};
/* The next portion of `due`, at least one field if there is any; *count of out[0..VIEW_DUE_MAX). *wrapped: the end was
 * reached. A field that is not understood is passed by, and counted in *unread. */
SG_MUST_USE enum sg_error view_due_read(struct redis_store *s, uint32_t shard, struct view_cursor *cursor,
                                        struct cycle_due *out, size_t *count, uint64_t *unread, bool *wrapped,
                                        struct sg_fault *f);
/* Removes those fields of `due` that still say this offset. */
SG_MUST_USE enum sg_error view_due_done(struct redis_store *s, uint32_t shard, const struct cycle_due *due,
                                        size_t count, struct sg_fault *f);

/* Removes those of the given fields of a shard's hash (due, arch) that still say their offset. */
SG_MUST_USE enum sg_error view_fields_done(struct redis_store *s, uint32_t shard, const char *hash,
                                           const char *const *fields, const uint64_t *offsets, size_t count,
                                           struct sg_fault *f);

/* Fills hours[0..count), count <= VIEW_HOURS_MAX, and the head of the same moment. An hour that is not understood says
 * so, and stands in no other's way. */
SG_MUST_USE enum sg_error view_snapshot(struct redis_store *s, uint32_t shard, int64_t grace_ms,
                                        struct cycle_hour *hours, size_t count, struct view_head *head,
                                        struct sg_fault *f);

/* Billing cells to write: proto/ledger.md, "In Redis". Zeroed is empty. */
struct view_rows {
    struct book_change row[VIEW_ROWS_MAX];
    struct id team[VIEW_ROWS_MAX], customer[VIEW_ROWS_MAX];
    struct book_entry entry[VIEW_ROWS_MAX];
    size_t count;
};
/* Adds a change (copied). rows->count < VIEW_ROWS_MAX. */
void view_rows_add(struct view_rows *rows, const struct book_change *change);
/* Writes and empties them. from: what `ledger` must say at least, else nothing is written (MISMATCH: cells were lost
 * since). Everything below the ledger offset `at` is now written. */
SG_MUST_USE enum sg_error view_rows_write(struct redis_store *s, uint32_t shard, struct view_rows *rows, uint64_t from,
                                          uint64_t at, struct sg_fault *f);

#endif
