/* See session.h. */
#include "collector/session.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWER_BYTES_MAX = 128 };

static bool greeted(const struct session *s)
{
    return s->state == SESSION_GREETED || s->state == SESSION_DRAINING;
}

static void drop_first(struct session_refusals *r)
{
    r->first = (r->first + 1) % SESSION_REFUSALS_MAX;
    r->count--;
}

/* ---- begin and end ---- */

void sessions_init(struct sessions *all, const struct sessions_options *o)
{
    *all = (struct sessions){.options = *o};
}

void sessions_destroy(struct sessions *all)
{
    for (size_t k = 0; k < SOURCES_MAX; k++) {
        assert(!all->by_source[k]);
        free(all->left[k].refused.ring);
    }
}

void session_init(struct session *s, struct sessions *all)
{
    s->all = all;
    s->state = SESSION_NEW;
    s->source = 0;
    s->name = s->boot_id = (struct id){0};
    s->position = s->acked = 0;
    s->ack_due = s->skipping = s->wants_room = false;
    s->in_used = s->out_used = 0;
    s->refused = (struct session_refusals){0};
}

/* The session no longer speaks for its source. Its client will say again what was not durable; what was refused of it
 * is a duplicate then, and must be told all the same. */
static void leave_source(struct session *s)
{
    struct sessions *all = s->all;
    struct session_left *left = &all->left[s->source];
    if (!greeted(s)) return;
    assert(all->by_source[s->source] == s);
    free(left->refused.ring);
    if (s->refused.count == 0) {
        free(s->refused.ring);
        s->refused.ring = NULL;
    }
    *left = (struct session_left){s->boot_id, s->refused};
    s->refused = (struct session_refusals){0};
    all->by_source[s->source] = NULL;
    meter_connected(all->options.meter, s->source, false);
}

/* Takes what the source's last session has left, as far as this boot's hello was not told that it is durable. */
static void join_source(struct session *s, uint64_t durable)
{
    struct session_left *left = &s->all->left[s->source];
    s->all->by_source[s->source] = s;
    meter_connected(s->all->options.meter, s->source, true);
    free(s->refused.ring);
    s->refused = left->refused;
    left->refused = (struct session_refusals){0};
    if (strcmp(left->boot_id.s, s->boot_id.s) != 0) s->refused.count = 0;
    while (s->refused.count > 0 && s->refused.ring[s->refused.first].n <= durable) drop_first(&s->refused);
}

void session_end(struct session *s)
{
    if (s->state == SESSION_OVER) return;
    leave_source(s);
    s->state = SESSION_OVER;
    free(s->refused.ring);
    s->refused = (struct session_refusals){0};
}

void session_at_end(struct session *s)
{
    if (s->state == SESSION_GREETED) {
        meter_connected(s->all->options.meter, s->source, false);
        s->state = SESSION_DRAINING;
    } else if (s->state == SESSION_NEW)
        session_end(s);
}

/* ---- answers ---- */

