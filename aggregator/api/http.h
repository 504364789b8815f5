/* The customers' listener: HTTP/1.1 on one libmicrohttpd thread, TLS 1.3 only when a certificate is given.
 *
 * HAPPY PATH  route by method and path -> key -> role -> rate -> parameters -> the route's answer -> ETag.
 * FAILURES    Each step that fails is the answer: 404 unknown path, 405 method, 401 no or bad key, 403 role, 429 rate,
 * 400 parameters; what the answer's error means stands in answer.h. Bodies of requests are refused (413): nothing here
 * takes one. BOUNDS      HTTP_CONNECTIONS_MAX connections, HTTP_TIMEOUT_S of silence, libmicrohttpd's 32 KiB per
 * connection for its head. */
#ifndef API_HTTP_H
#define API_HTTP_H

#include "aggregator/api/auth.h"
#include "aggregator/api/price.h"
#include "aggregator/api/view.h"
#include "common/config.h"
#include "common/counters.h"

enum { HTTP_CONNECTIONS_MAX = 512, HTTP_TIMEOUT_S = 30 };

#define API_COUNTERS(X)                                                                                                \
    X(ANSWERED_2XX, COUNTER, "sandglass_api_answers_total", "class=\"2xx\"", "answers by status class")                \
    X(ANSWERED_3XX, COUNTER, "sandglass_api_answers_total", "class=\"3xx\"", "answers by status class")                \
    X(ANSWERED_4XX, COUNTER, "sandglass_api_answers_total", "class=\"4xx\"", "answers by status class")                \
    X(ANSWERED_5XX, COUNTER, "sandglass_api_answers_total", "class=\"5xx\"", "answers by status class")                \
    X(REFUSED_KEY, COUNTER, "sandglass_api_refused_total", "code=\"unauthorized\"", "requests refused, by code")       \
    X(REFUSED_ROLE, COUNTER, "sandglass_api_refused_total", "code=\"forbidden\"", "requests refused, by code")         \
    X(REFUSED_RATE, COUNTER, "sandglass_api_refused_total", "code=\"rate_limited\"", "requests refused, by code")      \
    X(REFUSED_PARAMETER, COUNTER, "sandglass_api_refused_total", "code=\"bad_parameter\"",                             \
      "requests refused, by code")                                                                                     \
    X(REFUSED_PATH, COUNTER, "sandglass_api_refused_total", "code=\"not_found\"", "requests refused, by code")         \
    X(REFUSED_METHOD, COUNTER, "sandglass_api_refused_total", "code=\"method_not_allowed\"",                           \
      "requests refused, by code")
enum api_counter { API_COUNTERS(COUNTERS_ENUM) API_COUNTER_COUNT };

/* Everything is borrowed; view is used by the listener's thread only. */
struct http_config {
    struct config_listen listen;    /* port 0: the kernel chooses */
    const char *tls_cert, *tls_key; /* PEM texts; NULL: plain HTTP */
    struct view *view;
    const struct price_book *book;
    struct auth *auth;
    struct counters *counters;
    const char *openapi;     /* NUL-terminated */
    uint32_t requests_per_s; /* per key; 0: no limit */
};

/* A running listener. Opaque. */
struct http;

/* Listens and starts the thread. IO, CONFIG (TLS), NOMEM. */
SG_MUST_USE enum sg_error http_start(struct http **out, const struct http_config *config, struct sg_fault *f);
/* The port that is listened on. */
uint16_t http_port(const struct http *h);
/* How long the answer under way has taken so far; 0: none is. Any thread. */
uint64_t http_busy_ms(const struct http *h);
/* Ends the thread and closes; NULL is allowed. */
void http_stop(struct http *h);

#endif
