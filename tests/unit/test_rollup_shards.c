/* Two shards and three partitions: what is taken, known, lost, replayed and flushed is each one's own. Shard 0 is the
 * home of partitions 0 and 2, shard 1 that of partition 1. */
#include "tests/unit/rollup_fixture.h"

enum { SHARDS = 2, PARTITIONS = 3 };

static struct wordlist marks, caps;
static struct sg_fault fault;
static const char *team[SHARDS]; /* a team of each shard */

static void begin(void)
{
    static const char *const names[] = {"t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7"};
    begin_with(SHARDS, PARTITIONS);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) team[shard_of_team(names[i], SHARDS)] = names[i];
    cr_assert(team[0] && team[1]);
}

static void end_all(void)
{
    wordlist_destroy(&marks);
    wordlist_destroy(&caps);
    end();
}

TestSuite(rollup_shards, .init = begin, .fini = end_all);

static void stored_mark(const char *field, const char *text)
{
    wordlist_text(&marks, field);
    wordlist_text(&marks, text);
}

/* The shard has the entry, and as a home `marks` and `caps`. */
static enum sg_error shard_has(uint32_t shard, uint32_t partition, const char *entry)
{
    struct rollup_stored stored = {entry, strlen(entry), &marks, &caps};
    return rollup_know(&r, shard, partition, &stored, &fault);
}

static void usage(uint32_t shard)
{
    slice(sandbox_of("s", team[shard], "p1"), 0, 10, 1);
}

Test(rollup_shards, zeroed_ones_are_destroyed)
{
    struct rollup nothing = {0};
    struct rollup_flush no_flush = {0};
    rollup_destroy(&nothing);
    rollup_flush_destroy(&no_flush);
    cr_assert(!nothing.partition && !no_flush.entry);
}

Test(rollup_shards, a_partition_is_taken_once_and_is_then_unknown)
{
    cr_assert(rollup_ready(&r));
    usage(0);
    land();
    rollup_take(&r, 0);
    cr_assert_eq(rollup_next(&r, 0), 1); /* it was: nothing has changed */
    rollup_take(&r, 1);
    cr_assert(!rollup_ready(&r) && rollup_unknown(&r, 0) && rollup_unknown(&r, 1));
    cr_assert_eq(rollup_next(&r, 1), ROLLUP_NOWHERE);
    cr_assert_eq(shard_has(0, 1, "7 1 1@1"), SG_OK);
    cr_assert(!rollup_ready(&r) && !rollup_unknown(&r, 0));
    stored_mark("at", "7");
    cr_assert_eq(shard_has(1, 1, "5 1 1@1"), SG_OK);
    cr_assert(rollup_ready(&r));
    cr_assert_eq(rollup_next(&r, 1), 5); /* where the shard furthest behind stands */
}

Test(rollup_shards, what_is_known_is_not_told_again)
{
    cr_assert_eq(shard_has(0, 0, "7 1 1@1"), SG_OK);
    cr_assert_eq(rollup_next(&r, 0), 0);
}

Test(rollup_shards, a_dropped_partition_takes_its_cells_along_and_nobody_elses)
{
    rollup_take(&r, 1);
    know("");
    usage(0);
    land();
    size_t count = r.cells.count;
    usage(1);
    enqueue_in(1, 1, 1);
    nothing_is_stored();
    cr_assert_gt(r.cells.count, count);
    usage(1);
    enqueue_in(0, 1, 2);
    rollup_drop(&r, 2); /* is not taken: nothing happens */
    cr_assert_eq(rollup_next(&r, 0), 2);
    rollup_drop(&r, 1);
    cr_assert(r.queue_count == 0 && rollup_next(&r, 0) == 1); /* what waits is to be read again */
    rollup_queue_drop(&r);
    nothing_is_stored();
    for (size_t i = 0; i < r.cells.slot_count; i++) cr_assert(!r.cells.slot[i] || r.cells.slot[i]->partition == 0);
    cr_assert_geq(r.cells.count, count);
    cr_assert(rollup_flush_begin(&r, 0, &flush) && flush.moves[0] && !flush.moves[1] && !flush.moves[2]);
}

