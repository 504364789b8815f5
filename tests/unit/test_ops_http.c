#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/ops_http.h"

static const struct health_component components[] = {{"kafka", 0, 0}};
static const struct counter_spec specs[] = {{"t_events_total", NULL, COUNTER, "events"}};
static struct health health;
static struct counters counters;
static struct ops_http *ops;
static char answer[1 << 16];

static void start(const char *host, const char *openapi)
{
    struct ops_http_config config = {
        .program = "sandglass-test", .health = &health, .counters = &counters, .openapi = openapi};
    struct sg_fault f = {0};
    snprintf(config.listen.host, sizeof config.listen.host, "%s", host);
    health_init(&health, components, 1, NULL);
    counters_init(&counters, specs, 1);
    cr_assert_eq(ops_http_start(&ops, &config, &f), SG_OK, "%s", f.text);
}

static void tear_down(void)
{
    ops_http_stop(ops);
    health_destroy(&health);
}

TestSuite(ops_http, .fini = tear_down);

/* Sends text to the listener and reads until it closes; returns the status. */
static int exchange(const char *text)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(ops_http_port(ops))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0), status = 0;
    cr_assert_eq(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    size_t length = 0;
    for (ssize_t got; (got = read(fd, answer + length, sizeof answer - 1 - length)) > 0;) length += (size_t)got;
    answer[length] = '\0';
    close(fd);
    cr_assert_eq(sscanf(answer, "HTTP/1.1 %d", &status), 1);
    return status;
}

static int request(const char *method, const char *path)
{
    char text[256];
    snprintf(text, sizeof text, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", method, path);
    return exchange(text);
}

static const char *body(void)
{
    const char *end = strstr(answer, "\r\n\r\n");
    cr_assert_not_null(end);
    return end + 4;
}

Test(ops_http, tells_health)
{
    start("127.0.0.1", NULL);
    cr_assert_eq(request("GET", "/healthz"), 200);
    cr_assert_str_eq(body(), "{\"healthy\":true,\"reason\":null,\"position_age_ms\":0,\"lag\":0}");
    health_set_fault(&health, 0, "no broker can be reached");
    cr_assert_eq(request("GET", "/healthz"), 503);
    cr_assert_not_null(strstr(body(), "\"reason\":\"kafka: no broker can be reached\""));
}

Test(ops_http, is_ready_once_start_up_is_over)
{
    start("127.0.0.1", NULL);
    cr_assert_eq(request("GET", "/readyz"), 503);
    health_set_ready(&health, true);
    cr_assert_eq(request("GET", "/readyz"), 200);
}

Test(ops_http, gives_metrics)
{
    start("127.0.0.1", NULL);
    counters_add(&counters, 0, 5);
    cr_assert_eq(request("GET", "/metrics"), 200);
    cr_assert_not_null(strstr(answer, "Content-Type: text/plain; version=0.0.4"));
    cr_assert_not_null(strstr(body(), "# TYPE t_events_total counter\nt_events_total 5\n"));
    cr_assert_not_null(strstr(body(), "\nsandglass_healthy 1\n"));
    cr_assert_not_null(strstr(body(), "sandglass_build_info{program=\"sandglass-test\""));
}

Test(ops_http, answers_head_without_a_body)
{
    start("127.0.0.1", NULL);
    cr_assert_eq(request("HEAD", "/healthz"), 200);
    cr_assert_str_empty(body());
}

Test(ops_http, refuses_other_paths_and_methods)
{
    start("127.0.0.1", NULL);
    cr_assert_eq(request("GET", "/"), 404);
    cr_assert_eq(request("GET", "/openapi.json"), 404);
    cr_assert_str_eq(body(), "{\"error\":\"there is nothing under this path\",\"code\":\"not_found\"}");
    cr_assert_eq(request("DELETE", "/healthz"), 405);
    cr_assert_not_null(strstr(answer, "Allow: GET, HEAD"));
    cr_assert_eq(exchange("POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody"),
                 405);
}

Test(ops_http, gives_the_openapi_document_of_programs_that_have_one)
{
    start("127.0.0.1", "{\"openapi\":\"3.1.0\"}");
    cr_assert_eq(request("GET", "/openapi.json"), 200);
    cr_assert_str_eq(body(), "{\"openapi\":\"3.1.0\"}");
}

Test(ops_http, says_when_its_port_is_taken)
{
    start("127.0.0.1", NULL);
    struct ops_http_config config = {.program = "p", .health = &health, .counters = &counters};
    struct ops_http *second = NULL;
    struct sg_fault f = {0};
    config.listen = (struct config_listen){.host = "127.0.0.1", .port = ops_http_port(ops)};
    cr_assert_eq(ops_http_start(&second, &config, &f), SG_ERR_IO);
    cr_assert_null(second);
    cr_assert_not_null(strstr(f.text, "Address already in use"), "%s", f.text);
}
