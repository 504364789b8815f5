#include "aggregator/billing/stripe_client.h"

#include <assert.h>
#include <curl/curl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/config.h"

enum { PATH_BYTES = 1024 };

/* A slot: one easy handle, used again and again. */
struct call {
    CURL *easy;
    struct stripe_client *client;
    struct curl_slist *headers;
    bool busy;
    bool passed; /* the last check before writing was passed: bytes may have left from here on */
    struct boot_ms begun, deadline;
    const char *identifier; /* of an attempt */
    bool is_read;
    struct wall_ms hour; /* of a read */
    void *arg;
    size_t length;
    char body[STRIPE_BODY_BYTES_MAX];
};

struct stripe_client {
    CURLM *multi;
    struct stripe_config config;
    size_t busy;
    char authorization[CONFIG_SECRET_BYTES_MAX + 32];
    char version[128];
    size_t call_count;
    struct call *call[STRIPE_CONCURRENCY_MAX];
};

bool stripe_url_allowed(const char *url)
{
    static const char *const loopback[] = {"http://127.0.0.1:", "http://[::1]:", "http://localhost:"};
    if (strncmp(url, "https://", 8) == 0 && url[8] != '\0' && url[strlen(url) - 1] != '/') return true;
    for (size_t i = 0; i < sizeof loopback / sizeof *loopback; i++) {
        size_t n = strlen(loopback[i]);
        if (strncmp(url, loopback[i], n) == 0 && url[n] && strspn(url + n, "0123456789") == strlen(url + n))
            return true;
    }
    return false;
}

/* ---- callbacks of libcurl ---- */

static size_t on_body(char *bytes, size_t one, size_t length, void *arg)
{
    struct call *c = arg;
    (void)one;
    if (length > sizeof c->body - c->length) return 0; /* ends the transfer: the answer is not understood */
    memcpy(c->body + c->length, bytes, length);
    c->length += length;
    return length;
}

static int on_open_connection(void *arg, char *remote, char *local, int remote_port, int local_port)
{
    struct call *c = arg;
    const struct clock *clock = c->client->config.clock;
    (void)remote;
    (void)local;
    (void)remote_port;
    (void)local_port;
    if (!plan_may_write(c->deadline, clock->boot(clock->arg))) return CURL_PREREQFUNC_ABORT;
    c->passed = true;
    return CURL_PREREQFUNC_OK;
}

/* ---- making ---- */

static bool set_connection_options(CURL *h, const struct stripe_config *config)
{
    int bad = 0;
    bad |= curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, strncmp(config->url, "https:", 6) == 0 ? "https" : "http");
    bad |= curl_easy_setopt(h, CURLOPT_FOLLOWLOCATION, 0L);
    bad |= curl_easy_setopt(h, CURLOPT_PROXY, config->proxy);
    bad |= curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    bad |= curl_easy_setopt(h, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    bad |= curl_easy_setopt(h, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    bad |= curl_easy_setopt(h, CURLOPT_SSL_VERIFYPEER, 1L);
    bad |= curl_easy_setopt(h, CURLOPT_SSL_VERIFYHOST, 2L);
    if (config->ca_file[0]) bad |= curl_easy_setopt(h, CURLOPT_CAINFO, config->ca_file);
    return bad == 0;
}

static bool set_shared_options(struct call *c)
{
    CURL *h = c->easy;
    int bad = !set_connection_options(h, &c->client->config);
    bad |= curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS, (long)STRIPE_CONNECT_MS);
    bad |= curl_easy_setopt(h, CURLOPT_TIMEOUT_MS, (long)STRIPE_TOTAL_MS);
    bad |= curl_easy_setopt(h, CURLOPT_MAXAGE_CONN, (long)STRIPE_IDLE_S);
    bad |= curl_easy_setopt(h, CURLOPT_USERAGENT, "sandglass/" SANDGLASS_VERSION);
    bad |= curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
    bad |= curl_easy_setopt(h, CURLOPT_WRITEDATA, c);
    bad |= curl_easy_setopt(h, CURLOPT_PREREQFUNCTION, on_open_connection);
    bad |= curl_easy_setopt(h, CURLOPT_PREREQDATA, c);
    bad |= curl_easy_setopt(h, CURLOPT_PRIVATE, c);
    return bad == 0;
}

