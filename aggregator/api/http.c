#include "aggregator/api/http.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "aggregator/api/answer.h"
#include "aggregator/api/rate.h"
#include "common/clock.h"
#include "common/log.h"

struct http {
    struct http_config config;
    struct MHD_Daemon *daemon;
    struct rate rate;
    uint16_t port;
    _Atomic uint64_t busy_since; /* boot ms at which the answer under way was begun; 0: none is */
};

#define ROLE_BIT(r) (1u << (r))
enum { FROM_TO = PARAM_BIT(PARAM_FROM) | PARAM_BIT(PARAM_TO), LIST = PARAM_BIT(PARAM_LIMIT) | PARAM_BIT(PARAM_CURSOR) };

/* The routes of api.md. A path that ends in '/' takes one identifier behind it. No function: the OpenAPI document, for
 * anyone. */
static const struct route {
    const char *path;
    answer_function *answer;
    unsigned roles, allowed, required;
} routes[] = {
    {"/v1/usage", answer_usage, ROLE_BIT(ROLE_CUSTOMER) | ROLE_BIT(ROLE_ADMIN), FROM_TO | PARAM_BIT(PARAM_PROJECT), 0},
    {"/v1/usage/series", answer_series, ROLE_BIT(ROLE_CUSTOMER) | ROLE_BIT(ROLE_ADMIN),
     FROM_TO | PARAM_BIT(PARAM_METER) | PARAM_BIT(PARAM_STEP) | PARAM_BIT(PARAM_GROUP_BY) | PARAM_BIT(PARAM_PROJECT) |
         PARAM_BIT(PARAM_REGION) | PARAM_BIT(PARAM_FORMAT),
     FROM_TO | PARAM_BIT(PARAM_METER)},
    {"/v1/runs/history", answer_runs, ROLE_BIT(ROLE_CUSTOMER) | ROLE_BIT(ROLE_ADMIN),
     FROM_TO | LIST | PARAM_BIT(PARAM_PROJECT), 0},
    {"/v1/runs/", answer_run, ROLE_BIT(ROLE_CUSTOMER) | ROLE_BIT(ROLE_ADMIN), 0, 0},
    {"/v1/capacity", answer_capacity, ROLE_BIT(ROLE_OPERATOR) | ROLE_BIT(ROLE_ADMIN), PARAM_BIT(PARAM_REGION), 0},
    {"/v1/ledger", answer_ledger, ROLE_BIT(ROLE_BILLING) | ROLE_BIT(ROLE_ADMIN), FROM_TO | LIST, FROM_TO},
    {"/openapi.json", NULL, 0, 0, 0},
};

static const struct route *route_find(const char *path, struct id *subject)
{
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        size_t length = strlen(routes[i].path);
        if (routes[i].path[length - 1] != '/') {
            if (strcmp(routes[i].path, path) == 0) return &routes[i];
        } else if (strncmp(routes[i].path, path, length) == 0 && id_valid(path + length, strlen(path + length))) {
            memcpy(subject->s, path + length, strlen(path + length) + 1);
            return &routes[i];
        }
    }
    return NULL;
}

/* The key of "Authorization: Bearer KEY"; NULL when there is none. */
static const char *bearer(struct MHD_Connection *c)
{
    static const char scheme[] = "Bearer ";
    const char *value = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_AUTHORIZATION);
    if (!value || strncasecmp(value, scheme, sizeof scheme - 1) != 0) return NULL;
    return value + sizeof scheme - 1;
}

struct taking {
    struct params *params;
    unsigned allowed;
    struct sg_fault *f;
    enum sg_error error;
};

static enum MHD_Result take_param(void *arg, enum MHD_ValueKind kind, const char *name, const char *value)
{
    struct taking *t = arg;
    (void)kind;
    t->error = params_take(t->params, t->allowed, name, value, t->f);
    return t->error ? MHD_NO : MHD_YES;
}

static enum sg_error take_params(struct MHD_Connection *c, const struct route *r, struct params *out,
                                 struct sg_fault *f)
{
    struct taking t = {out, r->allowed, f, SG_OK};
    params_init(out);
    MHD_get_connection_values(c, MHD_GET_ARGUMENT_KIND, take_param, &t);
    return t.error ? t.error : params_finish(out, r->required, f);
}

