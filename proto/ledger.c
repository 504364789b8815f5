#include "proto/ledger.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "proto/archive.h"
#include "proto/text.h"

#define TEXT(name, text) text,
static const char *const mode_texts[] = {SG_BILL_MODES(TEXT)};
static const char *const kind_texts[] = {SG_LEDGER_KINDS(TEXT)};
static const char *const result_texts[] = {SG_LEDGER_RESULTS(TEXT)};
static const char *const reason_texts[] = {SG_LEDGER_REASONS(TEXT)};
#undef TEXT

enum { STATUS_MAX = 999 };

/* Names of members, words and numbers are below 512 bytes. */
_Static_assert(512 + 2 * ID_BYTES_MAX + FIELD_NAME_BYTES_MAX + LEDGER_IDENTIFIER_BYTES + LEDGER_BODY_BYTES <=
                   LEDGER_REST_BYTES_MAX,
               "what a record holds beside its positions");
_Static_assert(LEDGER_REST_BYTES_MAX + LEDGER_POSITIONS_BYTES <= LEDGER_BYTES_MAX, "what may be written may be read");

const char *bill_mode_text(enum bill_mode m)
{
    assert((unsigned)m < BILL_MODES);
    return mode_texts[m];
}

const char *ledger_reason_text(enum ledger_reason r)
{
    assert((unsigned)r < LEDGER_REASONS);
    return reason_texts[r];
}

bool ledger_is_billing(const char *text, size_t length)
{
    return !archive_is(text, length);
}

/* ---- what a record may hold ---- */

/* Letters, digits, `_`, `-` and the others, at least one. No record has a byte that JSON would escape. */
static bool is_word(const char *s, const char *others)
{
    bool valid = *s;
    for (; valid && *s; s++) valid = id_valid_or_none(s, 1) || strchr(others, *s);
    return valid;
}

static bool are_positions(const char *s, size_t length)
{
    return length < LEDGER_POSITIONS_BYTES && strspn(s, "0123456789@ ") == length;
}

static bool intent_valid(const struct ledger_record *r)
{
    return r->total.v <= INT64_MAX && r->value.v >= 1 && r->value.v <= LEDGER_VALUE_MAX && r->value.v <= r->total.v &&
           is_word(r->identifier, "") && is_word(r->body, ".=&%");
}

/* Its positions aside. */
static bool valid(const struct ledger_record *r)
{
    bool head = r->at.v >= 0 && r->at.v <= WALL_MS_MAX && r->hour.v >= 0 && r->hour.v <= WALL_MS_MAX &&
                r->hour.v % HOUR_MS == 0 && r->revision >= 1 && r->revision <= INT64_MAX &&
                id_valid(r->team.s, strlen(r->team.s)) && id_valid(r->customer.s, strlen(r->customer.s));
    if (!head || r->kind == LEDGER_INTENT) return head && intent_valid(r);
    return r->status <= STATUS_MAX && (!*r->request_id || is_word(r->request_id, ""));
}

/* ---- writing ---- */

static char *put_number(char *out, const char *member, uint64_t v)
{
    return text_put_u64(text_put_str(out, member), v);
}

static char *put_text(char *out, const char *member, const char *s)
{
    return text_put_str(text_put_str(text_put_str(out, member), s), "\"");
}

static char *put_own(char *out, const struct ledger_record *r)
{
    switch (r->kind) {
    case LEDGER_INTENT:
        out = put_text(out, ",\"mode\":\"", mode_texts[r->mode]);
        out = put_number(out, ",\"total\":", r->total.v);
        out = put_number(out, ",\"value\":", r->value.v);
        out = put_text(out, ",\"identifier\":\"", r->identifier);
        out = put_text(out, ",\"body\":\"", r->body);
        return put_text(out, ",\"positions\":\"", r->positions ? r->positions : "");
    case LEDGER_OUTCOME:
        out = put_text(out, ",\"result\":\"", result_texts[r->result]);
        out = put_number(out, ",\"status\":", r->status);
        return put_text(out, ",\"request\":\"", r->request_id);
    default:
        out = put_text(out, ",\"reason\":\"", reason_texts[r->reason]);
        return put_number(out, ",\"status\":", r->status);
    }
}

enum sg_error ledger_encode(const struct ledger_record *r, char *out, size_t size, size_t *length)
{
    char meter[FIELD_NAME_BYTES_MAX];
    size_t positions = r->positions ? strlen(r->positions) : 0;
    assert(r->kind < LEDGER_KINDS);
    if (!valid(r) || (positions && !are_positions(r->positions, positions))) return SG_ERR_MALFORMED;
    if (size < LEDGER_REST_BYTES_MAX + positions) return SG_ERR_LIMIT;
    (void)field_name(r->meter, meter);
    char *end = put_number(out, "{\"v\":", LEDGER_VERSION);
    end = put_text(end, ",\"kind\":\"", kind_texts[r->kind]);
    end = put_number(end, ",\"at\":", (uint64_t)r->at.v);
    end = put_text(end, ",\"team\":\"", r->team.s);
    end = put_text(end, ",\"customer\":\"", r->customer.s);
    end = put_text(end, ",\"meter\":\"", meter);
    end = put_number(end, ",\"hour\":", (uint64_t)r->hour.v / SECOND_MS);
    end = put_number(end, ",\"revision\":", r->revision);
    end = text_put_str(put_own(end, r), "}");
    *length = (size_t)(end - out);
    return SG_OK;
}

