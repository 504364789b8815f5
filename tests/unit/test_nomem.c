/* Every pure core at every allocation that may fail: an error, never a half result that looks whole, and nothing lost
 * from memory (the sanitized build sees leaks). */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/billing/book.h"
#include "aggregator/billing/summary.h"
#include "aggregator/store/control_view.h"
#include "common/buffer.h"
#include "proto/batch.h"
#include "proto/cell.h"
#include "proto/json_memory.h"
#include "proto/vector.h"
#include "tests/unit/alloc.h"

#define HOUR INT64_C(1763884800000)
/* Names, hours, keys: so that every table grows and is hashed anew. */
enum { MANY = 200, FEW = 24 };

static enum sg_error buffer(void)
{
    struct buffer b;
    buffer_init(&b, 10000);
    for (int i = 0; i < 100; i++) buffer_printf(&b, "%d %s", i, "some text that makes it grow");
    enum sg_error e = b.error;
    buffer_destroy(&b);
    return e;
}

static enum sg_error cell(void)
{
    static const char text[] = "@7 vcpu_ms=1 exit.0=1 exit.1=2 exit.2=3 exit.3=4 exit.4=5 exit.5=6 exit.6=7 exit.7=8 "
                               "exit.8=9";
    struct sums s = {0}, all = {0};
    uint64_t offset;
    enum sg_error e = cell_decode(text, sizeof text - 1, &offset, &s);
    if (!e) e = sums_add_all(&all, &s);
    if (!e) cr_assert(offset == 7 && sums_get(&all, (enum field)(FIELD_EXIT + 8)).v == 9);
    sums_destroy(&s);
    sums_destroy(&all);
    return e;
}

static enum sg_error summary(void)
{
    static const char text[] = "{\"data\":[{\"start_time\":1763884800,\"aggregated_value\":12}]}";
    struct summary out;
    enum sg_error e = summary_take(text, sizeof text - 1, (struct wall_ms){HOUR}, &out, NULL);
    if (!e) cr_assert(out.whole && out.sum.v == 12);
    return e;
}

static enum sg_error vector(void)
{
    static const char text[] = "7 9 1@1 2@2 3@3 4@4 5@5 6@6 7@7 8@8 9@9";
    struct vector_entry v = {0};
    enum sg_error e = vector_entry_decode(text, sizeof text - 1, &v);
    if (!e) cr_assert(v.pair_count == 9 && v.pair[8].last.v == 9);
    vector_entry_destroy(&v);
    return e;
}

static enum sg_error batch_fill(struct batch_builder *b)
{
    enum sg_error e = SG_OK;
    for (int i = 0; !e && i < MANY; i++) {
        char id[24], team[24], project[24];
        uint32_t index;
        snprintf(id, sizeof id, "s%d", i);
        snprintf(team, sizeof team, "t%d", i);
        snprintf(project, sizeof project, "p%d", i);
        struct batch_sandbox s = {id, team, project, 1, 2, 3};
        e = batch_builder_sandbox(b, &s, &index);
        if (!e) e = batch_builder_slice(b, index, (struct wall_ms){HOUR}, 5, &(struct batch_rise){.cpu_us = 1});
        if (!e) e = batch_builder_api_call(b, team, id, (struct wall_ms){HOUR}, OPERATION_FILE_READ, 200);
    }
    return e;
}

static enum sg_error batch(void)
{
    static const uint8_t sha256[SHA256_BYTES];
    const struct batch_head head = {.runner = "r", .region = "eu", .epoch = 1, .seq = 1, .previous_sha256 = sha256};
    struct batch_builder *b = batch_builder_new();
    struct batch_decoder d = {0};
    struct batch out;
    const uint8_t *bytes;
    size_t length;
    enum sg_error e = b ? batch_fill(b) : SG_ERR_NOMEM;
    if (!e) e = batch_builder_seal(b, &head, &bytes, &length);
    if (!e) e = batch_decoder_init(&d);
    if (!e) e = batch_decode(&d, bytes, length, &out, NULL);
    if (!e) cr_assert(out.slices.count == MANY && out.api_calls.count == MANY);
    batch_decoder_destroy(&d);
    batch_builder_free(b);
    return e;
}

static enum sg_error control_say(struct control_view *v, struct control_chain *writer, enum control_kind kind, int i)
{
    struct control_fact fact = {.kind = kind, .at = {HOUR}, .by = {"root"}, .role = ROLE_BILLING};
    char text[CONTROL_BYTES_MAX];
    size_t length;
    if (kind != CONTROL_KEY_REVOKED) snprintf(fact.team.s, sizeof fact.team.s, "t%d", i);
    if (kind == CONTROL_ACCOUNT_SET) snprintf(fact.customer.s, sizeof fact.customer.s, "cus_%d", i);
    snprintf(fact.key_hex, sizeof fact.key_hex, "%064x", i);
    json_set_alloc_funcs(malloc, free);
    enum sg_error e = control_encode(writer, &fact, text, &length);
    json_set_alloc_funcs(alloc_plain, free); /* see proto/json_memory.h */
    return e ? e : control_view_fold(v, text, length, NULL);
}

