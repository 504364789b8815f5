/* The rollup, rule by rule: real batches in, the words of a flush out. One shard, one partition. */
#include "tests/unit/rollup_fixture.h"

static void begin(void)
{
    begin_with(1, 1);
}

TestSuite(rollup, .init = begin, .fini = end);

Test(rollup, a_slice_is_in_its_minute_hour_and_day)
{
    slice(sandbox("s1"), 61000, 10000, 7);
    land();
    const char *words = flushed();
    static const char cell[] =
        "|0|@1 vcpu_ms=20000 mem_mib_ms=10240000 disk_mib_ms=40960000 running_ms=10000 cpu_us=7 net_rx_bytes=1|";
    char want[256];
    static const char *const keys[] = {"u:m:1763884860", "u:h:1763884800", "u:d:1763856000"};
    for (size_t i = 0; i < 3; i++) {
        (void)snprintf(want, sizeof want, "HSET|sg:{s0}:%s:t1:p1:eu%s", keys[i], cell);
        SAYS(words, want);
    }
    SAYS(words, "ZADD|sg:{s0}:ux:m:t1|1763884860|1763884860:p1:eu|");
    SAYS(words, "HSET|sg:{s0}:due|t1:1763884800:0|1|");
    SAYS(words, "HSET|sg:{s0}:arch|d:1763856000:t1:p1:eu:0|1|");
    SAYS(words, "HSET|sg:{s0}:v|0|1 1763884800000 1763884800001@1763884800000|");
}

Test(rollup, calls_are_counted_by_kind)
{
    uint32_t s = sandbox("s1");
    cr_assert_eq(batch_builder_start(builder, s, at(0), 1 + ORIGIN_FORK, 9), SG_OK);
    cr_assert_eq(batch_builder_start(builder, sandbox("s2"), at(0), START_ADOPTED, 0), SG_OK);
    cr_assert_eq(batch_builder_exec(builder, s, at(1), 137, 5), SG_OK);
    cr_assert_eq(batch_builder_exec(builder, s, at(2), 0, 5), SG_OK);
    cr_assert_eq(batch_builder_exec(builder, s, at(2), 0, 5), SG_OK);
    cr_assert_eq(batch_builder_end(builder, s, at(3), REASON_OOM, 500), SG_OK);
    cr_assert_eq(batch_builder_api_call(builder, "t1", "p1", at(4), OPERATION_OTHER, 429), SG_OK);
    land();
    SAYS(flushed(),
         "u:h:1763884800:t1:p1:eu|0|@1 execs=3 creates.fork=1 destroys.oom=1 exit.0=2 exit.137=1 api.other.4xx=1|");
}

Test(rollup, a_run_is_told_from_start_to_end)
{
    uint32_t s = sandbox("s1");
    cr_assert_eq(batch_builder_start(builder, s, at(5), 1 + ORIGIN_CREATE, 9), SG_OK);
    slice(s, 5, 1000, 3);
    land();
    SAYS(flushed(), "ALIVE|sg:{s0}:ra:t1|sg:{s0}:re:t1|s1|1763884800005|");
    acknowledge();
    s = sandbox("s1");
    slice(s, 1005, 500, 4);
    cr_assert_eq(batch_builder_exec(builder, s, at(1200), 3, 1), SG_OK);
    cr_assert_eq(batch_builder_end(builder, s, at(1505), REASON_API, 777), SG_OK);
    land();
    const char *words = flushed();
    SAYS(words,
         "HSET|sg:{s0}:r:s1|0|@2 team=t1 project=p1 region=eu runner=r1 vcpus=2 mem_mib=1024 disk_mib=4096 state=ended "
         "origin=create create_ms=9 created=1763884800005 started=1763884800005 ended=1763884801505 reason=api "
         "seen=1763884801505 mem_peak=777 exit=3 exit_at=1763884801200 running_ms=1500 cpu_us=7 net_rx_bytes=2 "
         "execs=1|");
    SAYS(words, "ENDED|sg:{s0}:ra:t1|sg:{s0}:re:t1|s1|1763884801505|");
}

