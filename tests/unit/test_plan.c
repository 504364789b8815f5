#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "aggregator/billing/plan.h"

#define HOUR INT64_C(1763884800000)

static const struct plan_meter set_meter = {FIELD_VCPU_MS, BILL_SET, "stripe_customer_id", "value", "mtr_1"};
static const struct plan_meter delta_meter = {FIELD_MEM_MIB_MS, BILL_DELTA, "stripe_customer_id", "value", "mtr_2"};

static struct plan_question ask(const struct plan_meter *m, uint64_t total)
{
    return (struct plan_question){.account = "main",
                                  .meter = m,
                                  .team = "t1",
                                  .customer = "cus_1",
                                  .hour = {HOUR},
                                  .total = {total},
                                  .now = {HOUR + 2 * HOUR_MS}};
}

static void fold(struct book *b, const struct ledger_record *r)
{
    struct sg_fault f = {0};
    cr_assert_eq(book_apply(b, r, b->end + 1, NULL, &f), SG_OK, "%s", f.text);
}

static void answer(struct book *b, const struct ledger_record *intent, enum ledger_result result)
{
    struct ledger_record r = *intent;
    r.kind = LEDGER_OUTCOME;
    r.result = result;
    fold(b, &r);
}

/* The intent for a total; it is folded. */
static struct ledger_record intend(struct book *b, const struct plan_meter *m, uint64_t total)
{
    struct ledger_record r;
    struct plan_question q = ask(m, total);
    cr_assert_eq(plan_revision(b, &q, &r), PLAN_RECORD);
    cr_assert_eq(r.kind, LEDGER_INTENT);
    fold(b, &r);
    return r;
}

static enum plan_verdict verdict(const struct book *b, const struct plan_meter *m, uint64_t total)
{
    struct ledger_record r;
    struct plan_question q = ask(m, total);
    return plan_revision(b, &q, &r);
}

Test(plan, a_set_meter_gets_the_total_and_a_delta_meter_the_difference)
{
    struct book b = {0};
    struct ledger_record r = intend(&b, &set_meter, 100);
    cr_assert_eq(r.value.v, 100);
    answer(&b, &r, LEDGER_ACCEPTED);
    r = intend(&b, &set_meter, 130);
    cr_assert(r.value.v == 130 && r.revision == 2);
    r = intend(&b, &delta_meter, 100);
    answer(&b, &r, LEDGER_DUPLICATE);
    r = intend(&b, &delta_meter, 130);
    cr_assert(r.value.v == 30 && r.total.v == 130 && r.revision == 2);
    book_destroy(&b);
}

Test(plan, one_revision_is_open_and_totals_only_go_up)
{
    struct book b = {0};
    cr_assert_eq(verdict(&b, &set_meter, 0), PLAN_SETTLED);
    struct ledger_record r = intend(&b, &set_meter, 100);
    cr_assert_eq(verdict(&b, &set_meter, 130), PLAN_UNRESOLVED);
    answer(&b, &r, LEDGER_ACCEPTED);
    cr_assert_eq(verdict(&b, &set_meter, 100), PLAN_SETTLED);
    cr_assert_eq(verdict(&b, &set_meter, 99), PLAN_LOWER);
    cr_assert_eq(verdict(&b, &set_meter, 101), PLAN_RECORD);
    book_destroy(&b);
}

Test(plan, a_team_without_a_customer_is_pending_and_an_hour_keeps_its_first_customer)
{
    struct book b = {0};
    struct ledger_record r;
    struct plan_question q = ask(&set_meter, 100);
    q.customer = NULL;
    cr_assert_eq(plan_revision(&b, &q, &r), PLAN_PENDING);
    r = intend(&b, &set_meter, 100);
    answer(&b, &r, LEDGER_ACCEPTED);
    q.total.v = 200;
    q.customer = "cus_2";
    cr_assert_eq(plan_revision(&b, &q, &r), PLAN_RECORD);
    cr_assert_str_eq(r.customer.s, "cus_1");
    q.hour.v += HOUR_MS;
    cr_assert_eq(plan_revision(&b, &q, &r), PLAN_RECORD);
    cr_assert_str_eq(r.customer.s, "cus_2");
    book_destroy(&b);
}

