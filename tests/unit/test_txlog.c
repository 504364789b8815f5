/* The fenced log against librdkafka's own broker, which takes transactions but neither fences by itself nor hides
 * aborted records: the barriers, which have no bytes, are left out here. The real fence is the system tests' affair. */
#include <criterion/criterion.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "aggregator/store/txlog.h"

static struct txlog_config config;
static rd_kafka_mock_cluster_t *cluster;
static rd_kafka_t *holder;

static void start(void)
{
    char why[256];
    holder = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), why, sizeof why);
    cluster = rd_kafka_mock_cluster_new(holder, 1);
    cr_assert_not_null(cluster);
    cr_assert_eq(rd_kafka_mock_topic_create(cluster, "ledger", 2, 1), 0);
    config = (struct txlog_config){.brokers = rd_kafka_mock_cluster_bootstraps(cluster),
                                   .topic = "ledger",
                                   .partition = 1,
                                   .transactional_id = "owner",
                                   .timeout_ms = 3000};
}

static void end(void)
{
    rd_kafka_mock_cluster_destroy(cluster);
    rd_kafka_destroy(holder);
}

struct seen {
    unsigned count;
    uint64_t last;
    char text[64];
};

static enum sg_error see(void *arg, const struct txlog_record *r, struct sg_fault *f)
{
    struct seen *s = arg;
    (void)f;
    if (r->length == 0) return SG_OK;
    cr_assert(s->count == 0 || r->offset > s->last);
    s->count++;
    s->last = r->offset;
    strncat(s->text, r->bytes, r->length);
    return SG_OK;
}

static struct txlog *open_log(struct seen *s)
{
    struct txlog *log = NULL;
    struct sg_fault f = {0};
    *s = (struct seen){0};
    cr_assert_eq(txlog_open(&log, &config, 0, see, s, &f), SG_OK, "%s", f.text);
    return log;
}

static const struct txlog_bytes two[] = {{"a", 1}, {"b", 1}};

Test(txlog, what_was_appended_is_read_by_the_next_owner, .init = start, .fini = end)
{
    struct seen s;
    uint64_t offsets[2];
    struct txlog *log = open_log(&s);
    cr_assert_eq(s.count, 0);
    cr_assert_eq(txlog_append(log, two, 2, offsets, NULL), SG_OK);
    cr_assert_eq(offsets[1], offsets[0] + 1);
    cr_assert_eq(txlog_append(log, two, 1, NULL, NULL), SG_OK);
    cr_assert_gt(txlog_end(log), offsets[1]);
    cr_assert_eq(txlog_append(log, NULL, 0, NULL, NULL), SG_OK);
    txlog_destroy(log);
    log = open_log(&s);
    cr_assert_str_eq(s.text, "aba");
    txlog_destroy(log);
}

enum { END_TXN = 26 }; /* its number in Kafka's protocol */

Test(txlog, an_owner_that_is_fenced_stays_dead, .init = start, .fini = end)
{
    static const rd_kafka_resp_err_t fenced[] = {RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
                                                 RD_KAFKA_RESP_ERR_PRODUCER_FENCED};
    for (int i = 0; i < 2; i++) {
        struct seen s;
        struct sg_fault f = {0};
        struct txlog *log = open_log(&s);
        rd_kafka_mock_push_request_errors(cluster, END_TXN, 1, fenced[i]);
        enum sg_error e = txlog_append(log, two, 1, NULL, &f);
        cr_assert_eq(e, SG_ERR_FENCED, "%d %s", e, f.text);
        cr_assert_eq(txlog_append(log, two, 1, NULL, &f), SG_ERR_UNKNOWN);
        txlog_destroy(log);
    }
}

Test(txlog, a_commit_without_an_answer_is_unknown, .init = start, .fini = end)
{
    struct seen s;
    struct sg_fault f = {0};
    struct txlog *log = open_log(&s);
    cr_assert_eq(rd_kafka_mock_broker_set_down(cluster, 1), RD_KAFKA_RESP_ERR_NO_ERROR);
    cr_assert_eq(txlog_append(log, two, 2, NULL, &f), SG_ERR_UNKNOWN, "%s", f.text);
    cr_assert_eq(rd_kafka_mock_broker_set_up(cluster, 1), RD_KAFKA_RESP_ERR_NO_ERROR);
    cr_assert_eq(txlog_append(log, two, 2, NULL, &f), SG_ERR_UNKNOWN, "dead for good");
    txlog_destroy(log);
    log = open_log(&s);
    cr_assert_eq(txlog_append(log, two, 1, NULL, &f), SG_OK, "%s", f.text);
    txlog_destroy(log);
}

/* Its connection ends at every EndTxn, which the client sends again by itself. */
static void transactions_do_not_end(void)
{
    rd_kafka_resp_err_t gone[1000];
    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++) gone[i] = RD_KAFKA_RESP_ERR__TRANSPORT;
    rd_kafka_mock_push_request_errors_array(cluster, END_TXN, sizeof gone / sizeof *gone, gone);
}

