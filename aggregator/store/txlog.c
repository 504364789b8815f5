/* The writer: a transactional producer, and for the time of open a reader.
 *
 * HAPPY PATH  init_transactions (the coordinator ends what an older owner left undecided and raises the epoch: from
 * here on every append of an older owner is refused) -> barrier: begin, produce, flush, abort; its offset comes from
 * the delivery report -> read until the position is past the barrier -> appends. FAILURES    fatal or "fenced" from any
 * call: FENCED. Timeout, an abortable error, an odd delivery report: UNKNOWN. No attempt is made to find out more:
 * opening again finds out, by the same code as at start. INVARIANTS  an append is answered OK only after
 * commit_transaction returned without an error and every record's delivery report had come with an offset above all
 * earlier ones. After any other answer `dead` is set and nothing is ever produced again. */
#include "aggregator/store/txlog.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/store/txlog_client.h"

struct txlog {
    rd_kafka_t *rk;
    rd_kafka_topic_t *topic;
    int32_t partition;
    uint32_t timeout_ms;
    const struct txlog_waiter *append_wait;
    bool dead;
    uint64_t end;
    /* the transaction that is open */
    size_t count, reported;
    rd_kafka_resp_err_t report_error;
    uint64_t *offsets; /* TXLOG_APPEND_RECORDS_MAX */
    char name[TXLOG_NAME_BYTES_MAX + 1];
};

static void on_report(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque)
{
    struct txlog *log = opaque;
    size_t i = (size_t)(uintptr_t)m->_private;
    (void)rk;
    if (m->err || m->offset < 0 || i >= log->count) {
        log->report_error = m->err ? m->err : RD_KAFKA_RESP_ERR__BAD_MSG;
        return;
    }
    log->offsets[i] = (uint64_t)m->offset;
    log->reported++;
}

/* Takes e; says what it means for an owner: FENCED, or `otherwise`. */
static enum sg_error fail_with(struct txlog *log, rd_kafka_error_t *e, enum sg_error otherwise, const char *what,
                               struct sg_fault *f)
{
    char text[SG_FAULT_BYTES];
    rd_kafka_resp_err_t code = rd_kafka_error_code(e);
    enum sg_error ours = txlog_error(code);
    if (rd_kafka_error_is_fatal(e) && (code = rd_kafka_fatal_error(log->rk, text, sizeof text)))
        ours = txlog_error(code);
    rd_kafka_error_destroy(e);
    log->dead = true;
    if (ours != SG_ERR_FENCED && otherwise != SG_OK) ours = otherwise;
    return sg_fail(f, ours, "topic %s partition %d: %s: %s", log->name, log->partition, what, rd_kafka_err2str(code));
}

static enum sg_error make_producer(struct txlog *log, const struct txlog_config *config, struct sg_fault *f)
{
    char why[SG_FAULT_BYTES], timeout[16];
    snprintf(timeout, sizeof timeout, "%u", log->timeout_ms);
    const char *properties[] = {
        "transactional.id",
        config->transactional_id,
        "transaction.timeout.ms",
        timeout,
        "message.timeout.ms",
        timeout,
        "linger.ms",
        "0",
        "compression.codec",
        "zstd",
        "message.max.bytes",
        "1000000",
        NULL,
    };
    rd_kafka_conf_t *conf = txlog_conf(config, properties, log, f);
    if (!conf) return SG_ERR_CONFIG;
    rd_kafka_conf_set_dr_msg_cb(conf, on_report);
    log->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    if (!log->rk) {
        rd_kafka_conf_destroy(conf);
        return sg_fail(f, SG_ERR_CONFIG, "the Kafka producer for topic %s cannot be made", log->name);
    }
    log->topic = rd_kafka_topic_new(log->rk, log->name, NULL);
    return log->topic ? SG_OK : sg_fail(f, SG_ERR_CONFIG, "topic %s is refused", log->name);
}

/* In slices, so that the owner's watchdog is fed and SIGTERM heard; a slice that timed out is resumed by the next. With
 * -1 librdkafka 2.0 waits for ever when the coordinator's connections end at each attempt. Not for commits: a step of
 * librdkafka's own that outlives its slice answers to a step of the next one, and three of them make a success of
 * nothing. Of an opening that is seen: no transaction begins behind it. */
