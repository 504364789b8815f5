/* sandglass-api: answers customers' dashboards and capacity planners over HTTP.
 *
 * THREADS   main: reads the control topic (keys), judges health. One libmicrohttpd thread: answers, alone at the Redis
 * store. One more: operations. STATELESS Nothing is kept but the keys; any number of processes serve side by side.
 * FAILURES  Redis away: answers are 503, health turns red; the next request tries again. Kafka away: known keys go on
 * working, red. A broken control chain: keys as of before it, red until somebody looks. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/api/auth.h"
#include "aggregator/api/http.h"
#include "aggregator/store/redis_store.h"
#include "common/args.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/ops_http.h"
#include "common/service.h"
#include "proto/json_memory.h"
#include "sandglass/limits.h"

/* aggregator/api/openapi.json, made into a C file by the build. */
extern const char api_openapi[];

enum {
    POLL_MS = 100,
    PROBE_MS = 1000,
    BUSY_MS = 3000,
    TLS_FILE_BYTES_MAX = 256 * 1024,
    FILES_MAX = 4096,
    FAULT_ALLOWANCE_MS = 5000
};

struct api_config {
    struct config_listen listen, ops_listen;
    char *tls_cert, *tls_key, *kafka_brokers, *control_topic, *ledger_topic, *redis, *redis_user, *redis_password,
        *price_book;
    bool redis_cluster;
    struct config_list kafka_properties;
    int64_t shards, requests_per_s;
    uint64_t runner_grace_ms;
    int log_level;
};

static const struct config_key keys[] = {
    CONFIG_LISTEN(struct api_config, listen, "listen", "127.0.0.1:8443", "address:port for customers"),
    CONFIG_PATH(struct api_config, tls_cert, "tls_cert", "", "PEM file with the certificate chain; empty: plain HTTP"),
    CONFIG_PATH(struct api_config, tls_key, "tls_key", "", "PEM file with the private key"),
    CONFIG_STRING(struct api_config, kafka_brokers, "kafka_brokers", NULL, "host:port,host:port of the Kafka cluster"),
    CONFIG_LIST(struct api_config, kafka_properties, "kafka_property",
                "NAME VALUE of a librdkafka property, for TLS and login"),
    CONFIG_STRING(struct api_config, control_topic, "control_topic", "sandglass.control",
                  "topic of administrative facts"),
    CONFIG_STRING(struct api_config, ledger_topic, "ledger_topic", "sandglass.ledger",
                  "topic of what was pushed to Stripe"),
    CONFIG_STRING(struct api_config, redis, "redis", NULL, "host:port of Redis, or several nodes of a cluster"),
    CONFIG_BOOL(struct api_config, redis_cluster, "redis_cluster", "no", "whether redis is a Redis Cluster"),
    CONFIG_STRING(struct api_config, redis_user, "redis_user", "", "user of Redis; empty: the default user"),
    CONFIG_SECRET(struct api_config, redis_password, "redis_password", "", "password of Redis"),
    CONFIG_INT(struct api_config, shards, "shards", "16", 1, SHARDS_MAX, "shards of the view, fixed at its creation"),
    CONFIG_DURATION(struct api_config, runner_grace_ms, "runner_grace", "10m", SECOND_MS, DAY_MS,
                    "a runner silent for longer is left out of complete_through and is a gap"),
    CONFIG_PATH(struct api_config, price_book, "price_book", NULL, "file with the price versions"),
    CONFIG_INT(struct api_config, requests_per_s, "requests_per_s", "100", 0, 1000000,
               "requests a second per key; 0: no limit"),
    CONFIG_LISTEN(struct api_config, ops_listen, "ops_listen", "127.0.0.1:9404", "address:port for health and metrics"),
    CONFIG_WORD(struct api_config, log_level, "log_level", "info", log_level_words,
                "least important level that is logged"),
};

static enum sg_error check(const void *config, struct sg_fault *f)
{
    const struct api_config *c = config;
    if ((c->tls_cert[0] == '\0') != (c->tls_key[0] == '\0'))
        return sg_fail(f, SG_ERR_CONFIG, "tls_cert and tls_key go together");
    return SG_OK;
}

