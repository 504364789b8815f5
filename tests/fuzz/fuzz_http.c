/* A request's head and, behind an empty line, what Redis answers to whoever asks it: the API from the route to the
 * status and the body, with libmicrohttpd and the keys played here and hiredis by redis_replies.c.
 *
 * Whatever comes: one answer of a known status; a JSON body where it says JSON; no customer's numbers without a key
 * (its role as its text: `Authorization: Bearer customer`); nothing of the request in a refusal. */
#include <assert.h>
#include <jansson.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/api/http.h"
#include "aggregator/store/redis_store.h"
#include "common/log.h"
#include "tests/fuzz/redis_replies.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PAIRS_MAX = 32, SHARDS = 2 };

struct pair {
    const char *name, *value; /* value NULL: none was given */
};

struct MHD_Response {
    char *body;
    size_t length;
    const char *type;
};

/* A request, and the answer to it. */
struct MHD_Connection {
    struct pair header[PAIRS_MAX], argument[PAIRS_MAX];
    size_t header_count, argument_count;
    enum role role; /* of the key that was accepted; ROLES: none was */
    unsigned status, answers;
};

static struct MHD_Connection connection;
static MHD_AccessHandlerCallback handler;
static void *handler_arg;

/* ---- libmicrohttpd ---- */

struct MHD_Daemon *MHD_start_daemon(unsigned flags, uint16_t port, MHD_AcceptPolicyCallback apc, void *apc_arg,
                                    MHD_AccessHandlerCallback dh, void *dh_arg, ...)
{
    static int daemon;
    (void)flags, (void)port, (void)apc, (void)apc_arg;
    handler = dh;
    handler_arg = dh_arg;
    return (struct MHD_Daemon *)&daemon;
}

void MHD_stop_daemon(struct MHD_Daemon *daemon)
{
    (void)daemon;
}

const union MHD_DaemonInfo *MHD_get_daemon_info(struct MHD_Daemon *daemon, enum MHD_DaemonInfoType type, ...)
{
    (void)daemon, (void)type;
    return NULL;
}

const char *MHD_lookup_connection_value(struct MHD_Connection *c, enum MHD_ValueKind kind, const char *key)
{
    assert(kind == MHD_HEADER_KIND);
    for (size_t i = 0; i < c->header_count; i++)
        if (strcasecmp(c->header[i].name, key) == 0) return c->header[i].value;
    return NULL;
}

int MHD_get_connection_values(struct MHD_Connection *c, enum MHD_ValueKind kind, MHD_KeyValueIterator each, void *arg)
{
    assert(kind == MHD_GET_ARGUMENT_KIND);
    size_t i = 0;
    while (i < c->argument_count && each(arg, kind, c->argument[i].name, c->argument[i].value) == MHD_YES) i++;
    return (int)i;
}

struct MHD_Response *MHD_create_response_from_buffer(size_t size, void *buffer, enum MHD_ResponseMemoryMode mode)
{
    struct MHD_Response *r = calloc(1, sizeof *r);
    assert(r && mode == MHD_RESPMEM_MUST_FREE);
    r->body = buffer;
    r->length = size;
    return r;
}

enum MHD_Result MHD_add_response_header(struct MHD_Response *r, const char *name, const char *value)
{
    if (strcmp(name, MHD_HTTP_HEADER_CONTENT_TYPE) == 0) r->type = value;
    return MHD_YES;
}

void MHD_destroy_response(struct MHD_Response *r)
{
    free(r->body);
    free(r);
}

/* ---- keys ---- */

enum sg_error auth_check(struct auth *a, const char *key, size_t length, struct id *team, enum role *role)
{
    (void)a;
    if (!role_parse(key, length, role)) return SG_ERR_NOT_FOUND;
    connection.role = *role;
    memcpy(team->s, "t", 2);
    return SG_OK;
}

/* ---- what is expected ---- */

static void expect_refusal(const struct MHD_Response *r)
{
    json_t *j = json_loadb(r->body, r->length, JSON_REJECT_DUPLICATES, NULL);
    assert(json_object_size(j) == 2 && json_string_value(json_object_get(j, "code")));
    const char *sentence = json_string_value(json_object_get(j, "error"));
    assert(sentence && sentence[0] && !strstr(sentence, "canary"));
    json_decref(j);
}

