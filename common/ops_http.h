/* The operations listener of every program: one libmicrohttpd thread that reads atomics and answers
 *
 *     GET|HEAD /healthz   200 or 503, health as JSON
 *     GET|HEAD /readyz    200 or 503, the same body; 200 only once start-up is over
 *     GET|HEAD /metrics   200, Prometheus text
 *     GET|HEAD /openapi.json   200 for programs that give one
 *
 * 404 for other paths, 405 for other methods. Plain HTTP: it belongs on loopback or an operations network. */
#ifndef COMMON_OPS_HTTP_H
#define COMMON_OPS_HTTP_H

#include <stddef.h>
#include <stdint.h>

#include "common/config.h"
#include "common/counters.h"
#include "common/health.h"
#include "sandglass/error.h"

enum { OPS_HTTP_CONNECTIONS_MAX = 64, OPS_HTTP_TIMEOUT_S = 10, OPS_HTTP_BODY_BYTES_MAX = 1 << 20 };

/* What is shown. Everything is borrowed and outlives the listener. */
struct ops_http_config {
    struct config_listen listen; /* port 0: the kernel chooses */
    const char *program;         /* label of sandglass_build_info */
    struct health *health;
    const struct counters *counters;
    const char *openapi; /* a document, NUL-terminated; NULL: none */
};

/* A running listener. Opaque. */
struct ops_http;

/* Listens and starts the thread. IO (address in use, no such address), NOMEM. */
SG_MUST_USE enum sg_error ops_http_start(struct ops_http **out, const struct ops_http_config *config,
                                         struct sg_fault *f);
/* The port that is listened on. */
uint16_t ops_http_port(const struct ops_http *o);
/* Ends the thread and closes; NULL is allowed. */
void ops_http_stop(struct ops_http *o);

#endif