Test(rollup, hibernation_and_return_are_states_of_a_run)
{
    uint32_t s = sandbox("s1");
    cr_assert_eq(batch_builder_start(builder, s, at(0), 1, 0), SG_OK);
    cr_assert_eq(batch_builder_state(builder, s, at(10), SANDBOX_HIBERNATED), SG_OK);
    land();
    SAYS(flushed(), "state=hibernated");
    acknowledge();
    cr_assert_eq(batch_builder_state(builder, sandbox("s1"), at(20), SANDBOX_RUNNING), SG_OK);
    land();
    SAYS(flushed(), "state=running");
}

Test(rollup, a_second_life_of_a_sandbox_goes_on_with_its_run)
{
    uint32_t s = sandbox("s1");
    cr_assert_eq(batch_builder_start(builder, s, at(0), 1, 0), SG_OK);
    slice(s, 0, 10, 1);
    cr_assert_eq(batch_builder_end(builder, s, at(10), REASON_API, 0), SG_OK);
    s = sandbox("s1");
    cr_assert_eq(batch_builder_start(builder, s, at(20), 1 + ORIGIN_RESTORE, 0), SG_OK);
    slice(s, 20, 10, 1);
    land();
    SAYS(flushed(),
         "state=running origin=create create_ms=0 created=1763884800000 started=1763884800020 seen=1763884800030");
    SAYS(flushed(), "running_ms=20 cpu_us=2");
}

Test(rollup, an_hour_other_than_that_of_the_start_has_a_cell_of_its_own)
{
    uint32_t s = sandbox("s1");
    cr_assert_eq(batch_builder_start(builder, s, at(HOUR_MS - 1000), 1, 0), SG_OK);
    slice(s, HOUR_MS - 1000, 1000, 3);
    slice(s, HOUR_MS, 2000, 4);
    land();
    const char *words = flushed();
    SAYS(words, "r:s1|0:1763888400|@1 running_ms=2000 cpu_us=4 net_rx_bytes=1|");
    SAYS_NOT(words, "r:s1|0:1763884800|");
    SAYS(words, "running_ms=3000 cpu_us=7");
}

Test(rollup, a_batch_that_was_there_is_a_duplicate_and_remembered)
{
    slice(sandbox("s1"), 0, 10, 7);
    land_as(1, 1);
    slice(sandbox("s1"), 0, 10, 7);
    land_as(1, 1);
    const char *words = flushed();
    SAYS(words, "cpu_us=7 ");
    SAYS(words, "|d:1||");
    SAYS(words, "|at|2|");
    cr_assert_eq(r.partition[0].marks.duplicates, 1);
}

Test(rollup, a_jump_counts_and_is_a_gap)
{
    slice(sandbox("s1"), 0, 10, 7);
    land_as(1, 1);
    slice(sandbox("s1"), 10, 10, 7);
    land_as(1, 5);
    const char *words = flushed();
    SAYS(words, "cpu_us=14 ");
    SAYS(words, "gaps:0|1:0|kind=seq runner=r1 region=eu from=1763884800001 to=1763884800005 first=2 last=4|");
    SAYS(words, "|r:r1:1|seq=5 ");
}

Test(rollup, epochs_count_for_themselves_and_only_the_newest_holds_back)
{
    slice(sandbox("s1"), 0, 10, 7);
    land_as(1, 1);
    slice(sandbox("s1"), 10, 10, 7);
    land_as(2, 1);
    slice(sandbox("s1"), 20, 10, 7);
    land_as(1, 2); /* in flight when the process died */
    const char *words = flushed();
    SAYS(words, "cpu_us=21 ");
    SAYS(words, "HSET|sg:{s0}:v|0|3 1763884800002 1763884800001@1763884800001|");
    cr_assert_eq(r.partition[0].marks.duplicates, 0);
}

Test(rollup, what_a_source_lacks_is_a_gap)
{
    cr_assert_eq(batch_builder_gap(builder, at(1), at(2), 10, 12), SG_OK);
    land();
    SAYS(flushed(), "gaps:0|0:0|kind=source runner=r1 region=eu from=1763884800001 to=1763884800002 first=10 last=12|");
}

Test(rollup, an_unreadable_batch_is_quarantined_and_the_position_moves_on)
{
    rollup_enqueue(&r, 0, 0, at(3), NULL, NULL);
    nothing_is_stored();
    cr_assert_eq(rollup_next(&r, 0), 1);
    const char *words = flushed();
    SAYS(words, "gaps:0|0:0|kind=quarantined runner=- region=- from=1763884800003 ");
    SAYS(words, "HSET|sg:{s0}:v|0|1 ");
}