Test(plan, the_identifier_holds_everything_but_the_value)
{
    struct book b = {0};
    struct ledger_record r, other;
    struct plan_question q = ask(&set_meter, 100);
    cr_assert_eq(plan_revision(&b, &q, &r), PLAN_RECORD);
    q.total.v = 101;
    q.now.v += 1;
    q.team = "t2";
    cr_assert_eq(plan_revision(&b, &q, &other), PLAN_RECORD);
    cr_assert_str_eq(r.identifier, other.identifier);
    char names[6][LEDGER_IDENTIFIER_BYTES];
    for (int i = 0; i < 6; i++) {
        struct plan_meter m = i == 1 ? delta_meter : set_meter;
        struct plan_question p = ask(&m, 100);
        if (i == 2) m.mode = BILL_DELTA;
        if (i == 3) p.account = "other";
        if (i == 4) p.hour.v += HOUR_MS;
        plan_identifier(&p, i == 5 ? "cus_2" : "cus_1", 1, names[i]);
        for (int k = 0; k < i; k++) cr_assert_str_neq(names[i], names[k]);
    }
    plan_identifier(&q, "cus_1", 2, names[1]);
    cr_assert_str_neq(names[0], names[1]);
    cr_assert_str_eq(names[0], r.identifier);
    cr_assert_eq(strlen(r.identifier), 68);
}

Test(plan, the_body_is_what_stripe_reads)
{
    struct book b = {0};
    struct ledger_record r;
    struct plan_question q = ask(&set_meter, 100);
    char expected[LEDGER_BODY_BYTES];
    cr_assert_eq(plan_revision(&b, &q, &r), PLAN_RECORD);
    snprintf(
        expected, sizeof expected,
        "event_name=vcpu_ms&identifier=%s&payload%%5Bstripe_customer_id%%5D=cus_1&payload%%5Bvalue%%5D=100&timestamp="
        "1763886600",
        r.identifier);
    cr_assert_str_eq(r.body, expected);
}

Test(plan, a_value_of_more_than_15_digits_is_held_and_said_once)
{
    struct book b = {0};
    struct ledger_record r;
    struct plan_question q = ask(&set_meter, LEDGER_VALUE_MAX + 1);
    cr_assert_eq(plan_revision(&b, &q, &r), PLAN_RECORD);
    cr_assert(r.kind == LEDGER_NOTE && r.reason == LEDGER_HELD_DIGITS);
    fold(&b, &r);
    cr_assert_eq(plan_revision(&b, &q, &r), PLAN_HELD);
    q.total.v = LEDGER_VALUE_MAX;
    cr_assert_eq(plan_revision(&b, &q, &r), PLAN_RECORD);
    cr_assert_eq(r.kind, LEDGER_INTENT, "what fits goes on");
    q = ask(&delta_meter, LEDGER_VALUE_MAX);
    r = intend(&b, &delta_meter, LEDGER_VALUE_MAX);
    answer(&b, &r, LEDGER_ACCEPTED);
    cr_assert_eq(verdict(&b, &delta_meter, LEDGER_VALUE_MAX + 5), PLAN_RECORD, "a difference may be small");
    book_destroy(&b);
}

Test(plan, a_total_that_the_ledger_cannot_hold_is_held_however_small_the_difference)
{
    struct book b = {0};
    struct ledger_record r = intend(&b, &delta_meter, 100);
    answer(&b, &r, LEDGER_ACCEPTED);
    r.revision = 2;
    r.total.v = INT64_MAX;
    fold(&b, &r);
    answer(&b, &r, LEDGER_ACCEPTED);
    struct plan_question q = ask(&delta_meter, (uint64_t)INT64_MAX + 1);
    cr_assert_eq(plan_revision(&b, &q, &r), PLAN_RECORD);
    cr_assert(r.kind == LEDGER_NOTE && r.reason == LEDGER_HELD_DIGITS && r.revision == 3);
    book_destroy(&b);
}

