/* What a run's cell says when starts, states, ends and exits come late, twice or out of order; hours of their own; sums
 * and cells that were stored before. One shard, one partition. */
#include "tests/unit/rollup_fixture.h"

static void begin(void)
{
    begin_with(1, 1);
}

TestSuite(rollup_runs, .init = begin, .fini = end);

static void start(int64_t ms, enum origin origin)
{
    cr_assert_eq(batch_builder_start(builder, sandbox("s"), at(ms), 1 + (uint32_t)origin, 9), SG_OK);
}

static void state(int64_t ms, enum sandbox_state s)
{
    cr_assert_eq(batch_builder_state(builder, sandbox("s"), at(ms), s), SG_OK);
}

static void ends(int64_t ms, enum reason reason)
{
    cr_assert_eq(batch_builder_end(builder, sandbox("s"), at(ms), reason, 7), SG_OK);
}

static void exec(int64_t ms, uint32_t code)
{
    cr_assert_eq(batch_builder_exec(builder, sandbox("s"), at(ms), code, 1), SG_OK);
}

/* What the run's cell says after the newest batch. */
static const struct run *run(void)
{
    return cells_run(&r.cells, 0, 0, "s", cells_hash("s"))->run;
}

Test(rollup_runs, a_second_start_in_the_same_instant_keeps_the_first_origin)
{
    start(5, ORIGIN_CREATE);
    start(5, ORIGIN_FORK);
    land();
    cr_assert(run()->has_origin && run()->origin == ORIGIN_CREATE && run()->create_ms == 9);
    cr_assert_eq(run()->created.v, HOUR + 5);
}

Test(rollup_runs, an_earlier_start_that_comes_late_changes_nothing)
{
    start(20, ORIGIN_CREATE);
    state(30, SANDBOX_HIBERNATED);
    land();
    start(10, ORIGIN_FORK);
    land();
    cr_assert(run()->started.v == HOUR + 20 && run()->created.v == HOUR + 20 && run()->state == RUN_HIBERNATED);
}

Test(rollup_runs, an_end_before_its_start_arrived_stays_the_end)
{
    ends(30, REASON_OOM);
    land();
    cr_assert_eq(run()->created.v, HOUR + 30); /* the earliest that is known of it */
    start(10, ORIGIN_CREATE);
    land();
    cr_assert(run()->state == RUN_ENDED && run()->reason == REASON_OOM && run()->ended.v == HOUR + 30);
    cr_assert_eq(run()->started.v, HOUR + 10);
    state(40, SANDBOX_HIBERNATED);
    land();
    cr_assert_eq(run()->state, RUN_ENDED);
    start(50, ORIGIN_RESTORE);
    land();
    cr_assert(run()->state == RUN_RUNNING && !run()->has_reason && run()->ended.v == 0);
}

Test(rollup_runs, a_state_or_end_of_an_earlier_life_changes_nothing)
{
    start(20, ORIGIN_CREATE);
    land();
    state(10, SANDBOX_HIBERNATED);
    ends(15, REASON_OOM);
    land();
    cr_assert(run()->state == RUN_RUNNING && !run()->has_reason);
    ends(40, REASON_API);
    land();
    ends(30, REASON_OOM);
    land();
    cr_assert(run()->state == RUN_ENDED && run()->reason == REASON_API && run()->ended.v == HOUR + 40);
}

Test(rollup_runs, the_newest_exit_code_stays)
{
    uint32_t s = sandbox("s");
    cr_assert_eq(batch_builder_exec(builder, s, at(20), 7, 1), SG_OK);
    cr_assert_eq(batch_builder_exec(builder, s, at(10), 8, 1), SG_OK); /* in the same batch */
    land();
    cr_assert(run()->has_exit && run()->exit_code == 7 && run()->exit_at.v == HOUR + 20);
    exec(15, 9); /* in a later one */
    land();
    cr_assert(run()->exit_code == 7 && run()->execs.v == 3);
    exec(20, 10);
    land();
    cr_assert(run()->exit_code == 10 && run()->execs.v == 4);
}

Test(rollup_runs, slices_out_of_order_add_up_and_the_end_of_the_last_is_seen)
{
    uint32_t s = sandbox("s");
    slice(s, 20, 10, 5);
    slice(s, 0, 10, 3);
    land();
    cr_assert(run()->seen.v == HOUR + 30 && run()->cpu_us.v == 8 && run()->mem_peak_bytes == 105);
    slice(sandbox("s"), 10, 10, 1);
    land();
    cr_assert(run()->seen.v == HOUR + 30 && run()->running_ms.v == 30 && run()->mem_peak_bytes == 105);
}

Test(rollup_runs, minutes_that_alternate_are_added_to_their_own)
{
    uint32_t s = sandbox("s"), other = sandbox_of("o", "t1", "p2");
    slice(s, 0, 10, 1);
    slice(other, 0, 10, 16);
    slice(s, MINUTE_MS, 10, 2);
    slice(s, 20, 10, 4);
    land();
    const char *words = flushed();
    SAYS(words, "u:m:1763884800:t1:p1:eu|0|@1 vcpu_ms=40 mem_mib_ms=20480 disk_mib_ms=81920 running_ms=20 cpu_us=5 ");
    SAYS(words, "u:m:1763884860:t1:p1:eu|0|@1 vcpu_ms=20 mem_mib_ms=10240 disk_mib_ms=40960 running_ms=10 cpu_us=2 ");
    SAYS(words, "u:m:1763884800:t1:p2:eu|0|@1 vcpu_ms=20 mem_mib_ms=10240 disk_mib_ms=40960 running_ms=10 cpu_us=16 ");
}

