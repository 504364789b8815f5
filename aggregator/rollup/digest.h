/* The digest of a batch: what its rows add up to, per rollup minute and per sandbox and hour, with the cells they
 * belong to. Pure. Making it costs the rows once; afterwards the batch's bytes are not needed, so that many batches can
 * wait for one read of the cells they need.
 *
 * A digest says nothing about whether the batch counts; that is decided when it is applied (marks.h, rollup.h). Rows of
 * a shard that already vouches for the batch's offset are left out. */
#ifndef ROLLUP_DIGEST_H
#define ROLLUP_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "aggregator/rollup/cells.h"
#include "proto/batch.h"

enum { DIGEST_NONE = UINT32_MAX };

/* What falls into one minute of a group. */
struct digest_minute {
    struct cell *cell[WINDOW_KINDS];
    uint32_t counts; /* first of its counts, or DIGEST_NONE */
    uint64_t plain[PLAIN_FIELDS];
};

/* One of a family's counters rises by one. */
struct digest_count {
    uint32_t next;
    uint16_t field;
};

/* Usage of one sandbox in one hour. */
struct digest_hour {
    struct wall_ms hour;
    struct cell *cell; /* looked up when it is known to be another than the hour of `created` */
    uint32_t next;
    uint64_t running_ms, cpu_us, net_rx_bytes, net_tx_bytes, io_read_bytes, io_write_bytes, execs;
};

/* A start, a change of state, an end; in the order starts, states, ends. */
enum life_kind { LIFE_START, LIFE_STATE, LIFE_END };
struct digest_life {
    uint32_t next;
    uint8_t kind;
    uint32_t value;  /* origin as in the batch, state, reason */
    uint64_t amount; /* create_ms, mem_peak_bytes */
    struct wall_ms at;
};

/* One entry of the batch's dictionary that has rows. */
struct digest_sandbox {
    struct cell *run;
    struct group *group;
    uint32_t vcpus, mem_mib, disk_mib;
    uint32_t hours; /* first, or DIGEST_NONE */
    uint32_t life_first, life_last;
    uint32_t first;          /* the digest's first entry with the same run: itself, but for a second life */
    struct wall_ms earliest; /* of its rows; 0: none yet */
    struct wall_ms seen;     /* end of its newest slice; 0: none */
    uint64_t mem_peak_bytes;
    bool has_exit;
    uint32_t exit_code;
    struct wall_ms exit_at;
};

struct digest_capacity {
    struct wall_ms at;
    struct batch_capacity is;
};
struct digest_gap {
    struct wall_ms from, to;
    uint64_t first, last;
};

/* Memory is kept from batch to batch. Zeroed is empty. */
struct digest {
    uint64_t number; /* rises with every digest made with the same cells; 0: never */
    uint64_t offset;
    struct wall_ms message_time;
    bool unreadable; /* the bytes were no batch: only offset and message_time say something */
    struct id runner, region;
    uint64_t epoch, seq;
    uint8_t previous_sha256[SHA256_BYTES], sha256[SHA256_BYTES];
    struct wall_ms complete_through;
    struct batch_totals totals;
    size_t rows;
    struct digest_minute *minute;
    size_t minute_count, minute_capacity;
    struct digest_count *count;
    size_t count_count, count_capacity;
    struct digest_hour *hour;
    size_t hour_count, hour_capacity;
    struct digest_life *life;
    size_t life_count, life_capacity;
    struct digest_sandbox *sandbox;
    size_t sandbox_count, sandbox_capacity;
    struct digest_capacity *capacity;
    size_t capacity_count, capacity_capacity;
    struct digest_gap *gap;
    size_t gap_count, gap_capacity;
};

/* Frees. */
void digest_destroy(struct digest *d);

/* Where a batch stands. vouched[shard]: the offset that the shard's vector has for the partition. */
struct digest_place {
    uint32_t partition;
    uint64_t offset;
    struct wall_ms message_time;
    const uint64_t *vouched;
};

/* Scratch memory of digest_make, kept from batch to batch. Zeroed is empty. */
struct digester {
    struct cells *cells;
    uint64_t number;
    uint64_t *team_hash, *project_hash;
    uint32_t *sandbox_index; /* by dictionary entry: index in the digest + 1, 0: not seen, DIGEST_NONE: left out */
    size_t team_capacity, project_capacity, sandbox_capacity;
};
/* Frees. */
void digester_destroy(struct digester *g);

/* Fills d from a decoded batch; its sha256 is the caller's to set. Cells are looked up, not read. */
void digest_make(struct digester *g, const struct digest_place *place, const struct batch *b, struct digest *d);
/* d stands for bytes that are no batch. */
void digest_make_unreadable(struct digester *g, const struct digest_place *place, struct digest *d);
/* When the run was created: what is stored says (run; created 0: nothing is stored), else the first start of
 * this batch, else its earliest row. So it is decided by the first batch that tells of the run, and at every replay
 * alike. */
struct wall_ms digest_created(const struct digest *d, const struct digest_sandbox *s, const struct run *run);

#endif
