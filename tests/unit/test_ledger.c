#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/ledger.h"

static struct ledger_record intent(void)
{
    struct ledger_record r = {.kind = LEDGER_INTENT,
                              .at = {INT64_C(1763888460123)},
                              .team = {"t1"},
                              .customer = {"cus_1"},
                              .meter = FIELD_VCPU_MS,
                              .hour = {INT64_C(1763884800000)},
                              .revision = 1,
                              .mode = BILL_SET,
                              .total = {3600000},
                              .value = {3600000},
                              .body = "event_name=vcpu_ms&payload%5Bvalue%5D=3600000",
                              .positions = "0@88123 3@99"};
    snprintf(r.identifier, sizeof r.identifier, "%s",
             "sg1-00000000000000000000000000000000000000000000000000000000000000ff");
    return r;
}

static size_t encode(const struct ledger_record *r, char out[static 4096])
{
    size_t length = 0;
    cr_assert_eq(ledger_encode(r, out, 4096, &length), SG_OK);
    cr_assert(ledger_is_billing(out, length));
    return length;
}

Test(ledger, records_come_back_as_they_were)
{
    char text[4096];
    struct ledger_record r = intent(), back;
    size_t n = encode(&r, text);
    cr_assert_eq(ledger_decode(text, n, &back, NULL), SG_OK);
    r.positions = NULL;
    cr_assert_eq(memcmp(&r, &back, sizeof r), 0);
    struct ledger_record outcome = {.kind = LEDGER_OUTCOME,
                                    .at = r.at,
                                    .team = r.team,
                                    .customer = r.customer,
                                    .meter = field_of_api_call(OPERATION_FILE_READ, 404),
                                    .hour = r.hour,
                                    .revision = 7,
                                    .result = LEDGER_DUPLICATE,
                                    .status = 400,
                                    .request_id = "req_1"};
    n = encode(&outcome, text);
    cr_assert_eq(ledger_decode(text, n, &back, NULL), SG_OK);
    cr_assert_eq(memcmp(&outcome, &back, sizeof back), 0);
    n = encode(&r, text);
    cr_assert_eq(ledger_decode(text, n, &back, NULL), SG_OK, "no partition has been read");
    cr_assert_eq(memcmp(&r, &back, sizeof r), 0);
    struct ledger_record note = {.kind = LEDGER_NOTE,
                                 .at = r.at,
                                 .team = r.team,
                                 .customer = r.customer,
                                 .meter = r.meter,
                                 .hour = r.hour,
                                 .revision = 2,
                                 .reason = LEDGER_HELD_SUM};
    n = encode(&note, text);
    cr_assert_eq(ledger_decode(text, n, &back, NULL), SG_OK);
    cr_assert_eq(memcmp(&note, &back, sizeof back), 0);
}

Test(ledger, an_unknown_version_is_refused_with_its_number)
{
    struct sg_fault f = {0};
    struct ledger_record back;
    static const char text[] = "{\"v\":17,\"kind\":\"intent\"}";
    cr_assert_eq(ledger_decode(text, sizeof text - 1, &back, &f), SG_ERR_VERSION);
    cr_assert_not_null(strstr(f.text, "17"));
}

/* Replaces the first `from` in a good record and expects a refusal that quotes nothing. */
static void refused_in(struct ledger_record r, const char *from, const char *to)
{
    char text[4096], changed[4096];
    struct ledger_record back;
    struct sg_fault f = {0};
    size_t n = encode(&r, text);
    text[n] = '\0';
    const char *at = strstr(text, from);
    cr_assert_not_null(at, "%s", from);
    int length = snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    cr_assert_eq(ledger_decode(changed, (size_t)length, &back, &f), SG_ERR_MALFORMED, "accepted %s", to);
    cr_assert_null(strstr(f.text, "CANARY"));
}

static void refused(const char *from, const char *to)
{
    refused_in(intent(), from, to);
}

/* The same record as its answer, or as a note about it. */
static struct ledger_record intent_as(enum ledger_kind kind)
{
    struct ledger_record r = {.kind = kind, .meter = FIELD_VCPU_MS, .hour = {INT64_C(1763884800000)}, .revision = 1};
    r.team = r.customer = (struct id){"t1"};
    r.status = 200;
    snprintf(r.request_id, sizeof r.request_id, "%s", kind == LEDGER_OUTCOME ? "req_1" : "");
    return r;
}

