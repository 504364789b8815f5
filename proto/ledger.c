#include "proto/ledger.h"

#include <assert.h>
#include <jansson.h>
#include <string.h>

#include "proto/archive.h"

#define TEXT(name, text) text,
static const char *const mode_texts[] = {SG_BILL_MODES(TEXT)};
static const char *const kind_texts[] = {SG_LEDGER_KINDS(TEXT)};
static const char *const result_texts[] = {SG_LEDGER_RESULTS(TEXT)};
static const char *const reason_texts[] = {SG_LEDGER_REASONS(TEXT)};
#undef TEXT

/* Members of each kind: the head, and its own. */
enum { HEAD_MEMBERS = 8 };
static const size_t members[] = {
    [LEDGER_INTENT] = HEAD_MEMBERS + 6, [LEDGER_OUTCOME] = HEAD_MEMBERS + 3, [LEDGER_NOTE] = HEAD_MEMBERS + 2};

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

static json_t *encode_own(const struct ledger_record *r)
{
    switch (r->kind) {
    case LEDGER_INTENT:
        return json_pack("{s:s, s:I, s:I, s:s, s:s, s:s}", "mode", mode_texts[r->mode], "total", (json_int_t)r->total.v,
                         "value", (json_int_t)r->value.v, "identifier", r->identifier, "body", r->body, "positions",
                         r->positions ? r->positions : "");
    case LEDGER_OUTCOME:
        return json_pack("{s:s, s:i, s:s}", "result", result_texts[r->result], "status", (int)r->status, "request",
                         r->request_id);
    default: return json_pack("{s:s, s:i}", "reason", reason_texts[r->reason], "status", (int)r->status);
    }
}

enum sg_error ledger_encode(const struct ledger_record *r, char *out, size_t size, size_t *length)
{
    char meter[FIELD_NAME_BYTES_MAX];
    (void)field_name(r->meter, meter);
    assert(r->kind < LEDGER_KINDS && r->revision >= 1 && r->revision <= INT64_MAX && r->total.v <= INT64_MAX);
    assert(r->value.v <= LEDGER_VALUE_MAX);
    json_t *j = json_pack("{s:i, s:s, s:I, s:s, s:s, s:s, s:I, s:I}", "v", LEDGER_VERSION, "kind", kind_texts[r->kind],
                          "at", (json_int_t)r->at.v, "team", r->team.s, "customer", r->customer.s, "meter", meter,
                          "hour", (json_int_t)(r->hour.v / SECOND_MS), "revision", (json_int_t)r->revision);
    json_t *own = encode_own(r);
    size_t n = 0;
    if (j && own && json_object_update(j, own) == 0) n = json_dumpb(j, out, size, JSON_COMPACT);
    bool made = j && own;
    json_decref(j);
    json_decref(own);
    if (!made || n == 0) return SG_ERR_NOMEM;
    if (n > size || n > LEDGER_BYTES_MAX) return SG_ERR_LIMIT;
    *length = n;
    return SG_OK;
}

static const char *take_string(const json_t *j, const char *name)
{
    return json_string_value(json_object_get(j, name));
}

static bool take_word(const json_t *j, const char *name, const char *const *words, size_t count, unsigned *out)
{
    const char *s = take_string(j, name);
    for (unsigned i = 0; s && i < count; i++) {
        if (strcmp(words[i], s) == 0) {
            *out = i;
            return true;
        }
    }
    return false;
}

static bool take_id(const json_t *j, const char *name, struct id *out)
{
    const char *s = take_string(j, name);
    if (!s || !id_valid(s, strlen(s))) return false;
    memcpy(out->s, s, strlen(s) + 1);
    return true;
}

/* A text of at most size - 1 bytes out of the given ones. */
static bool take_text(const json_t *j, const char *name, const char *allowed, char *out, size_t size)
{
    const char *s = take_string(j, name);
    if (!s || strlen(s) >= size || strspn(s, allowed) != strlen(s)) return false;
    memcpy(out, s, strlen(s) + 1);
    return true;
}

static bool take_number(const json_t *j, const char *name, int64_t lowest, int64_t highest, uint64_t *out)
{
    const json_t *n = json_object_get(j, name);
    if (!json_is_integer(n) || json_integer_value(n) < lowest || json_integer_value(n) > highest) return false;
    *out = (uint64_t)json_integer_value(n);
    return true;
}

#define ALNUM "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

