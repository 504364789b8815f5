#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "aggregator/billing/answer.h"
#include "aggregator/billing/meters.h"

#define OK_BODY  "{\"object\":\"billing.meter_event\",\"identifier\":\"sg1-ab\"}"
#define ERROR(t) "{\"error\":{" t "}}"
#define INVALID  "\"type\":\"invalid_request_error\""

/* The outcome table: a line per answer that Stripe, or something between, may give. */
static const struct {
    uint32_t status;
    const char *body;
    bool replayed;
    enum answer answer;
    enum ledger_reason reason;
} table[] = {
    {200, OK_BODY, false, ANSWER_ACCEPTED, 0},
    {200, OK_BODY, true, ANSWER_ACCEPTED, 0},
    {200, "{\"object\":\"billing.meter_event\",\"identifier\":\"another\"}", false, ANSWER_AMBIGUOUS, 0},
    {200, "{\"object\":\"list\",\"identifier\":\"sg1-ab\"}", false, ANSWER_AMBIGUOUS, 0},
    {200, "{\"object\":\"billing.me", false, ANSWER_AMBIGUOUS, 0},
    {200, "", false, ANSWER_AMBIGUOUS, 0},
    {200, "null", false, ANSWER_AMBIGUOUS, 0},
    {200, "<html>", false, ANSWER_AMBIGUOUS, 0},
    {201, OK_BODY, false, ANSWER_AMBIGUOUS, 0},
    {301, "", false, ANSWER_AMBIGUOUS, 0},
    {400, ERROR(INVALID ",\"message\":\"An event already exists with identifier sg1-ab.\""), false, ANSWER_DUPLICATE,
     0},
    {400, ERROR(INVALID ",\"message\":\"x sg1-ab\",\"code\":\"duplicate_meter_event\""), false, ANSWER_DUPLICATE, 0},
    {400, ERROR(INVALID ",\"message\":\"x sg1-ab\",\"code\":\"resource_already_exists\""), false, ANSWER_DUPLICATE, 0},
    {400, ERROR(INVALID ",\"message\":\"An event already exists with identifier sg1-cd.\""), false, ANSWER_REFUSED,
     LEDGER_REFUSED},
    {400, ERROR("\"type\":\"api_error\",\"message\":\"An event already exists with identifier sg1-ab.\""), false,
     ANSWER_REFUSED, LEDGER_REFUSED},
    {409, ERROR(INVALID ",\"message\":\"An event already exists with identifier sg1-ab.\""), false, ANSWER_THROTTLED,
     0},
    {400, ERROR("\"type\":\"idempotency_error\",\"message\":\"Keys for\""), false, ANSWER_REFUSED,
     LEDGER_REFUSED_IDEMPOTENCY},
    {400, ERROR(INVALID ",\"message\":\"No active meter found for event name x.\""), false, ANSWER_REFUSED,
     LEDGER_REFUSED_METER},
    {404, "", false, ANSWER_REFUSED, LEDGER_REFUSED_METER},
    {400, ERROR(INVALID ",\"message\":\"No such customer: cus_1\""), false, ANSWER_REFUSED, LEDGER_REFUSED_CUSTOMER},
    {400, ERROR(INVALID ",\"message\":\"The event timestamp cannot be more than 35 days in past.\""), false,
     ANSWER_REFUSED, LEDGER_REFUSED_TIME},
    {400, ERROR(INVALID ",\"message\":\"CANARY\""), false, ANSWER_REFUSED, LEDGER_REFUSED},
    {400, "<html>", false, ANSWER_REFUSED, LEDGER_REFUSED},
    {422, "", false, ANSWER_REFUSED, LEDGER_REFUSED},
    {401, ERROR(INVALID), false, ANSWER_DENIED, 0},
    {403, ERROR(INVALID), false, ANSWER_DENIED, 0},
    {408, "", false, ANSWER_AMBIGUOUS, 0},
    {429, ERROR("\"code\":\"rate_limit\""), false, ANSWER_THROTTLED, 0},
    {429, "<html>", false, ANSWER_THROTTLED, 0},
    {400, ERROR("\"code\":\"rate_limit\""), false, ANSWER_THROTTLED, 0},
    {500, ERROR("\"type\":\"api_error\""), false, ANSWER_AMBIGUOUS_NEXT, 0},
    {500, "", true, ANSWER_AMBIGUOUS_NEXT, 0},
    {500, "", false, ANSWER_AMBIGUOUS, 0},
    {500, "{\"error\":\"no object\"}", false, ANSWER_AMBIGUOUS, 0},
    {500, NULL, false, ANSWER_AMBIGUOUS, 0},
    {502, "<html>", false, ANSWER_AMBIGUOUS, 0},
    {503, ERROR("\"type\":\"api_error\""), false, ANSWER_AMBIGUOUS_NEXT, 0},
    {503, "<html>", true, ANSWER_AMBIGUOUS_NEXT, 0},
    {400, ERROR(INVALID ",\"message\":\"sg1-ab\",\"code\":\"another\""), false, ANSWER_REFUSED, LEDGER_REFUSED},
};