Test(rollup_shards, a_damaged_store_is_said_and_stays_unknown)
{
    static const struct {
        const char *entry, *mark, *cap;
        enum sg_error e;
        const char *reason;
    } cases[] = {
        {"x", "12", NULL, SG_ERR_MALFORMED, "the vector entry of partition 2 in shard 0 cannot be read"},
        {"3 1 1@1", "x", NULL, SG_ERR_MALFORMED, "the marks of partition 2 cannot be read"},
        {"3 1 1@1", "12", "region=", SG_ERR_MALFORMED, "the marks of partition 2 cannot be read"},
        {"13 1 1@1", "12", NULL, SG_ERR_CORRUPT, "stand behind their vector"},
        {"3 1 1@1", "12", NULL, SG_OK, NULL},
    };
    rollup_take(&r, 2);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        wordlist_reset(&marks);
        wordlist_reset(&caps);
        stored_mark("at", cases[i].mark);
        stored_mark("d:2", "");
        if (cases[i].cap) {
            wordlist_text(&caps, "r1");
            wordlist_text(&caps, cases[i].cap);
        }
        fault = (struct sg_fault){0};
        cr_assert_eq(shard_has(0, 2, cases[i].entry), cases[i].e, "case %zu", i);
        cr_assert_eq(rollup_unknown(&r, 0), cases[i].e != SG_OK, "case %zu", i);
        if (cases[i].reason) cr_assert(strstr(fault.text, cases[i].reason), "%s", fault.text);
    }
}

Test(rollup_shards, no_position_is_below_the_logs_start)
{
    cr_assert_eq(rollup_log_start(&r, 1, 5), 0); /* nobody has taken it */
    cr_assert_not(rollup_misses(&r, 1, 5));
    rollup_take(&r, 1);
    cr_assert_eq(rollup_log_start(&r, 1, 5), 0); /* nobody knows where it stands */
    cr_assert_not(rollup_misses(&r, 1, 5));
    stored_mark("at", "3");
    cr_assert_eq(shard_has(0, 1, "3 1 1@1"), SG_OK);
    cr_assert_eq(shard_has(1, 1, "3 1 1@1"), SG_OK);
    cr_assert_eq(rollup_next(&r, 1), 5);
    cr_assert(rollup_misses(&r, 1, 9));
    cr_assert_eq(rollup_log_start(&r, 1, 9), 6);
    cr_assert_not(rollup_misses(&r, 1, 9)); /* it was told */
    cr_assert(rollup_misses(&r, 1, 10));    /* the log's start has overtaken it */
    cr_assert_eq(rollup_log_start(&r, 1, 4), 0);
    cr_assert_eq(rollup_next(&r, 1), 9);
    rollup_lost(&r, 0);
    cr_assert_eq(rollup_log_start(&r, 1, 9), 0); /* one shard is not known */
    cr_assert_eq(shard_has(0, 1, "8 1 1@1"), SG_OK);
    cr_assert_not(rollup_misses(&r, 1, 9));
    cr_assert_eq(rollup_log_start(&r, 1, 9), 0); /* that was told */
    rollup_drop(&r, 1);
    rollup_take(&r, 1);
    cr_assert_eq(shard_has(0, 1, "3 1 1@1"), SG_OK);
    cr_assert_eq(shard_has(1, 1, "2 1 1@1"), SG_OK);
    cr_assert_eq(rollup_log_start(&r, 1, 9), 1); /* from 2 to 3 */
    cr_assert_eq(rollup_log_start(&r, 1, 9), 0);
}

Test(rollup_shards, what_was_restored_is_missed_above_the_archived_marks_only)
{
    stored_mark("at", "7");
    rollup_take(&r, 2);
    cr_assert_eq(shard_has(0, 2, ""), SG_OK);
    cr_assert_eq(shard_has(1, 2, "8 1 1@1"), SG_OK);
    cr_assert_eq(rollup_next(&r, 2), 0);
    cr_assert(rollup_misses(&r, 2, 7)); /* it is past where the partition stands */
    cr_assert_eq(rollup_log_start(&r, 2, 7), 0);
    cr_assert_eq(rollup_next(&r, 2), 7);
    rollup_drop(&r, 2);
    rollup_take(&r, 2);
    cr_assert_eq(shard_has(0, 2, ""), SG_OK);
    cr_assert_eq(shard_has(1, 2, "8 1 1@1"), SG_OK);
    cr_assert_eq(rollup_log_start(&r, 2, 10), 3);
    cr_assert_eq(rollup_log_start(&r, 2, 10), 0);
    rollup_lost(&r, 1);
    cr_assert_eq(shard_has(1, 2, "11 1 1@1"), SG_OK);
    cr_assert_eq(rollup_log_start(&r, 2, 10), 0); /* it has them */
}

