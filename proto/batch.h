/* The batch: what one Kafka message of sandglass.events holds. Encoded form: proto/batch.proto, proto/batch.md.
 *
 * Pure: bytes to checked rows (batch.c) and back (batch_builder.c, with protobuf-c), and libcrypto's SHA-256 for the
 * chain.
 *
 * READING  batch_decode() reads into an arena owned by `struct batch_decoder`, checks everything below, and
 * gives `struct batch`, whose pointers live until the next decode or destroy. After that the rows can be used without a
 * check:
 *            1. version is 1; runner, region, teams, projects ("-" allowed only there), sandbox ids are identifiers;
 * epoch, seq >= 1
 *            2. previous_sha256 is empty for seq 1, else 32 bytes
 *            3. every column has as many entries as its kind's first column, or none (NULL here: all zero)
 *            4. dictionary indexes are below their dictionary's count; enums and ranges as in ingest.md
 *            5. 0 <= time <= WALL_MS_MAX after adding base; a slice does not cross a minute; length <= MINUTE_MS
 *            6. rows <= BATCH_ROWS_MAX, bytes <= BATCH_BYTES_MAX, dictionaries <= BATCH_NAMES_MAX
 *          Memory follows from the bytes that are there, not from what they declare.
 *
 * WRITING  batch_builder_*: the meter appends rows; batch_builder_seal() gives the bytes. The builder refuses
 * with SG_ERR_LIMIT when a limit would be passed: seal first, then append again. */
#ifndef PROTO_BATCH_H
#define PROTO_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sandglass/error.h"
#include "sandglass/field.h"
#include "sandglass/limits.h"
#include "sandglass/time.h"

enum { BATCH_VERSION = 1, SHA256_BYTES = 32 };
enum sandbox_state { SANDBOX_RUNNING, SANDBOX_HIBERNATED };
enum { START_ADOPTED = 0 }; /* in a start row: 0 adopted, else 1 + enum origin */

/* A column: NULL means all zero. */
static inline uint32_t column_u32(const uint32_t *c, size_t i)
{
    return c ? c[i] : 0;
}
static inline uint64_t column_u64(const uint64_t *c, size_t i)
{
    return c ? c[i] : 0;
}
static inline int64_t column_i64(const int64_t *c, size_t i)
{
    return c ? c[i] : 0;
}

struct batch_sandboxes {
    size_t count;
    char *const *id;
    const uint32_t *team, *project, *vcpus, *mem_mib, *disk_mib;
};
struct batch_slices {
    size_t count;
    const uint32_t *sandbox;
    const int64_t *start_ms; /* relative to base_ms, as all *_ms columns of int64_t */
    const uint32_t *length_ms;
    const uint64_t *cpu_us, *net_rx_bytes, *net_tx_bytes, *io_read_bytes, *io_write_bytes, *mem_bytes;
};
struct batch_starts {
    size_t count;
    const uint32_t *sandbox;
    const int64_t *at_ms;
    const uint32_t *origin, *create_ms;
};
struct batch_states {
    size_t count;
    const uint32_t *sandbox;
    const int64_t *at_ms;
    const uint32_t *state;
};
struct batch_ends {
    size_t count;
    const uint32_t *sandbox;
    const int64_t *at_ms;
    const uint32_t *reason;
    const uint64_t *mem_peak_bytes;
};
struct batch_execs {
    size_t count;
    const uint32_t *sandbox;
    const int64_t *at_ms;
    const uint32_t *exit_code;
    const uint64_t *duration_ms;
};
struct batch_api_calls {
    size_t count;
    const uint32_t *team, *project;
    const int64_t *at_ms;
    const uint32_t *operation, *status;
};
struct batch_capacities {
    size_t count;
    const int64_t *at_ms;
    const uint64_t *vcpus_total, *mem_mib_total, *disk_mib_total, *warm;
    const uint64_t *vcpus_allocated, *mem_mib_allocated, *disk_mib_allocated, *sandboxes_running;
};
struct batch_gaps {
    size_t count;
    const int64_t *from_ms, *to_ms;
    const uint64_t *first_n, *last_n;
};
/* The runner's own sums of its epoch, this batch included. */
struct batch_totals {
    uint64_t vcpu_ms, mem_mib_ms, disk_mib_ms, running_ms, events, refused;
};

/* A decoded, checked batch. All pointers belong to the decoder. */
struct batch {
    const char *runner, *region;
    uint64_t epoch, seq;
    uint8_t previous_sha256[SHA256_BYTES]; /* zeros for seq 1 */
    int64_t complete_through_ms;           /* 0: nothing to wait for */
    int64_t base_ms;
    size_t team_count, project_count;
    char *const *teams, *const *projects;
    struct batch_sandboxes sandboxes;
    struct batch_slices slices;
    struct batch_starts starts;
    struct batch_states states;
    struct batch_ends ends;
    struct batch_execs execs;
    struct batch_api_calls api_calls;
    struct batch_capacities capacities;
    struct batch_gaps gaps;
    struct batch_totals totals;
};

