/* The world of the spool alone: its real code on the disk in memory, and a meter whose state is the number of its last
 * batch. Several batches may go before one sync, records are often of one length, and lives are short: what a torn
 * tail, a name or a page that is not on disk can do is seen at once.
 *
 * spool.c         the schedule, and what must be true at each start: all that was synced in a life that was told so is
 *                 there; nothing is that was not appended; each batch has the bytes it had; the state is that of the
 *                 last; the position is not beyond what Kafka has
 * spool_damage.c  damage that no power cut makes, on a copy of the disk, and what must be said of it */
#ifndef SIM_SPOOL_WORLD_H
#define SIM_SPOOL_WORLD_H

#include "collector/spool.h"
#include "tests/sim/disk.h"
#include "tests/sim/sim.h"

enum { SPOOL_LIVES = 40, SPOOL_CALLS = 24, SPOOL_SEQ_MAX = SPOOL_LIVES * SPOOL_CALLS, SPOOL_RECORD = 2048 };
enum { SPOOL_STATE_NUMBERS = 8 }; /* all but the first are 0: a record ends in zeros */

struct spool_world {
    struct sim *sim;
    struct disk disk, copy;
    struct spool_io io;
    struct spool spool;
    uint64_t segment_bytes, bytes_max;
    uint64_t state[SPOOL_STATE_NUMBERS]; /* [0]: the last batch that the recovered state covers */
    uint64_t appended, acked, delivered;
    uint64_t content[SPOOL_SEQ_MAX + 1];        /* what makes the bytes of a batch, by its number */
    uint64_t durable_before[SPOOL_SEQ_MAX + 1]; /* the newest that was on disk when this one was appended */
    bool full;
};

/* The bytes of a batch; returns how many. */
size_t spool_world_batch(uint64_t content, uint8_t out[static SPOOL_RECORD]);
/* Opens w->spool by these calls of a disk, with the world's meter. */
SG_MUST_USE enum sg_error spool_world_open(struct spool_world *w, const struct spool_io *io, struct sg_fault *f);
/* Between two lives: of a copy of the disk a part is damaged or lost; starting on it, or reading from it, must say what
 * and where, or go on when nothing can prove the damage. */
void spool_world_damage(struct spool_world *w);

#endif