Test(rollup_shards, the_latest_time_is_what_was_heard)
{
    rollup_heard(&r, 1, at(5)); /* is not taken */
    cr_assert_eq(r.partition[1].heard.v, 0);
    rollup_heard(&r, 0, at(5));
    rollup_heard(&r, 0, at(4));
    cr_assert_eq(r.partition[0].heard.v, HOUR + 5);
    usage(0);
    land(); /* its message time is HOUR */
    cr_assert_eq(r.partition[0].heard.v, HOUR + 5);
    rollup_take(&r, 2);
    cr_assert_eq(shard_has(0, 2, "0 7"), SG_OK);
    cr_assert_eq(shard_has(1, 2, "0 9"), SG_OK);
    cr_assert_eq(r.partition[2].heard.v, 7); /* by all shards */
}

Test(rollup_shards, the_queue_has_a_limit_in_batches)
{
    for (int i = 0; i < ROLLUP_QUEUE_MAX; i++) {
        cr_assert_not(rollup_queue_full(&r));
        rollup_enqueue(&r, 0, rollup_next(&r, 0), at(0), NULL, NULL);
    }
    cr_assert(rollup_queue_full(&r));
    nothing_is_stored();
    cr_assert_not(rollup_queue_full(&r));
    cr_assert_eq(rollup_next(&r, 0), ROLLUP_QUEUE_MAX);
}

Test(rollup_shards, the_queue_has_a_limit_in_rows)
{
    for (uint64_t n = 1; n <= ROLLUP_QUEUE_ROWS_MAX / BATCH_ROWS_MAX; n++) {
        cr_assert_not(rollup_queue_full(&r));
        uint32_t s = sandbox_of("s", team[0], "p1");
        for (int i = 0; i < BATCH_ROWS_MAX; i++)
            cr_assert_eq(batch_builder_state(builder, s, at(i), SANDBOX_RUNNING), SG_OK);
        enqueue_in(0, 1, n);
    }
    cr_assert(rollup_queue_full(&r));
    nothing_is_stored();
    cr_assert(!rollup_queue_full(&r) && r.rows == ROLLUP_QUEUE_ROWS_MAX);
}

/* A row of every kind. */
static void one_of_each(uint32_t shard)
{
    uint32_t s = sandbox_of("s", team[shard], "p1");
    cr_assert_eq(batch_builder_start(builder, s, at(0), 1, 0), SG_OK);
    slice(s, 0, 10, 1);
    cr_assert_eq(batch_builder_state(builder, s, at(5), SANDBOX_RUNNING), SG_OK);
    cr_assert_eq(batch_builder_exec(builder, s, at(6), 0, 1), SG_OK);
    cr_assert_eq(batch_builder_end(builder, s, at(10), REASON_API, 0), SG_OK);
    cr_assert_eq(batch_builder_api_call(builder, team[shard], "p1", at(1), OPERATION_OTHER, 200), SG_OK);
}

Test(rollup_shards, on_replay_rows_of_a_shard_that_has_them_are_left_out)
{
    stored_mark("at", "0");
    rollup_take(&r, 2);
    cr_assert_eq(shard_has(0, 2, ""), SG_OK);
    cr_assert_eq(shard_has(1, 2, "2 1 1@1"), SG_OK);
    cr_assert_not(rollup_flush_begin(&r, 1, &flush)); /* its entry is ahead */
    for (uint64_t n = 1; n <= 3; n++) {
        one_of_each(0);
        one_of_each(1);
        usage(1); /* and one that has nothing else */
        enqueue_in(2, 1, n);
        nothing_is_stored();
        size_t of_shard[SHARDS] = {0};
        for (size_t i = 0; i < r.cells.slot_count; i++)
            if (r.cells.slot[i]) of_shard[r.cells.slot[i]->shard]++;
        cr_assert_gt(of_shard[0], 0);
        cr_assert_eq(of_shard[1] > 0, n == 3, "batch %llu", (unsigned long long)n);
    }
    const char *words = flushed_of(1);
    SAYS(words, "|2|@3 vcpu_ms=40 ");
    SAYS_NOT(words, ":marks:"); /* they are elsewhere */
    cr_assert_eq(r.partition[2].marks.duplicates, 0);
}

