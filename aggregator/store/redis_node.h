/* One connection to one Redis server, with its backoff. Used by redis_store.c only. */
#ifndef STORE_REDIS_NODE_H
#define STORE_REDIS_NODE_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/backoff.h"
#include "sandglass/error.h"
#include "sandglass/time.h"

enum { REDIS_HOST_BYTES = 108, REDIS_BACKOFF_BASE_MS = 50, REDIS_BACKOFF_CAP_MS = 1000 };

/* What every connection does first; borrowed from the store. */
struct redis_login {
    const char *user, *password; /* "": none */
    uint32_t timeout_ms;
};

struct redis_node {
    char host[REDIS_HOST_BYTES]; /* or the path of a socket */
    uint16_t port;               /* 0: host is a path */
    redisContext *context;       /* NULL: not connected */
    struct backoff backoff;
    struct boot_ms retry_at;
};

/* Not connected yet. host is shorter than REDIS_HOST_BYTES. */
void redis_node_init(struct redis_node *n, const char *host, uint16_t port);
/* Closes. Safe on a zeroed struct. */
void redis_node_close(struct redis_node *n);
/* Connects and logs in when there is no connection and the backoff allows. UNREACHABLE, DENIED. */
SG_MUST_USE enum sg_error redis_node_connect(struct redis_node *n, const struct redis_login *login, struct sg_fault *f);
/* Closes because of a failure: the next connect waits for the backoff. */
void redis_node_failed(struct redis_node *n);

#endif