static enum sg_error make_call(struct stripe_client *client, struct call **out)
{
    struct call *c = calloc(1, sizeof *c);
    if (!c) return SG_ERR_NOMEM;
    *out = c;
    c->client = client;
    c->easy = curl_easy_init();
    return c->easy && set_shared_options(c) ? SG_OK : SG_ERR_NOMEM;
}

enum sg_error stripe_client_open(struct stripe_client **out, const struct stripe_config *config, struct sg_fault *f)
{
    if (!stripe_url_allowed(config->url) || !config->concurrency || config->concurrency > STRIPE_CONCURRENCY_MAX)
        return sg_fail(f, SG_ERR_CONFIG, "the URL or the concurrency cannot be used");
    struct stripe_client *c = calloc(1, sizeof *c);
    enum sg_error e = c ? SG_OK : SG_ERR_NOMEM;
    if (c) {
        c->config = *config;
        if (!c->config.clock) c->config.clock = &clock_real;
        snprintf(c->authorization, sizeof c->authorization, "Authorization: Bearer %s", config->key);
        snprintf(c->version, sizeof c->version, "Stripe-Version: %s", config->version);
        c->multi = curl_global_init(CURL_GLOBAL_DEFAULT) == 0 ? curl_multi_init() : NULL;
        if (!c->multi) e = SG_ERR_NOMEM;
    }
    for (; e == SG_OK && c->call_count < config->concurrency; c->call_count++)
        e = make_call(c, &c->call[c->call_count]);
    if (e == SG_OK) {
        curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, (long)config->concurrency);
        *out = c;
        return SG_OK;
    }
    stripe_client_close(c);
    return sg_fail(f, e, "the HTTP client cannot be made");
}

void stripe_client_close(struct stripe_client *c)
{
    if (!c) return;
    for (size_t i = 0; i < STRIPE_CONCURRENCY_MAX; i++) {
        struct call *call = c->call[i];
        if (!call) continue;
        if (call->busy) curl_multi_remove_handle(c->multi, call->easy);
        curl_slist_free_all(call->headers);
        if (call->easy) curl_easy_cleanup(call->easy);
        free(call);
    }
    if (c->multi) curl_multi_cleanup(c->multi);
    explicit_bzero(c->authorization, sizeof c->authorization);
    free(c);
}

size_t stripe_client_free(const struct stripe_client *c)
{
    return c->call_count - c->busy;
}

/* ---- one call ---- */

static struct call *free_call(struct stripe_client *c)
{
    for (size_t i = 0; i < c->call_count; i++)
        if (!c->call[i]->busy) return c->call[i];
    return NULL;
}

static bool add_header(struct call *c, const char *header)
{
    struct curl_slist *longer = curl_slist_append(c->headers, header);
    if (longer) c->headers = longer;
    return longer != NULL;
}

/* Everything that is the same for both kinds. */
static bool prepare(struct call *c, const char *path_and_query)
{
    char url[PATH_BYTES];
    int n = snprintf(url, sizeof url, "%s%s", c->client->config.url, path_and_query);
    c->passed = false;
    c->length = 0;
    curl_slist_free_all(c->headers);
    c->headers = NULL;
    return n > 0 && (size_t)n < sizeof url && curl_easy_setopt(c->easy, CURLOPT_URL, url) == 0 &&
           add_header(c, c->client->authorization) && add_header(c, c->client->version) && add_header(c, "Expect:");
}

static bool begin(struct call *c)
{
    const struct clock *clock = c->client->config.clock;
    c->begun = clock->boot(clock->arg);
    if (curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, c->headers) != 0) return false;
    if (curl_multi_add_handle(c->client->multi, c->easy) != 0) return false;
    c->busy = true;
    c->client->busy++;
    return true;
}