Test(plan, an_hour_whose_meter_counts_otherwise_now_is_held)
{
    struct book b = {0};
    struct plan_meter changed = set_meter;
    struct ledger_record r = intend(&b, &set_meter, 100);
    answer(&b, &r, LEDGER_ACCEPTED);
    changed.mode = BILL_DELTA;
    struct plan_question q = ask(&changed, 130);
    cr_assert_eq(plan_revision(&b, &q, &r), PLAN_RECORD);
    cr_assert(r.kind == LEDGER_NOTE && r.reason == LEDGER_HELD_MODE);
    fold(&b, &r);
    cr_assert_eq(plan_revision(&b, &q, &r), PLAN_HELD);
    book_destroy(&b);
}

Test(plan, copies_are_begun_for_20_hours_from_the_intent_and_then_its_summary_is_read)
{
    struct book b = {0};
    struct ledger_record r = intend(&b, &set_meter, 100);
    struct book_open *o = b.open_first;
    struct boot_ms boot = {1000};
    struct wall_ms old = {r.at.v + PLAN_COPY_MS};
    cr_assert_eq(plan_attempt(o, r.at, boot), PLAN_SEND);
    cr_assert_eq(plan_attempt(o, (struct wall_ms){old.v - 1}, boot), PLAN_SEND);
    cr_assert_eq(plan_attempt(o, old, boot), PLAN_READ);
    o->attempts = 7;
    cr_assert_eq(plan_attempt(o, old, boot), PLAN_READ, "no attempt makes it young");
    o->read_at.v = 1001;
    cr_assert_eq(plan_attempt(o, old, boot), PLAN_LATER);
    cr_assert_eq(plan_attempt(o, r.at, boot), PLAN_SEND, "what is young waits for no read");
    o->read_at.v = 0;
    o->not_before.v = 1001;
    cr_assert_eq(plan_attempt(o, r.at, boot), PLAN_LATER);
    cr_assert_eq(plan_attempt(o, old, boot), PLAN_LATER);
    o->not_before.v = 0;
    o->in_flight = true;
    cr_assert_eq(plan_attempt(o, r.at, boot), PLAN_LATER);
    book_destroy(&b);
}

Test(plan, an_intent_from_the_future_has_no_age)
{
    struct book b = {0};
    struct ledger_record r = intend(&b, &set_meter, 100);
    struct book_open *o = b.open_first;
    struct boot_ms boot = {1000};
    cr_assert_eq(plan_attempt(o, (struct wall_ms){r.at.v - 2 * CLOCK_TRUST_SKEW_MS_MAX}, boot), PLAN_SEND);
    cr_assert_eq(plan_attempt(o, (struct wall_ms){r.at.v - 2 * CLOCK_TRUST_SKEW_MS_MAX - 1}, boot), PLAN_READ);
    book_destroy(&b);
}

/* ---- summaries ---- */

/* The summary of the only open revision was read so long after its intent. */
static enum plan_reading reconcile(const struct book *b, struct plan_sight sight, int64_t age_ms,
                                   struct ledger_record *out)
{
    struct book_open *o = b->open_first;
    sight.wall.v = o->at.v + age_ms;
    sight.boot.v = 5000;
    sight.asked.v = 4000;
    o->in_flight = true;
    return plan_reconcile(b, o, &sight, out);
}

static struct plan_sight shows(uint64_t sum)
{
    return (struct plan_sight){.told = true, .summary = {.whole = true, .sum = {sum}}};
}