Test(answer, every_line_of_the_outcome_table)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        enum ledger_reason reason = LEDGER_REASONS;
        struct answer_input in = {.complete = true,
                                  .status = table[i].status,
                                  .replayed = table[i].replayed,
                                  .body = table[i].body,
                                  .body_length = table[i].body ? strlen(table[i].body) : 0,
                                  .identifier = "sg1-ab"};
        enum answer a = answer_classify(&in, &reason);
        cr_assert_eq(a, table[i].answer, "line %zu: %s", i, answer_text(a));
        if (a == ANSWER_REFUSED) cr_assert_eq(reason, table[i].reason, "line %zu: %s", i, ledger_reason_text(reason));
    }
}

Test(answer, no_whole_answer_is_ambiguous_unless_nothing_left)
{
    enum ledger_reason reason;
    struct answer_input in = {
        .status = 200, .body = OK_BODY, .body_length = sizeof OK_BODY - 1, .identifier = "sg1-ab"};
    cr_assert_eq(answer_classify(&in, &reason), ANSWER_AMBIGUOUS);
    in.untouched = true;
    cr_assert_eq(answer_classify(&in, &reason), ANSWER_NOT_SENT);
}

/* ---- reads ---- */

static const struct {
    bool complete;
    uint32_t status;
    const char *body;
    enum answer_read answer;
} reads[] = {
    {true, 200, "{\"data\":[{\"start_time\":3600,\"aggregated_value\":12}]}", ANSWER_READ_TOLD},
    {false, 200, "{\"data\":[]}", ANSWER_READ_MISSING},
    {true, 200, "{\"data\":[", ANSWER_READ_MALFORMED},
    {true, 204, "", ANSWER_READ_MALFORMED},
    {true, 301, "", ANSWER_READ_MALFORMED},
    {true, 400, ERROR(INVALID), ANSWER_READ_REFUSED},
    {true, 404, "", ANSWER_READ_REFUSED},
    {true, 401, ERROR(INVALID), ANSWER_READ_DENIED},
    {true, 403, ERROR(INVALID), ANSWER_READ_DENIED},
    {true, 408, "", ANSWER_READ_MISSING},
    {true, 409, "", ANSWER_READ_THROTTLED},
    {true, 429, "", ANSWER_READ_THROTTLED},
    {true, 500, ERROR("\"type\":\"api_error\""), ANSWER_READ_MISSING},
    {true, 502, "<html>", ANSWER_READ_MISSING},
};

Test(answer, every_answer_to_a_read)
{
    for (size_t i = 0; i < sizeof reads / sizeof *reads; i++) {
        struct summary s = {.whole = false};
        struct answer_input in = {.complete = reads[i].complete,
                                  .status = reads[i].status,
                                  .body = reads[i].body,
                                  .body_length = strlen(reads[i].body)};
        enum answer_read a = answer_classify_read(&in, (struct wall_ms){HOUR_MS}, &s);
        cr_assert_eq(a, reads[i].answer, "line %zu: %s", i, answer_read_text(a));
        if (a == ANSWER_READ_TOLD) cr_assert(s.whole && s.sum.v == 12);
    }
}

/* ---- meters ---- */

static const char meter_form[] =
    "{\"has_more\":%s,\"data\":[{\"id\":\"mtr_%s\",\"event_name\":\"vcpu_ms\",\"status\":\"%s\",\"default_"
    "aggregation\":"
    "{\"formula\":\"%s\"},\"customer_mapping\":{\"event_payload_key\":\"%s\"},\"value_settings\":"
    "{\"event_payload_key\":\"value\"},\"event_time_window\":%s}]}";

static enum sg_error page(struct meter_slot *slot, const char *more, const char *id, const char *status,
                          const char *formula, const char *key, const char *window, char *cursor)
{
    char text[1024];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    int n = snprintf(text, sizeof text, meter_form, more, id, status, formula, key, window);
#pragma GCC diagnostic pop
    *slot = (struct meter_slot){.meter = {.field = FIELD_VCPU_MS}};
    return meters_take_page(slot, 1, text, (size_t)n, cursor, NULL);
}

