/* What a partition's home shard keeps beside cells: marks, gaps, capacities, and their texts (proto/redis.md). Pure.
 *
 * Every word of a text is always there, zeros too, in the order below. */
#ifndef PROTO_MARK_H
#define PROTO_MARK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/batch.h"
#include "sandglass/error.h"
#include "sandglass/id.h"
#include "sandglass/time.h"

/* The last batch of (runner, epoch) that counted. */
struct mark {
    uint64_t seq;
    struct wall_ms ct;   /* its complete_through; 0: nothing to wait for */
    struct wall_ms last; /* its message time */
    struct id region;
    uint8_t sha256[SHA256_BYTES];
    struct batch_totals totals;
};
enum { MARK_BYTES_MAX = 512, MARK_FIELD_BYTES_MAX = 96 };

/* Writes the text (not NUL-terminated); returns its length. */
size_t mark_encode(const struct mark *m, char out[static MARK_BYTES_MAX]);
/* Parses what mark_encode writes. MALFORMED. */
SG_MUST_USE enum sg_error mark_decode(const char *text, size_t length, struct mark *m);
/* The field of a mark, `r:<runner>:<epoch>`, not NUL-terminated; returns its length. */
size_t mark_field_encode(const char *runner, uint64_t epoch, char out[static MARK_FIELD_BYTES_MAX]);
/* The inverse; false when the field is no mark's. */
SG_MUST_USE bool mark_field_decode(const char *text, size_t length, struct id *runner, uint64_t *epoch);

/* Something of a runner that is missing. */
enum gap_kind { GAP_SEQ, GAP_SOURCE, GAP_QUARANTINED };
struct gap {
    enum gap_kind kind;
    struct id runner, region; /* "-" when not known: a batch that could not be read */
    struct wall_ms from, to;
    uint64_t first, last; /* numbers that are missing: batches, a source's events; of a quarantined batch 0, 0 */
};
enum { GAP_BYTES_MAX = 384 };
/* Writes the text; returns its length. */
size_t gap_encode(const struct gap *g, char out[static GAP_BYTES_MAX]);

/* What a runner has and what of it is allocated, as of `at`. Of an hour's peaks region and totals are the newest. */
struct capacity {
    struct id region;
    struct wall_ms at;
    struct batch_capacity is;
};
enum { CAPACITY_BYTES_MAX = 512 };
/* Writes the text; returns its length. */
size_t capacity_encode(const struct capacity *c, char out[static CAPACITY_BYTES_MAX]);
/* Parses what capacity_encode writes. MALFORMED. */
SG_MUST_USE enum sg_error capacity_decode(const char *text, size_t length, struct capacity *c);

#endif