Test(plan, a_summary_that_shows_the_new_total_closes_a_revision)
{
    const struct plan_meter *meters[] = {&set_meter, &delta_meter};
    for (size_t m = 0; m < 2; m++) {
        struct book b = {0};
        struct ledger_record r = intend(&b, meters[m], 100), out;
        answer(&b, &r, LEDGER_ACCEPTED);
        (void)intend(&b, meters[m], 130);
        cr_assert_eq(reconcile(&b, shows(130), PLAN_COPY_MS, &out), PLAN_READING_COMMIT);
        cr_assert(out.kind == LEDGER_OUTCOME && out.result == LEDGER_SEEN && out.revision == 2 && out.status == 0);
        cr_assert(out.at.v == r.at.v + PLAN_COPY_MS && out.meter == meters[m]->field && out.request_id[0] == '\0');
        cr_assert(b.open_first->in_flight, "until it is folded nothing more of it is sent");
        fold(&b, &out);
        cr_assert_eq(b.entry[0].total.v, 130);
        book_destroy(&b);
    }
}

Test(plan, a_summary_that_shows_what_was_before_allows_a_copy)
{
    struct book b = {0};
    struct ledger_record r = intend(&b, &delta_meter, 100), out;
    cr_assert_eq(reconcile(&b, shows(0), 10 * (int64_t)DAY_MS, &out), PLAN_READING_COPY, "of the first: nothing");
    answer(&b, &r, LEDGER_ACCEPTED);
    (void)intend(&b, &delta_meter, 130);
    cr_assert_eq(reconcile(&b, shows(100), 10 * (int64_t)DAY_MS, &out), PLAN_READING_COPY);
    struct book_open *o = b.open_first;
    cr_assert(o->in_flight && o->reads == 1 && o->sight == BOOK_SHOWS_OLD);
    cr_assert_gt(o->read_at.v, 5000);
    book_destroy(&b);
}

Test(plan, a_summary_that_shows_neither_holds_a_revision_after_a_day_and_once)
{
    struct book b = {0};
    struct ledger_record first = intend(&b, &delta_meter, 100), out;
    answer(&b, &first, LEDGER_ACCEPTED);
    (void)intend(&b, &delta_meter, 130);
    struct book_open *o = b.open_first;
    struct plan_sight noise = {.told = true, .summary = {.whole = false, .sum = {130}}};
    cr_assert_eq(reconcile(&b, shows(30), PLAN_ODD_MS + 999, &out), PLAN_READING_WAIT);
    cr_assert_eq(o->sight, BOOK_SHOWS_NEITHER);
    cr_assert_not(o->in_flight);
    cr_assert_eq(reconcile(&b, noise, PLAN_ODD_MS + 999, &out), PLAN_READING_WAIT);
    cr_assert_eq(o->sight, BOOK_SHOWS_NEITHER);
    cr_assert_eq(reconcile(&b, (struct plan_sight){.told = false}, PLAN_ODD_MS + 1000, &out), PLAN_READING_WAIT);
    cr_assert_eq(o->sight, BOOK_UNREADABLE, "what is not read holds nothing");
    cr_assert_eq(reconcile(&b, noise, PLAN_ODD_MS + 1000, &out), PLAN_READING_COMMIT);
    cr_assert(out.kind == LEDGER_NOTE && out.reason == LEDGER_HELD_SUM && out.revision == 2);
    fold(&b, &out);
    cr_assert_eq(b.entry[0].state, BOOK_HELD);
    cr_assert_eq(reconcile(&b, shows(131), PLAN_ODD_MS + 1000, &out), PLAN_READING_WAIT, "it is said once");
    cr_assert_eq(reconcile(&b, shows(100), PLAN_ODD_MS + 1000, &out), PLAN_READING_WAIT, "what is held is not sent");
    cr_assert_not(o->in_flight);
    cr_assert_eq(plan_attempt(o, (struct wall_ms){o->at.v + PLAN_ODD_MS}, o->read_at), PLAN_READ, "but read");
    cr_assert_eq(reconcile(&b, shows(130), PLAN_ODD_MS + 1000, &out), PLAN_READING_COMMIT,
                 "and released when it is seen");
    fold(&b, &out);
    cr_assert_eq(b.open_count, 0);
    book_destroy(&b);
}

