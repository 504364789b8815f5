#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"

static int file = -1;
static char text[1 << 20];

static void set_up(void)
{
    char path[] = P_tmpdir "/test_log.XXXXXX";
    file = mkstemp(path);
    cr_assert_geq(file, 0);
    unlink(path);
    log_to(file);
    log_init("sandglass-test", LOG_INFO);
}

static void tear_down(void)
{
    log_to(-1);
    close(file);
}

TestSuite(log, .init = set_up, .fini = tear_down);

static const char *written(void)
{
    ssize_t length = pread(file, text, sizeof text - 1, 0);
    cr_assert_geq(length, 0);
    text[length] = '\0';
    return text;
}

static size_t count_lines(const char *needle)
{
    size_t count = 0;
    for (const char *p = written(); (p = strstr(p, needle)); p++) count++;
    return count;
}

Test(log, writes_one_logfmt_line)
{
    log_event(LOG_INFO, "segment_sealed", "bytes=%d", 12);
    const char *line = written();
    cr_assert_str_eq(line + strlen("time=2026-11-23T08:00:00.000Z"),
                     " level=info program=sandglass-test event=segment_sealed bytes=12\n");
    cr_assert_eq(strncmp(line, "time=20", 7), 0);
    log_event(LOG_WARN, "bare", "");
    cr_assert_eq(count_lines("level=warn program=sandglass-test event=bare\n"), 1);
}

Test(log, leaves_out_levels_above_its_own)
{
    log_event(LOG_DEBUG, "detail", "");
    cr_assert_str_empty(written());
    cr_assert_not(log_enabled(LOG_DEBUG));
}

Test(log, counts_repeats_in_one_line)
{
    for (int i = 0; i < LOG_REPEATS_MAX + 7; i++) log_event(LOG_INFO, "repeated", "");
    log_event(LOG_INFO, "other", "");
    cr_assert_eq(count_lines("event=repeated\n"), LOG_REPEATS_MAX);
    cr_assert_eq(count_lines("event=other\n"), 1);
    log_flush(false);
    cr_assert_eq(count_lines("suppressed="), 0, "the period is not over");
    log_flush(true);
    log_flush(true);
    cr_assert_eq(count_lines("event=repeated suppressed=7\n"), 1);
    cr_assert_eq(count_lines("suppressed="), 1);
}

Test(log, cuts_a_long_line_and_keeps_it_one_line)
{
    char *value = malloc(2 * LOG_LINE_BYTES_MAX);
    memset(value, 'x', 2 * LOG_LINE_BYTES_MAX - 1);
    value[2 * LOG_LINE_BYTES_MAX - 1] = '\0';
    value[3] = '\n';
    log_event(LOG_INFO, "long", "v=%s", value);
    const char *line = written();
    cr_assert_lt(strlen(line), LOG_LINE_BYTES_MAX);
    cr_assert_eq(strchr(line, '\n'), line + strlen(line) - 1);
    free(value);
}

Test(log, tells_a_fault)
{
    struct sg_fault f = {0};
    cr_assert_eq(sg_fail(&f, SG_ERR_IO, "spool: no \"space\""), SG_ERR_IO);
    log_fault(LOG_ERROR, "stopped", &f);
    cr_assert_eq(count_lines("event=stopped error=IO reason=\"spool: no \\\"space\\\"\"\n"), 1);
}

Test(log, quotes_values)
{
    char out[16];
    cr_assert_str_eq(log_quote("plain", out, sizeof out), "plain");
    cr_assert_str_eq(log_quote("", out, sizeof out), "\"\"");
    cr_assert_str_eq(log_quote("a b", out, sizeof out), "\"a b\"");
    cr_assert_str_eq(log_quote("a=\"\\\n", out, sizeof out), "\"a=\\\"\\\\?\"");
    cr_assert_str_eq(log_quote("a value that is cut", out, sizeof out), "\"a value that\"");
    cr_assert_str_eq(log_quote(" ", out, 3), "\"\"");
}

static void *log_many(void *arg)
{
    const char *event = arg;
    for (int i = 0; i < 200; i++) log_event(LOG_INFO, event, "i=%d", i);
    return NULL;
}

Test(log, keeps_lines_of_threads_whole)
{
    static char names[4][8] = {"t_one", "t_two", "t_three", "t_four"};
    pthread_t thread[4];
    for (int i = 0; i < 4; i++) cr_assert_eq(pthread_create(&thread[i], NULL, log_many, names[i]), 0);
    for (int i = 0; i < 4; i++) pthread_join(thread[i], NULL);
    log_flush(true);
    cr_assert_eq(count_lines("time="), 4 * (LOG_REPEATS_MAX + 1));
    cr_assert_eq(count_lines(" suppressed=180\n"), 4);
}
