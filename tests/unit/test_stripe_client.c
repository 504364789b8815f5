/* The HTTP client against a server of one thread that says what each test wants and keeps what it was sent. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "aggregator/billing/stripe_client.h"

#define IDENTIFIER "sg1-ab"
#define GOOD       "{\"object\":\"billing.meter_event\",\"identifier\":\"" IDENTIFIER "\"}"

/* One connection, one request, one answer. */
struct server {
    int fd;
    uint16_t port;
    const char *head; /* of the answer, without Content-Length; NULL: closes without one */
    const char *body;
    size_t fill; /* more bytes of body */
    pthread_t thread;
    _Atomic size_t received;
    char request[8192];
};

static bool whole(const char *request)
{
    const char *end = strstr(request, "\r\n\r\n"), *length = strstr(request, "Content-Length: ");
    if (!end) return false;
    return !length || strlen(end + 4) >= strtoul(length + 16, NULL, 10);
}

static void *serve(void *arg)
{
    struct server *s = arg;
    int c = accept(s->fd, NULL, NULL);
    size_t n = 0;
    for (ssize_t got; c >= 0 && !whole(s->request) && n < sizeof s->request - 1; n += (size_t)got) {
        got = read(c, s->request + n, sizeof s->request - 1 - n);
        if (got <= 0) break;
        atomic_fetch_add(&s->received, (size_t)got);
    }
    if (c >= 0 && s->head && whole(s->request)) {
        (void)!dprintf(c, "%sContent-Length: %zu\r\n\r\n%s", s->head, strlen(s->body) + s->fill, s->body);
        for (size_t i = 0; i < s->fill; i++)
            if (send(c, " ", 1, MSG_NOSIGNAL) < 0) break;
    }
    if (c >= 0) close(c);
    return NULL;
}

static void server_start(struct server *s, const char *head, const char *body)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    memset(s, 0, sizeof *s);
    s->head = head;
    s->body = body;
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(s->fd >= 0 && bind(s->fd, (struct sockaddr *)&a, n) == 0 && listen(s->fd, 4) == 0);
    cr_assert_eq(getsockname(s->fd, (struct sockaddr *)&a, &n), 0);
    s->port = ntohs(a.sin_port);
}

static void server_stop(struct server *s)
{
    shutdown(s->fd, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->fd);
}

static struct boot_ms at_boot(void *arg)
{
    (void)arg;
    return (struct boot_ms){1000};
}
static struct wall_ms at_wall(void *arg)
{
    (void)arg;
    return (struct wall_ms){INT64_C(784111777000) + 7000}; /* 7 s after the date below */
}
static const struct clock fixed_clock = {at_boot, at_wall, NULL};
#define DATE "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"

static void keep(void *arg, const struct stripe_reply *r)
{
    *(struct stripe_reply *)arg = *r;
}

enum { URL_BYTES = 64 };

/* Of a client that reaches a server here by url, which is filled. */
static struct stripe_config config_for(uint16_t port, char url[static URL_BYTES])
{
    snprintf(url, URL_BYTES, "http://127.0.0.1:%u", port);
    return (struct stripe_config){
        .url = url, .key = "sk_test_x", .version = "2026-07-29.dahlia", .ca_file = "", .proxy = "", .concurrency = 2};
}

/* Begins one request with this deadline and waits for what comes of it. */
static struct stripe_reply ask_at(uint16_t port, uint64_t deadline, bool read)
{
    char url[URL_BYTES];
    struct stripe_client *c = NULL;
    struct stripe_reply reply = {.answer = ANSWERS};
    struct stripe_config config = config_for(port, url);
    config.clock = &fixed_clock;
    struct stripe_post post = {
        .identifier = IDENTIFIER, .body = "event_name=vcpu_ms", .generation = 3, .deadline = {deadline}};
    struct stripe_read summary = {.meter_id = "mtr_1", .customer = "cus_1", .hour = {7200000}, .deadline = {deadline}};
    cr_assert_eq(stripe_client_open(&c, &config, NULL), SG_OK);
    cr_assert_eq(read ? stripe_client_read(c, &summary) : stripe_client_post(c, &post), SG_OK);
    cr_assert_eq(stripe_client_free(c), 1);
    for (int i = 0; i < 1000000 && reply.answer == ANSWERS; i++) stripe_client_turn(c, 50, -1, keep, &reply);
    cr_assert_eq(stripe_client_free(c), 2);
    cr_assert_eq(reply.is_read, read);
    stripe_client_close(c);
    return reply;
}

static struct stripe_reply post_to(uint16_t port, uint64_t deadline)
{
    return ask_at(port, deadline, false);
}

static struct stripe_reply post(struct server *s, uint64_t deadline)
{
    cr_assert_eq(pthread_create(&s->thread, NULL, serve, s), 0);
    struct stripe_reply r = post_to(s->port, deadline);
    server_stop(s);
    return r;
}

