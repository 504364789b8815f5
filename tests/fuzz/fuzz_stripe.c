/* Stripe's answers and its list of meters. Success is never guessed: only 200 with our identifier, or a 400 that names
 * it, close a revision; a meter that is taken can be used.
 *
 * The first byte chooses the status and says what came with it. */
#include <assert.h>
#include <jansson.h>
#include <string.h>

#include "aggregator/billing/answer.h"
#include "aggregator/billing/meters.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char identifier[] = "sg1-x";

/* Another reading of the body: does it say our identifier, decoded, anywhere? */
static bool says_identifier(const json_t *j)
{
    const char *key;
    json_t *value;
    size_t i;
    if (json_is_string(j)) return strstr(json_string_value(j), identifier) != NULL;
    json_array_foreach(j, i, value) if (says_identifier(value)) return true;
    json_object_foreach((json_t *)(uintptr_t)j, key, value) if (says_identifier(value)) return true;
    return false;
}

static void classify(const char *body, size_t length, unsigned how)
{
    static const uint32_t statuses[] = {200, 400, 500, 404, 429, 401, 408, 409, 402, 302, 503, 100, 403};
    enum ledger_reason reason = LEDGER_REASONS;
    const struct answer_input in = {.complete = how / 16 % 8 != 0,
                                    .untouched = how & 128,
                                    .status = statuses[how % 16 % (sizeof statuses / sizeof *statuses)],
                                    .replayed = how / 16 % 8 == 1,
                                    .body = body,
                                    .body_length = length,
                                    .identifier = identifier};
    enum answer a = answer_classify(&in, &reason);
    if (!in.complete) assert(a == (in.untouched ? ANSWER_NOT_SENT : ANSWER_AMBIGUOUS));
    if (a == ANSWER_ACCEPTED || a == ANSWER_DUPLICATE) {
        assert(in.complete && in.status == (a == ANSWER_ACCEPTED ? 200 : 400));
        json_t *j = json_loadb(body, length, 0, NULL);
        assert(j && says_identifier(j));
        json_decref(j);
    }
    assert((a == ANSWER_REFUSED) == (reason < LEDGER_REASONS));
    assert(answer_text(a)[0]);
}

static void expect_key(const char *s, size_t size)
{
    assert(strlen(s) < size && strlen(s) > 0);
    for (; *s; s++) assert((*s >= '0' && *s <= '9') || strchr("_-", *s) || ((*s | 32) >= 'a' && (*s | 32) <= 'z'));
}

static void list(const char *body, size_t length)
{
    char cursor[METERS_CURSOR_BYTES];
    struct meter_slot slots[2] = {{.meter = {.field = FIELD_VCPU_MS}}, {.meter = {.field = FIELD_EXECS}}};
    struct sg_fault f = {0};
    enum sg_error e = meters_take_page(slots, 2, body, length, cursor, &f);
    if (e) {
        assert(f.text[0] && !strstr(f.text, "canary"));
        return;
    }
    if (cursor[0]) expect_key(cursor, sizeof cursor);
    for (size_t i = 0; i < 2; i++) {
        if (!slots[i].found) continue;
        expect_key(slots[i].meter.customer_key, PLAN_KEY_BYTES);
        expect_key(slots[i].meter.value_key, PLAN_KEY_BYTES);
        assert(slots[i].meter.mode < BILL_MODES);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    classify((const char *)data + 1, size - 1, data[0]);
    list((const char *)data + 1, size - 1);
    return 0;
}