static void expect_answer(unsigned status, const struct MHD_Response *r)
{
    if (strcmp(r->type, "application/json") != 0) {
        assert(status == 200 && strncmp(r->type, "text/csv", 8) == 0);
        return;
    }
    json_t *j = json_loadb(r->body, r->length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    assert(json_is_object(j));
    json_decref(j);
}

enum MHD_Result MHD_queue_response(struct MHD_Connection *c, unsigned status, struct MHD_Response *r)
{
    static const unsigned statuses[] = {200, 304, 400, 401, 403, 404, 405, 500, 503};
    bool known = false;
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) known |= statuses[i] == status;
    assert(known && c->answers == 0 && r->type);
    c->answers++;
    c->status = status;
    if (status == 200)
        expect_answer(status, r);
    else if (status == 304)
        assert(r->length == 0);
    else
        expect_refusal(r);
    return MHD_YES;
}

/* ---- a request ---- */

static char *cut(char *text, char c)
{
    char *at = text ? strchr(text, c) : NULL;
    if (at) *at++ = '\0';
    return at;
}

static int hex_value(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* As libmicrohttpd does: %XX, in place. */
static char *decode(char *text)
{
    char *out = text;
    for (const char *in = text; *in; in++) {
        bool coded = in[0] == '%' && hex_value(in[1]) >= 0 && hex_value(in[2]) >= 0;
        *out++ = coded ? (char)(hex_value(in[1]) * 16 + hex_value(in[2])) : *in;
        in += coded ? 2 : 0;
    }
    *out = '\0';
    return text;
}

static void take_arguments(char *query)
{
    for (char *next; query && connection.argument_count < PAIRS_MAX; query = next) {
        next = cut(query, '&');
        for (char *p = query; *p; p++)
            if (*p == '+') *p = ' ';
        char *value = cut(query, '=');
        connection.argument[connection.argument_count++] = (struct pair){decode(query), value ? decode(value) : NULL};
    }
}

static void take_headers(char *lines)
{
    for (char *next; lines && connection.header_count < PAIRS_MAX; lines = next) {
        next = cut(lines, '\n');
        char *value = cut(lines, ':');
        if (value) connection.header[connection.header_count++] = (struct pair){lines, value + strspn(value, " ")};
    }
}

static void request(char *head)
{
    void *state = NULL;
    size_t upload = 0;
    connection = (struct MHD_Connection){.role = ROLES};
    char *lines = cut(head, '\n'), *target = cut(head, ' '), *query = cut(target, '?');
    if (!target) return;
    take_headers(lines);
    take_arguments(query);
    decode(target);
    enum MHD_Result result = handler(handler_arg, &connection, target, head, "HTTP/1.1", NULL, &upload, &state);
    assert(result == MHD_YES && connection.answers == 0);
    result = handler(handler_arg, &connection, target, head, "HTTP/1.1", NULL, &upload, &state);
    assert(result == MHD_YES && connection.answers == 1);
    if (connection.status == 200 || connection.status == 304)
        assert(connection.role != ROLES || strcmp(target, "/openapi.json") == 0);
}

static void start(struct view *view)
{
    static struct http *http;
    static struct price_book book;
    static struct counters counters;
    static const struct counter_spec specs[] = {API_COUNTERS(COUNTERS_SPEC)};
    static const char prices[] = "{\"currency\":\"USD\",\"versions\":[{\"version\":\"a\",\"from\":\"1970-01-01T00:00:"
                                 "00Z\",\"vcpu_hour\":\"0.025\",\"gib_hour\":\"0.015\"}]}";
    const struct http_config config = {
        .listen = {"127.0.0.1", 1}, .view = view, .book = &book, .counters = &counters, .openapi = "{}"};
    if (http) return;
    log_init("fuzz", LOG_ERROR);
    counters_init(&counters, specs, API_COUNTER_COUNT);
    bool ok = price_book_parse(prices, sizeof prices - 1, &book, NULL) == SG_OK;
    ok = ok && http_start(&http, &config, NULL) == SG_OK;
    assert(ok);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct redis_store_config config = {.address = "/redis", .shards = SHARDS};
    static struct view view;
    start(&view);
    view = (struct view){.shards = SHARDS, .grace_ms = HOUR_MS};
    const uint8_t *gap = memmem(data, size, "\n\n", 2);
    size_t head_bytes = gap ? (size_t)(gap - data) : size;
    char *head = strndup((const char *)data, head_bytes);
    enum sg_error e = redis_store_new(&view.store, &config, NULL);
    assert(head && e == SG_OK);
    replies_begin(gap ? gap + 2 : data, gap ? size - head_bytes - 2 : 0);
    request(head);
    redis_store_free(view.store);
    replies_end();
    free(head);
    return 0;
}