Test(ledger, an_answer_or_a_note_that_encoding_would_not_write_is_refused)
{
    const struct ledger_record outcome = intent_as(LEDGER_OUTCOME), note = intent_as(LEDGER_NOTE);
    refused_in(outcome, "\"accepted\"", "\"CANARY\"");
    refused_in(outcome, "\"accepted\"", "7");
    refused_in(outcome, "\"status\":200", "\"status\":1000");
    refused_in(outcome, "\"status\":200", "\"status\":-1");
    refused_in(outcome, "\"req_1\"", "\"CANARY 1\"");
    refused_in(outcome, "\"req_1\"", "7");
    refused_in(outcome, "req_1", "r23456789012345678901234567890123456789012345678901234567890123456");
    refused_in(note, "\"refused\"", "\"CANARY\"");
    refused_in(note, "\"status\":200", "\"status\":\"CANARY\"");
    refused_in(note, "\"status\":200", "\"STATUS\":200");
}

/* What is longer, or has another byte, than what will be read is not written. */
static void not_written(const struct ledger_record *r)
{
    static char text[LEDGER_BYTES_MAX];
    size_t n;
    cr_assert_eq(ledger_encode(r, text, sizeof text, &n), SG_ERR_MALFORMED);
}

Test(ledger, what_is_too_long_is_refused)
{
    static char text[LEDGER_BYTES_MAX + 1], positions[LEDGER_POSITIONS_BYTES + 1];
    struct ledger_record r = intent(), back;
    struct sg_fault f = {0};
    size_t n;
    memset(text, ' ', sizeof text);
    cr_assert_eq(ledger_decode(text, sizeof text, &back, &f), SG_ERR_LIMIT);
    memset(positions, '1', sizeof positions - 2);
    r.positions = positions;
    cr_assert_eq(ledger_encode(&r, text, LEDGER_REST_BYTES_MAX + sizeof positions - 3, &n), SG_ERR_LIMIT);
    cr_assert_eq(ledger_encode(&r, text, LEDGER_REST_BYTES_MAX + sizeof positions - 2, &n), SG_OK);
    cr_assert_eq(ledger_decode(text, n, &back, &f), SG_OK);
    positions[sizeof positions - 2] = '1';
    not_written(&r);
    text[n - 2] = '1'; /* in the place of the quote that ends them */
    memcpy(&text[n - 1], "\"}", 2);
    cr_assert_eq(ledger_decode(text, n + 1, &back, &f), SG_ERR_MALFORMED);
}

Test(ledger, a_record_at_its_longest_has_room)
{
    char text[LEDGER_REST_BYTES_MAX];
    struct ledger_record r = {.kind = LEDGER_INTENT,
                              .at = {WALL_MS_MAX},
                              .hour = {WALL_MS_MAX - WALL_MS_MAX % HOUR_MS},
                              .revision = INT64_MAX,
                              .mode = BILL_DELTA,
                              .total = {INT64_MAX},
                              .value = {LEDGER_VALUE_MAX}},
                         back;
    size_t n;
    memset(r.team.s, 't', ID_BYTES_MAX);
    memset(r.customer.s, 'c', ID_BYTES_MAX);
    memset(r.identifier, 'i', sizeof r.identifier - 1);
    memset(r.body, '%', sizeof r.body - 1);
    for (int f = 0; f < FIELDS; f++) {
        r.meter = (enum field)f;
        cr_assert_eq(ledger_encode(&r, text, sizeof text, &n), SG_OK);
        cr_assert_eq(ledger_decode(text, n, &back, NULL), SG_OK);
        cr_assert_eq(memcmp(&r, &back, sizeof r), 0);
    }
}

Test(ledger, what_would_not_be_read_is_not_written)
{
    struct ledger_record outcome = intent_as(LEDGER_OUTCOME), r;
#define WITH(good, change) (r = (good), r.change, not_written(&r))
    WITH(intent(), at.v = -1);
    WITH(intent(), at.v = WALL_MS_MAX + 1);
    WITH(intent(), hour.v = -HOUR_MS);
    WITH(intent(), hour.v = WALL_MS_MAX - WALL_MS_MAX % HOUR_MS + HOUR_MS);
    WITH(intent(), hour.v += 1);
    WITH(intent(), revision = 0);
    WITH(intent(), revision = (uint64_t)INT64_MAX + 1);
    WITH(intent(), team.s[0] = '\0');
    WITH(intent(), customer.s[0] = '"');
    WITH(intent(), total.v = (uint64_t)INT64_MAX + 1);
    WITH(intent(), total.v = r.value.v - 1);
    WITH(intent(), value.v = 0);
    WITH(intent(), total.v = r.value.v = LEDGER_VALUE_MAX + 1);
    WITH(intent(), identifier[0] = '\0');
    WITH(intent(), identifier[0] = '=');
    WITH(intent(), body[0] = '"');
    WITH(intent(), positions = "0@1,");
    WITH(outcome, status = 1000);
    WITH(outcome, request_id[0] = '\\');
#undef WITH
}

