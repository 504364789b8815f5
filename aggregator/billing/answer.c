#include "aggregator/billing/answer.h"

#include <assert.h>
#include <jansson.h>
#include <string.h>

static const char *const texts[] = {"accepted",       "duplicate", "not_sent", "ambiguous",
                                    "ambiguous_next", "throttled", "refused",  "denied"};
static const char *const read_texts[] = {"told", "missing", "throttled", "denied", "refused", "malformed"};

const char *answer_text(enum answer a)
{
    assert((unsigned)a < ANSWERS);
    return texts[a];
}

const char *answer_read_text(enum answer_read a)
{
    assert((unsigned)a < ANSWER_READS);
    return read_texts[a];
}

static const char *member(const json_t *j, const char *name)
{
    const char *s = json_string_value(json_object_get(j, name));
    return s ? s : "";
}

static bool is_ours(const json_t *j, const char *identifier)
{
    return strcmp(member(j, "object"), "billing.meter_event") == 0 && strcmp(member(j, "identifier"), identifier) == 0;
}

/* The refusal of a duplicate has no machine-readable code in v1: the sentence is matched, and it must name our
 * identifier. If Stripe words it anew the match fails to the safe side: the revision stays open. */
static bool is_duplicate(const json_t *error, const char *identifier)
{
    const char *code = member(error, "code"), *message = member(error, "message");
    if (strcmp(member(error, "type"), "invalid_request_error") != 0 || !strstr(message, identifier)) return false;
    return strcmp(code, "duplicate_meter_event") == 0 || strcmp(code, "resource_already_exists") == 0 ||
           strstr(message, "already exists with identifier") != NULL;
}

/* For people; the revision's fate does not depend on it. */
static enum ledger_reason reason_of(const json_t *error)
{
    static const struct {
        const char *member, *contains;
        enum ledger_reason reason;
    } table[] = {
        {"type", "idempotency_error", LEDGER_REFUSED_IDEMPOTENCY},
        {"message", "No active meter", LEDGER_REFUSED_METER},
        {"code", "archived_meter", LEDGER_REFUSED_METER},
        {"code", "no_meter", LEDGER_REFUSED_METER},
        {"message", "No such customer", LEDGER_REFUSED_CUSTOMER},
        {"code", "customer_not_found", LEDGER_REFUSED_CUSTOMER},
        {"message", "timestamp", LEDGER_REFUSED_TIME},
        {"code", "timestamp", LEDGER_REFUSED_TIME},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strstr(member(error, table[i].member), table[i].contains)) return table[i].reason;
    return LEDGER_REFUSED;
}

static enum answer classify_status(const struct answer_input *in, const json_t *j, enum ledger_reason *reason)
{
    const json_t *error = json_object_get(j, "error");
    if (in->status == 200) return is_ours(j, in->identifier) ? ANSWER_ACCEPTED : ANSWER_AMBIGUOUS;
    if (in->status == 401 || in->status == 403) return ANSWER_DENIED;
    if (in->status == 429 || in->status == 409) return ANSWER_THROTTLED;
    if (in->status >= 500) return json_is_object(error) || in->replayed ? ANSWER_AMBIGUOUS_NEXT : ANSWER_AMBIGUOUS;
    if (in->status < 400) return ANSWER_AMBIGUOUS; /* a redirect, or an intermediary: not Stripe's word */
    if (in->status == 400 && is_duplicate(error, in->identifier)) return ANSWER_DUPLICATE;
    if (in->status == 400 && strcmp(member(error, "code"), "rate_limit") == 0) return ANSWER_THROTTLED;
    if (in->status == 408) return ANSWER_AMBIGUOUS;
    *reason = in->status == 404 ? LEDGER_REFUSED_METER : reason_of(error);
    return ANSWER_REFUSED;
}

enum answer answer_classify(const struct answer_input *in, enum ledger_reason *reason)
{
    json_error_t ignored;
    if (!in->complete) return in->untouched ? ANSWER_NOT_SENT : ANSWER_AMBIGUOUS;
    json_t *j = in->body ? json_loadb(in->body, in->body_length, JSON_REJECT_DUPLICATES, &ignored) : NULL;
    enum answer a = classify_status(in, j, reason);
    json_decref(j);
    return a;
}

enum answer_read answer_classify_read(const struct answer_input *in, struct wall_ms hour, struct summary *out)
{
    struct sg_fault ignored;
    if (!in->complete || in->status >= 500 || in->status == 408) return ANSWER_READ_MISSING;
    if (in->status == 401 || in->status == 403) return ANSWER_READ_DENIED;
    if (in->status == 429 || in->status == 409) return ANSWER_READ_THROTTLED;
    if (in->status >= 400) return ANSWER_READ_REFUSED;
    if (in->status != 200) return ANSWER_READ_MALFORMED; /* a redirect, or an intermediary: not Stripe's word */
    bool understood = summary_take(in->body, in->body_length, hour, out, &ignored) == SG_OK;
    return understood ? ANSWER_READ_TOLD : ANSWER_READ_MALFORMED;
}