Test(plan, reads_of_a_revision_are_ever_rarer)
{
    uint64_t before = 0;
    for (uint32_t read = 1; read < 20; read++) {
        uint64_t least = plan_read_backoff_ms(read, 0);
        cr_assert_geq(least, before);
        cr_assert_leq(plan_read_backoff_ms(read, UINT32_MAX), 2 * least);
        before = least;
    }
    cr_assert_eq(plan_read_backoff_ms(1, 0), PLAN_READ_MS_MIN / 2);
    cr_assert_eq(plan_read_backoff_ms(1000, 0), PLAN_READ_MS_MAX / 2);
}

Test(plan, backoff_doubles_up_to_a_minute_and_honours_what_was_asked)
{
    for (uint32_t random = 0; random < 5000000; random += 99991) {
        cr_assert_leq(plan_backoff_ms(1, random, 0), 600);
        cr_assert_geq(plan_backoff_ms(1, random, 0), 100);
        cr_assert_leq(plan_backoff_ms(1000, random, 0), PLAN_BACKOFF_MS_MAX + 100);
        cr_assert_geq(plan_backoff_ms(1, random, 7000), 7000);
        cr_assert_leq(plan_backoff_ms(1, random, UINT64_MAX), PLAN_RETRY_AFTER_MS_MAX);
    }
    cr_assert_gt(plan_backoff_ms(9, 59999, 0), 50000);
}

Test(plan, nothing_is_written_past_its_deadline)
{
    cr_assert(plan_may_write((struct boot_ms){1000}, (struct boot_ms){1000}));
    cr_assert_not(plan_may_write((struct boot_ms){1000}, (struct boot_ms){1001}));
}

/* ---- answers ---- */

static uint32_t random_of_settle;

static bool settle(const struct book *b, enum answer a, struct ledger_record *out)
{
    struct plan_reply reply = {.answer = a,
                               .reason = LEDGER_REFUSED_METER,
                               .status = 400,
                               .request_id = "req_1",
                               .random = random_of_settle,
                               .retry_after_ms = 7000,
                               .wall = {HOUR + 3 * HOUR_MS},
                               .boot = {5000}};
    b->open_first->in_flight = true;
    return plan_settle(b, b->open_first, &reply, out);
}

Test(plan, only_evidence_that_stripe_has_it_closes_a_revision)
{
    struct book b = {0};
    struct ledger_record intent = intend(&b, &set_meter, 100), r;
    struct book_open *o = b.open_first;
    o->attempts = 1;
    for (int a = 0; a < ANSWERS; a++) {
        bool closes = a == ANSWER_ACCEPTED || a == ANSWER_DUPLICATE;
        cr_assert_eq(settle(&b, (enum answer)a, &r), closes || a == ANSWER_REFUSED);
        cr_assert_eq(o->in_flight, closes, "until it is folded nothing more of it is sent");
        cr_assert_eq(o->at.v, intent.at.v, "its age never starts anew");
        if (!closes) cr_assert_geq(o->not_before.v, 12000);
        if (!closes) continue;
        cr_assert(r.kind == LEDGER_OUTCOME && r.revision == 1 && r.status == 400 && r.at.v == HOUR + 3 * HOUR_MS);
        cr_assert_eq(r.result, a == ANSWER_ACCEPTED ? LEDGER_ACCEPTED : LEDGER_DUPLICATE);
        cr_assert_str_eq(r.team.s, "t1");
        cr_assert_str_eq(r.customer.s, "cus_1");
        cr_assert_str_eq(r.request_id, "req_1");
        cr_assert(r.meter == FIELD_VCPU_MS && r.hour.v == HOUR);
    }
    cr_assert_eq(o->generation, 2, "what Stripe keeps (its error, its refusal) takes the next key, nothing else does");
    fold(&b, &r);
    cr_assert_eq(b.open_count, 1, "the last one was a note");
    book_destroy(&b);
}