enum sg_error stripe_client_post(struct stripe_client *c, const struct stripe_post *post)
{
    char key[64 + LEDGER_IDENTIFIER_BYTES];
    struct call *call = free_call(c);
    assert(call);
    call->deadline = post->deadline;
    call->identifier = post->identifier;
    call->is_read = false;
    call->arg = post->arg;
    snprintf(key, sizeof key, "Idempotency-Key: %s.%u", post->identifier, post->generation);
    bool ok = prepare(call, "/v1/billing/meter_events") && add_header(call, key);
    ok = ok && curl_easy_setopt(call->easy, CURLOPT_POSTFIELDSIZE, (long)strlen(post->body)) == 0;
    ok = ok && curl_easy_setopt(call->easy, CURLOPT_COPYPOSTFIELDS, post->body) == 0;
    return ok && begin(call) ? SG_OK : SG_ERR_NOMEM;
}

enum sg_error stripe_client_read(struct stripe_client *c, const struct stripe_read *read)
{
    char path[512];
    int64_t start_s = read->hour.v / SECOND_MS;
    struct call *call = free_call(c);
    assert(call);
    call->deadline = read->deadline;
    call->is_read = true;
    call->hour = read->hour;
    call->arg = read->arg;
    snprintf(path, sizeof path,
             "/v1/billing/meters/%s/event_summaries?customer=%s&start_time=%" PRId64 "&end_time=%" PRId64
             "&value_grouping_window=hour&limit=100",
             read->meter_id, read->customer, start_s, start_s + HOUR_MS / SECOND_MS);
    bool ok = prepare(call, path) && curl_easy_setopt(call->easy, CURLOPT_HTTPGET, 1L) == 0;
    return ok && begin(call) ? SG_OK : SG_ERR_NOMEM;
}

static const char *header_of(const struct call *c, const char *name)
{
    struct curl_header *h;
    return curl_easy_header(c->easy, name, 0, CURLH_HEADER, -1, &h) == CURLHE_OK ? h->value : "";
}

/* Seconds only; a date counts as nothing asked for, and our own backoff applies. */
static uint64_t retry_after_ms(const struct call *c)
{
    const char *s = header_of(c, "retry-after");
    size_t n = strlen(s);
    if (n == 0 || n > 9 || strspn(s, "0123456789") != n) return 0;
    return strtoull(s, NULL, 10) * SECOND_MS;
}

static struct clock_trust_date date_of(const struct call *c)
{
    const char *s = header_of(c, "date");
    time_t date = s[0] ? curl_getdate(s, NULL) : -1;
    if (date < 0 || date > WALL_MS_MAX / SECOND_MS) return (struct clock_trust_date){.told = false};
    return (struct clock_trust_date){true, {(int64_t)date * SECOND_MS}, c->begun};
}

static void make_reply(struct call *c, CURLcode code, struct stripe_reply *r)
{
    long status = 0;
    const char *id;
    memset(r, 0, sizeof *r);
    r->arg = c->arg;
    curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
    if (code == CURLE_OK) {
        r->status = (uint32_t)status;
        r->retry_after_ms = retry_after_ms(c);
        r->date = date_of(c);
        id = header_of(c, "request-id");
        if (strlen(id) < sizeof r->request_id && id_valid(id, strlen(id))) memcpy(r->request_id, id, strlen(id) + 1);
    }
    struct answer_input in = {.complete = code == CURLE_OK,
                              .untouched = !c->passed,
                              .status = r->status,
                              .replayed = strcmp(header_of(c, "idempotent-replayed"), "true") == 0,
                              .body = c->body,
                              .body_length = c->length,
                              .identifier = c->identifier};
    r->is_read = c->is_read;
    if (c->is_read)
        r->read = answer_classify_read(&in, c->hour, &r->summary);
    else
        r->answer = answer_classify(&in, &r->reason);
}

/* The next call that has ended, taken out of the multi handle; NULL: none. */
static struct call *next_ended(struct stripe_client *c, CURLcode *code)
{
    int left;
    for (CURLMsg *m; (m = curl_multi_info_read(c->multi, &left));) {
        struct call *call = NULL;
        if (m->msg != CURLMSG_DONE) continue;
        *code = m->data.result;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &call);
        assert(call && call->busy);
        curl_multi_remove_handle(c->multi, call->easy);
        call->busy = false;
        c->busy--;
        return call;
    }
    return NULL;
}

