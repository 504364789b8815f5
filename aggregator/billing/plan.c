#include "aggregator/billing/plan.h"

#include <assert.h>
#include <inttypes.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>

void plan_identifier(const struct plan_question *q, const char *customer, uint64_t revision,
                     char out[static LEDGER_IDENTIFIER_BYTES])
{
    char text[512], meter[FIELD_NAME_BYTES_MAX];
    uint8_t hash[SHA256_DIGEST_LENGTH];
    (void)field_name(q->meter->field, meter);
    int n = snprintf(text, sizeof text, "sandglass-1\n%s\n%s\n%s\n%s\n%" PRId64 "\n%" PRIu64, q->account,
                     bill_mode_text(q->meter->mode), meter, customer, q->hour.v / SECOND_MS, revision);
    assert(n > 0 && (size_t)n < sizeof text);
    SHA256((const uint8_t *)text, (size_t)n, hash);
    memcpy(out, "sg1-", 4);
    for (size_t i = 0; i < sizeof hash; i++) {
        out[4 + 2 * i] = "0123456789abcdef"[hash[i] >> 4];
        out[5 + 2 * i] = "0123456789abcdef"[hash[i] & 15];
    }
    out[LEDGER_IDENTIFIER_BYTES - 1] = '\0';
}

/* All parts are of [A-Za-z0-9_.-], so that nothing but the brackets needs escaping. The timestamp lies in the middle of
 * the hour, away from every edge. */
static void make_body(const struct plan_question *q, struct ledger_record *r)
{
    char meter[FIELD_NAME_BYTES_MAX];
    (void)field_name(q->meter->field, meter);
    int n =
        snprintf(r->body, sizeof r->body,
                 "event_name=%s&identifier=%s&payload%%5B%s%%5D=%s&payload%%5B%s%%5D=%" PRIu64 "&timestamp=%" PRId64,
                 meter, r->identifier, q->meter->customer_key, r->customer.s, q->meter->value_key, r->value.v,
                 (q->hour.v + HOUR_MS / 2) / SECOND_MS);
    assert(n > 0 && (size_t)n < sizeof r->body);
}

static void begin_record(const struct plan_question *q, const char *customer, uint64_t revision,
                         struct ledger_record *r)
{
    memset(r, 0, sizeof *r);
    r->at = q->now;
    r->meter = q->meter->field;
    r->hour = q->hour;
    r->revision = revision;
    assert(strlen(q->team) <= ID_BYTES_MAX && strlen(customer) <= ID_BYTES_MAX);
    memcpy(r->team.s, q->team, strlen(q->team) + 1);
    memcpy(r->customer.s, customer, strlen(customer) + 1);
}

static enum plan_verdict hold(struct ledger_record *r, uint64_t noted, enum ledger_reason reason)
{
    if (noted == r->revision) return PLAN_HELD;
    r->kind = LEDGER_NOTE;
    r->reason = reason;
    return PLAN_RECORD;
}

enum plan_verdict plan_revision(const struct book *b, const struct plan_question *q, struct ledger_record *out)
{
    static const struct book_entry nothing;
    const struct book_entry *found = book_find(b, q->team, q->meter->field, q->hour), *e = found ? found : &nothing;
    if (e->open) return PLAN_UNRESOLVED;
    if (q->total.v == e->total.v) return PLAN_SETTLED;
    if (q->total.v < e->total.v) return PLAN_LOWER;
    const char *customer = e->revision ? book_name(b, e->customer) : q->customer;
    if (!customer) return PLAN_PENDING;
    begin_record(q, customer, e->revision + 1, out);
    if (e->revision && e->mode != q->meter->mode) return hold(out, e->noted_mode, LEDGER_HELD_MODE);
    uint64_t value = q->meter->mode == BILL_SET ? q->total.v : q->total.v - e->total.v;
    if (value > LEDGER_VALUE_MAX || q->total.v > INT64_MAX) return hold(out, e->noted_digits, LEDGER_HELD_DIGITS);
    out->kind = LEDGER_INTENT;
    out->mode = q->meter->mode;
    out->total = q->total;
    out->value.v = value;
    out->positions = q->positions;
    plan_identifier(q, customer, out->revision, out->identifier);
    make_body(q, out);
    return PLAN_RECORD;
}

enum plan_attempt plan_attempt(const struct book_open *o, struct wall_ms wall, struct boot_ms boot)
{
    enum { FUTURE_MS_MAX = 2 * CLOCK_TRUST_SKEW_MS_MAX }; /* one clock believed too fast, another too slow */
    int64_t age_ms = wall.v - o->at.v;
    if (o->in_flight || boot.v < o->not_before.v) return PLAN_LATER;
    if (age_ms < PLAN_COPY_MS && age_ms >= -(int64_t)FUTURE_MS_MAX) return PLAN_SEND;
    return boot.v >= o->read_at.v ? PLAN_READ : PLAN_LATER;
}

bool plan_may_write(struct boot_ms deadline, struct boot_ms boot)
{
    return boot.v <= deadline.v;
}

/* ---- answers ---- */