static enum sg_error in_slices(struct txlog *log, const struct txlog_config *config, uint64_t deadline_ms,
                               rd_kafka_error_t *call(rd_kafka_t *, int), const char *name, struct sg_fault *f)
{
    for (;;) {
        rd_kafka_error_t *e = call(log->rk, TXLOG_TICK_MS);
        if (!e) return SG_OK;
        bool again = rd_kafka_error_is_retriable(e) || rd_kafka_error_code(e) == RD_KAFKA_RESP_ERR__TIMED_OUT;
        bool stop = again && txlog_tick(config->wait);
        if (!stop && (!again || txlog_now_ms() >= deadline_ms)) return fail_with(log, e, SG_OK, name, f);
        rd_kafka_error_destroy(e);
        if (stop) return sg_fail(f, SG_ERR_STATE, "asked to stop");
    }
}

/* Until every record has its delivery report, one has an error, or the producer has. True: asked to stop before. */
static bool await_reports(struct txlog *log, const struct txlog_waiter *wait, uint64_t deadline_ms)
{
    char text[SG_FAULT_BYTES];
    while (log->reported < log->count && !log->report_error && txlog_now_ms() < deadline_ms &&
           !rd_kafka_fatal_error(log->rk, text, sizeof text)) {
        rd_kafka_poll(log->rk, TXLOG_TICK_MS);
        if (log->reported < log->count && txlog_tick(wait)) return true;
    }
    return false;
}

static enum sg_error produce_all(struct txlog *log, const struct txlog_bytes *records, size_t count, struct sg_fault *f)
{
    log->count = count;
    log->reported = 0;
    log->report_error = RD_KAFKA_RESP_ERR_NO_ERROR;
    rd_kafka_error_t *e = rd_kafka_begin_transaction(log->rk);
    if (e) return fail_with(log, e, SG_ERR_UNKNOWN, "begin", f);
    for (size_t i = 0; i < count; i++) {
        union {
            const char *from;
            void *to;
        } payload = {records[i].bytes}; /* librdkafka copies; its prototype lacks the const */
        if (rd_kafka_produce(log->topic, log->partition, RD_KAFKA_MSG_F_COPY, payload.to, records[i].length, NULL, 0,
                             (void *)(uintptr_t)i) == 0)
            continue;
        log->dead = true;
        return sg_fail(f, SG_ERR_UNKNOWN, "topic %s partition %d: produce: %s", log->name, log->partition,
                       rd_kafka_err2str(rd_kafka_last_error()));
    }
    return SG_OK;
}

/* An aborted record: *offset is where it stands. */
static enum sg_error barrier(struct txlog *log, const struct txlog_config *config, uint64_t deadline_ms,
                             uint64_t *offset, struct sg_fault *f)
{
    static const struct txlog_bytes nothing = {"", 0};
    enum sg_error e = produce_all(log, &nothing, 1, f);
    if (e != SG_OK) return e;
    if (await_reports(log, config->wait, deadline_ms)) return sg_fail(f, SG_ERR_STATE, "asked to stop");
    char text[SG_FAULT_BYTES];
    rd_kafka_resp_err_t fatal = rd_kafka_fatal_error(log->rk, text, sizeof text);
    if (fatal)
        return sg_fail(f, txlog_error(fatal), "topic %s partition %d: %s", log->name, log->partition,
                       rd_kafka_err2str(fatal));
    if (!log->reported)
        return sg_fail(f, log->report_error ? txlog_error(log->report_error) : SG_ERR_TIMEOUT,
                       "topic %s partition %d: a record could not be written", log->name, log->partition);
    *offset = log->offsets[0];
    return in_slices(log, config, deadline_ms, rd_kafka_abort_transaction, "abort", f);
}

/* Reads until nothing committed below the barrier can be missing. The deadline is for silence, not for the whole. */
static enum sg_error read_past(struct txlog *log, const struct txlog_config *config, uint64_t from, uint64_t offset,
                               txlog_each *each, void *arg, struct sg_fault *f)
{
    struct txlog_reader *r = NULL;
    struct txlog_config reading = *config;
    reading.at_once = true;
    enum sg_error e = txlog_reader_open(&r, &reading, from, f);
    uint64_t deadline_ms = txlog_now_ms() + log->timeout_ms, seen = from;
    while (e == SG_OK && txlog_reader_position(r) <= offset) {
        e = txlog_reader_poll(r, TXLOG_TICK_MS, 1000, each, arg, f);
        if (e == SG_ERR_UNREACHABLE) e = SG_OK; /* it retries by itself until the deadline */
        if (e == SG_OK && txlog_tick(config->wait)) e = sg_fail(f, SG_ERR_STATE, "asked to stop");
        if (txlog_reader_position(r) > seen) {
            seen = txlog_reader_position(r);
            deadline_ms = txlog_now_ms() + log->timeout_ms;
        } else if (e == SG_OK && txlog_now_ms() >= deadline_ms) {
            e = sg_fail(f, SG_ERR_TIMEOUT, "topic %s partition %d: the log could not be read to its end", log->name,
                        log->partition);
        }
    }
    if (e == SG_OK) log->end = txlog_reader_position(r);
    txlog_reader_destroy(r);
    return e;
}