static void refuse(struct http *h, struct answer *a, enum api_counter counter, unsigned status, const char *code,
                   const char *sentence)
{
    counters_add(h->config.counters, counter, 1);
    answer_error(a, status, code, sentence);
}

/* Key, role and rate: true when the request may go on. */
static bool admit(struct http *h, struct MHD_Connection *c, const struct route *r, struct question *q, struct answer *a)
{
    const char *key = bearer(c);
    uint32_t retry_after_s;
    enum sg_error e = key ? auth_check(h->config.auth, key, strlen(key), &q->team, &q->role) : SG_ERR_NOT_FOUND;
    if (e == SG_ERR_STATE) {
        answer_error(a, 503, "starting", "keys are still being read; try again soon");
        return false;
    }
    if (e) {
        refuse(h, a, COUNT_REFUSED_KEY, 401, "unauthorized", "a valid API key is needed: Authorization: Bearer KEY");
        return false;
    }
    if (!rate_take(&h->rate, XXH3_64bits(key, strlen(key)), clock_boot(), &retry_after_s)) {
        refuse(h, a, COUNT_REFUSED_RATE, 429, "rate_limited", "too many requests with this key");
        return false;
    }
    if (!(r->roles & ROLE_BIT(q->role))) {
        refuse(h, a, COUNT_REFUSED_ROLE, 403, "forbidden", "this key's role may not ask that");
        return false;
    }
    return true;
}

static void answer_route(struct http *h, struct MHD_Connection *c, const struct route *r, struct question *q,
                         struct answer *a)
{
    struct sg_fault f = {0};
    if (!r->answer) {
        buffer_text(&a->body, h->config.openapi);
        return;
    }
    if (!admit(h, c, r, q, a)) return;
    if (take_params(c, r, &q->params, &f)) {
        refuse(h, a, COUNT_REFUSED_PARAMETER, 400, "bad_parameter", f.text);
        return;
    }
    enum sg_error e = r->answer(q, a, &f);
    if (!e) return;
    answer_fail(a, e, &f);
    if (a->status >= 500) log_fault(LOG_WARN, "answer_failed", &f);
}

static void etag_of(const struct answer *a, char out[static 24])
{
    snprintf(out, 24, "\"%016llx\"", (unsigned long long)XXH3_64bits(a->body.data ? a->body.data : "", a->body.length));
}

static void count_answer(struct http *h, unsigned status)
{
    counters_add(h->config.counters, COUNT_ANSWERED_2XX + (status / 100 - 2), 1);
}

/* Sends a; takes over its body. */
static enum MHD_Result send_answer(struct http *h, struct MHD_Connection *c, struct answer *a)
{
    char etag[24];
    etag_of(a, etag);
    const char *known = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_IF_NONE_MATCH);
    if (a->status == 200 && known && strcmp(known, etag) == 0) {
        a->status = 304;
        buffer_reset(&a->body);
    }
    struct MHD_Response *r = MHD_create_response_from_buffer(a->body.length, a->body.data, MHD_RESPMEM_MUST_FREE);
    if (!r) {
        buffer_destroy(&a->body);
        return MHD_NO;
    }
    bool ok = MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, a->content_type) == MHD_YES &&
              MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "private, no-cache") == MHD_YES;
    if (ok && (a->status == 200 || a->status == 304))
        ok = MHD_add_response_header(r, MHD_HTTP_HEADER_ETAG, etag) == MHD_YES;
    if (ok && a->status == 401) ok = MHD_add_response_header(r, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer") == MHD_YES;
    if (ok && a->status == 405) ok = MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD") == MHD_YES;
    if (ok && (a->status == 429 || a->status == 503))
        ok = MHD_add_response_header(r, MHD_HTTP_HEADER_RETRY_AFTER, "1") == MHD_YES;
    count_answer(h, a->status);
    enum MHD_Result sent = ok ? MHD_queue_response(c, a->status, r) : MHD_NO;
    MHD_destroy_response(r);
    return sent;
}