Test(plan, a_refusal_is_said_once_and_sent_again_slowly)
{
    struct book b = {0};
    struct ledger_record r;
    (void)intend(&b, &set_meter, 100);
    struct book_open *o = b.open_first;
    cr_assert(settle(&b, ANSWER_REFUSED, &r));
    cr_assert(r.kind == LEDGER_NOTE && r.reason == LEDGER_REFUSED_METER && r.status == 400 && r.revision == 1);
    cr_assert_not(settle(&b, ANSWER_REFUSED, &r));
    cr_assert_leq(o->not_before.v, 5000 + 500 * 32 + 100, "at the pace of the sixth attempt");
    o->attempts = 8;
    random_of_settle = 59999;
    cr_assert_not(settle(&b, ANSWER_REFUSED, &r));
    cr_assert_geq(o->not_before.v, 5000 + 59999, "at its own, which is slower by now");
    book_destroy(&b);
}

/* ---- the book ---- */

Test(book, an_open_revision_is_found_by_its_number)
{
    struct book b = {0};
    struct ledger_record r = intend(&b, &set_meter, 100);
    cr_assert_eq(book_find_open(&b, "t1", FIELD_VCPU_MS, r.hour, 1), b.open_first);
    cr_assert_null(book_find_open(&b, "t1", FIELD_VCPU_MS, r.hour, 2));
    cr_assert_null(book_find_open(&b, "t2", FIELD_VCPU_MS, r.hour, 1));
    answer(&b, &r, LEDGER_ACCEPTED);
    cr_assert_null(book_find_open(&b, "t1", FIELD_VCPU_MS, r.hour, 1));
    book_destroy(&b);
}

Test(book, what_does_not_follow_stops_the_fold)
{
    struct book b = {0};
    struct sg_fault f;
    struct ledger_record first = intend(&b, &set_meter, 100), r = first;
    r.revision = 2;
    r.total.v = r.value.v = 200;
    cr_assert_eq(book_apply(&b, &r, 50, NULL, &f), SG_ERR_MISMATCH, "a second open one");
    answer(&b, &first, LEDGER_ACCEPTED);
    cr_assert_eq(book_apply(&b, &first, 51, NULL, &f), SG_ERR_MISMATCH, "the same revision again");
    r.revision = 3;
    cr_assert_eq(book_apply(&b, &r, 52, NULL, &f), SG_ERR_MISMATCH, "a hole");
    r.revision = 2;
    r.total.v = r.value.v = 100;
    cr_assert_eq(book_apply(&b, &r, 53, NULL, &f), SG_ERR_MISMATCH, "no rise");
    r.kind = LEDGER_OUTCOME;
    cr_assert_eq(book_apply(&b, &r, 54, NULL, &f), SG_ERR_MISMATCH, "an outcome of nothing");
    book_destroy(&b);
}

Test(book, records_that_were_folded_are_skipped)
{
    struct book b = {0};
    struct book_change c;
    struct ledger_record r = intend(&b, &set_meter, 100);
    cr_assert_eq(book_apply(&b, &r, b.end - 1, &c, NULL), SG_OK);
    cr_assert_null(c.entry);
    cr_assert_eq(b.open_count, 1);
    book_destroy(&b);
}

Test(book, many_hours_are_all_found)
{
    struct book b = {0};
    struct ledger_record r;
    for (unsigned i = 0; i < 3000; i++) {
        char team[16];
        struct plan_question q = ask(i % 2 ? &set_meter : &delta_meter, 7);
        snprintf(team, sizeof team, "t%u", i % 40);
        q.team = team;
        q.hour.v += (int64_t)(i / 80) * HOUR_MS;
        if (plan_revision(&b, &q, &r) != PLAN_RECORD) continue;
        fold(&b, &r);
        if (i % 3) answer(&b, &r, LEDGER_ACCEPTED);
    }
    size_t open = 0;
    for (const struct book_open *o = b.open_first; o; o = o->next, open++) cr_assert_eq(b.entry[o->entry].open, o);
    cr_assert_eq(open, b.open_count);
    for (size_t i = 0; i < b.entry_count; i++)
        cr_assert_eq(book_find(&b, book_name(&b, b.entry[i].team), (enum field)b.entry[i].meter, b.entry[i].hour),
                     &b.entry[i]);
    book_destroy(&b);
}
