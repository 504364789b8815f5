#include <criterion/criterion.h>
#include <string.h>

#include "aggregator/billing/cycle.h"

#define HOUR  INT64_C(1763884800000)
#define DELAY (60 * SECOND_MS)

static const struct meter_slot meters[] = {{{FIELD_VCPU_MS, BILL_SET, "c", "v", "m"}, true},
                                           {{FIELD_MEM_MIB_MS, BILL_DELTA, "c", "v", "m"}, true}};
enum { METER_COUNT = sizeof meters / sizeof *meters };

static struct book book;
static struct control_view facts;

static void forget(void)
{
    book_destroy(&book);
    control_view_destroy(&facts);
}
TestSuite(cycle, .fini = forget);

static struct cycle closed_until(int64_t mark)
{
    return (struct cycle){.book = &book,
                          .facts = &facts,
                          .meter = meters,
                          .meter_count = METER_COUNT,
                          .account = "main",
                          .close_delay_ms = DELAY,
                          .mark = {WATERMARK_AT, {mark}}};
}

static void set_customer(const char *team, const char *customer)
{
    char text[CONTROL_BYTES_MAX];
    size_t length;
    struct control_chain chain = facts.chain;
    struct control_fact fact = {.kind = CONTROL_ACCOUNT_SET, .by = {"a"}};
    memcpy(fact.team.s, team, strlen(team) + 1);
    memcpy(fact.customer.s, customer, strlen(customer) + 1);
    cr_assert_eq(control_encode(&chain, &fact, text, &length), SG_OK);
    cr_assert_eq(control_view_fold(&facts, text, length, NULL), SG_OK);
}

static struct cycle_due due_of(const char *team, int hour, uint32_t partition, uint64_t offset)
{
    struct cycle_due d = {.hour = {HOUR + hour * (int64_t)HOUR_MS}, .partition = partition, .offset = offset};
    memcpy(d.team.s, team, strlen(team) + 1);
    return d;
}

Test(cycle, hours_are_taken_whose_end_the_watermark_has_passed_by_the_delay)
{
    struct cycle_due due[] = {due_of("t1", 0, 0, 5), due_of("t1", 1, 0, 5), due_of("t1", 0, 1, 7)};
    struct cycle_group groups[3];
    struct cycle_tally t = {0};
    set_customer("t1", "cus_1");
    struct cycle c = closed_until(HOUR + HOUR_MS + DELAY - 1);
    cr_assert_eq(cycle_groups(&c, due, 3, groups, &t), 0);
    c = closed_until(HOUR + HOUR_MS + DELAY);
    cr_assert_eq(cycle_groups(&c, due, 3, groups, &t), 1);
    cr_assert(groups[0].count == 2 && groups[0].first->hour.v == HOUR);
    c.mark.kind = WATERMARK_UNKNOWN;
    cr_assert_eq(cycle_groups(&c, due, 3, groups, &t), 0);
    c.mark.kind = WATERMARK_UNBOUNDED;
    cr_assert_eq(cycle_groups(&c, due, 3, groups, &t), 2);
}

/* An hour with these totals in a snapshot that vouches for so much; some cell is at what is due, as after a flush that
 * was cut. */
static bool plan(const struct cycle *at, const struct cycle_due *due, uint64_t vcpu_ms, uint64_t mem_mib_ms,
                 uint64_t vouched, struct ledger_record *records, size_t *count, struct cycle_tally *t)
{
    static char positions[LEDGER_POSITIONS_BYTES];
    struct cycle_group g = {due, 1};
    struct cycle_hour h = {.team = due->team.s, .hour = due->hour, .reach = {due->offset}};
    const uint64_t below[PARTITIONS_MAX] = {vouched};
    struct cycle c = *at;
    c.vouched = below;
    cr_assert_eq(sums_add(&h.total, FIELD_VCPU_MS, (struct amount){vcpu_ms}), SG_OK);
    cr_assert_eq(sums_add(&h.total, FIELD_MEM_MIB_MS, (struct amount){mem_mib_ms}), SG_OK);
    bool done = cycle_plan(&c, &g, &h, (struct wall_ms){HOUR + 3 * HOUR_MS}, positions, records, count, t);
    sums_destroy(&h.total);
    return done;
}

static void account_for(struct ledger_record *intent)
{
    cr_assert_eq(book_apply(&book, intent, book.end, NULL, NULL), SG_OK);
    intent->kind = LEDGER_OUTCOME;
    intent->result = LEDGER_ACCEPTED;
    cr_assert_eq(book_apply(&book, intent, book.end, NULL, NULL), SG_OK);
}