static bool take_intent(const json_t *j, struct ledger_record *r)
{
    unsigned mode;
    r->positions = take_string(j, "positions");
    if (!r->positions || strlen(r->positions) >= LEDGER_POSITIONS_BYTES) return false;
    if (strspn(r->positions, "0123456789@ ") != strlen(r->positions)) return false;
    if (!take_word(j, "mode", mode_texts, BILL_MODES, &mode)) return false;
    r->mode = (enum bill_mode)mode;
    return take_number(j, "total", 1, INT64_MAX, &r->total.v) &&
           take_number(j, "value", 1, (int64_t)LEDGER_VALUE_MAX, &r->value.v) && r->value.v <= r->total.v &&
           take_text(j, "identifier", ALNUM "_-", r->identifier, sizeof r->identifier) && r->identifier[0] &&
           take_text(j, "body", ALNUM "_-.=&%", r->body, sizeof r->body) && r->body[0];
}

static bool take_own(const json_t *j, struct ledger_record *r)
{
    unsigned word;
    uint64_t status = 0;
    if (r->kind == LEDGER_INTENT) return take_intent(j, r);
    if (!take_number(j, "status", 0, 999, &status)) return false;
    r->status = (uint32_t)status;
    if (r->kind == LEDGER_OUTCOME) {
        if (!take_word(j, "result", result_texts, LEDGER_RESULTS, &word)) return false;
        r->result = (enum ledger_result)word;
        return take_text(j, "request", ALNUM "_-", r->request_id, sizeof r->request_id);
    }
    if (!take_word(j, "reason", reason_texts, LEDGER_REASONS, &word)) return false;
    r->reason = (enum ledger_reason)word;
    return true;
}

static bool take_record(const json_t *j, struct ledger_record *r)
{
    unsigned kind;
    uint64_t at, hour;
    const char *meter = take_string(j, "meter");
    if (!take_word(j, "kind", kind_texts, LEDGER_KINDS, &kind) || json_object_size(j) != members[kind]) return false;
    if (!take_number(j, "at", 0, WALL_MS_MAX, &at) || !take_number(j, "hour", 0, WALL_MS_MAX / SECOND_MS, &hour))
        return false;
    if (hour % (HOUR_MS / SECOND_MS) != 0 || !meter || !field_parse(meter, strlen(meter), &r->meter)) return false;
    r->kind = (enum ledger_kind)kind;
    r->at.v = (int64_t)at;
    r->hour.v = (int64_t)hour * SECOND_MS;
    return take_id(j, "team", &r->team) && take_id(j, "customer", &r->customer) &&
           take_number(j, "revision", 1, INT64_MAX, &r->revision) && take_own(j, r);
}

/* The record, its positions still the parsed text's, is what ledger_encode() writes: no spaces, no other order. */
static enum sg_error canonical(const struct ledger_record *r, const char *text, size_t length, struct sg_fault *f)
{
    char again[LEDGER_BYTES_MAX];
    size_t n = 0;
    enum sg_error e = ledger_encode(r, again, sizeof again, &n);
    assert(e == SG_OK || e == SG_ERR_NOMEM); /* it is no longer than what it was read of */
    if (e) return sg_fail(f, e, "ledger record: no memory");
    if (n == length && memcmp(again, text, n) == 0) return SG_OK;
    return sg_fail(f, SG_ERR_MALFORMED, "ledger record: not as it is written");
}

enum sg_error ledger_decode(const char *text, size_t length, struct ledger_record *out, struct sg_fault *f)
{
    json_error_t error;
    memset(out, 0, sizeof *out);
    if (length > LEDGER_BYTES_MAX)
        return sg_fail(f, SG_ERR_LIMIT, "ledger record longer than %d bytes", LEDGER_BYTES_MAX);
    json_t *j = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    const json_t *version = json_object_get(j, "v");
    enum sg_error e = SG_OK;
    if (!json_is_integer(version))
        e = sg_fail(f, SG_ERR_MALFORMED, "ledger record: malformed");
    else if (json_integer_value(version) != LEDGER_VERSION)
        e = sg_fail(f, SG_ERR_VERSION, "ledger record: version %lld is unknown",
                    (long long)json_integer_value(version));
    else if (!take_record(j, out))
        e = sg_fail(f, SG_ERR_MALFORMED, "ledger record: malformed");
    else
        e = canonical(out, text, length, f);
    out->positions = NULL;
    json_decref(j);
    return e;
}