static const struct config_table table = {
    .program = "sandglass-api",
    .summary = "answers usage dashboards and capacity planners over HTTP",
    .keys = keys,
    .count = sizeof keys / sizeof *keys,
    .struct_bytes = sizeof(struct api_config),
    .check = check,
};

enum component { COMPONENT_KAFKA, COMPONENT_REDIS, COMPONENT_CONTROL, COMPONENT_HTTP, COMPONENTS };
static const struct health_component components[COMPONENTS] = {
    [COMPONENT_KAFKA] = {"kafka", FAULT_ALLOWANCE_MS, 0},
    [COMPONENT_REDIS] = {"redis", FAULT_ALLOWANCE_MS, 0},
    [COMPONENT_CONTROL] = {"control", 0, 0},
    [COMPONENT_HTTP] = {"http", FAULT_ALLOWANCE_MS, 0},
};
static const struct counter_spec specs[] = {API_COUNTERS(COUNTERS_SPEC)};

/* The program; zeroed can be closed. */
struct api {
    struct api_config config;
    const char *kafka[2 * CONFIG_LIST_MAX + 1];
    struct health health;
    struct counters counters;
    struct price_book book;
    struct auth *auth;
    struct redis_store *store, *probe; /* the HTTP thread's, the main thread's */
    struct view view, probe_view;
    char *tls_cert, *tls_key;
    struct http *http;
    struct ops_http *ops;
    struct loop loop;
    struct boot_ms probe_at;
    struct sg_fault ending; /* what ends the program */
};

static enum sg_error file_read(const char *path, char **out, struct sg_fault *f)
{
    FILE *file = fopen(path, "re");
    if (!file) return sg_fail(f, SG_ERR_IO, "%s: %s", path, strerror(errno));
    char *text = calloc(1, TLS_FILE_BYTES_MAX);
    size_t length = text ? fread(text, 1, TLS_FILE_BYTES_MAX, file) : 0;
    bool ok = text && !ferror(file) && length && length < TLS_FILE_BYTES_MAX;
    fclose(file);
    if (ok) {
        *out = text;
        return SG_OK;
    }
    free(text);
    return sg_fail(f, SG_ERR_IO, "%s: cannot be read, is empty or longer than %d bytes", path, TLS_FILE_BYTES_MAX - 1);
}

static struct redis_store_config store_config(const struct api_config *c)
{
    return (struct redis_store_config){.address = c->redis,
                                       .cluster = c->redis_cluster,
                                       .shards = (uint32_t)c->shards,
                                       .user = c->redis_user,
                                       .password = c->redis_password};
}

/* Known keys go on working without Kafka, but new ones and revocations do not arrive: that is a fault. */
static void poll_control(struct api *a)
{
    struct sg_fault f = {0};
    bool asked = false;
    enum sg_error e = auth_poll(a->auth, 0, &asked, &f);
    if (e == SG_ERR_NOMEM) { /* a fact may be lost, which nobody will say again: starting anew reads it anew */
        a->ending = f;
        loop_stop(&a->loop);
    }
    bool broken = e == SG_ERR_MISMATCH || e == SG_ERR_MALFORMED || e == SG_ERR_VERSION;
    if (e) health_take_fault(&a->health, broken ? COMPONENT_CONTROL : COMPONENT_KAFKA, &f);
    if (!e && asked) health_clear(&a->health, COMPONENT_KAFKA);
    if (!auth_ready(a->auth) || health_ready(&a->health)) return;
    health_set_ready(&a->health, true);
    service_ready();
    log_event(LOG_INFO, "ready", "port=%u", http_port(a->http));
}

/* One thread answers all customers: one answer that takes too long keeps all the others waiting. */
static void judge_http(struct api *a)
{
    if (http_busy_ms(a->http) > BUSY_MS)
        health_set_fault(&a->health, COMPONENT_HTTP, "one answer keeps the listener busy");
    else
        health_clear(&a->health, COMPONENT_HTTP);
}

/* Asks every shard, so that health knows before a customer does. */
static void probe_view(struct api *a)
{
    struct sg_fault f = {0};
    enum sg_error e = SG_OK;
    for (uint32_t s = 0; !e && s < a->probe_view.shards; s++) e = view_refresh(&a->probe_view, s, &f);
    if (e)
        health_take_fault(&a->health, COMPONENT_REDIS, &f);
    else
        health_clear(&a->health, COMPONENT_REDIS);
}