static enum MHD_Result handle(void *arg, struct MHD_Connection *c, const char *path, const char *method,
                              const char *version, const char *upload, size_t *upload_bytes, void **state)
{
    static const char seen_head;
    struct http *h = arg;
    struct question q = {.view = h->config.view, .book = h->config.book, .now = clock_wall()};
    struct answer a = {.status = 200, .content_type = "application/json"};
    (void)version;
    (void)upload;
    if (!*state) { /* called once for the head; the body, if any, comes after */
        *state = (void *)(uintptr_t)&seen_head;
        return MHD_YES;
    }
    buffer_init(&a.body, ANSWER_BYTES_MAX);
    const struct route *r = route_find(path, &q.subject);
    bool get = strcmp(method, MHD_HTTP_METHOD_GET) == 0 || strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
    if (*upload_bytes) return MHD_NO; /* nothing here takes a body: the connection is closed */
    if (!r)
        refuse(h, &a, COUNT_REFUSED_PATH, 404, "not_found", "there is nothing here");
    else if (!get)
        refuse(h, &a, COUNT_REFUSED_METHOD, 405, "method_not_allowed", "only GET and HEAD are answered");
    else {
        atomic_store(&h->busy_since, clock_boot().v + 1);
        answer_route(h, c, r, &q, &a);
        atomic_store(&h->busy_since, 0);
    }
    return send_answer(h, c, &a);
}

/* The address to listen on; the length of what was filled in, 0 when host is no address. */
static socklen_t address_of(const struct config_listen *l, struct sockaddr_storage *out)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, l->host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(l->port);
        return sizeof *v4;
    }
    if (inet_pton(AF_INET6, l->host, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(l->port);
        return sizeof *v6;
    }
    return 0;
}

static struct MHD_Daemon *daemon_start(struct http *h, const struct sockaddr_storage *address)
{
    const struct http_config *k = &h->config;
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | (address->ss_family == AF_INET6 ? MHD_USE_IPv6 : 0) |
                     (k->tls_cert ? MHD_USE_TLS : 0);
    struct MHD_OptionItem tls[] = {
        {MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)(uintptr_t)k->tls_cert},
        {MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)(uintptr_t)k->tls_key},
        /* the agreement: TLS 1.3 on every customer-facing endpoint (domain.md, section 5, clause 7) */
        {MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t) "SECURE256:+SECURE128:-VERS-ALL:+VERS-TLS1.3"},
        {MHD_OPTION_END, 0, NULL},
    };
    struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};
    return MHD_start_daemon(flags, 0, NULL, NULL, handle, h, MHD_OPTION_SOCK_ADDR, (const struct sockaddr *)address,
                            MHD_OPTION_CONNECTION_LIMIT, (unsigned)HTTP_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
                            (unsigned)HTTP_TIMEOUT_S, MHD_OPTION_ARRAY, k->tls_cert ? tls : none, MHD_OPTION_END);
}

enum sg_error http_start(struct http **out, const struct http_config *config, struct sg_fault *f)
{
    struct sockaddr_storage address;
    struct http *h = calloc(1, sizeof *h);
    if (!h) return sg_fail(f, SG_ERR_NOMEM, "http: no memory");
    h->config = *config;
    h->rate.per_s = config->requests_per_s;
    if (address_of(&config->listen, &address)) h->daemon = daemon_start(h, &address);
    if (!h->daemon) {
        free(h);
        return sg_fail(f, SG_ERR_IO, "http: cannot listen on port %u, or the certificate does not load: %s",
                       config->listen.port, strerror(errno));
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_BIND_PORT);
    h->port = info ? info->port : config->listen.port;
    *out = h;
    return SG_OK;
}

uint16_t http_port(const struct http *h)
{
    return h->port;
}

uint64_t http_busy_ms(const struct http *h)
{
    uint64_t since = atomic_load(&h->busy_since), now = clock_boot().v + 1;
    return since && now > since ? now - since : 0;
}

void http_stop(struct http *h)
{
    if (!h) return;
    MHD_stop_daemon(h->daemon);
    free(h);
}