Test(rollup, capacity_is_the_newest_and_the_hours_peak)
{
    const struct batch_capacity high = {10, 20, 30, 4, 9, 19, 29, 8}, low = {11, 21, 31, 5, 1, 2, 3, 1};
    cr_assert_eq(batch_builder_capacity(builder, at(1), &high), SG_OK);
    cr_assert_eq(batch_builder_capacity(builder, at(2), &low), SG_OK);
    land();
    const char *words = flushed();
    SAYS(words, "cap:0|r1|region=eu at=1763884800002 vcpus_total=11 mem_mib_total=21 disk_mib_total=31 warm=5 "
                "vcpus_allocated=1 ");
    SAYS(words,
         "cap:0|r1:1763884800|region=eu at=1763884800002 vcpus_total=11 mem_mib_total=21 disk_mib_total=31 warm=5 "
         "vcpus_allocated=9 mem_mib_allocated=19 disk_mib_allocated=29 sandboxes_running=8|");
}

Test(rollup, minutes_and_runs_expire_by_message_time_and_say_so_once)
{
    slice(sandbox("s1"), 0, 10, 7);
    land();
    const char *words = flushed();
    SAYS(words, "EXPIREAT|sg:{s0}:u:m:1763884800:t1:p1:eu|1764061200|");
    SAYS(words, "EXPIREAT|sg:{s0}:r:s1|1766480400|");
    acknowledge();
    slice(sandbox("s1"), 10, 10, 7);
    land();
    words = flushed();
    SAYS_NOT(words, "EXPIREAT");
    SAYS_NOT(words, "ZADD");
}

Test(rollup, a_flush_names_what_must_be_stored_before_it)
{
    slice(sandbox("s1"), 0, 10, 7);
    land();
    (void)flushed();
    cr_assert(word_is(0, "1") && word_is(1, "0") && word_is(2, ""));
    cr_assert(word_is(3, "1") && word_is(4, "sg:{s0}:marks:0") && word_is(5, "at") && word_is(6, ""));
    acknowledge();
    slice(sandbox("s1"), 10, 10, 7);
    land();
    (void)flushed();
    cr_assert(word_is(2, "1 1763884800000 1763884800001@1763884800000"));
    cr_assert(word_is(6, "1"));
}

Test(rollup, a_chunk_of_a_flush_must_find_what_the_one_before_has_left)
{
    slice(sandbox("s1"), 0, 10, 7);
    land();
    r.chunk_cells = 3;
    r.nonce = 77;
    r.flushes = 5;
    const char *words = flushed();
    SAYS(words, "4|HSET|sg:{s0}:flush|0|77:5:1|");
    SAYS_NOT(words, "sg:{s0}:v|");
    cr_assert(rollup_flush_ok(&r, &flush));
    rollup_flush_chunk(&r, &flush);
    cr_assert(flush.last);
    cr_assert(word_is(3, "2") && word_is(4, "sg:{s0}:flush") && word_is(5, "0") && word_is(6, "77:5:1"));
    cr_assert_not(rollup_flush_ok(&r, &flush));
}

/* The first word of the commands. */
static const char *commands_of(const char *words)
{
    const char *first = strstr(words, "|HSET|");
    return first && strstr(words, "|HDEL|") && strstr(words, "|HDEL|") < first ? NULL : first;
}

/* One that is cut behind its first cell must be seen by whoever is in the middle of a flush: his token is gone. And by
 * its first command Redis tells whether there is memory: one that deletes is no such. */
Test(rollup, a_chunk_overwrites_tokens_before_it_changes_a_cell_and_leaves_its_own_at_the_end)
{
    static const char begun[] = "|HSET|sg:{s0}:flush|0|-|", left[] = "|4|HSET|sg:{s0}:flush|0|77:5:1|";
    slice(sandbox("s1"), 0, 10, 7);
    land();
    r.chunk_cells = 3;
    r.nonce = 77;
    r.flushes = 5;
    const char *words = flushed();
    cr_assert_eq(commands_of(words), strstr(words, begun));
    SAYS(words, left);
    cr_assert_null(strstr(strstr(words, left) + 3, "HSET|sg:{s0}:u"));
    cr_assert(rollup_flush_ok(&r, &flush));
    rollup_flush_chunk(&r, &flush);
    words = words_of_chunk();
    cr_assert(flush.last);
    cr_assert_eq(commands_of(words), strstr(words, begun));
    SAYS(words, "|3|HDEL|sg:{s0}:flush|0|");
}