static enum sg_error control(void)
{
    struct control_view v = {0};
    struct control_chain writer = {0};
    enum sg_error e = SG_OK;
    for (int i = 1; !e && i <= FEW; i++) {
        e = control_say(&v, &writer, CONTROL_KEY_CREATED, i);
        if (!e) e = control_say(&v, &writer, CONTROL_ACCOUNT_SET, i);
    }
    if (!e) e = control_say(&v, &writer, CONTROL_KEY_REVOKED, 1);
    if (!e) cr_assert(v.key_count == FEW && v.account_count == FEW && v.key[0].revoked);
    control_view_destroy(&v);
    return e;
}

static enum sg_error book(void)
{
    struct book b = {0};
    enum sg_error e = SG_OK;
    for (int i = 0; !e && i < FEW; i++) {
        struct ledger_record r = {.kind = LEDGER_INTENT,
                                  .meter = FIELD_VCPU_MS,
                                  .hour = {HOUR},
                                  .revision = 1,
                                  .total = {7},
                                  .value = {7},
                                  .identifier = "sg1-00000000000000000000000000000000000000000000000000000000000000ff",
                                  .body = "x=1",
                                  .positions = "0@1"};
        snprintf(r.team.s, sizeof r.team.s, "t%d", i);
        snprintf(r.customer.s, sizeof r.customer.s, "cus_%d", i);
        e = book_apply(&b, &r, b.end, NULL, NULL);
        r.kind = LEDGER_OUTCOME;
        if (!e && i % 2) e = book_apply(&b, &r, b.end, NULL, NULL);
    }
    if (!e) cr_assert(b.entry_count == FEW && b.open_count == FEW / 2);
    cr_assert(e == SG_OK || e == SG_ERR_NOMEM, "%s", sg_error_name(e));
    book_destroy(&b);
    return e;
}

#define SCENARIO(name)                                                                                                 \
    Test(nomem, name##_says_so)                                                                                        \
    {                                                                                                                  \
        alloc_at_every(#name, name);                                                                                   \
    }
SCENARIO(buffer)
SCENARIO(cell)
SCENARIO(summary)
SCENARIO(vector)
SCENARIO(batch)
SCENARIO(control)
SCENARIO(book)

/* Decodes, without the n-th allocation, for every n. jansson itself may read a number short then; what is told must be
 * an error all the same, or the record. Gives how often it was NOMEM. */
static unsigned refused_or_right(enum sg_error (*decode)(const char *text, size_t length), const char *text,
                                 size_t length)
{
    unsigned nomem = 0;
    json_set_alloc_funcs(malloc, free);
    for (uint64_t n = 1;; n++) {
        alloc_fail_at(n);
        enum sg_error e = decode(text, length);
        bool failed = alloc_failed();
        alloc_fail_at(0);
        nomem += e == SG_ERR_NOMEM;
        if (!failed) {
            cr_expect_eq(e, SG_OK);
            return nomem;
        }
    }
}

static enum sg_error decode_fact(const char *text, size_t length)
{
    struct control_chain chain = {0};
    struct control_fact fact;
    enum sg_error e = control_decode(&chain, text, length, &fact, NULL);
    cr_expect_eq(chain.seq, e ? 0 : 1, "a chain goes on with what was read");
    if (!e) cr_expect(fact.at.v == HOUR && !strcmp(fact.team.s, "t1") && !strcmp(fact.customer.s, "cus_1"));
    return e;
}

static size_t encode_fact(char text[static CONTROL_BYTES_MAX])
{
    struct control_fact fact = {
        .kind = CONTROL_ACCOUNT_SET, .at = {HOUR}, .by = {"root"}, .team = {"t1"}, .customer = {"cus_1"}};
    struct control_chain writer = {0};
    size_t length;
    cr_assert_eq(control_encode(&writer, &fact, text, &length), SG_OK);
    return length;
}

Test(nomem, a_fact_is_refused_or_right)
{
    char text[CONTROL_BYTES_MAX];
    size_t length = encode_fact(text);
    cr_expect_gt(refused_or_right(decode_fact, text, length), 0);
}

/* memory_exhausted() leaves out the last rites. Here they are held, since they tell what has run (tests/coverage). */
_Noreturn void __wrap__exit(int code);
void __wrap__exit(int code)
{
    exit(code);
}

Test(nomem, reading_json_ends_the_program, .exit_code = EXIT_FAILURE)
{
    char text[CONTROL_BYTES_MAX];
    size_t length = encode_fact(text);
    json_memory_setup();
    cr_assert_eq(decode_fact(text, length), SG_OK, "there is memory");
    alloc_fail_at(1);
    (void)!decode_fact(text, length);
}

Test(nomem, a_buffer_is_not_made_to_double_what_cannot_be_doubled)
{
    struct buffer b;
    buffer_init(&b, SIZE_MAX - 1);
    buffer_text(&b, "1234");
    alloc_fail_at(1);
    cr_assert_null(buffer_reserve(&b, SIZE_MAX / 2 + 10));
    cr_assert(alloc_failed() && b.error == SG_ERR_NOMEM);
    buffer_destroy(&b);
}
