/* What the parts of the meter share: its state. Not for others; collector/meter.h is the contract.
 *
 * NO MEMORY  in the midst of an event leaves the meter half-applied: no_memory is set, and meter_seal() refuses from
 *            then on. The program ends, and what is on disk is whole.
 *
 * meter.c        lines: numbers, checks, transitions
 * meter_bill.c   time and counters into slices; the end of a host
 * meter_table.c  the table of sandboxes
 * meter_state.c  state to bytes and back */
#ifndef COLLECTOR_METER_INTERNAL_H
#define COLLECTOR_METER_INTERNAL_H

#include "collector/meter.h"

/* Rows that an event needs at most beyond slices of whole minutes: a gap, two slices, a rise, a state, a start or end.
 */
enum { EVENT_ROWS_MAX = 8 };

/* Encoded, without sandboxes: version, kind, the runner's part, sixteen sources. Of a sandbox: its numbers. */
enum { STATE_HEAD_BYTES_MAX = 8192, STATE_NUMBERS_BYTES_MAX = 192, ENTRY_BYTES_MAX = 1024 };

#define BEHIND_SINCE_NOW UINT64_MAX /* it has just connected: the next tick knows when that is */

enum sandbox_change { UNCHANGED, CHANGED, CREATED }; /* since the last seal */

/* One life of a sandbox. */
struct sandbox {
    uint64_t hash;
    size_t dirty_index; /* in meter.dirty; valid when change is not UNCHANGED */
    uint64_t dictionary_generation;
    uint32_t dictionary_index; /* of the builder's dictionary, valid in that generation */
    uint32_t vcpus, mem_mib, disk_mib;
    uint8_t source, state, change;
    uint8_t known;                 /* bit c: last[c] is a base that a value rises from */
    uint8_t carried;               /* bit c: an event carried counter c: samples of it are ignored */
    uint8_t sampled;               /* bit c: a sample carried counter c */
    uint64_t open_ms;              /* billed up to here (boot time); running: the open slice's start */
    uint64_t proven_ms;            /* its cgroup was seen populated; 0: never */
    uint64_t last[METER_COUNTERS]; /* cumulative, as far as it was turned into rises */
    uint64_t sampled_last[METER_COUNTERS];
    uint64_t mem_peak_bytes;
    uint16_t team_at, project_at, cgroup_at, tap_at; /* in text; the id is at 0 */
    uint16_t state_bytes;                            /* at most, when it is encoded */
    char text[];
};

/* NUL-terminated, as long as the sandbox is in the table. */
static inline const char *sandbox_id(const struct sandbox *s)
{
    return s->text;
}

/* One source and what its present boot has said. */
struct source {
    bool used, connected; /* connected is not part of the state, nor are the next four */
    bool began_late;      /* the first number was not 1 */
    uint64_t behind_ms;   /* what it says of the time before may still be on its way; 0: nothing; BEHIND_SINCE_NOW */
    uint64_t quiet_n;     /* n at the last tick, while it is behind */
    unsigned quiet_ticks; /* since n has risen */
    struct id name, boot_id;
    uint64_t n, durable_n;
    uint64_t newest_ms;  /* of its events */
    uint64_t closed_ms;  /* all its running sandboxes are billed up to here at least */
    uint64_t alive_ms;   /* its host was alive then */
    uint64_t settle_ms;  /* a tick said so: bill up to here before the next seal; not part of the state */
    uint64_t greeted_ms; /* boot_ms of the first hello */
    int64_t offset_ms;   /* wall = boot + offset */
    int64_t target_ms;   /* where the newest anchor would have the offset */
    uint64_t slewed_ms;  /* boot time up to which offset_ms was brought towards it */
    size_t running;      /* its running sandboxes; derived */
};

/* The table of sandboxes: open addressing, at most half full. */
struct sandbox_table {
    struct sandbox **slot;
    size_t slots, count;
    size_t state_bytes; /* at most, when all of them are encoded */
};

