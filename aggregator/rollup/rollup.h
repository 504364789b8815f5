/* The rollup: Kafka's log into Redis' cells (design.md, section 5; the protocol of the model). Pure: batches and what
 * Redis answered in, reads and writes out; no descriptor, no clock.
 *
 * A PARTITION is taken, then every shard is asked for its vector (and its home shard for its marks): it is *known* to
 * all shards. It stands at `position`, the smallest offset of any vector. From there:
 *
 *   enqueue  a batch at the next offset becomes a digest and waits
 *   needs    cells that waiting digests touch and that were not read: the shell reads them, together with the vector
 *   apply    every waiting digest, in order: does it count (marks), then each of its rows that neither vector nor cell
 * has flush    per shard: dirty cells in chunks; with the last chunk gaps, capacities, marks, then the vector entries
 *   ack      "ok" to the last chunk: the vector has moved, cells are clean
 *   lost     anything else, for flush or read: the shard is forgotten, and unknown until it is read again; waiting
 * digests are dropped; the position goes back to what is stored
 *
 * INVARIANTS  (I1) a cell is the true sum of its partition's rows below its own offset; (I2) a vector entry never
 * claims more than the cells hold. What a flush writes depends on these two alone. BOUNDS      ROLLUP_QUEUE_MAX waiting
 * digests, cells_max cells: the shell flushes, then sweeps, before it enqueues more. */
#ifndef ROLLUP_ROLLUP_H
#define ROLLUP_ROLLUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "aggregator/rollup/cells.h"
#include "aggregator/rollup/digest.h"
#include "aggregator/rollup/marks.h"
#include "aggregator/rollup/wordlist.h"
#include "proto/vector.h"

enum {
    ROLLUP_QUEUE_MAX = 64, /* digests that wait for one read */
    ROLLUP_QUEUE_ROWS_MAX = 64 * 1024,
    ROLLUP_CHUNK_CELLS = 1000, /* cells of one script call (kafka-redis.md, section 6: 1-2 k) */
    ROLLUP_READ_CELLS = 2000,
    ROLLUP_DIRTY_MAX = 20000,       /* flush before more wait: a flush takes a second or two at most */
    ROLLUP_HEARD_REFRESH_MS = 5000, /* an idle partition's entry says this often that it still is at its end */
};
#define ROLLUP_NOWHERE UINT64_MAX

/* What a shard's vector says of a partition, as last seen. */
struct rollup_seen {
    bool known;
    bool judged; /* what the shard has was held against the log's start */
    char *text;  /* the stored entry; "" when there is none; owned */
    struct vector_entry entry;
    struct wall_ms held; /* least complete_through of what was applied beyond the entry; 0: nothing to wait for */
};

struct rollup_partition {
    bool taken;
    uint32_t id;
    uint64_t position;           /* everything below is applied; ROLLUP_NOWHERE until known to all shards */
    uint64_t next;               /* position, and what waits in the queue */
    uint64_t log_start;          /* nothing below exists any more */
    uint64_t told_from, told_to; /* what rollup_log_start has counted; whatever is forgotten, it is not again */
    struct wall_ms heard;
    struct rollup_seen *seen; /* by shard */
    uint64_t *vouched;        /* by shard: seen.entry.offset */
    struct marks marks;
};

struct rollup_flush;

struct rollup {
    uint32_t shards, partitions;
    struct rollup_partition *partition; /* by number */
    struct cells cells;
    struct digester digester;
    struct digest *queue; /* ROLLUP_QUEUE_MAX */
    uint32_t *queue_partition;
    size_t queue_first, queue_count, queue_rows; /* waiting: [first, count) */
    size_t chunk_cells;                          /* ROLLUP_CHUNK_CELLS; tests want less */
    uint64_t nonce;         /* no other process's, nor that of an earlier life: the caller's to set */
    uint32_t flushes;       /* rises; what cells.touched counts in */
    uint64_t batches, rows; /* counters: applied */
};

/* Nothing is taken. shards <= SHARDS_MAX, partitions <= PARTITIONS_MAX. */
void rollup_init(struct rollup *r, uint32_t shards, uint32_t partitions);
/* Frees. Safe on a zeroed struct. */
void rollup_destroy(struct rollup *r);

/* ---- partitions and shards ---- */

/* Starts with a partition: unknown to all shards. Nothing when it is taken. */
void rollup_take(struct rollup *r, uint32_t partition);
/* Forgets a partition. The queue is dropped: partitions stand at their positions. */
void rollup_drop(struct rollup *r, uint32_t partition);
/* True when some taken partition is unknown to the shard: read it (rollup_know). */
bool rollup_unknown(const struct rollup *r, uint32_t shard);
/* True when nothing is unknown: batches can be enqueued at rollup_next. */
bool rollup_ready(const struct rollup *r);
/* The shard is in doubt: forgets what it is said to hold. Drops the queue. */
void rollup_lost(struct rollup *r, uint32_t shard);