static void record_of(const struct book *b, const struct book_open *o, struct wall_ms wall, struct ledger_record *r)
{
    const struct book_entry *e = &b->entry[o->entry];
    struct plan_meter meter = {.field = (enum field)e->meter};
    struct plan_question q = {.meter = &meter, .team = book_name(b, e->team), .hour = e->hour, .now = wall};
    begin_record(&q, book_name(b, e->customer), o->revision, r);
}

/* Once per revision and reason. */
static bool note_once(const struct book *b, struct book_open *o, enum ledger_reason reason, struct wall_ms wall,
                      struct ledger_record *out)
{
    if (o->noted[reason]) return false;
    o->noted[reason] = true;
    record_of(b, o, wall, out);
    out->kind = LEDGER_NOTE;
    out->reason = reason;
    return true;
}

static void make_outcome(const struct book *b, const struct book_open *o, enum ledger_result result,
                         struct wall_ms wall, struct ledger_record *out)
{
    record_of(b, o, wall, out);
    out->kind = LEDGER_OUTCOME;
    out->result = result;
}

bool plan_settle(const struct book *b, struct book_open *o, const struct plan_reply *reply, struct ledger_record *out)
{
    enum { REFUSED_PACE = 6 }; /* what was refused is not sent again at once */
    if (reply->answer == ANSWER_ACCEPTED || reply->answer == ANSWER_DUPLICATE) {
        make_outcome(b, o, reply->answer == ANSWER_ACCEPTED ? LEDGER_ACCEPTED : LEDGER_DUPLICATE, reply->wall, out);
        out->status = reply->status;
        memcpy(out->request_id, reply->request_id, strlen(reply->request_id) + 1);
        return true;
    }
    bool refused = reply->answer == ANSWER_REFUSED;
    uint32_t pace = refused && o->attempts < REFUSED_PACE ? REFUSED_PACE : o->attempts;
    o->in_flight = false;
    o->not_before.v = reply->boot.v + plan_backoff_ms(pace, reply->random, reply->retry_after_ms);
    if (refused || reply->answer == ANSWER_AMBIGUOUS_NEXT) o->generation++;
    if (!refused || !note_once(b, o, reply->reason, reply->wall, out)) return false;
    out->status = reply->status;
    return true;
}

static enum book_sight sight_of(const struct book_entry *e, const struct book_open *o, const struct plan_sight *sight)
{
    if (!sight->told) return BOOK_UNREADABLE;
    if (!sight->summary.whole) return BOOK_SHOWS_NEITHER;
    if (sight->summary.sum.v == o->total.v) return BOOK_SHOWS_NEW;
    return sight->summary.sum.v == e->total.v ? BOOK_SHOWS_OLD : BOOK_SHOWS_NEITHER;
}

/* In both modes the hour's sum at Stripe is the total of the newest revision that it has. */
enum plan_reading plan_reconcile(const struct book *b, struct book_open *o, const struct plan_sight *sight,
                                 struct ledger_record *out)
{
    const struct book_entry *e = &b->entry[o->entry];
    o->reads++;
    o->read_at.v = sight->boot.v + plan_read_backoff_ms(o->reads, sight->random);
    o->sight = sight_of(e, o, sight);
    if (o->sight == BOOK_SHOWS_NEW) {
        make_outcome(b, o, LEDGER_SEEN, sight->wall, out);
        return PLAN_READING_COMMIT;
    }
    if (o->sight == BOOK_SHOWS_OLD && !o->noted[LEDGER_HELD_SUM]) return PLAN_READING_COPY;
    o->in_flight = false;
    int64_t asked_ms = sight->wall.v - (int64_t)(sight->boot.v - sight->asked.v);
    bool odd = o->sight == BOOK_SHOWS_NEITHER && asked_ms - o->at.v >= PLAN_ODD_MS;
    return odd && note_once(b, o, LEDGER_HELD_SUM, sight->wall, out) ? PLAN_READING_COMMIT : PLAN_READING_WAIT;
}

uint64_t plan_backoff_ms(uint32_t attempt, uint32_t random, uint64_t retry_after_ms)
{
    enum { DOUBLINGS = 6 };
    _Static_assert(PLAN_BACKOFF_MS_MIN << DOUBLINGS < PLAN_BACKOFF_MS_MAX, "the longest is not passed on the way");
    assert(attempt >= 1);
    uint64_t range = PLAN_BACKOFF_MS_MAX;
    if (attempt <= DOUBLINGS + 1) range = (uint64_t)PLAN_BACKOFF_MS_MIN << (attempt - 1);
    uint64_t wait = PLAN_BACKOFF_MS_MIN / 5 + random % range;
    if (retry_after_ms > PLAN_RETRY_AFTER_MS_MAX) retry_after_ms = PLAN_RETRY_AFTER_MS_MAX;
    return wait > retry_after_ms ? wait : retry_after_ms;
}

uint64_t plan_read_backoff_ms(uint32_t read, uint32_t random)
{
    enum { DOUBLINGS = 9 };
    _Static_assert(PLAN_READ_MS_MIN << DOUBLINGS < PLAN_READ_MS_MAX, "the longest is not passed on the way");
    assert(read >= 1);
    uint64_t range = PLAN_READ_MS_MAX;
    if (read <= DOUBLINGS + 1) range = (uint64_t)PLAN_READ_MS_MIN << (read - 1);
    return range / 2 + random % range / 2;
}