/* Rows of a batch over all kinds. */
size_t batch_row_count(const struct batch *b);

/* Owns the arena that decoded batches live in. Zeroed is valid for destroy. Not thread-safe; one per thread. */
struct batch_decoder {
    uint8_t *arena;
    size_t arena_bytes, arena_used;
};
SG_MUST_USE enum sg_error batch_decoder_init(struct batch_decoder *d);
void batch_decoder_destroy(struct batch_decoder *d);
/* Decodes bytes[0..length). Errors: MALFORMED (f names the rule and the row kind, never content), VERSION (with its
 * number), LIMIT, NOMEM. out is valid until the next call with d. */
SG_MUST_USE enum sg_error batch_decode(struct batch_decoder *d, const uint8_t *bytes, size_t length, struct batch *out,
                                       struct sg_fault *f);

/* SHA-256 of an encoded batch: what the next batch carries as previous_sha256. */
void batch_sha256(const uint8_t *bytes, size_t length, uint8_t out[static SHA256_BYTES]);

/* ---- writing ---- */

/* What a dictionary entry says of a sandbox. Strings are copied. */
struct batch_sandbox {
    const char *id, *team, *project;
    uint32_t vcpus, mem_mib, disk_mib;
};

/* Rises of counters that arrived with a slice, and the gauge. */
struct batch_rise {
    uint64_t cpu_us, net_rx_bytes, net_tx_bytes, io_read_bytes, io_write_bytes, mem_bytes;
};

/* What a capacity row says. */
struct batch_capacity {
    uint64_t vcpus_total, mem_mib_total, disk_mib_total, warm;
    uint64_t vcpus_allocated, mem_mib_allocated, disk_mib_allocated, sandboxes_running;
};

/* What stands at the head of a batch; the caller numbers. */
struct batch_head {
    const char *runner, *region;
    uint64_t epoch, seq;
    const uint8_t *previous_sha256; /* SHA256_BYTES; ignored for seq 1 */
    struct wall_ms complete_through;
    struct batch_totals totals;
};

/* Opaque; bounded by BATCH_ROWS_MAX and BATCH_BYTES_MAX. */
struct batch_builder;
/* NULL when there is no memory. */
struct batch_builder *batch_builder_new(void);
/* NULL is allowed. */
void batch_builder_free(struct batch_builder *b);
/* Rows appended since the last seal or reset. */
size_t batch_builder_rows(const struct batch_builder *b);
/* An upper bound of the encoded size of what was appended. */
size_t batch_builder_bytes(const struct batch_builder *b);
/* True when fewer than `rows` more rows (each with a new sandbox, team and project) certainly fit: seal now. */
bool batch_builder_full(const struct batch_builder *b, size_t rows);
/* Counts up with each seal or reset: callers cache a dictionary index together with it. */
uint64_t batch_builder_generation(const struct batch_builder *b);
/* Adds a dictionary entry (no look-up: the caller caches the index per sandbox life and generation). */
SG_MUST_USE enum sg_error batch_builder_sandbox(struct batch_builder *b, const struct batch_sandbox *s,
                                                uint32_t *index);
/* Appends a row. Times are absolute. LIMIT: nothing was appended. */
SG_MUST_USE enum sg_error batch_builder_slice(struct batch_builder *b, uint32_t sandbox, struct wall_ms start,
                                              uint32_t length_ms, const struct batch_rise *rise);
SG_MUST_USE enum sg_error batch_builder_start(struct batch_builder *b, uint32_t sandbox, struct wall_ms at,
                                              uint32_t origin, uint32_t create_ms);
SG_MUST_USE enum sg_error batch_builder_state(struct batch_builder *b, uint32_t sandbox, struct wall_ms at,
                                              enum sandbox_state state);
SG_MUST_USE enum sg_error batch_builder_end(struct batch_builder *b, uint32_t sandbox, struct wall_ms at,
                                            enum reason reason, uint64_t mem_peak_bytes);
SG_MUST_USE enum sg_error batch_builder_exec(struct batch_builder *b, uint32_t sandbox, struct wall_ms at,
                                             uint32_t exit_code, uint64_t duration_ms);
SG_MUST_USE enum sg_error batch_builder_api_call(struct batch_builder *b, const char *team, const char *project,
                                                 struct wall_ms at, enum operation operation, uint32_t status);
SG_MUST_USE enum sg_error batch_builder_capacity(struct batch_builder *b, struct wall_ms at,
                                                 const struct batch_capacity *c);
SG_MUST_USE enum sg_error batch_builder_gap(struct batch_builder *b, struct wall_ms from, struct wall_ms to,
                                            uint64_t first_n, uint64_t last_n);
/* Encodes what was appended under this head and empties the builder. *bytes belongs to the builder until the next
 * append. */
SG_MUST_USE enum sg_error batch_builder_seal(struct batch_builder *b, const struct batch_head *head,
                                             const uint8_t **bytes, size_t *length);
/* Forgets what was appended. */
void batch_builder_reset(struct batch_builder *b);

#endif
