/* The vector: what a shard vouches for, per partition, and the watermark that follows (proto/redis.md, "Vector entry").
 * Pure. */
#ifndef PROTO_VECTOR_H
#define PROTO_VECTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sandglass/error.h"
#include "sandglass/time.h"

/* One runner, or several that it dominates: complete through ct, last heard at last. */
struct vector_pair {
    struct wall_ms ct, last;
};

/* Owns pair. Zeroed is "offset 0, nothing heard". */
struct vector_entry {
    uint64_t offset;
    struct wall_ms heard;
    struct vector_pair *pair; /* ascending in both; none dominates another */
    size_t pair_count, pair_capacity;
};

/* Frees what e owns and zeroes it. */
void vector_entry_destroy(struct vector_entry *e);
/* Adds a runner's pair, dropping what it or others make redundant. ct.v == 0 (nothing to wait for) adds nothing. NOMEM.
 */
SG_MUST_USE enum sg_error vector_entry_add(struct vector_entry *e, struct vector_pair p);
/* An upper bound of the length of the text form. */
size_t vector_entry_bytes_max(const struct vector_entry *e);
/* Writes the text to out, which has vector_entry_bytes_max() bytes; returns its length. */
size_t vector_entry_encode(const struct vector_entry *e, char *out);
/* Parses a text; e is overwritten. MALFORMED, NOMEM. */
SG_MUST_USE enum sg_error vector_entry_decode(const char *text, size_t length, struct vector_entry *e);

/* All usage before .at is in. unknown: an entry is missing. unbounded: no live runner holds it back. */
enum watermark_kind { WATERMARK_UNKNOWN, WATERMARK_AT, WATERMARK_UNBOUNDED };
struct watermark {
    enum watermark_kind kind;
    struct wall_ms at;
};

/* Watermark of one partition: a runner last heard before heard - grace_ms is left out. NULL entry: unknown. */
struct watermark vector_entry_watermark(const struct vector_entry *e, int64_t grace_ms);
/* The lower of two. */
struct watermark watermark_min(struct watermark a, struct watermark b);
/* True when all usage before t is in. */
bool watermark_passed(struct watermark w, struct wall_ms t);

#endif
