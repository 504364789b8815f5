/* The archiver: copies closed windows' cells and partitions' marks from the view into the ledger (proto/archive.md), so
 * that the view can be rebuilt after the events topic has forgotten.
 *
 * A ROUND   goes through the shard's `arch`, a portion a turn: fields whose window is closed -> their cells -> records
 * -> one transaction -> fields removed that still say the offset that was read. At its end the marks of the partitions
 * at home here, if they moved since the last time.
 *
 * FAILURES  a cell that stands behind its field (a torn or rolled-back view), and one that is not understood, is left
 * for the next round; so is a portion that fails, and then the next round begins soon. All that is closed was in the
 * archive when a round has left nothing but the first of these. Anything that is archived twice is harmless: the higher
 * offset counts. An error of the ledger closes the shard. */
#ifndef BILLING_ARCHIVER_H
#define BILLING_ARCHIVER_H

#include "aggregator/billing/exporter.h"

/* One portion of a round; schedules the next. Errors as shard_cycle. */
SG_MUST_USE enum sg_error archiver_turn(struct exporter *x, struct shard *s, struct sg_fault *f);

#endif