Test(cycle, an_hour_leaves_due_when_all_is_settled_by_a_view_at_least_as_new)
{
    struct cycle_due due = due_of("t1", 0, 0, 5);
    struct ledger_record r[METER_COUNT];
    struct cycle_tally t = {0};
    size_t count = 0;
    set_customer("t1", "cus_1");
    struct cycle c = closed_until(HOUR + 2 * HOUR_MS);
    cr_assert_not(plan(&c, &due, 100, 200, 5, r, &count, &t));
    cr_assert(count == 2 && r[0].kind == LEDGER_INTENT && r[1].value.v == 200 && t.waiting == 1);
    cr_assert_str_eq(r[0].positions, "0@5");
    account_for(&r[0]);
    account_for(&r[1]);
    count = 0;
    cr_assert_not(plan(&c, &due, 100, 200, 4, r, &count, &t),
                  "rolled back, or cut: it vouches for less than due speaks of");
    cr_assert(plan(&c, &due, 100, 200, 5, r, &count, &t));
    cr_assert_eq(count, 0);
    cr_assert_not(plan(&c, &due, 99, 200, 5, r, &count, &t));
    cr_assert(t.lower == 1 && count == 0);
    c.mark.kind = WATERMARK_UNKNOWN;
    cr_assert_not(plan(&c, &due, 300, 300, 5, r, &count, &t), "open again: the view was rolled back");
    cr_assert_eq(count, 0);
}

Test(cycle, an_hour_with_a_value_of_too_many_digits_is_held)
{
    struct cycle_due due = due_of("t1", 0, 0, 5);
    struct ledger_record r[METER_COUNT];
    struct cycle_tally t = {0};
    size_t count = 0;
    set_customer("t1", "cus_1");
    struct cycle c = closed_until(HOUR + 2 * HOUR_MS);
    cr_assert_not(plan(&c, &due, LEDGER_VALUE_MAX + 1, 0, 5, r, &count, &t));
    cr_assert(count == 1 && r[0].kind == LEDGER_NOTE && t.held == 0 && t.waiting == 1);
    cr_assert_eq(book_apply(&book, &r[0], book.end, NULL, NULL), SG_OK);
    count = 0;
    cr_assert_not(plan(&c, &due, LEDGER_VALUE_MAX + 1, 0, 5, r, &count, &t));
    cr_assert(count == 0 && t.held == 1);
}

Test(cycle, an_intent_names_the_position_in_every_partition_of_its_hour)
{
    static char positions[LEDGER_POSITIONS_BYTES];
    struct cycle_due due = due_of("t1", 0, 0, 5);
    struct cycle_group g = {&due, 1};
    struct cycle_hour h = {.team = "t1", .hour = due.hour, .reach = {[0] = 5, [7] = 9}};
    struct ledger_record r[METER_COUNT];
    struct cycle_tally t = {0};
    size_t count = 0;
    set_customer("t1", "cus_1");
    struct cycle c = closed_until(HOUR + 2 * HOUR_MS);
    const uint64_t below[PARTITIONS_MAX] = {5};
    c.vouched = below;
    cr_assert_eq(sums_add(&h.total, FIELD_VCPU_MS, (struct amount){1}), SG_OK);
    cr_assert_not(cycle_plan(&c, &g, &h, (struct wall_ms){HOUR}, positions, r, &count, &t));
    cr_assert_str_eq(positions, "0@5 7@9");
    for (int p = 0; p < PARTITIONS_MAX; p++) h.reach[p] = UINT64_MAX;
    count = 0;
    cr_assert_not(cycle_plan(&c, &g, &h, (struct wall_ms){HOUR}, positions, r, &count, &t));
    cr_assert(strstr(positions, " 1023@18446744073709551615"), "all of the most fit");
    sums_destroy(&h.total);
}

Test(cycle, a_team_without_a_customer_is_pending_but_for_hours_that_were_pushed)
{
    struct cycle_due due[] = {due_of("t1", 0, 0, 5), due_of("t2", 0, 0, 5)};
    struct ledger_record r[METER_COUNT];
    struct cycle_group groups[2];
    struct cycle_tally t = {0};
    size_t count = 0;
    struct cycle c = closed_until(HOUR + 2 * HOUR_MS);
    cr_assert_eq(cycle_groups(&c, due, 2, groups, &t), 0);
    cr_assert_eq(t.pending, 2);
    cr_assert_not(plan(&c, &due[0], 100, 200, 5, r, &count, &t));
    cr_assert(count == 0 && t.pending == 3);
    set_customer("t1", "cus_1");
    cr_assert_not(plan(&c, &due[0], 100, 200, 5, r, &count, &t));
    account_for(&r[0]);
    control_view_destroy(&facts);
    cr_assert_eq(cycle_groups(&c, due, 2, groups, &t), 1);
    cr_assert_str_eq(groups[0].first->team.s, "t1");
}
