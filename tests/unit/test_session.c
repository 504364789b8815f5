/* Sessions without a socket: bytes in, answers out, and a meter whose batches are durable when the test says so. */
#include "collector/session.h"
#include "tests/unit/alloc.h"
#include "tests/unit/meter_fixture.h"

enum { SESSIONS = 3 };

#define HELLO(source, boot)                                                                                            \
    "{\"v\":1,\"type\":\"hello\",\"source\":\"" source "\",\"boot_id\":\"" boot "\",\"boot_ms\":0,\"wall_ms\":0}\n"
#define IS_NEW  "{\"ack\":0,\"new\":true}\n"
#define GARBAGE "not json\n"

static struct counter_spec specs[INGEST_ERROR_COUNT];
static struct counters counters;
static struct bench bench;
static struct sessions all;
static struct session session[SESSIONS];
static struct session *const s = &session[0], *const other = &session[1];

static void set_up(void)
{
    for (size_t i = 0; i < INGEST_ERROR_COUNT; i++) specs[i] = (struct counter_spec){"x", NULL, COUNTER, "x"};
    counters_init(&counters, specs, INGEST_ERROR_COUNT);
    bench = setup(METER_CLOCK_EVENT);
    sessions_init(&all, &(struct sessions_options){.meter = bench.meter, .counters = &counters});
    for (size_t i = 0; i < SESSIONS; i++) session_init(&session[i], &all);
}

static void tear_down(void)
{
    for (size_t i = 0; i < SESSIONS; i++) session_end(&session[i]);
    sessions_destroy(&all);
    teardown(&bench);
}

TestSuite(session, .init = set_up, .fini = tear_down);

/* As many of the bytes as there is room for; gives how many. */
static size_t feed_some(struct session *to, const char *bytes, size_t length)
{
    size_t room;
    char *in = session_room(to, &room);
    if (length > room) length = room;
    memcpy(in, bytes, length);
    session_received(to, length);
    return length;
}

static void feed(struct session *to, const char *text)
{
    cr_assert_eq(feed_some(to, text, strlen(text)), strlen(text));
}

static void feed_tick(struct session *to, uint64_t n)
{
    char line[64];
    snprintf(line, sizeof line, "{\"n\":%llu,\"boot_ms\":%llu,\"type\":\"tick\"}\n", U(n), U(n));
    feed(to, line);
}

/* All that it has to say now. */
static const char *said(struct session *by)
{
    static char text[1 << 18];
    size_t used = 0, bytes;
    for (const char *out; out = session_output(by, &bytes), bytes > 0; session_written(by, bytes)) {
        cr_assert_lt(used + bytes, sizeof text);
        memcpy(text + used, out, bytes);
        used += bytes;
    }
    text[used] = '\0';
    return text;
}

static size_t lines_in(const char *text, const char *with)
{
    size_t count = 0;
    for (const char *p = text; (p = strstr(p, with)); p++) count++;
    return count;
}

/* What the collector does after a batch is on disk. */
static void make_durable(void)
{
    commit(&bench);
    sessions_continue(&all);
    for (size_t i = 0; i < SESSIONS; i++) session_take(&session[i]);
}

Test(session, garbage_before_the_greeting_ends_it)
{
    feed(s, GARBAGE);
    cr_expect_str_eq(said(s), "{\"error\":\"not_greeted\",\"at\":0}\n");
    cr_expect_eq(s->state, SESSION_OVER);
    cr_expect_eq(counters_get(&counters, INGEST_NOT_GREETED - 1), 1);
    cr_expect_str_eq(said(s), "", "nothing more");
    session_at_end(s);
    session_take(s);
    session_end(s);
    cr_expect_eq(s->state, SESSION_OVER, "and it may be ended again");
    cr_expect_not(session_reads(s));
    cr_expect_not(session_writes(s));
}

Test(session, one_that_never_greeted_is_over_when_its_client_is)
{
    session_at_end(s);
    cr_expect_eq(s->state, SESSION_OVER);
}

Test(session, the_end_of_the_client_changes_nothing_for_one_that_is_closing)
{
    feed(s, GARBAGE);
    session_at_end(s);
    cr_expect_eq(s->state, SESSION_CLOSING);
    cr_expect(session_writes(s));
    cr_expect_str_eq(said(s), "{\"error\":\"not_greeted\",\"at\":0}\n");
}

Test(session, it_speaks_for_one_source)
{
    feed(s, HELLO("s1", "b1"));
    feed_tick(s, 1);
    feed(s, HELLO("s2", "b1"));
    cr_expect_str_eq(said(s), IS_NEW "{\"error\":\"bad_hello\",\"at\":31}\n");
    cr_expect_eq(s->state, SESSION_OVER);
    feed(other, HELLO("s1", "b1"));
    feed_tick(other, 1);
    make_durable();
    cr_expect_str_eq(said(other), "{\"ack\":0}\n{\"ack\":1}\n", "what was taken stays");
}

Test(session, a_source_too_many_is_refused)
{
    for (unsigned i = 0; i < SOURCES_MAX; i++) {
        char name[8];
        snprintf(name, sizeof name, "x%u", i);
        greet(&bench, name, "b1", 0, NOON);
    }
    feed(s, HELLO("s1", "b1"));
    cr_expect_str_eq(said(s), "{\"error\":\"bad_hello\",\"at\":31}\n");
    feed(other, HELLO("x3", "b1"));
    cr_expect_str_eq(said(other), IS_NEW);
}

Test(session, a_refusal_that_became_durable_between_sessions_is_told_by_the_greetings_ack)
{
    feed(s, HELLO("s1", "b1"));
    feed(s, GARBAGE GARBAGE);
    session_end(s);
    make_durable();
    feed(other, HELLO("s1", "b1"));
    make_durable();
    cr_expect_str_eq(said(other), "{\"ack\":2}\n");
}

