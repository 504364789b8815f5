/* The meter: what the sources said, turned into rows. Pure: events and times in, rows and state out.
 *
 * It knows sources (who speaks, how far), sandboxes (who runs since when, with which counters), and the runner's sums.
 * Rows go to a batch builder; sealing gives the batch and the change of the meter's state since the last one, and
 * both go to the spool as one record. A meter that loads the snapshot and applies the changes is the same meter.
 * (ingest.md; proto/meter_state.md)
 *
 * BOUNDED   Every call appends a bounded number of rows. METER_FULL says that nothing of the event was taken yet: seal,
 *           and call again with the same arguments; slices closed on the way stay closed.
 * NUMBERS   A line that is refused uses its number up; a line whose number was taken is a duplicate and changes
 *           nothing. Taken numbers count as durable after meter_durable().
 * TIME      clock = event: the newest boot_ms of each source. clock = system: the collector's boot clock too,
 *           METER_HOLD_MS behind, for connected sources that are not behind. A source is behind from its hello, and
 *           from a time in which the collector itself did nothing, until it has said something of then or has said
 *           nothing for METER_QUIET_TICKS: what has happened meanwhile is still to be read, with its own times.
 * THREAD    One. */
#ifndef COLLECTOR_METER_H
#define COLLECTOR_METER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buffer.h"
#include "proto/batch.h"
#include "proto/ingest_line.h"
#include "sandglass/error.h"
#include "sandglass/limits.h"
#include "sandglass/time.h"

enum {
    METER_GRID_MS = 10 * SECOND_MS, /* slices are closed on this grid of UTC */
    METER_HOLD_MS = 5 * SECOND_MS,  /* clock = system: how long an event may take to arrive and still be in time */
    METER_TICK_MS = SECOND_MS,      /* clock = system: how often meter_tick() is called */
    METER_QUIET_TICKS = 5,          /* clock = system: a source that has said nothing for so long has no backlog */
    METER_SLEW_PPM = 500,           /* clock = system: how fast a newer wall anchor is approached */
    METER_BATCH_ROWS_MAX = 4096,    /* then it is full: memory, here and at Kafka's client, goes with a batch's size */
    METER_SNAPSHOT_BYTES_MAX = 16 << 20, /* encoded state; a table that could not be saved within it is full */
    METER_DELTA_BYTES_MAX = 8 << 20,
};

enum meter_clock { METER_CLOCK_EVENT, METER_CLOCK_SYSTEM };

/* What became of a line. */
enum meter_verdict {
    METER_ACCEPTED,
    METER_REFUSED,   /* struct meter_refusal says why; the number is used up */
    METER_DUPLICATE, /* taken before */
    METER_GAP,       /* a number is missing: close the session */
    METER_FULL,      /* seal, and call again */
};

struct meter_refusal {
    enum ingest_error error;
    size_t at; /* offset in the line */
};

/* Who watches the host's counters of running sandboxes (the sampler). Both may be NULL. A handle is valid from begin to
 * end; cgroup and tap may be "". */
struct meter_watch {
    void (*begin)(void *arg, uint64_t handle, const char *cgroup, const char *tap);
    void (*end)(void *arg, uint64_t handle);
    void *arg;
};

/* Strings are borrowed for the meter's life. */
struct meter_config {
    const char *runner, *region;
    enum meter_clock clock;
    size_t sandboxes_max;
    struct meter_watch watch;
};

/* Counters by which a sandbox is metered, in the order of the columns of a slice. */
enum meter_counter {
    METER_CPU_US,
    METER_NET_RX_BYTES,
    METER_NET_TX_BYTES,
    METER_IO_READ_BYTES,
    METER_IO_WRITE_BYTES,
    METER_COUNTERS
};

/* What was read of the host for one sandbox. A metric that could not be read is absent. */
struct meter_sample {
    bool present[METER_COUNTERS];
    uint64_t value[METER_COUNTERS];
    uint64_t mem_bytes, mem_peak_bytes; /* 0: not measured */
    bool alive;                         /* its cgroup is populated */
};

/* Gauges and totals to show. */
struct meter_stats {
    size_t sources, sandboxes, running;
    uint64_t vcpus_allocated, mem_mib_allocated, disk_mib_allocated;
    uint64_t late_events; /* clock = system: events of a time that was already closed */
    uint64_t gaps;        /* numbers that never came */
    bool saturated;       /* a running sum has reached its end: reconcile will show a difference */
    struct batch_totals totals;
    struct wall_ms complete_through;
};

