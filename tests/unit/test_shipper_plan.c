#include <criterion/criterion.h>

#include "collector/shipper_plan.h"

enum { SEED = 7, BATCH_BYTES = 1000 };

static struct boot_ms at(uint64_t ms)
{
    return (struct boot_ms){ms};
}

/* Sends what may be sent; gives the number of the last that was. */
static uint64_t send_all(struct shipper_plan *p, uint64_t durable_seq, size_t bytes)
{
    for (uint64_t seq; (seq = shipper_plan_next(p, durable_seq)) > 0; shipper_plan_sent(p, bytes))
        cr_assert_eq(seq, p->sent_seq + 1);
    return p->sent_seq;
}

Test(shipper_plan, no_more_is_in_flight_than_the_window_has_messages_or_bytes)
{
    struct shipper_plan p;
    shipper_plan_init(&p, 10, SEED);
    cr_expect_eq(shipper_plan_next(&p, 10), 0, "there is nothing");
    cr_expect_eq(send_all(&p, 13, 1), 13);
    cr_expect_eq(send_all(&p, 1000, 1), 10 + SHIPPER_WINDOW_MESSAGES);
    cr_expect(shipper_plan_report(&p, 11, 1, true));
    cr_expect_eq(send_all(&p, 1000, 1), 11 + SHIPPER_WINDOW_MESSAGES);
    shipper_plan_init(&p, 10, SEED);
    cr_expect_eq(send_all(&p, 1000, SHIPPER_WINDOW_BYTES / 2 - 1), 13, "the bytes, and one batch");
    cr_expect_eq(p.window_bytes, 3 * (SHIPPER_WINDOW_BYTES / 2 - 1));
}

Test(shipper_plan, reports_in_order_move_it_on)
{
    struct shipper_plan p;
    shipper_plan_init(&p, 0, SEED);
    send_all(&p, 3, BATCH_BYTES);
    for (uint64_t seq = 1; seq <= 3; seq++) cr_expect(shipper_plan_report(&p, seq, BATCH_BYTES, true));
    cr_expect_eq(p.reported_seq, 3);
    cr_expect_eq(p.delivered, 3);
    cr_expect_eq(p.delivered_bytes, 3 * BATCH_BYTES);
    cr_expect_eq(p.window_bytes, 0);
    cr_expect_not(shipper_plan_retires(&p, 3, at(5)));
}

/* After it nothing counts and nothing is sent, until all behind the spool's position is sent anew. */
static void expect_doubt(struct shipper_plan *p)
{
    cr_expect_eq(shipper_plan_next(p, 100), 0);
    cr_expect_not(shipper_plan_report(p, 2, BATCH_BYTES, true));
    cr_expect_eq(p->reported_seq, 1);
    cr_expect(shipper_plan_retires(p, 1, at(1000)));
    cr_expect_eq(p->restarts, 1);
    cr_expect_not(shipper_plan_may_start(p, at(1000)), "it waits");
    cr_expect(shipper_plan_may_start(p, p->start_at));
    cr_expect_eq(shipper_plan_next(p, 100), 2);
    cr_expect_not(shipper_plan_retires(p, 1, at(1000)), "once");
}

Test(shipper_plan, an_error_a_hole_and_the_callers_doubt_each_end_a_producer)
{
    for (unsigned i = 0; i < 3; i++) {
        struct shipper_plan p;
        shipper_plan_init(&p, 0, SEED);
        send_all(&p, 5, BATCH_BYTES);
        cr_assert(shipper_plan_report(&p, 1, BATCH_BYTES, true));
        if (i == 0) cr_expect_not(shipper_plan_report(&p, 2, BATCH_BYTES, false));
        if (i == 1) cr_expect_not(shipper_plan_report(&p, 3, BATCH_BYTES, true));
        if (i == 2) shipper_plan_doubt(&p);
        expect_doubt(&p);
    }
}

Test(shipper_plan, a_producer_that_could_not_be_made_is_waited_for)
{
    struct shipper_plan p;
    shipper_plan_init(&p, 0, SEED);
    cr_expect(shipper_plan_may_start(&p, at(0)));
    shipper_plan_not_started(&p, at(500));
    cr_expect_not(shipper_plan_may_start(&p, at(500)));
    cr_expect(shipper_plan_may_start(&p, p.start_at));
}

Test(shipper_plan, the_cursor_is_written_once_a_second_and_the_next_turn_is_no_later)
{
    struct shipper_plan p;
    struct boot_ms next = at(5000);
    shipper_plan_init(&p, 0, SEED);
    cr_expect(shipper_plan_saves_cursor(&p, at(1500), &next));
    cr_expect_not(shipper_plan_saves_cursor(&p, at(2499), &next));
    cr_expect_eq(next.v, 2500);
    next = at(2499);
    cr_expect_not(shipper_plan_saves_cursor(&p, at(2499), &next));
    cr_expect_eq(next.v, 2499, "sooner for another reason");
    cr_expect(shipper_plan_saves_cursor(&p, at(2500), &next));
}

Test(shipper_plan, the_lag_is_as_old_as_the_oldest_batch_that_waits)
{
    struct shipper_plan p;
    shipper_plan_init(&p, 0, SEED);
    shipper_plan_mark(&p, 0, 0, at(1000));
    cr_expect_eq(shipper_plan_lag_age_ms(&p, at(2000)), 0, "none waits");
    shipper_plan_mark(&p, 0, 3, at(2000));
    shipper_plan_mark(&p, 0, 3, at(4000)); /* no new ones */
    shipper_plan_mark(&p, 0, 5, at(5000));
    shipper_plan_mark(&p, 0, 6, at(5999)); /* within a second */
    cr_expect_eq(shipper_plan_lag_age_ms(&p, at(6000)), 4000);
    shipper_plan_mark(&p, 3, 6, at(6000));
    cr_expect_eq(shipper_plan_lag_age_ms(&p, at(6000)), 1000);
    shipper_plan_mark(&p, 5, 6, at(6000));
    cr_expect_eq(shipper_plan_lag_age_ms(&p, at(6000)), 1000, "older than it is, never younger");
    shipper_plan_mark(&p, 6, 6, at(6000));
    cr_expect_eq(shipper_plan_lag_age_ms(&p, at(6000)), 0);
}

Test(shipper_plan, a_lag_of_more_seconds_than_there_are_marks_is_still_told)
{
    struct shipper_plan p;
    const uint64_t last = SHIPPER_MARKS + 10;
    shipper_plan_init(&p, 0, SEED);
    for (uint64_t seq = 1; seq <= last; seq++) shipper_plan_mark(&p, 0, seq, at(seq * 1000));
    cr_expect_eq(shipper_plan_lag_age_ms(&p, at(last * 1000)), (last - 1) * 1000);
    shipper_plan_mark(&p, last - 1, last, at(last * 1000));
    cr_expect_eq(shipper_plan_lag_age_ms(&p, at(last * 1000)), 10000, "with the last mark");
    shipper_plan_mark(&p, last, last, at(last * 1000));
    cr_expect_eq(shipper_plan_lag_age_ms(&p, at(last * 1000)), 0);
}
