/* The Redis view as its four readers and writers reach it: requests by shard, over one Redis or a Redis Cluster.
 *
 * A thin shell over hiredis (what 0.14 and 1.x have in common, RESP2). One connection per node, made when it is needed.
 *
 * HAPPY PATH  every request of a call is written to the connection of its shard's node, then the replies are read: one
 *             round trip however many shards and nodes. A script goes as EVALSHA; the node that does not know it gets
 *             SCRIPT LOAD and the request again.
 * CLUSTER     a shard's keys are one slot (`{sN}`), so a shard has one node. The slot map comes from CLUSTER SLOTS;
 * MOVED changes it and sends again, ASK sends once to where it points. Only requests that were refused are sent again,
 * never one whose reply was lost. FAILURES    a lost or silent connection is closed (its replies would be out of step)
 * and made again with backoff: until then requests to that node fail at once with UNREACHABLE. Every reply is checked,
 * also inside arrays. What a failed call has written is not known: the caller goes back to what is stored.
 *
 * Errors: UNREACHABLE (no connection; nothing of this call was sent to that node), UNKNOWN (sent, no reply: it may have
 * run), STATE (loading, cluster down, read-only, out of memory, moving), DENIED (no login, no right), IO (any other
 * error reply; its first word is in the fault), NOMEM, CONFIG. Blocking, at most about timeout_ms per node and step.
 * Not thread-safe: one store per thread. */
#ifndef STORE_REDIS_STORE_H
#define STORE_REDIS_STORE_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sandglass/error.h"

enum {
    REDIS_STORE_TIMEOUT_MS = 2000,
    REDIS_STORE_NODES_MAX = 256,
    REDIS_STORE_SCRIPTS_MAX = 64,
    REDIS_STORE_REDIRECTS_MAX = 5,
};

/* Where the view is. Strings are copied. */
struct redis_store_config {
    const char *address; /* host:port,host:port,... (of a cluster: some nodes) or an absolute path of a socket */
    bool cluster;        /* else the first address that answers has all shards */
    uint32_t shards;     /* 1..SHARDS_MAX */
    const char *user, *password; /* NULL or "": none; a password alone is AUTH's old form */
    uint32_t timeout_ms;         /* to connect, and of each reply; 0: REDIS_STORE_TIMEOUT_MS */
};

/* Opaque. */
struct redis_store;

/* Connects lazily: OK also when nothing can be reached. CONFIG (bad address), NOMEM. */
SG_MUST_USE enum sg_error redis_store_new(struct redis_store **out, const struct redis_store_config *config,
                                          struct sg_fault *f);
/* NULL is allowed. */
void redis_store_free(struct redis_store *s);
/* As configured. */
uint32_t redis_store_shards(const struct redis_store *s);

/* A key or an argument; borrowed. */
struct store_bytes {
    const char *p;
    size_t length;
};
/* A literal or other NUL-terminated text as such. */
struct store_bytes store_text(const char *s);

/* A script call, or a command. */
struct store_request {
    uint32_t shard;
    const char *script;            /* Lua text; static storage, known by its address. NULL: a command */
    size_t key_count;              /* of a script: how many of arg[] are keys; all are of this shard */
    const struct store_bytes *arg; /* keys, then arguments; of a command: its name first */
    size_t count;
    struct redisReply *reply; /* out: never an error, and no error inside; owned by the request */
};

/* Sends all, reads all. OK: every request has its reply (free them with store_requests_done). Else none has, and some
 * may have run. */
SG_MUST_USE enum sg_error redis_store_run(struct redis_store *s, struct store_request *requests, size_t count,
                                          struct sg_fault *f);
/* Frees the replies. */
void store_requests_done(struct store_request *requests, size_t count);

/* One script call: arg = key_count keys, then arguments. *out is the caller's: freeReplyObject(). */
SG_MUST_USE enum sg_error redis_store_eval(struct redis_store *s, uint32_t shard, const char *script,
                                           const struct store_bytes *arg, size_t key_count, size_t count,
                                           struct redisReply **out, struct sg_fault *f);
/* One command of NUL-terminated words, name first. *out is the caller's. */
SG_MUST_USE enum sg_error redis_store_command(struct redis_store *s, uint32_t shard, const char *const *words,
                                              size_t count, struct redisReply **out, struct sg_fault *f);
/* Asks all shards, 0..shards-1, for something small: whether Redis is there. */
SG_MUST_USE enum sg_error redis_store_probe(struct redis_store *s, uint32_t shards, struct sg_fault *f);
/* True when the reply is the status or string `text`. */
bool store_reply_is(const struct redisReply *r, const char *text);

#endif
