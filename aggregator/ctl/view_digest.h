/* A digest of every window of the view (proto/redis.md, "Digest"): what says that two views hold the same bytes.
 *
 * A window's digest goes over all its cells: by shard, team, project and region, partition. Two views of the same
 * topics have the same digests of all windows that are closed, for a closed window's cells do not change any more, but
 * for late usage: then the two agree again once both stand beyond it. */
#ifndef CTL_VIEW_DIGEST_H
#define CTL_VIEW_DIGEST_H

#include "aggregator/api/view.h"

enum { DIGEST_BYTES = 32, DIGEST_HEX_BYTES = 2 * DIGEST_BYTES + 1 };

struct window_digest {
    struct wall_ms start;
    uint64_t cells;
    uint8_t sha256[DIGEST_BYTES];
};
/* Windows of one kind that hold a cell, ascending. Zeroed is empty. Owns window. */
struct view_digest {
    struct window_digest *window;
    size_t count, capacity;
};

/* Frees what d owns and zeroes it. */
void view_digest_destroy(struct view_digest *d);
/* Reads every shard's windows that start in [from, to); d is overwritten. Errors as the view's; STATE: a shard is being
 * rebuilt. */
SG_MUST_USE enum sg_error view_digest_read(struct view *v, enum window_kind w, struct wall_ms from, struct wall_ms to,
                                           struct view_digest *d, struct sg_fault *f);
/* The lowest watermark of the shards. STATE: a shard is being rebuilt. */
SG_MUST_USE enum sg_error view_complete_through(struct view *v, struct watermark *out, struct sg_fault *f);
/* The digest in hex. */
void window_digest_hex(const struct window_digest *w, char out[static DIGEST_HEX_BYTES]);

#endif
