/* What threads share in common/, hammered by several at once and read by the operations listener meanwhile; for the
 * tsan preset above all, where it is a plain program because Criterion's own memory arena does not work under
 * ThreadSanitizer. */
#include <arpa/inet.h>
#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/counters.h"
#include "common/health.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/ops_http.h"

enum { THREADS = 4, ROUNDS = 2000, SCRAPES = 20 };

static const struct health_component components[] = {{"kafka", 0, 0}};
static const struct counter_spec specs[] = {{"t_rounds_total", NULL, COUNTER, "rounds"},
                                            {"t_last", NULL, GAUGE, "last"}};
static struct health health;
static struct counters counters;
static struct loop loop;
static struct ops_http *ops;

static void *work(void *arg)
{
    static const char *const events[THREADS] = {"one", "two", "one", "two"};
    const char *event = events[*(const int *)arg];
    bool is_main = *(const int *)arg == 0; /* of a program only its main thread tells of lag and progress (health.h) */
    for (unsigned i = 0; i < ROUNDS; i++) {
        log_event(LOG_INFO, event, "i=%u", i);
        counters_add(&counters, 0, 1);
        counters_set(&counters, 1, i);
        if (is_main) {
            health_set_lag(&health, i % 3);
            health_progress(&health);
        }
        if (i % 2)
            health_set_fault(&health, 0, "no broker can be reached");
        else
            health_clear(&health, 0);
        loop_wake(&loop);
    }
    return NULL;
}

static void scrape(const char *path)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(ops_http_port(ops))};
    char text[8192];
    ssize_t got;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int status = connect(fd, (struct sockaddr *)&to, sizeof to);
    assert(status == 0);
    int length = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path);
    got = write(fd, text, (size_t)length);
    assert(got == length);
    size_t total = 0;
    while ((got = read(fd, text, sizeof text)) > 0) total += (size_t)got;
    assert(got == 0 && total > 0);
    close(fd);
}

static void *scrape_all(void *arg)
{
    static const char *const paths[] = {"/healthz", "/metrics", "/readyz"};
    (void)arg;
    for (unsigned i = 0; i < SCRAPES; i++) scrape(paths[i % 3]);
    loop_wake(&loop);
    return NULL;
}

static struct boot_ms stop_when_done(void *arg, struct boot_ms now)
{
    (void)arg, (void)now;
    if (counters_get(&counters, 0) == THREADS * ROUNDS) loop_stop(&loop);
    return LOOP_NEVER;
}

int main(void)
{
    pthread_t thread[THREADS + 1];
    int index[THREADS], status;
    struct ops_http_config config = {.program = "threads", .health = &health, .counters = &counters};
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    assert(null >= 0);
    log_to(null);
    snprintf(config.listen.host, sizeof config.listen.host, "127.0.0.1");
    health_init(&health, components, 1, NULL);
    counters_init(&counters, specs, 2);
    enum sg_error e = loop_init(&loop, NULL, NULL);
    if (!e) e = ops_http_start(&ops, &config, NULL);
    assert(e == SG_OK);
    for (int i = 0; i < THREADS; i++) {
        index[i] = i;
        status = pthread_create(&thread[i], NULL, work, &index[i]);
        assert(status == 0);
    }
    status = pthread_create(&thread[THREADS], NULL, scrape_all, NULL);
    assert(status == 0);
    e = loop_run(&loop, stop_when_done, NULL, NULL);
    assert(e == SG_OK);
    for (int i = 0; i <= THREADS; i++) pthread_join(thread[i], NULL);
    assert(counters_get(&counters, 0) == THREADS * ROUNDS);
    ops_http_stop(ops);
    loop_destroy(&loop);
    health_destroy(&health);
    log_to(-1);
    close(null);
    puts("threads: done");
    return 0;
}