/* Opaque. */
struct meter;

/* Knows nothing. NULL: no memory. */
struct meter *meter_new(const struct meter_config *config);
/* NULL is allowed. */
void meter_free(struct meter *m);

/* A source greets. *source is its index from now on, *durable its last durable n, *fresh that it is to go
 * on with the lowest n it holds: nothing was taken of (source, boot_id) yet, or nothing that is durable and not from 1.
 * ACCEPTED; REFUSED (bad_hello: a seventeenth source); FULL: the sandboxes of its former boot are being ended. */
enum meter_verdict meter_hello(struct meter *m, const struct ingest_event *hello, unsigned *source, uint64_t *durable,
                               bool *fresh);
/* A source's session is there or not (clock = system: a connected source proves that its host lives). */
void meter_connected(struct meter *m, unsigned source, bool connected);
/* Applies an event that was parsed without error. */
enum meter_verdict meter_event(struct meter *m, unsigned source, const struct ingest_event *e,
                               struct meter_refusal *refusal);
/* Takes the number of a line that the parser refused. Never ACCEPTED. */
enum meter_verdict meter_refuse(struct meter *m, unsigned source, uint64_t n);
/* The number that the source's next new line has. */
uint64_t meter_next_n(const struct meter *m, unsigned source);
/* The last number whose effect is durable. */
uint64_t meter_durable_n(const struct meter *m, unsigned source);

/* Time has come to now (clock = system; nothing otherwise). Closes slices on the grid. Every METER_TICK_MS, and again
 * with the same time after FULL. ACCEPTED or FULL. */
enum meter_verdict meter_tick(struct meter *m, struct boot_ms now);
/* Bills what runs up to the present: clock = event, each source's newest event; clock = system, its newest tick event.
 * Before a seal that is not for want of room. ACCEPTED or FULL. */
enum meter_verdict meter_settle(struct meter *m);
/* Says what is allocated. Then seal, also when there are no rows: the batch carries complete_through. ACCEPTED or FULL.
 */
enum meter_verdict meter_heartbeat(struct meter *m);
/* Applies what the sampler read of a watched sandbox at now (clock = system; nothing otherwise). Counters that events
 * carry are left out (proto/ingest.md). ACCEPTED or FULL. */
enum meter_verdict meter_sample(struct meter *m, uint64_t handle, const struct meter_sample *s, struct boot_ms now);

/* True when something was taken since the last seal, or is to be settled. */
bool meter_dirty(const struct meter *m);

/* Where the batch to be sealed stands in its runner's sequence. */
struct meter_position {
    uint64_t epoch, seq;
    const uint8_t *previous_sha256; /* SHA256_BYTES */
};

/* Seals: *batch is the Kafka message, *delta the change of state that goes with it. Both belong to the meter until the
 * next call that changes it. NOMEM: end the program, what is on disk is whole. */
SG_MUST_USE enum sg_error meter_seal(struct meter *m, const struct meter_position *position, const uint8_t **batch,
                                     size_t *batch_bytes, const uint8_t **delta, size_t *delta_bytes);
/* What was sealed is on disk. */
void meter_durable(struct meter *m);

/* Encodes the whole state into out (reset first), whose limit is at least METER_SNAPSHOT_BYTES_MAX. Right after a seal
 * only. NOMEM, LIMIT. */
SG_MUST_USE enum sg_error meter_save(const struct meter *m, struct buffer *out);
/* Loads a snapshot into a new meter; no bytes: the state of a new spool. MALFORMED, VERSION (with its number), LIMIT
 * (more sandboxes than configured), NOMEM. */
SG_MUST_USE enum sg_error meter_load(struct meter *m, const uint8_t *bytes, size_t length, struct sg_fault *f);
/* Applies the delta of the next seal. As meter_load. */
SG_MUST_USE enum sg_error meter_apply(struct meter *m, const uint8_t *bytes, size_t length, struct sg_fault *f);
/* Calls watch.begin for every running sandbox: after loading. */
void meter_watch_all(struct meter *m);

/* What stands now. */
void meter_stats(const struct meter *m, struct meter_stats *out);

#endif