/* ---- stalls ---- */

/* Fills the meter with the commands of one sandbox, up to the line that has no room. */
static void fill_meter(struct session *by)
{
    char line[512];
    feed(by, HELLO("s1", "b1"));
    snprintf(line, sizeof line, CREATED "\n", U(1), U(0), "run1");
    feed(by, line);
    said(by);
    for (uint64_t n = 2; !all.wants_seal; n++) {
        cr_assert_lt(n, METER_BATCH_ROWS_MAX);
        snprintf(line, sizeof line, EVENT("exec.exited") ",\"sandbox\":\"run1\",\"exit_code\":1,\"duration_ms\":2}\n",
                 U(n), U(n));
        feed(by, line);
    }
}

Test(session, a_line_waits_for_the_seal_of_a_full_meter)
{
    fill_meter(s);
    uint64_t next = meter_next_n(bench.meter, s->source);
    cr_expect_not(session_reads(s));
    cr_expect_not(session_writes(s));
    session_take(s);
    cr_expect_eq(meter_next_n(bench.meter, s->source), next);
    make_durable();
    cr_expect_eq(meter_next_n(bench.meter, s->source), next + 1);
    cr_expect(session_reads(s));
    make_durable();
    char ack[64];
    snprintf(ack, sizeof ack, "{\"ack\":%llu}\n", U(next));
    cr_expect_str_eq(said(s), ack);
}

Test(session, a_greeting_waits_for_the_seal_too)
{
    fill_meter(s);
    feed(other, HELLO("s1", "b2"));
    cr_expect_str_eq(said(other), "", "the sandboxes of the former boot are to be ended");
    cr_expect_eq(s->state, SESSION_GREETED);
    make_durable();
    cr_expect_str_eq(said(other), IS_NEW);
    cr_expect_eq(s->state, SESSION_OVER);
    commit(&bench);
    cr_expect_eq(bench.got.reason[REASON_HOST], 1);
}

Test(session, a_client_that_has_said_its_last_is_answered_for_lines_that_waited)
{
    fill_meter(s);
    session_at_end(s);
    cr_expect_str_eq(said(s), "");
    cr_expect_eq(s->state, SESSION_DRAINING, "a line is in the buffer");
    commit(&bench); /* all that was taken is durable; the line was not */
    cr_expect_neq(said(s)[0], '\0');
    cr_expect_str_eq(said(s), "");
    cr_expect_eq(s->state, SESSION_DRAINING);
    make_durable();
    make_durable();
    cr_expect_eq(lines_in(said(s), "ack"), 1);
    cr_expect_eq(s->state, SESSION_OVER);
}

Test(session, paused_it_takes_nothing_and_then_all)
{
    feed(s, HELLO("s1", "b1"));
    sessions_pause(&all);
    feed_tick(s, 1);
    cr_expect_eq(meter_next_n(bench.meter, 0), 1);
    cr_expect_not(session_reads(s));
    sessions_continue(&all);
    session_take(s);
    cr_expect_eq(meter_next_n(bench.meter, 0), 2);
    cr_expect(session_reads(s));
}

Test(session, when_as_many_refusals_wait_as_may_no_line_is_taken_until_they_are_told)
{
    feed(s, HELLO("s1", "b1"));
    said(s);
    for (unsigned i = 0; i < SESSION_REFUSALS_MAX; i++) feed(s, GARBAGE);
    cr_expect_not(session_reads(s), "there is room for bytes, and none for a refusal");
    cr_expect_not(all.wants_seal, "nothing waits");
    feed(s, GARBAGE);
    cr_expect(all.wants_seal, "a line waits until they are durable");
    make_durable();
    cr_expect_not(all.wants_seal, "now they wait for their reader");
    cr_expect_not(session_reads(s));
    cr_expect_eq(lines_in(said(s), "reject"), SESSION_REFUSALS_MAX);
    cr_expect(session_reads(s));
    cr_expect(session_writes(s), "the line waits, and whoever wrote all this may have nothing more to do");
    session_take(s);
    cr_expect_not(session_writes(s), "it was taken");
    make_durable();
    cr_expect_eq(lines_in(said(s), "{\"reject\":1025,"), 1);
}

Test(session, a_full_buffer_of_greetings_waits_for_answers_to_be_read)
{
    static const char greeting[] = HELLO("s1", "b1");
    size_t greetings = 0, answers = 0, at = 0;
    while (session_reads(s)) { /* a whole one at a time, or what is left of the room */
        at += feed_some(s, greeting + at, sizeof greeting - 1 - at);
        greetings += at == sizeof greeting - 1;
        at %= sizeof greeting - 1;
    }
    cr_expect_gt(greetings * (sizeof greeting - 1), SESSION_BUFFER_BYTES - sizeof greeting);
    while (answers < greetings) {
        size_t more = lines_in(said(s), "ack");
        cr_assert_gt(more, 0, "%zu of %zu", answers, greetings);
        answers += more;
        session_take(s);
    }
    cr_expect_eq(answers, greetings);
    cr_expect(session_reads(s));
}

Test(session, a_refusal_that_there_is_no_memory_for_is_counted_and_acknowledged)
{
    feed(s, HELLO("s1", "b1"));
    alloc_fail_at(1);
    feed(s, GARBAGE);
    cr_expect(alloc_failed());
    cr_expect_eq(all.untold, 1);
    cr_expect_eq(counters_get(&counters, INGEST_MALFORMED - 1), 1);
    feed(s, GARBAGE);
    make_durable();
    cr_expect_str_eq(said(s), IS_NEW "{\"reject\":2,\"error\":\"malformed\",\"at\":0}\n{\"ack\":2}\n");
}