static void answer(struct session *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void answer(struct session *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    assert(SESSION_OUT_BYTES - s->out_used >= ANSWER_BYTES_MAX);
    int length = vsnprintf(s->out + s->out_used, ANSWER_BYTES_MAX, format, args);
    va_end(args);
    assert(length > 0 && length < ANSWER_BYTES_MAX);
    s->out_used += (size_t)length;
}

static bool out_has_room(const struct session *s)
{
    return SESSION_OUT_BYTES - s->out_used >= 2 * ANSWER_BYTES_MAX; /* one is kept for what ends a session */
}

/* Everything that is durable and unsaid, as far as out has room. */
static void compose(struct session *s)
{
    if (!greeted(s)) return;
    uint64_t durable = meter_durable_n(s->all->options.meter, s->source);
    while (s->refused.count > 0 && out_has_room(s)) {
        const struct session_refusal *r = &s->refused.ring[s->refused.first];
        if (r->n > durable) break;
        answer(s, "{\"reject\":%llu,\"error\":\"%s\",\"at\":%u}\n", (unsigned long long)r->n,
               ingest_error_text((enum ingest_error)r->error), r->at);
        drop_first(&s->refused);
    }
    bool refusals_said = s->refused.count == 0 || s->refused.ring[s->refused.first].n > durable;
    if (!refusals_said || !out_has_room(s) || (durable <= s->acked && !s->ack_due)) return;
    answer(s, "{\"ack\":%llu}\n", (unsigned long long)durable);
    s->acked = durable;
    s->ack_due = false;
}

static bool drained(const struct session *s)
{
    return s->refused.count == 0 && !memchr(s->in, '\n', s->in_used) &&
           meter_durable_n(s->all->options.meter, s->source) + 1 == meter_next_n(s->all->options.meter, s->source);
}

const char *session_output(struct session *s, size_t *bytes)
{
    compose(s);
    *bytes = s->out_used;
    if (s->out_used > 0) return s->out;
    if (s->state == SESSION_CLOSING || (s->state == SESSION_DRAINING && drained(s))) session_end(s);
    return s->out;
}

void session_written(struct session *s, size_t bytes)
{
    assert(bytes <= s->out_used);
    s->out_used -= bytes;
    memmove(s->out, s->out + bytes, s->out_used);
}

bool session_reads(const struct session *s)
{
    bool greets = s->state == SESSION_NEW || s->state == SESSION_GREETED;
    return greets && !s->all->paused && !s->all->wants_seal && s->in_used < sizeof s->in &&
           s->refused.count < SESSION_REFUSALS_MAX;
}

bool session_writes(const struct session *s)
{
    bool takes = !s->all->paused && !s->all->wants_seal;
    return s->out_used > 0 || (takes && s->wants_room);
}

/* ---- lines ---- */

static void count_refusal(struct session *s, enum ingest_error error)
{
    counters_add(s->all->options.counters, s->all->options.refused_index + (size_t)error - 1, 1);
}

/* The session ends with this error; no number is used up. */
static void close_with(struct session *s, enum ingest_error error, size_t at)
{
    count_refusal(s, error);
    if (greeted(s)) {
        compose(s);
        leave_source(s);
    }
    s->state = SESSION_CLOSING;
    s->in_used = 0;
    answer(s, "{\"error\":\"%s\",\"at\":%zu}\n", ingest_error_text(error), at);
}

static void remember_refusal(struct session *s, uint64_t n, enum ingest_error error, size_t at)
{
    if (!s->refused.ring) s->refused.ring = calloc(SESSION_REFUSALS_MAX, sizeof *s->refused.ring);
    count_refusal(s, error);
    if (!s->refused.ring) { /* the client learns of it by the ack alone */
        s->all->untold++;
        return;
    }
    assert(s->refused.count < SESSION_REFUSALS_MAX);
    size_t last = (s->refused.first + s->refused.count) % SESSION_REFUSALS_MAX;
    s->refused.ring[last] = (struct session_refusal){n, (uint16_t)at, (uint8_t)error};
    s->refused.count++;
}

/* What a verdict means to the session. False: the line was not taken, it stays. */
static bool apply_verdict(struct session *s, enum meter_verdict v, uint64_t n, const struct meter_refusal *refusal,
                          size_t n_at)
{
    switch (v) {
    case METER_FULL: s->all->wants_seal = true; return false;
    case METER_GAP: close_with(s, INGEST_NUMBER_GAP, n_at); return true;
    case METER_DUPLICATE:
        s->position = n;
        s->ack_due |= n <= meter_durable_n(s->all->options.meter, s->source);
        return true;
    case METER_REFUSED: remember_refusal(s, n, refusal->error, refusal->at); break;
    default: assert(v == METER_ACCEPTED); break;
    }
    s->position = n;
    return true;
}

static bool take_hello(struct session *s, const struct ingest_event *hello)
{
    struct sessions *all = s->all;
    unsigned source;
    uint64_t durable;
    bool fresh;
    s->wants_room = !out_has_room(s);
    if (s->wants_room) return false;
    if (greeted(s) && strcmp(s->name.s, hello->source.s) != 0) { /* before it could end a boot of that source */
        close_with(s, INGEST_BAD_HELLO, hello->at[INGEST_FIELD_SOURCE]);
        return true;
    }
    enum meter_verdict v = meter_hello(all->options.meter, hello, &source, &durable, &fresh);
    if (v == METER_FULL) {
        all->wants_seal = true;
        return false;
    }
    if (v == METER_REFUSED) {
        close_with(s, INGEST_BAD_HELLO, hello->at[INGEST_FIELD_SOURCE]);
        return true;
    }
    if (all->by_source[source] == s)
        leave_source(s);
    else if (all->by_source[source])
        session_end(all->by_source[source]);
    s->state = SESSION_GREETED;
    s->source = source;
    s->name = hello->source;
    s->boot_id = hello->boot_id;
    s->position = s->acked = durable;
    s->ack_due = false;
    join_source(s, durable);
    if (fresh)
        answer(s, "{\"ack\":0,\"new\":true}\n");
    else
        answer(s, "{\"ack\":%llu}\n", (unsigned long long)durable);
    return true;
}

static bool refuse_line(struct session *s, const char *line, size_t length, enum ingest_error error, size_t at)
{
    struct ingest_salvage left = ingest_line_salvage(line, length);
    struct meter_refusal refusal = {error, at};
    if (left.is_hello || !greeted(s)) {
        close_with(s, left.is_hello ? INGEST_BAD_HELLO : INGEST_NOT_GREETED, at);
        return true;
    }
    uint64_t n = left.has_n ? left.n : s->position + 1;
    return apply_verdict(s, meter_refuse(s->all->options.meter, s->source, n), n, &refusal, at);
}

/* False: it was not taken and stays. */
static bool take_line(struct session *s, const char *line, size_t length)
{
    struct ingest_event e;
    struct meter_refusal refusal = {INGEST_OK, 0};
    size_t at;
    if (length >= INGEST_LINE_BYTES_MAX)
        return refuse_line(s, line, INGEST_LINE_BYTES_MAX, INGEST_TOO_LONG, INGEST_LINE_BYTES_MAX);
    enum ingest_error error = ingest_line_parse(line, length, &e, &at);
    if (error) return refuse_line(s, line, length, error, at);
    if (e.type == INGEST_TYPE_HELLO) return take_hello(s, &e);
    if (!greeted(s)) {
        close_with(s, INGEST_NOT_GREETED, e.at[INGEST_FIELD_TYPE]);
        return true;
    }
    enum meter_verdict v = meter_event(s->all->options.meter, s->source, &e, &refusal);
    return apply_verdict(s, v, e.number[INGEST_FIELD_N], &refusal, e.at[INGEST_FIELD_N]);
}

static bool refusals_durable(const struct session *s)
{
    size_t last = (s->refused.first + s->refused.count - 1) % SESSION_REFUSALS_MAX;
    return s->refused.ring[last].n <= meter_durable_n(s->all->options.meter, s->source);
}

/* The next line in in[*from..in_used); false: there is none to be taken now. */
static bool take_next(struct session *s, size_t *from)
{
    const char *line = s->in + *from;
    size_t left = s->in_used - *from;
    const char *newline = memchr(line, '\n', left);
    size_t length = newline ? (size_t)(newline - line) : left;
    if (s->refused.count == SESSION_REFUSALS_MAX) {
        s->all->wants_seal |= left > 0 && !refusals_durable(s);
        s->wants_room = left > 0; /* once they are durable it is the client that they wait for */
        return false;
    }
    if (!s->skipping && (newline || length >= INGEST_LINE_BYTES_MAX)) {
        if (!take_line(s, line, length)) return false;
        if (s->state == SESSION_CLOSING) return false;
        s->skipping = !newline;
    }
    if (!newline && !s->skipping) return false;
    *from += length + (newline ? 1 : 0);
    if (newline) s->skipping = false;
    return newline != NULL;
}

void session_take(struct session *s)
{
    size_t from = 0;
    if (s->state == SESSION_OVER || s->all->paused) return;
    s->wants_room = false;
    while (take_next(s, &from)) continue;
    if (s->state == SESSION_CLOSING) return;
    memmove(s->in, s->in + from, s->in_used - from);
    s->in_used -= from;
}

char *session_room(struct session *s, size_t *bytes)
{
    *bytes = sizeof s->in - s->in_used;
    return s->in + s->in_used;
}

void session_received(struct session *s, size_t bytes)
{
    assert(bytes <= sizeof s->in - s->in_used);
    s->in_used += bytes;
    session_take(s);
}

/* ---- all of them ---- */

void sessions_pause(struct sessions *all)
{
    all->paused = true;
}

void sessions_continue(struct sessions *all)
{
    all->paused = all->wants_seal = false;
}
