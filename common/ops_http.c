#include "common/ops_http.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"

struct ops_http {
    struct ops_http_config config;
    struct MHD_Daemon *daemon;
};

/* What a route answers with. */
struct answer {
    unsigned status;
    const char *type;
    struct buffer body;
};

static void answer_health(const struct ops_http *o, struct answer *a)
{
    a->status = health_render(o->config.health, &a->body) ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
    a->type = "application/json";
}

static void answer_ready(const struct ops_http *o, struct answer *a)
{
    answer_health(o, a);
    if (!health_ready(o->config.health)) a->status = MHD_HTTP_SERVICE_UNAVAILABLE;
}

static void answer_metrics(const struct ops_http *o, struct answer *a)
{
    counters_render(o->config.counters, &a->body);
    health_metrics(o->config.health, &a->body);
    buffer_printf(&a->body,
                  "# HELP sandglass_build_info the version that runs\n# TYPE sandglass_build_info gauge\n"
                  "sandglass_build_info{program=\"%s\",version=\"%s\"} 1\n",
                  o->config.program, SANDGLASS_VERSION);
    a->type = "text/plain; version=0.0.4; charset=utf-8";
}

static void answer_openapi(const struct ops_http *o, struct answer *a)
{
    if (o->config.openapi) {
        buffer_text(&a->body, o->config.openapi);
        a->type = "application/json";
    } else {
        a->status = MHD_HTTP_NOT_FOUND;
    }
}

static const struct {
    const char *path;
    void (*answer)(const struct ops_http *o, struct answer *a);
} routes[] = {
    {"/healthz", answer_health},
    {"/readyz", answer_ready},
    {"/metrics", answer_metrics},
    {"/openapi.json", answer_openapi},
};

static void answer_path(const struct ops_http *o, const char *path, struct answer *a)
{
    a->status = MHD_HTTP_OK;
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        if (strcmp(routes[i].path, path) != 0) continue;
        routes[i].answer(o, a);
        return;
    }
    a->status = MHD_HTTP_NOT_FOUND;
}

/* Errors get a body of the form that the API's have. */
static void fill_error(struct answer *a)
{
    if (a->body.error) {
        buffer_reset(&a->body);
        a->status = MHD_HTTP_INTERNAL_SERVER_ERROR;
    }
    if (a->body.length) return;
    a->type = "application/json";
    const char *text = a->status == MHD_HTTP_NOT_FOUND            ? "there is nothing under this path"
                       : a->status == MHD_HTTP_METHOD_NOT_ALLOWED ? "only GET and HEAD are answered here"
                                                                  : "the answer could not be made";
    const char *code = a->status == MHD_HTTP_NOT_FOUND            ? "not_found"
                       : a->status == MHD_HTTP_METHOD_NOT_ALLOWED ? "method_not_allowed"
                                                                  : "internal";
    buffer_printf(&a->body, "{\"error\":\"%s\",\"code\":\"%s\"}", text, code);
}

static enum MHD_Result send_answer(struct MHD_Connection *connection, struct answer *a)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(a->body.length, a->body.data, MHD_RESPMEM_MUST_COPY);
    if (!response) return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, a->type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (a->status == MHD_HTTP_METHOD_NOT_ALLOWED) MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    enum MHD_Result result = MHD_queue_response(connection, a->status, response);
    MHD_destroy_response(response);
    return result;
}

/* Called once with a request's head (*state NULL), then with its body or its end. A method that is not answered here is
 * refused at its head, so that no body is read; a GET with a body is cut off. */
static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *path, const char *method,
                                  const char *version, const char *upload, size_t *upload_bytes, void **state)
{
    static char seen;
    const struct ops_http *o = arg;
    struct answer a = {0};
    bool allowed = strcmp(method, MHD_HTTP_METHOD_GET) == 0 || strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
    (void)version, (void)upload;
    if (!*state && allowed) {
        *state = &seen;
        return MHD_YES;
    }
    if (*upload_bytes) return MHD_NO;
    buffer_init(&a.body, OPS_HTTP_BODY_BYTES_MAX);
    if (allowed)
        answer_path(o, path, &a);
    else
        a.status = MHD_HTTP_METHOD_NOT_ALLOWED;
    fill_error(&a);
    enum MHD_Result result = a.body.data ? send_answer(connection, &a) : MHD_NO;
    buffer_destroy(&a.body);
    return result;
}

/* libmicrohttpd's own complaints may quote requests: they are counted as an event, their text is dropped. */
static void on_log(void *arg, const char *format, va_list args)
{
    (void)arg, (void)format, (void)args;
    log_event(LOG_DEBUG, "ops_http_complaint", "");
}

static bool make_address(const struct config_listen *listen, struct sockaddr_storage *out)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, listen->host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(listen->port);
        return true;
    }
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(listen->port);
    return inet_pton(AF_INET6, listen->host, &v6->sin6_addr) == 1;
}

enum sg_error ops_http_start(struct ops_http **out, const struct ops_http_config *config, struct sg_fault *f)
{
    struct sockaddr_storage address;
    if (!make_address(&config->listen, &address)) return sg_fail(f, SG_ERR_CONFIG, "operations listener: bad address");
    struct ops_http *o = calloc(1, sizeof *o);
    if (!o) return sg_fail(f, SG_ERR_NOMEM, "operations listener: no memory");
    o->config = *config;
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ERROR_LOG;
    if (address.ss_family == AF_INET6) flags |= MHD_USE_IPv6;
    errno = 0;
    /* no MHD_OPTION_LISTENING_ADDRESS_REUSE: 1 means SO_REUSEPORT, and two programs would share the port in silence;
     * the logger comes first: it is told of what goes wrong with the options behind it */
    o->daemon = MHD_start_daemon(flags, config->listen.port, NULL, NULL, on_request, o, MHD_OPTION_EXTERNAL_LOGGER,
                                 on_log, NULL, MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&address,
                                 MHD_OPTION_CONNECTION_LIMIT, (unsigned)OPS_HTTP_CONNECTIONS_MAX,
                                 MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)OPS_HTTP_TIMEOUT_S, MHD_OPTION_END);
    if (!o->daemon) {
        enum sg_error e = sg_fail(f, SG_ERR_IO, "operations listener: port %u: %s", config->listen.port,
                                  errno ? strerror(errno) : "could not be opened");
        free(o);
        return e;
    }
    *out = o;
    return SG_OK;
}

uint16_t ops_http_port(const struct ops_http *o)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(o->daemon, MHD_DAEMON_INFO_BIND_PORT);
    assert(info);
    return info->port;
}

void ops_http_stop(struct ops_http *o)
{
    if (!o) return;
    MHD_stop_daemon(o->daemon);
    free(o);
}
