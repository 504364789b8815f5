/* The rules of a cycle: which of the hours that changed can be billed, what is asked about each, and when an hour needs
 * no further look. Pure.
 *
 * CLOSED   a hour is billed once the watermark is past its end and the close delay: all of its usage is in, but for
 *          what comes late, which makes another revision.
 * PENDING  a team without a customer is not looked at, unless its hour was already pushed under one.
 * DONE     an hour leaves `due` when every meter of it is settled by a snapshot whose vector vouches for all that `due`
 *          spoke of. One that shows less, because the view was rolled back or a flush was cut between the cells of two
 *          projects, settles nothing. */
#ifndef BILLING_CYCLE_H
#define BILLING_CYCLE_H

#include "aggregator/billing/meters.h"
#include "aggregator/store/control_view.h"
#include "proto/cell.h"
#include "proto/keys.h"
#include "proto/vector.h"

/* A field of `due`: the hour cells of a partition changed, and stand at offset. */
struct cycle_due {
    struct id team;
    struct wall_ms hour;
    uint32_t partition;
    uint64_t offset;
};

/* A run of `due` fields of one (team, hour). */
struct cycle_group {
    const struct cycle_due *first;
    size_t count;
};

/* One hour of one team in a snapshot. */
struct cycle_hour {
    /* in */
    const char *team;
    struct wall_ms hour;
    /* out */
    struct sums total;              /* over all cells; owned */
    uint64_t reach[PARTITIONS_MAX]; /* highest offset of the partition's cells; others of it may be missing */
    bool unread;                    /* a cell is not understood, or their total does not fit: there is no total */
};

/* Closed hours, by what stands in their way. */
struct cycle_tally {
    uint64_t waiting, pending, held;
    uint64_t lower;  /* totals below what is accounted for */
    uint64_t unread; /* hours, and fields of `due`, that are not understood */
};

/* What a cycle looks at. Borrowed. */
struct cycle {
    const struct book *book;
    const struct control_view *facts;
    const struct meter_slot *meter;
    size_t meter_count;
    const char *account; /* at Stripe */
    int64_t close_delay_ms;
    struct watermark mark;   /* of the moment that is looked at */
    const uint64_t *vouched; /* likewise, by partition: below this offset every cell is whole; PARTITIONS_MAX */
};

/* Cuts due[0..count), which is sorted for that, into the groups that are closed and can be billed; out has room for
 * count. Returns how many. */
size_t cycle_groups(const struct cycle *c, struct cycle_due *due, size_t count, struct cycle_group *out,
                    struct cycle_tally *t);
/* Asks about every meter of an hour of a snapshot; what is to be committed goes to records[*count..], up to one record
 * a meter, and borrows positions. True: once that is committed, g may leave `due`. */
bool cycle_plan(const struct cycle *c, const struct cycle_group *g, const struct cycle_hour *h, struct wall_ms now,
                char positions[static LEDGER_POSITIONS_BYTES], struct ledger_record *records, size_t *count,
                struct cycle_tally *t);

#endif