Test(rollup_shards, on_replay_the_entry_holds_back_what_it_did_and_what_came_since)
{
    static const int64_t complete_through[] = {0, 90, 40, 70}; /* after HOUR, 0: nothing to wait for */
    static const char *const held[] = {"4 9 1763884800060@9", "5 9 1763884800060@9", "6 9 1763884800040@9",
                                       "7 9 1763884800040@9"};
    char want[128];
    rollup_take(&r, 2);
    stored_mark("at", "10");
    cr_assert_eq(shard_has(0, 2, "3 9 1763884800060@9"), SG_OK);
    cr_assert_eq(shard_has(1, 2, "3 9"), SG_OK);
    for (size_t i = 0; i < 4; i++) {
        struct wall_ms ct = {complete_through[i] ? HOUR + complete_through[i] : 0};
        const struct batch_head head = {"r1", "eu", 1, i + 1, no_sha256, ct, {0}};
        usage(0);
        enqueue_under(2, &head);
        nothing_is_stored();
        (void)snprintf(want, sizeof want, "HSET|sg:{s0}:v|2|%s|", held[i]);
        SAYS(flushed_of(0), want);
    }
    rollup_enqueue(&r, 2, 7, at(0), NULL, NULL); /* says nothing of its runner */
    nothing_is_stored();
    SAYS(flushed_of(1), "HSET|sg:{s1}:v|2|8 9 1@9|"); /* it does not say what it held back: everything */
}

Test(rollup_shards, what_a_shard_has_not_stored_holds_it_back_also_when_another_is_lost)
{
    rollup_take(&r, 2);
    stored_mark("at", "3");
    cr_assert_eq(shard_has(0, 2, "3 9 1763884800060@9"), SG_OK);
    cr_assert_eq(shard_has(1, 2, "3 9 1763884800060@9"), SG_OK);
    for (int n = 1; n <= 2; n++) {
        const struct batch_head head = {n == 1 ? "r2" : "r3", "eu", 1, 1, no_sha256, {HOUR + 20 + n}, {0}};
        usage(1);
        enqueue_under(2, &head);
        nothing_is_stored();
    }
    wordlist_reset(&marks);
    stored_mark("at", "5");
    rollup_lost(&r, 0);
    cr_assert_eq(shard_has(0, 2, "4 9 1763884800021@9"), SG_OK);
    cr_assert_eq(rollup_next(&r, 2), 4); /* the first of the two is not applied again */
    SAYS(flushed_of(1), "HSET|sg:{s1}:v|2|4 9 1763884800021@9|");
    (void)rollup_flush_ok(&r, &flush);
    cr_assert_eq(r.partition[2].seen[1].held.v, 0);
}

Test(rollup_shards, an_idle_partition_whose_marks_are_ahead_says_nothing)
{
    rollup_take(&r, 2);
    stored_mark("at", "10");
    cr_assert_eq(shard_has(0, 2, "3 9 500@9"), SG_OK);
    cr_assert_eq(shard_has(1, 2, "3 9 500@9"), SG_OK);
    rollup_heard(&r, 2, at(HOUR_MS));
    cr_assert_not(rollup_flush_begin(&r, 0, &flush));
}

Test(rollup_shards, only_what_changed_is_written_and_only_at_home)
{
    const struct batch_head other = {"r2", "eu", 1, 1, no_sha256, at(1), {0}};
    const struct batch_capacity is = {.warm = 1};
    rollup_take(&r, 1);
    rollup_take(&r, 2);
    know("");
    cr_assert_eq(batch_builder_capacity(builder, at(1), &is), SG_OK);
    enqueue_under(2, &other);
    usage(0);
    enqueue_in(2, 1, 1);
    nothing_is_stored();
    const char *words = flushed_of(0);
    SAYS(words, "|r:r2:1|");
    SAYS(words, "|r:r1:1|");
    SAYS(words, "sg:{s0}:cap:2|r2|");
    acknowledge();
    usage(0);
    enqueue_in(2, 1, 2);
    nothing_is_stored();
    words = flushed_of(0);
    SAYS_NOT(words, "|r:r2:1|");
    SAYS_NOT(words, "sg:{s0}:cap:");
    SAYS(words, "|r:r1:1|seq=2 ");
    acknowledge();
    words = flushed_of(1);
    SAYS_NOT(words, "marks:2|r:");
    SAYS(words, "HSET|sg:{s1}:v|2|");
}