Test(ledger, what_encoding_would_not_write_is_refused)
{
    refused("\"v\":1", "\"v\":\"CANARY\"");
    refused("\"v\":1", "\"V\":1");
    refused("\"kind\":\"intent\"", "\"kind\":7");
    refused("\"at\":1", "\"at\":-1");
    refused("\"hour\":1763884800", "\"hour\":\"CANARY\"");
    refused("\"meter\":\"vcpu_ms\"", "\"meter\":7");
    refused("\"team\":\"t1\"", "\"team\":7");
    refused("\"customer\":\"cus_1\"", "\"customer\":\"\"");
    refused("\"total\":3600000", "\"total\":0");
    refused("\"total\":3600000", "\"total\":9223372036854775808");
    refused("\"total\":3600000", "\"total\":03600000");
    refused("\"hour\":1763884800", "\"hour\":18446744073709551615");
    refused("\"kind\":\"intent\"", "\"kind\":\"intent");
    refused("\"mode\":\"set\"", "\"mode\":7");
    refused("\"sg1-", "\"CANARY sg1-");
    refused("\"sg1-", "\"sg1-0");
    refused("\"identifier\":\"sg1-00000000000000000000000000000000000000000000000000000000000000ff\"",
            "\"identifier\":\"\"");
    refused("\"body\":\"event_name=vcpu_ms&payload%5Bvalue%5D=3600000\"", "\"body\":\"\"");
    refused("\"body\":\"event_name=vcpu_ms&payload%5Bvalue%5D=3600000\"", "\"body\":7");
    refused("\"positions\":\"0@88123 3@99\"", "\"positions\":7");
    refused("\"intent\"", "\"CANARY\"");
    refused("\"t1\"", "\"CANARY:x\"");
    refused("\"vcpu_ms\"", "\"CANARY\"");
    refused("1763884800,", "1763884801,");
    refused("\"revision\":1", "\"revision\":0");
    refused("\"revision\":1", "\"revision\":1.0");
    refused("\"set\"", "\"CANARY\"");
    refused("\"value\":3600000", "\"value\":3600001");
    refused("\"value\":3600000", "\"value\":1000000000000000");
    refused("event_name", "CANARY name");
    refused("\"at\":", "\"CANARY\":1,\"at\":");
    refused("\"positions\":\"0@88123 3@99\"", "\"position\":\"CANARY\"");
    refused("0@88123 3@99", "CANARY");
}

Test(ledger, a_byte_that_ends_a_string_does_not_hide_what_follows)
{
    char text[4096];
    struct ledger_record r = intent(), back;
    size_t n = encode(&r, text);
    text[n] = '\0';
    *strstr(text, "s_1\"") = '\0'; /* of the customer */
    cr_assert_eq(ledger_decode(text, n, &back, NULL), SG_ERR_MALFORMED);
}

Test(ledger, a_part_of_a_record_is_refused_and_not_read_beyond)
{
    char text[4096];
    const struct ledger_record of[] = {intent(), intent_as(LEDGER_OUTCOME), intent_as(LEDGER_NOTE)};
    for (size_t k = 0; k < sizeof of / sizeof *of; k++) {
        size_t n = encode(&of[k], text);
        for (size_t i = 0; i < n; i++) {
            struct ledger_record back;
            char *part = malloc(i + !i); /* of that size, for AddressSanitizer */
            memcpy(part, text, i);
            cr_assert_eq(ledger_decode(part, i, &back, NULL), SG_ERR_MALFORMED, "%zu bytes", i);
            free(part);
        }
    }
}

Test(ledger, the_same_members_written_otherwise_are_refused)
{
    refused(",\"at\"", ", \"at\"");
    refused("\"t1\"", "\"t\\u0031\"");
    refused("\"total\":3600000,\"value\":3600000", "\"value\":3600000,\"total\":3600000");
    refused("\"positions\":\"0@88123 3@99\"}", "\"positions\":\"0@88123 3@99\"}\n");
}

Test(ledger, an_archive_record_is_not_taken_for_a_billing_record)
{
    static const char archive[] = "{\"v\":1,\"kind\":\"archive_cells\",\"at\":1}\n";
    cr_assert_not(ledger_is_billing(archive, sizeof archive - 1));
    cr_assert(ledger_is_billing("", 0), "what is neither must be refused, not skipped");
}

Test(ledger, files_of_the_first_version_are_read)
{
    char line[4096];
    struct ledger_record r;
    unsigned kinds[LEDGER_KINDS] = {0};
    FILE *file = fopen(TEST_DATA_DIR "/ledger.v1", "r");
    cr_assert_not_null(file);
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        cr_assert_eq(ledger_decode(line, strlen(line), &r, NULL), SG_OK, "%s", line);
        kinds[r.kind]++;
    }
    fclose(file);
    cr_assert_eq(kinds[LEDGER_INTENT], 2);
    cr_assert_eq(kinds[LEDGER_OUTCOME], 2);
    cr_assert_eq(kinds[LEDGER_NOTE], 2);
}