Test(rollup_runs, one_that_goes_on_is_written_without_its_index)
{
    start(0, ORIGIN_CREATE);
    land();
    SAYS(flushed(), "ALIVE|sg:{s0}:ra:t1|");
    acknowledge();
    slice(sandbox("s"), 0, 10, 1);
    land();
    const char *words = flushed();
    SAYS(words, "HSET|sg:{s0}:r:s|0|@2 ");
    SAYS_NOT(words, "ALIVE|");
    acknowledge();
    start(20, ORIGIN_RESTORE);
    land();
    SAYS(flushed(), "ALIVE|sg:{s0}:ra:t1|");
}

/* What a read brings by kind of cell: text[kind], of days only among the rollups. */
static void load(struct rollup_read *q, const char *const text[3])
{
    for (size_t i = 0; i < q->count; i++) {
        const struct cell *cell = q->cell[i];
        bool given = text[cell->kind] && (cell->kind != CELL_ROLLUP || cell->window == WINDOW_DAY);
        const char *s = given ? text[cell->kind] : NULL;
        cr_assert_eq(rollup_loaded(&r, q, i, s, s ? strlen(s) : 0), SG_OK);
    }
}

/* Batch 0 has rows in two hours; rows that a cell holds already are not added to it. */
Test(rollup_runs, every_cell_is_waited_for_and_what_it_holds_is_not_added_again)
{
    static const char *const stored[] = {
        [CELL_ROLLUP] = NULL,
        [CELL_RUN] = "@9 team=t1 project=p1 region=eu runner=r1 vcpus=2 mem_mib=1024 disk_mib=4096 state=running "
                     "created=1763884800000 running_ms=20",
        [CELL_RUN_HOUR] = "@9 running_ms=10",
    };
    struct rollup_read q = {0};
    uint32_t s = sandbox("s");
    slice(s, 0, 10, 1);
    slice(s, HOUR_MS, 10, 2);
    enqueue_in(0, 1, 1);
    cr_assert_not(rollup_apply(&r)); /* minutes, hours and days are not read */
    cr_assert(rollup_needs(&r, &q));
    for (size_t i = 0; i < q.count; i++)
        if (q.cell[i]->kind == CELL_ROLLUP) cr_assert_eq(rollup_loaded(&r, &q, i, NULL, 0), SG_OK);
    cr_assert_not(rollup_apply(&r)); /* the run is not */
    cr_assert(rollup_needs(&r, &q) && q.count == 1);
    load(&q, stored);
    cr_assert_not(rollup_apply(&r)); /* its second hour is not, which is known only now */
    cr_assert(rollup_needs(&r, &q) && q.count == 1 && q.cell[0]->kind == CELL_RUN_HOUR);
    cr_assert_not(rollup_apply(&r));
    load(&q, stored);
    cr_assert_not(rollup_needs(&r, &q));
    cr_assert(rollup_apply(&r));
    const char *words = flushed();
    SAYS(words, "r:s|0|@9 ");
    SAYS(words, " running_ms=20|");
    SAYS(words, "r:s|0:1763888400|@9 running_ms=10|");
    SAYS(words, "u:d:1763856000:t1:p1:eu|0|@1 vcpu_ms=40 ");
    rollup_read_destroy(&q);
}

Test(rollup_runs, a_counter_at_the_largest_number_stays_there_and_is_counted)
{
    static const char *const stored[] = {[CELL_ROLLUP] = "@0 exit.3=18446744073709551615", NULL, NULL};
    struct rollup_read q = {0};
    exec(1, 3);
    enqueue_in(0, 1, 1);
    cr_assert(rollup_needs(&r, &q));
    load(&q, stored);
    cr_assert(rollup_apply(&r));
    SAYS(flushed(), "u:d:1763856000:t1:p1:eu|0|@1 execs=1 exit.3=18446744073709551615|");
    SAYS(flushed(), "u:h:1763884800:t1:p1:eu|0|@1 execs=1 exit.3=1|");
    cr_assert_eq(r.cells.saturated, 1);
    rollup_read_destroy(&q);
}

Test(rollup_runs, no_shard_is_asked_for_more_than_a_script_can_read)
{
    enum { RUNS = ROLLUP_READ_CELLS + 100 };
    struct rollup_read q = {0};
    char id[16];
    for (int i = 0; i < RUNS; i++) {
        (void)snprintf(id, sizeof id, "s%d", i);
        slice(sandbox(id), 0, 10, 1);
    }
    enqueue_in(0, 1, 1);
    cr_assert(rollup_needs(&r, &q));
    cr_assert_eq(q.count, ROLLUP_READ_CELLS);
    load(&q, (const char *const[3]){NULL});
    cr_assert_not(rollup_apply(&r));
    cr_assert(rollup_needs(&r, &q));
    cr_assert_eq(q.count, RUNS + WINDOW_KINDS - ROLLUP_READ_CELLS);
    load(&q, (const char *const[3]){NULL});
    cr_assert(rollup_apply(&r));
    rollup_read_destroy(&q);
}