static struct boot_ms tick(void *arg, struct boot_ms now)
{
    struct api *a = arg;
    poll_control(a);
    judge_http(a);
    if (now.v >= a->probe_at.v) {
        health_doing(&a->health, "a question to Redis");
        probe_view(a);
        health_doing(&a->health, NULL);
        a->probe_at.v = loop_now(&a->loop).v + PROBE_MS;
    }
    health_progress(&a->health);
    health_set_lag(&a->health, 0);
    service_alive();
    log_flush(false);
    return (struct boot_ms){loop_now(&a->loop).v + POLL_MS};
}

static enum sg_error open_sources(struct api *a, struct sg_fault *f)
{
    const struct api_config *c = &a->config;
    struct redis_store_config redis = store_config(c);
    struct txlog_config control = {
        .kafka = a->kafka, .brokers = c->kafka_brokers, .topic = c->control_topic, .client_id = "sandglass-api"};
    enum sg_error e = price_book_load(c->price_book, &a->book, f);
    if (!e) e = config_list_pairs(&c->kafka_properties, "kafka_property", a->kafka, f);
    if (!e) e = redis_store_new(&a->store, &redis, f);
    if (!e) e = redis_store_new(&a->probe, &redis, f);
    if (!e) e = auth_open(&a->auth, &control, f);
    if (!e && c->tls_cert[0]) e = file_read(c->tls_cert, &a->tls_cert, f);
    if (!e && c->tls_key[0]) e = file_read(c->tls_key, &a->tls_key, f);
    a->view = (struct view){.store = a->store, .shards = (uint32_t)c->shards, .grace_ms = (int64_t)c->runner_grace_ms};
    a->probe_view = a->view;
    a->probe_view.store = a->probe;
    return e;
}

static enum sg_error open_listeners(struct api *a, struct sg_fault *f)
{
    const struct api_config *c = &a->config;
    struct http_config http = {.listen = c->listen,
                               .tls_cert = a->tls_cert,
                               .tls_key = a->tls_key,
                               .view = &a->view,
                               .book = &a->book,
                               .auth = a->auth,
                               .counters = &a->counters,
                               .openapi = api_openapi,
                               .requests_per_s = (uint32_t)c->requests_per_s};
    struct ops_http_config ops = {.listen = c->ops_listen,
                                  .program = table.program,
                                  .health = &a->health,
                                  .counters = &a->counters,
                                  .openapi = api_openapi};
    enum sg_error e = ops_http_start(&a->ops, &ops, f);
    return e ? e : http_start(&a->http, &http, f);
}

static void close_all(struct api *a)
{
    http_stop(a->http);
    ops_http_stop(a->ops);
    auth_destroy(a->auth);
    redis_store_free(a->store);
    redis_store_free(a->probe);
    loop_destroy(&a->loop);
    health_destroy(&a->health);
    free(a->tls_cert);
    if (a->tls_key) explicit_bzero(a->tls_key, strlen(a->tls_key));
    free(a->tls_key);
    config_destroy(&table, &a->config);
}

static enum sg_error serve(struct api *a, struct sg_fault *f)
{
    enum sg_error e = loop_init(&a->loop, NULL, f);
    if (!e) e = open_sources(a, f);
    if (!e) e = open_listeners(a, f);
    if (!e) e = loop_run(&a->loop, tick, a, f);
    if (!e && a->ending.code) *f = a->ending;
    return e ? e : a->ending.code;
}

int main(int argc, char **argv)
{
    static struct api a;
    struct sg_fault f = {0};
    int status;
    if (!args_main_setup(argc, argv, &table, &a.config, &status)) return status;
    log_init(table.program, (enum log_level)a.config.log_level);
    service_setup(FILES_MAX);
    json_memory_setup();
    health_init(&a.health, components, COMPONENTS, NULL);
    counters_init(&a.counters, specs, API_COUNTER_COUNT);
    enum sg_error e = serve(&a, &f);
    if (e) log_fault(LOG_ERROR, "stopped", &f);
    service_stopping();
    close_all(&a);
    log_flush(true);
    return e ? 1 : 0;
}