static int64_t seconds(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

Test(txlog, what_a_broker_does_not_end_comes_to_an_end, .init = start, .fini = end, .timeout = 60)
{
    struct seen s;
    struct sg_fault f = {0};
    struct txlog *log = open_log(&s), *another = NULL;
    transactions_do_not_end();
    int64_t begun = seconds();
    cr_assert_eq(txlog_append(log, two, 2, NULL, &f), SG_ERR_UNKNOWN, "%s", f.text);
    cr_assert_lt(seconds() - begun, 10);
    txlog_destroy(log);
    begun = seconds();
    cr_assert_neq(txlog_open(&another, &config, 0, see, &s, &f), SG_OK);
    cr_assert_lt(seconds() - begun, 10);
}

/* Says so after so many calls. */
struct patience {
    int calls, most;
};

static bool out_of_patience(void *arg)
{
    struct patience *p = arg;
    return ++p->calls > p->most;
}

Test(txlog, a_commit_that_takes_long_is_waited_for, .init = start, .fini = end)
{
    struct seen s;
    struct sg_fault f = {0};
    struct patience patience = {.most = 1000};
    struct txlog_waiter waiter = {out_of_patience, &patience};
    config.append_wait = &waiter;
    struct txlog *log = open_log(&s);
    cr_assert_eq(rd_kafka_mock_broker_set_rtt(cluster, 1, 350), RD_KAFKA_RESP_ERR_NO_ERROR);
    cr_assert_eq(txlog_append(log, two, 2, NULL, &f), SG_OK, "%s", f.text);
    cr_assert_gt(patience.calls, 1);
    cr_assert_eq(rd_kafka_mock_broker_set_rtt(cluster, 1, 0), RD_KAFKA_RESP_ERR_NO_ERROR);
    txlog_destroy(log);
    log = open_log(&s);
    cr_assert_str_eq(s.text, "ab");
    txlog_destroy(log);
}

Test(txlog, an_append_ends_when_asked_to_stop, .init = start, .fini = end, .timeout = 60)
{
    struct seen s;
    struct sg_fault f = {0};
    struct patience patience = {.most = 2};
    struct txlog_waiter waiter = {out_of_patience, &patience};
    config.append_wait = &waiter;
    config.timeout_ms = 50 * 1000;
    struct txlog *log = open_log(&s);
    cr_assert_eq(rd_kafka_mock_broker_set_down(cluster, 1), RD_KAFKA_RESP_ERR_NO_ERROR);
    int64_t begun = seconds();
    cr_assert_eq(txlog_append(log, two, 2, NULL, &f), SG_ERR_UNKNOWN, "%s", f.text);
    cr_assert_eq(txlog_append(log, two, 2, NULL, &f), SG_ERR_UNKNOWN, "dead for good");
    txlog_destroy(log);
    cr_assert_lt(seconds() - begun, 5);
}

Test(txlog, a_commit_does_not_take_all_the_time_of_an_append, .init = start, .fini = end, .timeout = 60)
{
    struct seen s;
    struct sg_fault f = {0};
    config.timeout_ms = 50 * 1000;
    struct txlog *log = open_log(&s);
    transactions_do_not_end();
    int64_t begun = seconds();
    cr_assert_eq(txlog_append(log, two, 2, NULL, &f), SG_ERR_UNKNOWN, "%s", f.text);
    txlog_destroy(log);
    cr_assert_lt(seconds() - begun, 15);
}

Test(txlog, too_much_is_refused_and_the_log_lives_on, .init = start, .fini = end)
{
    struct seen s;
    struct txlog *log = open_log(&s);
    struct txlog_bytes large = {"", TXLOG_RECORD_BYTES_MAX + 1};
    cr_assert_eq(txlog_append(log, &large, 1, NULL, NULL), SG_ERR_LIMIT);
    cr_assert_eq(txlog_append(log, two, 1, NULL, NULL), SG_OK);
    txlog_destroy(log);
}

static bool stop_now(void *arg)
{
    (void)arg;
    return true;
}

Test(txlog, nobody_there_ends_in_time_or_when_asked_to_stop, .init = start, .fini = end)
{
    struct txlog *log = NULL;
    struct txlog_waiter waiter = {stop_now, NULL};
    cr_assert_eq(rd_kafka_mock_broker_set_down(cluster, 1), RD_KAFKA_RESP_ERR_NO_ERROR);
    config.timeout_ms = 1000;
    cr_assert_eq(txlog_open(&log, &config, 0, see, NULL, NULL), SG_ERR_TIMEOUT);
    config.wait = &waiter;
    cr_assert_eq(txlog_open(&log, &config, 0, see, NULL, NULL), SG_ERR_STATE);
    cr_assert_null(log);
}

Test(txlog, a_reader_follows_and_tells_its_lag, .init = start, .fini = end)
{
    struct seen s, other;
    struct sg_fault f = {0};
    struct txlog_reader *r = NULL;
    uint64_t lag = 1;
    struct txlog *log = open_log(&other);
    memset(&s, 0, sizeof s);
    cr_assert_eq(txlog_append(log, two, 2, NULL, NULL), SG_OK);
    cr_assert_eq(txlog_reader_open(&r, &config, 0, &f), SG_OK, "%s", f.text);
    for (int i = 0; i < 100 && lag; i++) {
        (void)!txlog_reader_poll(r, 100, 100, see, &s, &f);
        if (txlog_reader_lag(r, 1000, &lag, &f) != SG_OK) lag = 1;
    }
    cr_assert_eq(lag, 0);
    cr_assert_str_eq(s.text, "ab");
    cr_assert_eq(txlog_append(log, two, 1, NULL, NULL), SG_OK);
    for (int i = 0; i < 100 && s.count < 3; i++) (void)!txlog_reader_poll(r, 100, 100, see, &s, &f);
    cr_assert_str_eq(s.text, "aba");
    txlog_destroy(log);
    cr_assert_eq(rd_kafka_mock_broker_set_down(cluster, 1), RD_KAFKA_RESP_ERR_NO_ERROR);
    cr_assert_neq(txlog_reader_lag(r, 500, &lag, &f), SG_OK);
    txlog_reader_destroy(r);
}