void stripe_client_turn(struct stripe_client *c, uint32_t wait_ms, int extra_fd, stripe_answered *each, void *arg)
{
    struct curl_waitfd extra = {.fd = extra_fd, .events = CURL_WAIT_POLLIN};
    struct stripe_reply reply;
    CURLcode code;
    int running;
    curl_multi_perform(c->multi, &running);
    curl_multi_poll(c->multi, &extra, extra_fd >= 0, (int)wait_ms, NULL);
    curl_multi_perform(c->multi, &running);
    for (struct call *call; (call = next_ended(c, &code));) {
        make_reply(call, code, &reply);
        each(arg, &reply);
    }
}

/* ---- the list of meters ---- */

enum { TICK_MS = 200 };

static void give_up(struct call *c)
{
    curl_multi_remove_handle(c->client->multi, c->easy);
    c->busy = false;
    c->client->busy--;
}

static enum sg_error get_page(struct stripe_client *c, const char *cursor, struct call **out, struct sg_fault *f)
{
    char path[256];
    long status = 0;
    CURLcode code = CURLE_FAILED_INIT;
    struct call *call = free_call(c), *ended = NULL;
    int running;
    if (!call) return sg_fail(f, SG_ERR_LIMIT, "all requests are in use");
    snprintf(path, sizeof path, "/v1/billing/meters?limit=100&status=active%s%s", cursor[0] ? "&starting_after=" : "",
             cursor);
    call->deadline = (struct boot_ms){UINT64_MAX};
    if (!prepare(call, path) || curl_easy_setopt(call->easy, CURLOPT_HTTPGET, 1L) != 0 || !begin(call))
        return sg_fail(f, SG_ERR_NOMEM, "no memory for requests to Stripe");
    while (curl_multi_perform(c->multi, &running) == 0 && !(ended = next_ended(c, &code))) {
        curl_multi_poll(c->multi, NULL, 0, TICK_MS, NULL);
        if (!c->config.tick || !c->config.tick(c->config.tick_arg)) continue;
        give_up(call);
        return sg_fail(f, SG_ERR_STATE, "asked to stop");
    }
    if (!ended) {
        give_up(call);
        return sg_fail(f, SG_ERR_UNREACHABLE, "the HTTP client fails");
    }
    assert(ended == call); /* nothing else is in flight */
    curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    if (code != CURLE_OK) return sg_fail(f, SG_ERR_UNREACHABLE, "Stripe: %s", curl_easy_strerror(code));
    if (status == 401 || status == 403)
        return sg_fail(f, SG_ERR_DENIED, "Stripe does not accept the key for its meters");
    if (status != 200) return sg_fail(f, SG_ERR_UNREACHABLE, "Stripe answers %ld when asked for its meters", status);
    *out = call;
    return SG_OK;
}

enum sg_error stripe_client_meters(struct stripe_client *c, struct meter_slot *slots, size_t count,
                                   struct clock_trust_date *date, struct sg_fault *f)
{
    enum { PAGES_MAX = 1000 };
    char cursor[METERS_CURSOR_BYTES] = "";
    assert(c->busy == 0);
    *date = (struct clock_trust_date){.told = false};
    for (size_t pages = 0; pages == 0 || (cursor[0] && pages < PAGES_MAX); pages++) {
        struct call *page = NULL;
        enum sg_error e = get_page(c, cursor, &page, f);
        if (e == SG_OK) *date = date_of(page);
        if (e == SG_OK) e = meters_take_page(slots, count, page->body, page->length, cursor, f);
        if (e != SG_OK) return e;
    }
    for (size_t i = 0; i < count; i++) {
        char name[FIELD_NAME_BYTES_MAX];
        (void)field_name(slots[i].meter.field, name);
        if (!slots[i].found) return sg_fail(f, SG_ERR_CONFIG, "Stripe has no active meter %s", name);
    }
    return SG_OK;
}

bool stripe_client_probe(struct stripe_client *c)
{
    CURL *h = curl_easy_init();
    bool ok = h && set_connection_options(h, &c->config) && curl_easy_setopt(h, CURLOPT_URL, c->config.url) == 0 &&
              curl_easy_setopt(h, CURLOPT_CONNECT_ONLY, 1L) == 0 &&
              curl_easy_setopt(h, CURLOPT_TIMEOUT_MS, (long)STRIPE_PROBE_MS) == 0 && curl_easy_perform(h) == CURLE_OK;
    if (h) curl_easy_cleanup(h);
    return ok;
}
