/* The shipper's rules: which batch goes next, what a delivery report means, when a producer must go, when the cursor is
 * written, how old the lag is. Pure: numbers and times, which never fall, in; decisions out; shipper.c carries them
 * out.
 *
 * HAPPY PATH  may_start -> a producer -> next: a batch behind the last that was sent, while it fits the window -> sent
 *             -> report: in order, each by one -> reported is what the spool is told -> the cursor, once a second.
 * DOUBT       A report with an error or out of order, or what the caller calls doubt: nothing is sent any more and no
 *             report counts, until shipper_plan_retires() has taken everything back to the spool's position. What is
 *             behind it is sent again by the next producer, which waits for its backoff.
 *
 * INVARIANTS  the spool's position <= reported <= sent <= durable; the batches in flight are reported + 1 .. sent, at
 *             most SHIPPER_WINDOW_MESSAGES, and SHIPPER_WINDOW_BYTES and one batch. */
#ifndef COLLECTOR_SHIPPER_PLAN_H
#define COLLECTOR_SHIPPER_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/backoff.h"
#include "sandglass/time.h"

enum {
    SHIPPER_WINDOW_MESSAGES = 64,      /* sent and not yet reported */
    SHIPPER_WINDOW_BYTES = 512 << 10,  /* the same, in bytes; and one batch */
    SHIPPER_CURSOR_INTERVAL_MS = 1000, /* how often a moved cursor is written */
    SHIPPER_MARKS = 64,
};

/* All fields are the plan's own. */
struct shipper_plan {
    uint64_t sent_seq, reported_seq; /* handed to this producer; reported by it as delivered */
    uint64_t window_bytes;           /* of the messages between */
    bool doubt;                      /* this producer must go */
    struct backoff backoff;
    struct boot_ms start_at;  /* no producer before that */
    struct boot_ms cursor_at; /* when the cursor was last written */
    struct shipper_mark {     /* batches up to seq were durable at this time */
        uint64_t seq;
        struct boot_ms at;
    } mark[SHIPPER_MARKS]; /* oldest first, seq > delivered */
    size_t mark_count;
    uint64_t sent, delivered, delivered_bytes, restarts;
};

/* Nothing is in flight behind the spool's position. seed: so that runners that failed together differ. */
void shipper_plan_init(struct shipper_plan *p, uint64_t delivered_seq, uint64_t seed);

/* Whether a producer may be made now; if not, p->start_at says when. */
bool shipper_plan_may_start(const struct shipper_plan *p, struct boot_ms now);
/* It could not be made. */
void shipper_plan_not_started(struct shipper_plan *p, struct boot_ms now);

/* The batch to be sent next, durable_seq being the last on disk; 0: none. */
uint64_t shipper_plan_next(const struct shipper_plan *p, uint64_t durable_seq);
/* That batch was handed to the producer. */
void shipper_plan_sent(struct shipper_plan *p, size_t bytes);
/* A report of this producer for batch seq: delivered, or not. False: it was no good news; the producer must go. */
bool shipper_plan_report(struct shipper_plan *p, uint64_t seq, size_t bytes, bool delivered);
/* What the producer is worth is not known any more. */
void shipper_plan_doubt(struct shipper_plan *p);
/* True when the producer must go; then everything behind delivered_seq, the spool's position, is sent again. */
bool shipper_plan_retires(struct shipper_plan *p, uint64_t delivered_seq, struct boot_ms now);

/* Whether a cursor that has moved is to be written now; if not, *next is at most when it is. */
bool shipper_plan_saves_cursor(struct shipper_plan *p, struct boot_ms now, struct boot_ms *next);
/* Keeps in mind since when batches wait. Once a step. */
void shipper_plan_mark(struct shipper_plan *p, uint64_t delivered_seq, uint64_t durable_seq, struct boot_ms now);
/* How long the oldest batch that was not delivered has been waiting; 0: none. */
uint64_t shipper_plan_lag_age_ms(const struct shipper_plan *p, struct boot_ms now);

#endif