/* Whoever has one of the partitions, and perhaps others before it, writes between two chunks: neither goes on. */
Test(rollup, a_chunk_leaves_its_token_at_every_partition)
{
    rollup_destroy(&r);
    rollup_init(&r, 1, 3);
    rollup_take(&r, 0);
    rollup_take(&r, 2);
    know("");
    slice(sandbox("s1"), 0, 10, 7);
    land();
    r.chunk_cells = 3;
    r.nonce = 77;
    r.flushes = 5;
    SAYS(flushed(), "6|HSET|sg:{s0}:flush|0|77:5:1|2|77:5:1|");
    cr_assert(rollup_flush_ok(&r, &flush));
    rollup_flush_chunk(&r, &flush);
    cr_assert(flush.last);
    size_t found = 1 + 2 * 2; /* behind what the vector must say */
    cr_assert(word_is(found, "4"));
    cr_assert(word_is(found + 1, "sg:{s0}:flush") && word_is(found + 2, "0") && word_is(found + 3, "77:5:1"));
    cr_assert(word_is(found + 4, "sg:{s0}:flush") && word_is(found + 5, "2") && word_is(found + 6, "77:5:1"));
    cr_assert_not(rollup_flush_ok(&r, &flush));
}

Test(rollup, after_a_flush_nothing_is_dirty_and_nothing_is_written)
{
    slice(sandbox("s1"), 0, 10, 7);
    land();
    cr_assert_gt(rollup_dirty(&r), 0);
    (void)flushed();
    acknowledge();
    cr_assert_eq(rollup_dirty(&r), 0);
    cr_assert_not(rollup_flush_begin(&r, 0, &flush));
}

Test(rollup, an_idle_partition_has_an_entry_once_its_end_was_seen)
{
    cr_assert_not(rollup_flush_begin(&r, 0, &flush));
    rollup_heard(&r, 0, at(0));
    SAYS(flushed(), "HSET|sg:{s0}:v|0|0 1763884800000|");
    acknowledge();
    rollup_heard(&r, 0, at(ROLLUP_HEARD_REFRESH_MS - 1));
    cr_assert_not(rollup_flush_begin(&r, 0, &flush));
    rollup_heard(&r, 0, at(ROLLUP_HEARD_REFRESH_MS));
    cr_assert(rollup_flush_begin(&r, 0, &flush));
}

Test(rollup, on_replay_below_the_marks_the_watermark_is_held)
{
    struct wordlist marks = {0}, none = {0};
    struct sg_fault f;
    struct mark m = {.seq = 9, .ct = at(99999), .last = at(9), .region = {"eu"}};
    char text[MARK_BYTES_MAX];
    wordlist_text(&marks, "at");
    wordlist_text(&marks, "10");
    wordlist_text(&marks, "r:r1:1");
    wordlist_add(&marks, text, mark_encode(&m, text));
    rollup_lost(&r, 0);
    struct rollup_stored stored = {"", 0, &marks, &none};
    cr_assert_eq(rollup_know(&r, 0, 0, &stored, &f), SG_OK);
    slice(sandbox("s1"), 0, 10, 7);
    land_as(1, 1);
    SAYS(flushed(), "HSET|sg:{s0}:v|0|1 0 1@0|");
    wordlist_destroy(&marks);
}

Test(rollup, marks_behind_their_vector_are_a_damaged_store)
{
    struct wordlist none = {0};
    struct sg_fault f;
    rollup_lost(&r, 0);
    struct rollup_stored stored = {"5 1 1@1", 7, &none, &none};
    cr_assert_eq(rollup_know(&r, 0, 0, &stored, &f), SG_ERR_CORRUPT);
}