Test(stripe_client, an_event_is_sent_as_stripe_wants_it)
{
    struct server s;
    server_start(&s, "HTTP/1.1 200 OK\r\nRequest-Id: req_1\r\n" DATE, GOOD);
    struct stripe_reply r = post(&s, 1000);
    cr_assert_eq(r.answer, ANSWER_ACCEPTED);
    cr_assert_str_eq(r.request_id, "req_1");
    cr_assert(r.date.told && r.date.date.v == INT64_C(784111777000) && r.date.asked.v == 1000 && r.status == 200);
    static const char *const parts[] = {"POST /v1/billing/meter_events HTTP/1.1\r\n",
                                        "\r\nAuthorization: Bearer sk_test_x\r\n",
                                        "\r\nStripe-Version: 2026-07-29.dahlia\r\n",
                                        "\r\nIdempotency-Key: " IDENTIFIER ".3\r\n",
                                        "\r\nContent-Type: application/x-www-form-urlencoded\r\n",
                                        "\r\n\r\nevent_name=vcpu_ms"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        cr_assert_not_null(strstr(s.request, parts[i]), "%s", parts[i]);
    cr_assert_null(strstr(s.request, "Expect:"));
}

static struct stripe_reply read_of(struct server *s, uint64_t deadline)
{
    cr_assert_eq(pthread_create(&s->thread, NULL, serve, s), 0);
    struct stripe_reply r = ask_at(s->port, deadline, true);
    server_stop(s);
    return r;
}

Test(stripe_client, a_summary_is_asked_for_as_stripe_wants_it)
{
    struct server s;
    server_start(&s, "HTTP/1.1 200 OK\r\n" DATE, "{\"data\":[{\"start_time\":7200,\"aggregated_value\":12}]}");
    struct stripe_reply r = read_of(&s, 1000);
    cr_assert(r.read == ANSWER_READ_TOLD && r.summary.whole && r.summary.sum.v == 12 && r.date.told);
    static const char *const parts[] = {
        "GET /v1/billing/meters/mtr_1/event_summaries?customer=cus_1&start_time=7200&end_time=10800"
        "&value_grouping_window=hour&limit=100 HTTP/1.1\r\n",
        "\r\nAuthorization: Bearer sk_test_x\r\n", "\r\nStripe-Version: 2026-07-29.dahlia\r\n"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        cr_assert_not_null(strstr(s.request, parts[i]), "%s", parts[i]);
    cr_assert_null(strstr(s.request, "Idempotency-Key"));
}

Test(stripe_client, a_summary_that_does_not_come_is_not_read)
{
    struct server s;
    server_start(&s, NULL, NULL);
    cr_assert_eq(read_of(&s, 2000).read, ANSWER_READ_MISSING);
    server_start(&s, "HTTP/1.1 200 OK\r\n", "{\"data\":[]}");
    s.fill = STRIPE_BODY_BYTES_MAX;
    cr_assert_eq(read_of(&s, 2000).read, ANSWER_READ_MISSING);
    server_start(&s, "HTTP/1.1 429 x\r\nRetry-After: 3\r\n", "");
    struct stripe_reply r = read_of(&s, 2000);
    cr_assert(r.read == ANSWER_READ_THROTTLED && r.retry_after_ms == 3000);
    server_start(&s, "HTTP/1.1 200 OK\r\n", "{\"data\":[]}");
    cr_assert_eq(read_of(&s, 999).read, ANSWER_READ_MISSING, "past its deadline");
    cr_assert_eq(atomic_load(&s.received), 0);
}

Test(stripe_client, past_the_deadline_nothing_is_written_on_the_open_connection)
{
    struct server s;
    server_start(&s, "HTTP/1.1 200 OK\r\n", GOOD);
    struct stripe_reply r = post(&s, 999);
    cr_assert_eq(r.answer, ANSWER_NOT_SENT);
    cr_assert_eq(atomic_load(&s.received), 0);
}

Test(stripe_client, no_connection_is_not_sent_and_no_answer_is_ambiguous)
{
    struct server s;
    server_start(&s, NULL, NULL);
    struct stripe_reply r = post(&s, 2000);
    cr_assert_eq(r.answer, ANSWER_AMBIGUOUS);
    cr_assert_gt(atomic_load(&s.received), 0);
    cr_assert_eq(post_to(s.port, 2000).answer, ANSWER_NOT_SENT);
}

Test(stripe_client, an_answer_that_is_too_large_is_not_believed)
{
    struct server s;
    server_start(&s, "HTTP/1.1 200 OK\r\n", GOOD);
    s.fill = STRIPE_BODY_BYTES_MAX;
    cr_assert_eq(post(&s, 2000).answer, ANSWER_AMBIGUOUS);
}

Test(stripe_client, a_redirect_is_not_followed)
{
    struct server s;
    char head[128] = "";
    server_start(&s, head, "");
    snprintf(head, sizeof head, "HTTP/1.1 307 x\r\nLocation: http://127.0.0.1:%u/elsewhere\r\n", s.port);
    struct stripe_reply r = post(&s, 2000);
    cr_assert(r.answer == ANSWER_AMBIGUOUS && r.status == 307);
}

Test(stripe_client, what_stripe_asks_to_wait_is_told)
{
    struct server s;
    server_start(&s, "HTTP/1.1 429 x\r\nRetry-After: 3\r\n", "");
    struct stripe_reply r = post(&s, 2000);
    cr_assert(r.answer == ANSWER_THROTTLED && r.retry_after_ms == 3000);
    server_start(&s, "HTTP/1.1 429 x\r\nRetry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\nRequest-Id: a b\r\n", "");
    r = post(&s, 2000);
    cr_assert(r.answer == ANSWER_THROTTLED && r.retry_after_ms == 0 && r.request_id[0] == '\0');
}

Test(stripe_client, plain_http_is_for_loopback_only)
{
    cr_assert(stripe_url_allowed("https://api.stripe.com"));
    cr_assert(stripe_url_allowed("http://127.0.0.1:12111"));
    cr_assert(stripe_url_allowed("http://[::1]:12111"));
    cr_assert_not(stripe_url_allowed("http://api.stripe.com"));
    cr_assert_not(stripe_url_allowed("http://127.0.0.1:1@api.stripe.com"));
    cr_assert_not(stripe_url_allowed("https://"));
    cr_assert_not(stripe_url_allowed("https://api.stripe.com/"));
    cr_assert_not(stripe_url_allowed("ftp://127.0.0.1:1"));
    cr_assert_not(stripe_url_allowed(""));
}

Test(stripe_client, meters_are_learnt_or_the_reason_is_told)
{
    static const char page[] =
        "{\"has_more\":false,\"data\":[{\"id\":\"mtr_1\",\"event_name\":\"vcpu_ms\",\"status\":\"active\","
        "\"default_aggregation\":{\"formula\":\"sum\"},\"customer_mapping\":{\"event_payload_key\":\"c\"},"
        "\"value_settings\":{\"event_payload_key\":\"v\"},\"event_time_window\":null}]}";
    static const struct {
        const char *head, *body;
        enum field field;
        enum sg_error error;
    } table[] = {
        {"HTTP/1.1 200 OK\r\n" DATE, page, FIELD_VCPU_MS, SG_OK},
        {"HTTP/1.1 200 OK\r\n", page, FIELD_CPU_US, SG_ERR_CONFIG},
        {"HTTP/1.1 200 OK\r\n", "<html>", FIELD_VCPU_MS, SG_ERR_MALFORMED},
        {"HTTP/1.1 401 x\r\n", "", FIELD_VCPU_MS, SG_ERR_DENIED},
        {"HTTP/1.1 500 x\r\n", "", FIELD_VCPU_MS, SG_ERR_UNREACHABLE},
        {NULL, NULL, FIELD_VCPU_MS, SG_ERR_UNREACHABLE},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct server s;
        struct stripe_client *c = NULL;
        struct meter_slot slot = {.meter = {.field = table[i].field}};
        struct clock_trust_date date;
        char url[URL_BYTES];
        server_start(&s, table[i].head, table[i].body);
        cr_assert_eq(pthread_create(&s.thread, NULL, serve, &s), 0);
        struct stripe_config config = config_for(s.port, url);
        cr_assert_eq(stripe_client_open(&c, &config, NULL), SG_OK);
        cr_assert_eq(stripe_client_meters(c, &slot, 1, &date, NULL), table[i].error, "line %zu", i);
        if (table[i].error == SG_OK) cr_assert(slot.found && slot.meter.mode == BILL_DELTA && date.told);
        stripe_client_close(c);
        server_stop(&s);
    }
}

static bool third_tick(void *arg)
{
    return ++*(int *)arg == 3;
}

Test(stripe_client, who_is_asked_to_stop_does_not_wait_for_the_meters)
{
    struct server s;
    struct stripe_client *c = NULL;
    struct meter_slot slot = {.meter = {.field = FIELD_VCPU_MS}};
    struct clock_trust_date date;
    char url[URL_BYTES];
    int ticks = 0;
    server_start(&s, NULL, NULL); /* the kernel takes the connection, and nobody answers */
    struct stripe_config config = config_for(s.port, url);
    config.tick = third_tick;
    config.tick_arg = &ticks;
    cr_assert_eq(stripe_client_open(&c, &config, NULL), SG_OK);
    for (int i = 0; i < 2; i++, ticks = 0) {
        cr_assert_eq(stripe_client_meters(c, &slot, 1, &date, NULL), SG_ERR_STATE);
        cr_assert_eq(ticks, 3);
        cr_assert_eq(stripe_client_free(c), 2);
    }
    stripe_client_close(c);
    close(s.fd);
}

Test(stripe_client, a_probe_tells_whether_stripe_is_there_and_sends_nothing)
{
    struct server s;
    char url[URL_BYTES];
    struct stripe_client *c = NULL;
    server_start(&s, NULL, NULL);
    struct stripe_config config = config_for(s.port, url);
    cr_assert_eq(stripe_client_open(&c, &config, NULL), SG_OK);
    cr_assert(stripe_client_probe(c));
    int connection = accept(s.fd, NULL, NULL);
    char byte;
    cr_assert_eq(read(connection, &byte, 1), 0, "closed without a byte");
    close(connection);
    close(s.fd);
    cr_assert_not(stripe_client_probe(c));
    stripe_client_close(c);
}
