#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "collector/ingest.h"
#include "collector/session.h"

/* A meter behind a socket, and a "disk" that is durable when the test says so. */
enum { SESSIONS = INGEST_ERROR_COUNT, COUNTERS };

static struct counter_spec specs[COUNTERS];
static struct loop loop;
static struct counters counters;
static struct meter *meter;
static struct ingest *ingest;
static uint64_t seq;
static uint8_t sha256[SHA256_BYTES];
static char path[64];

static void set_up(void)
{
    struct sg_fault f = {0};
    struct meter_config m = {.runner = "r1", .region = "eu", .clock = METER_CLOCK_EVENT, .sandboxes_max = 1000};
    snprintf(path, sizeof path, P_tmpdir "/sandglass-ingest-%d.sock", (int)getpid());
    for (size_t i = 0; i < COUNTERS; i++)
        specs[i] = (struct counter_spec){"x", NULL, i == SESSIONS ? GAUGE : COUNTER, "x"};
    counters_init(&counters, specs, COUNTERS);
    cr_assert_eq(loop_init(&loop, NULL, &f), SG_OK, "%s", f.text);
    meter = meter_new(&m);
    struct ingest_options o = {.path = path,
                               .mode = 0600,
                               .owner = "",
                               .loop = &loop,
                               .meter = meter,
                               .counters = &counters,
                               .refused_index = 0,
                               .sessions_index = SESSIONS};
    cr_assert_eq(ingest_start(&ingest, &o, &f), SG_OK, "%s", f.text);
}

static void tear_down(void)
{
    ingest_stop(ingest);
    meter_free(meter);
    loop_destroy(&loop);
    cr_expect_neq(access(path, F_OK), 0, "the socket is removed");
}

TestSuite(ingest, .init = set_up, .fini = tear_down);

static void turns(unsigned count)
{
    struct sg_fault f = {0};
    while (count--) cr_assert_eq(loop_turn(&loop, 0, &f), SG_OK);
}

/* What the collector does at the end of a seal interval. */
static void commit(void)
{
    const uint8_t *batch, *delta;
    size_t batch_bytes, delta_bytes;
    struct meter_position position = {1, ++seq, sha256};
    cr_assert_eq(meter_settle(meter), METER_ACCEPTED);
    cr_assert_eq(meter_seal(meter, &position, &batch, &batch_bytes, &delta, &delta_bytes), SG_OK);
    batch_sha256(batch, batch_bytes, sha256);
    meter_durable(meter);
    ingest_durable(ingest);
    ingest_continue(ingest);
    turns(3);
}