Test(meters, the_window_decides_how_a_meter_counts)
{
    struct meter_slot s;
    char cursor[METERS_CURSOR_BYTES];
    cr_assert_eq(page(&s, "false", "1", "active", "sum", "customer", "\"hour\"", cursor), SG_OK);
    cr_assert(s.found && s.meter.mode == BILL_SET && cursor[0] == '\0');
    cr_assert_str_eq(s.meter.customer_key, "customer");
    cr_assert_str_eq(s.meter.id, "mtr_1");
    cr_assert_eq(page(&s, "true", "1", "active", "sum", "customer", "null", cursor), SG_OK);
    cr_assert(s.found && s.meter.mode == BILL_DELTA);
    cr_assert_str_eq(cursor, "mtr_1");
}

Test(meters, what_would_count_otherwise_is_refused)
{
    struct meter_slot s;
    char cursor[METERS_CURSOR_BYTES];
    cr_assert_eq(page(&s, "false", "1", "active", "sum", "c", "\"day\"", cursor), SG_ERR_CONFIG);
    cr_assert_eq(page(&s, "false", "1", "active", "count", "c", "null", cursor), SG_ERR_CONFIG);
    cr_assert_eq(page(&s, "false", "1", "active", "sum", "a&b", "null", cursor), SG_ERR_CONFIG);
    cr_assert_eq(page(&s, "true", "/../1", "active", "sum", "c", "null", cursor), SG_ERR_CONFIG);
    cr_assert_eq(page(&s, "false", "1", "inactive", "sum", "c", "null", cursor), SG_OK);
    cr_assert_not(s.found);
    cr_assert_eq(meters_take_page(&s, 1, "[]", 2, cursor, NULL), SG_ERR_MALFORMED);
}

static enum sg_error take_page(const char *text, char *cursor)
{
    struct meter_slot slots[2] = {{.meter = {.field = FIELD_VCPU_MS}}, {.meter = {.field = FIELD_MEM_MIB_MS}}};
    enum sg_error e = meters_take_page(slots, 2, text, strlen(text), cursor, NULL);
    cr_assert_not(slots[0].found || slots[1].found);
    return e;
}

#define METER(rest)                                                                                                    \
    "{\"data\":[{\"id\":\"mtr_1\",\"event_name\":\"vcpu_ms\",\"status\":\"active\"," rest                              \
    "},{\"event_name\":\"mem_mib_ms\"}]}"
#define SUM        "\"default_aggregation\":{\"formula\":\"sum\"}"
#define KEYS(c, v) "\"customer_mapping\":{\"event_payload_key\":" c "},\"value_settings\":{\"event_payload_key\":" v "}"
#define LONG_KEY   "\"a2345678901234567890123456789012345678901234567890123456789012345678901234567890\""

Test(meters, pages_of_any_other_form_are_refused_or_hold_nothing)
{
    char cursor[METERS_CURSOR_BYTES];
    cr_assert_eq(take_page("{\"data\":7}", cursor), SG_ERR_MALFORMED);
    cr_assert_eq(take_page("", cursor), SG_ERR_MALFORMED);
    cr_assert_eq(take_page("{\"data\":[],\"has_more\":true}", cursor), SG_OK);
    cr_assert_str_eq(cursor, "");
    cr_assert_eq(take_page("{\"data\":[7,null,{\"event_name\":7}],\"has_more\":1}", cursor), SG_OK);
    cr_assert_eq(take_page("{\"data\":[{\"id\":\"\"}],\"has_more\":true}", cursor), SG_ERR_MALFORMED);
    cr_assert_eq(take_page(METER(SUM), cursor), SG_ERR_CONFIG);
    cr_assert_eq(take_page(METER(SUM "," KEYS("\"c\"", "\"\"")), cursor), SG_ERR_CONFIG);
    cr_assert_eq(take_page(METER(SUM "," KEYS("\"c\"", "7")), cursor), SG_ERR_CONFIG);
    cr_assert_eq(take_page(METER(SUM "," KEYS(LONG_KEY, "\"v\"")), cursor), SG_ERR_CONFIG);
    cr_assert_eq(take_page(METER(SUM "," KEYS("\"c\"", "\"v\"") ",\"event_time_window\":7"), cursor), SG_ERR_CONFIG);
}

Test(meters, no_window_named_is_none)
{
    static const char text[] = "{\"data\":[{\"id\":\"mtr_1\",\"event_name\":\"vcpu_ms\",\"status\":\"active\"," SUM
                               "," KEYS("\"c\"", "\"v\"") "}]}";
    struct meter_slot slot = {.meter = {.field = FIELD_VCPU_MS}};
    char cursor[METERS_CURSOR_BYTES];
    cr_assert_eq(meters_take_page(&slot, 1, text, sizeof text - 1, cursor, NULL), SG_OK);
    cr_assert(slot.found && slot.meter.mode == BILL_DELTA);
}