/* What a shard has of a partition. marks: its hash `marks:<p>`, caps: `cap:<p>`, as field, value, field, value ...;
 * read in the same script as the vector, and NULL unless this is the partition's home shard. */
struct rollup_stored {
    const char *entry; /* "" when there is none */
    size_t entry_length;
    const struct wordlist *marks, *caps;
};
/* A taken partition becomes known to a shard (again), and its position goes back to what is stored. Nothing when it
 * is known. CORRUPT, MALFORMED: a damaged store; stop. */
SG_MUST_USE enum sg_error rollup_know(struct rollup *r, uint32_t shard, uint32_t partition,
                                      const struct rollup_stored *stored, struct sg_fault *f);
/* True when rollup_log_start would say that something was missed, or start is past where the partition stands. Somebody
 * else may have it since it became known: so it is to become known again before. */
bool rollup_misses(const struct rollup *r, uint32_t partition, uint64_t start);
/* Nothing below start, which never falls, exists in the log any more (from Kafka). Moves the position there; returns
 * how many offsets were missed: were below it before a shard had them, from the log or by being restored. Each once.
 * Of a restored shard it is the least: what was still open when its marks were archived is in no archive, nor told. */
uint64_t rollup_log_start(struct rollup *r, uint32_t partition, uint64_t start);

/* Appends what a script must find before it reads or writes: n, then n times (partition, entry as last seen). */
void rollup_checks(const struct rollup *r, uint32_t shard, struct wordlist *w);

/* ---- batches ---- */

/* Offset of the next batch to enqueue. */
uint64_t rollup_next(const struct rollup *r, uint32_t partition);
/* True when nothing should be enqueued before rollup_apply. */
bool rollup_queue_full(const struct rollup *r);
/* The batch at rollup_next; b NULL: it could not be read. sha256: of its bytes. */
void rollup_enqueue(struct rollup *r, uint32_t partition, uint64_t offset, struct wall_ms message_time,
                    const struct batch *b, const uint8_t *sha256);
/* The cells of one shard that must be read. words: n, then n times (partition, entry as last seen), then key, field,
 * key, field ... of cell[0..count). */
struct rollup_read {
    struct wordlist words;
    struct cell **cell;
    size_t count, capacity;
};
/* Frees. */
void rollup_read_destroy(struct rollup_read *q);
/* Lists what waiting digests need, per shard, at most ROLLUP_READ_CELLS each. False: nothing: apply. */
bool rollup_needs(struct rollup *r, struct rollup_read *reads);
/* The i-th value of such a read (NULL: none). MALFORMED...: a damaged store. */
SG_MUST_USE enum sg_error rollup_loaded(struct rollup *r, struct rollup_read *q, size_t i, const char *text,
                                        size_t length);
/* Applies waiting digests in order, up to the first that needs more cells (what one digest brings can change what the
 * next one needs). True: none waits any more. */
SG_MUST_USE bool rollup_apply(struct rollup *r);
/* Forgets what waits. */
void rollup_queue_drop(struct rollup *r);
/* The log was seen to end at the position at that time. */
void rollup_heard(struct rollup *r, uint32_t partition, struct wall_ms now);

/* ---- flush ---- */

/* A flush of one shard. Zeroed is none. */
struct rollup_flush {
    uint32_t shard;
    bool active, last;     /* last: `words` is the final chunk */
    struct wordlist words; /* rollup_checks, k, k x (key, field, text), then (count, command ...) ... (scripts.h) */
    size_t next_cell;
    uint64_t chunks;            /* written */
    struct vector_entry *entry; /* by partition: what the vector will say */
    bool *moves;                /* by partition: entry is written */
    uint32_t partitions;
};
/* Frees. */
void rollup_flush_destroy(struct rollup_flush *f);
/* Begins a flush; false when the shard has nothing to write. The queue may hold digests; what is applied is written. */
bool rollup_flush_begin(struct rollup *r, uint32_t shard, struct rollup_flush *f);
/* The next chunk is in f->words. */
void rollup_flush_chunk(struct rollup *r, struct rollup_flush *f);
/* The chunk was answered "ok": true when there is another. Anything else: rollup_lost. */
bool rollup_flush_ok(struct rollup *r, struct rollup_flush *f);
/* How much waits to be written: dirty cells and changed marks. */
size_t rollup_dirty(const struct rollup *r);
/* True when a flush should not wait any longer, whatever the interval. */
bool rollup_flush_due(const struct rollup *r);

#endif