/* ---- reading ---- */

static uint64_t take_number(struct text *t, const char *member, uint64_t most)
{
    text_expect_str(t, member);
    uint64_t v = text_u64(t);
    if (v > most) t->bad = true;
    return t->bad ? 0 : v;
}

/* Up to the next quote, which is taken. */
static const char *take_quoted(struct text *t, const char *member, size_t *length)
{
    text_expect_str(t, member);
    const char *s = t->p;
    *length = 0;
    if (text_take(t, '"')) return s;
    s = text_until(t, '"', length);
    text_expect(t, '"');
    return s;
}

static void take_text(struct text *t, const char *member, char *out, size_t size)
{
    size_t length;
    const char *s = take_quoted(t, member, &length);
    if (length >= size || memchr(s, '\0', length)) t->bad = true;
    if (!t->bad) text_put(out, s, length)[0] = '\0';
}

static unsigned take_word(struct text *t, const char *member, const char *const *words, size_t count)
{
    size_t length;
    const char *s = take_quoted(t, member, &length);
    for (unsigned i = 0; i < count; i++)
        if (strlen(words[i]) == length && memcmp(words[i], s, length) == 0) return i;
    t->bad = true;
    return 0;
}

static void take_own(struct text *t, struct ledger_record *r)
{
    size_t positions;
    const char *s;
    switch (r->kind) {
    case LEDGER_INTENT:
        r->mode = (enum bill_mode)take_word(t, ",\"mode\":\"", mode_texts, BILL_MODES);
        r->total.v = take_number(t, ",\"total\":", INT64_MAX);
        r->value.v = take_number(t, ",\"value\":", LEDGER_VALUE_MAX);
        take_text(t, ",\"identifier\":\"", r->identifier, sizeof r->identifier);
        take_text(t, ",\"body\":\"", r->body, sizeof r->body);
        s = take_quoted(t, ",\"positions\":\"", &positions);
        t->bad = t->bad || (positions && !are_positions(s, positions)); /* a quote is behind them */
        break;
    case LEDGER_OUTCOME:
        r->result = (enum ledger_result)take_word(t, ",\"result\":\"", result_texts, LEDGER_RESULTS);
        r->status = (uint32_t)take_number(t, ",\"status\":", STATUS_MAX);
        take_text(t, ",\"request\":\"", r->request_id, sizeof r->request_id);
        break;
    default:
        r->reason = (enum ledger_reason)take_word(t, ",\"reason\":\"", reason_texts, LEDGER_REASONS);
        r->status = (uint32_t)take_number(t, ",\"status\":", STATUS_MAX);
    }
}

static void take_head(struct text *t, struct ledger_record *r)
{
    size_t meter;
    r->kind = (enum ledger_kind)take_word(t, ",\"kind\":\"", kind_texts, LEDGER_KINDS);
    r->at.v = (int64_t)take_number(t, ",\"at\":", WALL_MS_MAX);
    take_text(t, ",\"team\":\"", r->team.s, sizeof r->team.s);
    take_text(t, ",\"customer\":\"", r->customer.s, sizeof r->customer.s);
    const char *name = take_quoted(t, ",\"meter\":\"", &meter);
    if (!field_parse(name, meter, &r->meter)) t->bad = true;
    r->hour.v = (int64_t)take_number(t, ",\"hour\":", WALL_MS_MAX / SECOND_MS) * SECOND_MS;
    r->revision = take_number(t, ",\"revision\":", INT64_MAX);
}

enum sg_error ledger_decode(const char *bytes, size_t length, struct ledger_record *out, struct sg_fault *f)
{
    struct text t = text_over(bytes, length);
    memset(out, 0, sizeof *out);
    if (length > LEDGER_BYTES_MAX)
        return sg_fail(f, SG_ERR_LIMIT, "ledger record longer than %d bytes", LEDGER_BYTES_MAX);
    uint64_t version = take_number(&t, "{\"v\":", UINT64_MAX);
    if (!t.bad && version != LEDGER_VERSION)
        return sg_fail(f, SG_ERR_VERSION, "ledger record: version %" PRIu64 " is unknown", version);
    take_head(&t, out);
    take_own(&t, out);
    text_expect(&t, '}');
    if (text_done(&t) && valid(out)) return SG_OK;
    return sg_fail(f, SG_ERR_MALFORMED, "ledger record: not as it is written");
}