enum sg_error txlog_open(struct txlog **out, const struct txlog_config *config, uint64_t from, txlog_each *each,
                         void *arg, struct sg_fault *f)
{
    struct txlog *log = calloc(1, sizeof *log);
    uint64_t offset = 0, deadline_ms = txlog_now_ms() + txlog_timeout_ms(config);
    assert(config->transactional_id && config->topic && config->brokers);
    if (log) log->offsets = calloc(TXLOG_APPEND_RECORDS_MAX, sizeof *log->offsets);
    if (!log || !log->offsets) {
        txlog_destroy(log);
        return sg_fail(f, SG_ERR_NOMEM, "topic %s: no memory for its writer", config->topic);
    }
    log->partition = (int32_t)config->partition;
    log->timeout_ms = txlog_timeout_ms(config);
    log->append_wait = config->append_wait;
    strncpy(log->name, config->topic, sizeof log->name - 1);
    enum sg_error e = make_producer(log, config, f);
    if (e == SG_OK) txlog_prime(log->rk, log->topic, TXLOG_PRIME_MS);
    if (e == SG_OK) e = in_slices(log, config, deadline_ms, rd_kafka_init_transactions, "init_transactions", f);
    if (e == SG_OK) e = barrier(log, config, deadline_ms, &offset, f);
    if (e == SG_OK) e = read_past(log, config, from, offset, each, arg, f);
    if (e != SG_OK) {
        txlog_destroy(log);
        return e;
    }
    *out = log;
    return SG_OK;
}

static bool too_much(const struct txlog_bytes *records, size_t count)
{
    size_t total = 0;
    if (count > TXLOG_APPEND_RECORDS_MAX) return true;
    for (size_t i = 0; i < count; i++) {
        if (records[i].length > TXLOG_RECORD_BYTES_MAX) return true;
        total += records[i].length;
    }
    return total > TXLOG_APPEND_BYTES_MAX;
}

/* True when every record has a place, in order, above all that was there before. */
static bool reports_are_sound(const struct txlog *log)
{
    if (log->report_error || log->reported != log->count) return false;
    for (size_t i = 0; i < log->count; i++)
        if (log->offsets[i] < (i ? log->offsets[i - 1] + 1 : log->end)) return false;
    return true;
}

/* The brokers have the records: what is left takes moments, or a coordinator is away. */
static int end_ms(uint64_t deadline_ms)
{
    uint64_t now = txlog_now_ms(), left = deadline_ms > now ? deadline_ms - now : 0;
    return left < TXLOG_TICK_MS ? TXLOG_TICK_MS : left > TXLOG_END_MS_MAX ? TXLOG_END_MS_MAX : (int)left;
}

enum sg_error txlog_append(struct txlog *log, const struct txlog_bytes *records, size_t count, uint64_t *offsets,
                           struct sg_fault *f)
{
    if (log->dead)
        return sg_fail(f, SG_ERR_UNKNOWN, "topic %s partition %d: the log is dead", log->name, log->partition);
    if (count == 0) return SG_OK;
    if (too_much(records, count)) return sg_fail(f, SG_ERR_LIMIT, "topic %s: too much for one transaction", log->name);
    uint64_t deadline_ms = txlog_now_ms() + log->timeout_ms;
    enum sg_error e = produce_all(log, records, count, f);
    if (e != SG_OK) return e;
    if (await_reports(log, log->append_wait, deadline_ms)) {
        log->dead = true;
        return sg_fail(f, SG_ERR_UNKNOWN, "topic %s partition %d: asked to stop", log->name, log->partition);
    }
    rd_kafka_error_t *error =
        rd_kafka_commit_transaction(log->rk, end_ms(deadline_ms)); /* not resumed: see in_slices */
    if (error) return fail_with(log, error, SG_ERR_UNKNOWN, "commit", f);
    if (!reports_are_sound(log)) {
        log->dead = true;
        return sg_fail(f, SG_ERR_UNKNOWN, "topic %s partition %d: delivery reports do not add up", log->name,
                       log->partition);
    }
    log->end = log->offsets[count - 1] + 1;
    if (offsets) memcpy(offsets, log->offsets, count * sizeof *offsets);
    return SG_OK;
}

uint64_t txlog_end(const struct txlog *log)
{
    return log->end;
}

void txlog_destroy(struct txlog *log)
{
    if (!log) return;
    if (log->topic) rd_kafka_topic_destroy(log->topic);
    if (log->rk) rd_kafka_destroy(log->rk);
    free(log->offsets);
    free(log);
}