Test(rollup, a_lost_shard_is_forgotten_and_the_position_goes_back)
{
    slice(sandbox("s1"), 0, 10, 7);
    land();
    (void)flushed();
    acknowledge();
    slice(sandbox("s1"), 10, 10, 7);
    land();
    cr_assert_eq(rollup_next(&r, 0), 2);
    rollup_lost(&r, 0);
    cr_assert(rollup_unknown(&r, 0));
    cr_assert_eq(r.cells.count, 0);
    know("");
    cr_assert_eq(rollup_next(&r, 0), 0);
}

Test(rollup, what_the_log_has_forgotten_is_counted)
{
    cr_assert_eq(rollup_log_start(&r, 0, 7), 7);
    cr_assert_eq(rollup_next(&r, 0), 7);
    cr_assert_eq(rollup_log_start(&r, 0, 7), 0);
    rollup_lost(&r, 0);
    know("");
    cr_assert_eq(rollup_log_start(&r, 0, 7), 0);
    rollup_lost(&r, 0);
    know("");
    cr_assert_eq(rollup_log_start(&r, 0, 9), 2);
    cr_assert_eq(rollup_next(&r, 0), 9);
}

Test(rollup, rows_below_a_cells_own_offset_are_skipped)
{
    struct rollup_read q = {0};
    struct batch b;
    const uint8_t *bytes, sha[SHA256_BYTES] = {0};
    size_t length;
    const struct batch_head head = {"r1", "eu", 1, 1, sha, at(1), {0}};
    slice(sandbox("s1"), 0, 10, 7);
    cr_assert_eq(batch_builder_seal(builder, &head, &bytes, &length), SG_OK);
    cr_assert_eq(batch_decode(&decoder, bytes, length, &b, NULL), SG_OK);
    rollup_enqueue(&r, 0, 0, at(0), &b, sha);
    cr_assert(rollup_needs(&r, &q));
    for (size_t i = 0; i < q.count; i++) {
        bool day = q.cell[i]->kind == CELL_ROLLUP && q.cell[i]->window == WINDOW_DAY;
        static const char text[] = "@4 cpu_us=100";
        cr_assert_eq(rollup_loaded(&r, &q, i, day ? text : NULL, sizeof text - 1), SG_OK);
    }
    cr_assert(rollup_apply(&r));
    const char *words = flushed();
    SAYS(words, "u:d:1763856000:t1:p1:eu|0|@4 cpu_us=100|");
    SAYS(words, "u:h:1763884800:t1:p1:eu|0|@1 ");
    acknowledge();
    cr_assert_eq(rollup_dirty(&r), 1); /* the day's cell stands beyond the vector: it is written again */
    rollup_read_destroy(&q);
}

Test(rollup, a_sum_that_does_not_fit_stays_at_the_largest_number)
{
    uint64_t sum = UINT64_MAX - 1;
    cells_add(&r.cells, &sum, 5);
    cr_assert_eq(sum, UINT64_MAX);
    cells_add(&r.cells, &sum, 5);
    cr_assert_eq(sum, UINT64_MAX);
    cr_assert_eq(r.cells.saturated, 2);
}

Test(rollup, only_clean_cells_are_forgotten)
{
    slice(sandbox("s1"), 0, 10, 7);
    land();
    size_t count = r.cells.count;
    cells_sweep(&r.cells, UINT32_MAX, r.cells.slot_count);
    cr_assert_eq(r.cells.count, count);
    (void)flushed();
    acknowledge();
    cells_sweep(&r.cells, UINT32_MAX, r.cells.slot_count);
    cr_assert_eq(r.cells.count, 0);
    cr_assert_eq(r.cells.group_count, 0);
}

Test(rollup, a_flush_is_cut_into_chunks_and_the_vector_comes_last)
{
    r.chunk_cells = 2;
    slice(sandbox("s1"), 0, 10, 7);
    slice(sandbox("s2"), 0, 10, 7);
    land(); /* minute, hour, day, two runs */
    const char *words = flushed();
    SAYS_NOT(words, "{s0}:v|");
    cr_assert_not(flush.last);
    cr_assert(rollup_flush_ok(&r, &flush));
    rollup_flush_chunk(&r, &flush);
    cr_assert_not(flush.last);
    cr_assert(rollup_flush_ok(&r, &flush));
    rollup_flush_chunk(&r, &flush);
    acknowledge();
    cr_assert_eq(rollup_dirty(&r), 0);
}