struct meter {
    struct meter_config config;
    struct batch_builder *rows;
    struct sandbox_table table;
    struct source source[SOURCES_MAX];
    size_t running;
    uint64_t vcpus, mem_mib, disk_mib; /* of running sandboxes */
    uint64_t ticked_ms;                /* last tick; not part of the state */
    bool capacity_known;
    struct batch_capacity capacity; /* its first four members: what runner.capacity said */
    int64_t complete_through_ms;
    struct batch_totals totals;
    uint64_t late_events, gaps;
    bool saturated;
    bool no_memory; /* something could not be taken whole: never seal again */
    bool changed;   /* something beside sandboxes was taken since the last seal */
    struct sandbox **dirty;
    size_t dirty_count, dirty_capacity;
    size_t dirty_bytes;    /* of the delta, at most */
    struct buffer removed; /* ids that the last state held and that are gone, each with a length byte before it */
    size_t removed_count;
    struct buffer delta;
};

/* ---- meter_table.c ---- */

static inline uint64_t sandbox_handle(const struct sandbox *s)
{
    return (uint64_t)(uintptr_t)s;
}
/* What a new entry holds. */
struct sandbox_names {
    const char *id, *team, *project, *cgroup, *tap;
};
/* NULL when there is none. */
struct sandbox *table_find(const struct sandbox_table *t, const char *id);
/* Adds a zeroed entry with these names, which must not be there yet. NULL: no memory. */
struct sandbox *table_add(struct sandbox_table *t, const struct sandbox_names *names);
/* Removes and frees. Its slot holds what is to be looked at next by who walks over the slots. */
void table_remove(struct sandbox_table *t, struct sandbox *s);
void table_destroy(struct sandbox_table *t);

/* Marks for the next delta. */
void meter_mark(struct meter *m, struct sandbox *s, enum sandbox_change change);
/* Takes a sandbox out of table, sums and marks, and remembers that the stored state loses it. */
void meter_forget(struct meter *m, struct sandbox *s);
/* Adds to or takes from the sums of what is allocated. */
void meter_allocate(struct meter *m, const struct sandbox *s);
void meter_release(struct meter *m, const struct sandbox *s);
/* Forgets all marks: the state was encoded. */
void meter_unmark_all(struct meter *m);

/* ---- meter_bill.c ---- */

static inline struct wall_ms source_wall(const struct source *src, uint64_t boot_ms)
{
    return (struct wall_ms){(int64_t)boot_ms + src->offset_ms};
}

/* True when batch or delta may not have room for another event: seal. */
bool meter_full(const struct meter *m);
/* Index of the sandbox in the builder's dictionary. */
uint32_t bill_index(struct meter *m, struct sandbox *s);
/* Bills a running sandbox up to boot time `to`; false: the batch is full, go on after a seal. */
SG_MUST_USE bool bill_until(struct meter *m, struct sandbox *s, uint64_t to);
/* As bill_until, but leaves what lies in the minute of `to`: after it, one event's rows surely fit. */
SG_MUST_USE bool bill_minutes_before(struct meter *m, struct sandbox *s, uint64_t to);
/* Bills up to `to` and books the rise at `to`. Only after bill_minutes_before(). */
void bill_rise(struct meter *m, struct sandbox *s, uint64_t to, const struct batch_rise *rise);
/* Books a rise at a time by which the sandbox need not be billed. */
void bill_rise_apart(struct meter *m, struct sandbox *s, uint64_t at, const struct batch_rise *rise);
/* Bills all running sandboxes of a source; false: full. */
SG_MUST_USE bool bill_source(struct meter *m, unsigned source, uint64_t to);
/* Ends all sandboxes of a source with reason host, each where it was last proven alive; false: full. */
SG_MUST_USE bool bill_host_end(struct meter *m, unsigned source);
/* Turns the counters of an event or a sample into the rise since the last, and remembers them. */
void bill_event_counters(struct sandbox *s, const struct ingest_event *e, struct batch_rise *rise);
void bill_sample_counters(struct sandbox *s, const struct meter_sample *sample, struct batch_rise *rise);
static inline bool bill_has_rise(const struct batch_rise *r)
{
    return (r->cpu_us | r->net_rx_bytes | r->net_tx_bytes | r->io_read_bytes | r->io_write_bytes | r->mem_bytes) != 0;
}

/* ---- meter_state.c ---- */

/* Encodes what the marks tell into m->delta. */
SG_MUST_USE enum sg_error meter_encode_delta(struct meter *m);

#endif