static int client(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    memcpy(a.sun_path, path, strlen(path));
    cr_assert_eq(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    turns(2);
    return fd;
}

static void put(int fd, const char *text)
{
    cr_assert_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
    turns(3);
}

/* Everything that can be read now. */
static const char *heard(int fd)
{
    static char text[1 << 18];
    size_t used = 0;
    for (unsigned idle = 0; idle < 3;) {
        ssize_t got = recv(fd, text + used, sizeof text - 1 - used, 0);
        if (got > 0)
            used += (size_t)got;
        else
            idle++;
        turns(1);
    }
    text[used] = '\0';
    return text;
}

static bool closed(int fd)
{
    char c;
    return recv(fd, &c, 1, 0) == 0;
}

static const char hello[] =
    "{\"v\":1,\"type\":\"hello\",\"source\":\"s1\",\"boot_id\":\"b1\",\"boot_ms\":0,\"wall_ms\":1763884800000}\n";
static const char garbage[] = "not json\n";

static const char *tick(unsigned n)
{
    static char line[64];
    snprintf(line, sizeof line, "{\"n\":%u,\"boot_ms\":%u,\"type\":\"tick\"}\n", n, n);
    return line;
}

static int greeted(void)
{
    int fd = client();
    put(fd, hello);
    heard(fd);
    return fd;
}

Test(ingest, a_line_is_acknowledged_once_it_is_durable)
{
    int fd = client();
    put(fd, hello);
    cr_expect_str_eq(heard(fd), "{\"ack\":0,\"new\":true}\n");
    put(fd, tick(1));
    put(fd, tick(2));
    cr_expect_str_eq(heard(fd), "");
    commit();
    cr_expect_str_eq(heard(fd), "{\"ack\":2}\n");
    close(fd);
}

Test(ingest, a_collector_is_new_until_numbers_that_began_late_are_durable)
{
    int fd = greeted();
    put(fd, tick(7)); /* what came before was acknowledged by a spool that is lost */
    close(fd);
    turns(2);
    fd = client();
    put(fd, hello);
    cr_expect_str_eq(heard(fd), "{\"ack\":0,\"new\":true}\n", "else it would have to go on with 1");
    put(fd, tick(7));
    commit();
    cr_expect_str_eq(heard(fd), "{\"ack\":7}\n");
    close(fd);
}

Test(ingest, lines_may_come_in_pieces_and_in_heaps)
{
    int fd = greeted();
    put(fd, "{\"n\":1,\"boot_ms\":1,");
    put(fd, "\"type\":\"tick\"}\n{\"n\":2,\"boot_ms\":1,\"type\":\"tick\"}\n{\"n\":3");
    put(fd, ",\"boot_ms\":1,\"type\":\"tick\"}\n");
    commit();
    cr_expect_str_eq(heard(fd), "{\"ack\":3}\n");
    close(fd);
}

Test(ingest, a_refusal_waits_for_the_disk_and_quotes_nothing)
{
    int fd = greeted();
    put(fd, "{\"n\":1,\"boot_ms\":1,\"type\":\"tick\",\"canary\":\"canary\"}\n");
    put(fd, garbage);
    put(fd, tick(3));
    cr_expect_str_eq(heard(fd), "");
    commit();
    cr_expect_str_eq(heard(fd), "{\"reject\":1,\"error\":\"unknown_field\",\"at\":33}\n"
                                "{\"reject\":2,\"error\":\"malformed\",\"at\":0}\n{\"ack\":3}\n");
    cr_expect_eq(counters_get(&counters, INGEST_MALFORMED - 1), 1);
    close(fd);
}

Test(ingest, a_line_that_is_too_long_is_skipped_to_its_newline)
{
    static char line[200000];
    int fd = greeted();
    memset(line, 'x', sizeof line - 1);
    memcpy(line, "{\"n\":1,\"a\":\"", 12);
    put(fd, line);
    put(fd, "\"}\n");
    put(fd, tick(2));
    memset(line, ' ', INGEST_LINE_BYTES_MAX - 1);
    snprintf(line, 40, "{\"n\":3,\"boot_ms\":3,\"type\":\"tick\"");
    line[strlen(line)] = ' ';
    line[INGEST_LINE_BYTES_MAX - 2] = '}';
    line[INGEST_LINE_BYTES_MAX - 1] = '\n';
    line[INGEST_LINE_BYTES_MAX] = '\0';
    put(fd, line);
    commit();
    cr_expect_str_eq(heard(fd), "{\"reject\":1,\"error\":\"too_long\",\"at\":4096}\n{\"ack\":3}\n",
                     "4,096 bytes are allowed");
    close(fd);
}

Test(ingest, what_breaks_the_session_ends_it_with_its_reason)
{
    int fd = client();
    put(fd, tick(1));
    cr_expect_str_eq(heard(fd), "{\"error\":\"not_greeted\",\"at\":26}\n");
    cr_expect(closed(fd));
    close(fd);
    fd = client();
    put(fd, "{\"v\":2,\"type\":\"hello\"}\n");
    cr_expect_str_eq(heard(fd), "{\"error\":\"bad_hello\",\"at\":5}\n");
    cr_expect(closed(fd));
    close(fd);
    fd = greeted();
    put(fd, tick(1));
    put(fd, tick(3));
    cr_expect_str_eq(heard(fd), "{\"error\":\"number_gap\",\"at\":5}\n");
    cr_expect(closed(fd));
    close(fd);
    cr_expect_eq(meter_next_n(meter, 0), 2, "what came before the hole is taken");
}

Test(ingest, numbers_that_are_known_are_answered_with_the_ack)
{
    int fd = greeted();
    put(fd, tick(1));
    put(fd, tick(2));
    commit();
    heard(fd);
    put(fd, tick(1));
    put(fd, garbage);
    put(fd, tick(3));
    cr_expect_str_eq(heard(fd), "{\"ack\":2}\n{\"ack\":2}\n", "garbage stands in the place of number 2");
    commit();
    cr_expect_str_eq(heard(fd), "{\"ack\":3}\n");
    close(fd);
}

Test(ingest, a_second_session_of_a_source_takes_over)
{
    int first = greeted();
    put(first, tick(1));
    int second = client();
    put(second, hello);
    cr_expect_str_eq(heard(second), "{\"ack\":0}\n", "number 1 is taken, not durable");
    cr_expect(closed(first));
    put(second, tick(1));
    put(second, tick(2));
    commit();
    cr_expect_str_eq(heard(second), "{\"ack\":2}\n");
    close(first);
    close(second);
}

Test(ingest, a_refusal_that_was_not_durable_is_told_to_the_next_session)
{
    int first = greeted();
    put(first, tick(1));
    commit();
    put(first, garbage);
    close(first);
    turns(2);
    int second = client();
    put(second, hello);
    cr_expect_str_eq(heard(second), "{\"ack\":1}\n");
    put(second, garbage);
    put(second, hello);
    put(second, garbage);
    commit();
    cr_expect_str_eq(heard(second), "{\"ack\":1}\n{\"reject\":2,\"error\":\"malformed\",\"at\":0}\n{\"ack\":2}\n");
    put(second, garbage);
    close(second);
    int other_boot = client();
    put(other_boot, "{\"v\":1,\"type\":\"hello\",\"source\":\"s1\",\"boot_id\":\"b2\",\"boot_ms\":0,\"wall_ms\":0}\n");
    put(other_boot, tick(1));
    commit();
    cr_expect_str_eq(heard(other_boot), "{\"ack\":0,\"new\":true}\n{\"ack\":1}\n", "numbers of another boot");
    close(other_boot);
}

Test(ingest, a_client_that_has_said_its_last_is_still_answered)
{
    int fd = greeted();
    put(fd, tick(1));
    put(fd, garbage);
    shutdown(fd, SHUT_WR);
    turns(3);
    cr_expect_not(closed(fd));
    commit();
    cr_expect_str_eq(heard(fd), "{\"reject\":2,\"error\":\"malformed\",\"at\":0}\n{\"ack\":2}\n");
    cr_expect(closed(fd));
    close(fd);
}

/* Writes until the collector takes no more; gives how many lines went in whole. */
static unsigned pour(int fd, unsigned most)
{
    unsigned sent = 0, refused = 0;
    while (sent < most && refused < 20) {
        ssize_t n = send(fd, garbage, sizeof garbage - 1, MSG_NOSIGNAL);
        if (n == (ssize_t)sizeof garbage - 1)
            sent++;
        else
            refused++;
        if (n < 0) turns(1);
    }
    return sent;
}

Test(ingest, reading_stops_while_too_many_refusals_are_unread_and_none_is_lost)
{
    enum { LINES = 200000 };
    int fd = greeted();
    unsigned sent = pour(fd, LINES), said = 0;
    cr_assert_lt(sent, LINES, "the collector has stopped reading");
    cr_expect_leq(meter_next_n(meter, 0), SESSION_REFUSALS_MAX + 1);
    for (unsigned round = 0; round < 1000 && said < sent; round++) {
        commit();
        for (const char *p = heard(fd); (p = strstr(p, "reject")); p++) said++;
    }
    cr_expect_eq(said, sent);
    cr_expect_eq(meter_next_n(meter, 0), sent + 1);
    close(fd);
}

Test(ingest, acks_never_wait_for_a_reader)
{
    int fd = greeted();
    for (unsigned n = 1; n <= 3000; n++) {
        put(fd, tick(n));
        if (n % 10 == 0) commit();
    }
    cr_expect_eq(meter_durable_n(meter, 0), 3000);
    const char *text = heard(fd);
    cr_expect_not_null(strstr(text, "{\"ack\":3000}\n"));
    close(fd);
}

Test(ingest, greetings_without_end_are_not_read_without_end)
{
    int fd = client();
    unsigned sent = 0;
    for (unsigned idle = 0; idle < 20;) {
        if (send(fd, hello, sizeof hello - 1, MSG_NOSIGNAL) == (ssize_t)sizeof hello - 1)
            sent++;
        else {
            idle++;
            turns(1);
        }
    }
    cr_expect_gt(sent, 100);
    close(fd);
    turns(3);
    cr_expect_eq(counters_get(&counters, SESSIONS), 0);
}

Test(ingest, greetings_that_were_all_written_before_the_first_answer_is_read_are_all_answered)
{
    enum { GREETINGS = 1000 };
    static char all[GREETINGS * (sizeof hello - 1)];
    int fd = client();
    size_t answers = 0;
    for (size_t i = 0; i < GREETINGS; i++) memcpy(all + i * (sizeof hello - 1), hello, sizeof hello - 1);
    cr_assert_eq(send(fd, all, sizeof all, MSG_NOSIGNAL), (ssize_t)sizeof all);
    for (const char *p = heard(fd); (p = strchr(p, '\n')); p++) answers++;
    cr_expect_eq(answers, GREETINGS);
    close(fd);
}

Test(ingest, more_clients_than_sessions_wait_in_the_backlog)
{
    int fd[INGEST_SESSIONS_MAX + 1];
    for (size_t i = 0; i <= INGEST_SESSIONS_MAX; i++) fd[i] = client();
    cr_expect_eq(counters_get(&counters, SESSIONS), INGEST_SESSIONS_MAX);
    put(fd[INGEST_SESSIONS_MAX], hello);
    cr_expect_str_eq(heard(fd[INGEST_SESSIONS_MAX]), "");
    close(fd[0]);
    turns(5);
    cr_expect_str_eq(heard(fd[INGEST_SESSIONS_MAX]), "{\"ack\":0,\"new\":true}\n");
    for (size_t i = 1; i <= INGEST_SESSIONS_MAX; i++) close(fd[i]);
}

Test(ingest, a_paused_ingest_takes_nothing_and_then_all)
{
    int fd = greeted();
    ingest_pause(ingest);
    put(fd, tick(1));
    cr_expect_eq(meter_next_n(meter, 0), 1);
    ingest_continue(ingest);
    turns(3);
    cr_expect_eq(meter_next_n(meter, 0), 2);
    close(fd);
}

Test(ingest, the_socket_has_the_mode_that_was_asked_for)
{
    struct stat st;
    cr_assert_eq(stat(path, &st), 0);
    cr_expect_eq(st.st_mode & 0777, 0600);
}