Test(rollup_shards, an_hour_of_capacity_is_deleted_after_two_days)
{
    const struct batch_capacity is = {.warm = 1};
    cr_assert_eq(batch_builder_capacity(builder, at(0), &is), SG_OK);
    land();
    (void)flushed_of(0);
    acknowledge();
    cr_assert_eq(batch_builder_capacity(builder, at(MARKS_CAPACITY_KEPT_MS + 1), &is), SG_OK);
    land();
    SAYS(flushed_of(0), "3|HDEL|sg:{s0}:cap:0|r1:1763884800|");
}

Test(rollup_shards, duplicates_that_the_log_forgot_are_deleted_a_thousand_at_a_time)
{
    char field[24];
    rollup_take(&r, 2);
    stored_mark("at", "1100");
    for (int i = 0; i < 1100; i++) {
        (void)snprintf(field, sizeof field, "d:%d", i);
        stored_mark(field, "");
    }
    cr_assert_eq(rollup_log_start(&r, 2, 1100), 0);
    cr_assert_eq(shard_has(0, 2, ""), SG_OK);
    cr_assert_eq(shard_has(1, 2, ""), SG_OK);
    for (size_t left = 1100; left > 0;) {
        size_t deleted = left > 1000 ? 1000 : left;
        rollup_enqueue(&r, 2, rollup_next(&r, 2), at(0), NULL, NULL);
        nothing_is_stored();
        (void)snprintf(field, sizeof field, "|%zu|HDEL|", deleted + 2);
        SAYS(flushed_of(0), field);
        acknowledge();
        left -= deleted;
        cr_assert_eq(r.partition[2].marks.duplicate_count, left);
    }
}

Test(rollup_shards, the_token_stands_at_every_partition_that_is_taken_and_at_no_other)
{
    rollup_take(&r, 1);
    rollup_take(&r, 2);
    know("");
    rollup_drop(&r, 0);
    usage(0);
    enqueue_in(2, 1, 1);
    nothing_is_stored();
    r.chunk_cells = 1;
    r.nonce = 77;
    r.flushes = 5;
    SAYS(flushed_of(0), "|6|HSET|sg:{s0}:flush|1|77:5:1|2|77:5:1|");
    cr_assert(rollup_flush_ok(&r, &flush));
    rollup_flush_chunk(&r, &flush);
    SAYS(words_of_chunk(), "|3|sg:{s0}:flush|1|77:5:1|sg:{s0}:flush|2|77:5:1|sg:{s0}:marks:2|at||");
}

Test(rollup_shards, many_dirty_cells_make_a_flush_due)
{
    for (uint64_t i = 0; i < ROLLUP_DIRTY_MAX; i++) {
        cr_assert_not(rollup_flush_due(&r));
        char id[24];
        (void)snprintf(id, sizeof id, "s%llu", (unsigned long long)i);
        struct cell *cell = cells_run(&r.cells, 0, (uint32_t)i % SHARDS, id, cells_hash(id));
        cr_assert_eq(cells_load(&r.cells, cell, NULL, 0, 0), SG_OK);
        cells_touch(&r.cells, cell, 1, at(0));
    }
    cr_assert(rollup_flush_due(&r) && rollup_dirty(&r) == ROLLUP_DIRTY_MAX);
}

Test(rollup_shards, many_changed_marks_make_a_flush_due)
{
    for (int i = 0; i < MARKS_CHANGED_MAX; i++) {
        cr_assert_not(rollup_flush_due(&r));
        rollup_enqueue(&r, 0, rollup_next(&r, 0), at(0), NULL, NULL);
        nothing_is_stored();
    }
    cr_assert(rollup_flush_due(&r) && rollup_dirty(&r) == 0);
}
