/* Marks of one partition: which batches count, what is remembered of them, and what of a stored text is refused. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "aggregator/rollup/marks.h"

#define HOUR INT64_C(1763884800000)

static struct marks m;

static void end(void)
{
    marks_destroy(&m);
}

TestSuite(marks, .fini = end);

/* Batch `seq` of a runner's epoch, at the offset behind the newest. */
static struct digest batch(const char *runner, uint64_t epoch, uint64_t seq)
{
    struct digest d = {.offset = m.at,
                       .message_time = {HOUR + (int64_t)m.at},
                       .region = {"eu"},
                       .epoch = epoch,
                       .seq = seq,
                       .complete_through = {HOUR + (int64_t)seq}};
    (void)snprintf(d.runner.s, sizeof d.runner.s, "%s", runner);
    return d;
}

static bool counts(const char *runner, uint64_t epoch, uint64_t seq)
{
    const struct digest d = batch(runner, epoch, seq);
    return marks_decide(&m, &d);
}

static enum sg_error load(const char *field, const char *text)
{
    return marks_load(&m, field, strlen(field), text, strlen(text));
}

static enum sg_error load_capacity(const char *field, const char *text)
{
    return marks_load_capacity(&m, field, strlen(field), text, strlen(text));
}

/* Runners' number seqs on their own, in a table that grows twice. */
Test(marks, a_hundred_runners_count_for_themselves)
{
    char runner[16];
    for (uint64_t seq = 1; seq <= 2; seq++) {
        for (int i = 0; i < 100; i++) {
            (void)snprintf(runner, sizeof runner, "r%d", i);
            cr_assert(counts(runner, 1, seq), "%s %llu", runner, (unsigned long long)seq);
            cr_assert(counts(runner, 2, seq));
        }
    }
    cr_assert(m.runner_count == 200 && m.gaps == 0 && m.duplicates == 0);
    for (size_t i = 0; i < m.runner_count; i++) {
        cr_assert_eq(m.runner[i].superseded, m.runner[i].epoch == 1);
        cr_assert_eq(m.runner[i].mark.seq, 2);
    }
}

Test(marks, an_old_epoch_that_comes_late_is_superseded)
{
    struct vector_entry e = {0};
    cr_assert(counts("r", 2, 1) && counts("r", 1, 1) && counts("other", 1, 7));
    cr_assert(!m.runner[0].superseded && m.runner[1].superseded);
    marks_staircase(&m, &e);
    cr_assert_eq(e.pair_count, 2);
    vector_entry_destroy(&e);
}

Test(marks, below_at_all_count_but_duplicates_and_what_cannot_be_read)
{
    cr_assert(counts("r", 1, 1)); /* 0 */
    for (int i = 1; i <= 3; i++) cr_assert_not(counts("r", 1, 1));
    struct digest unreadable = {.offset = 4, .unreadable = true, .message_time = {HOUR}};
    cr_assert_not(marks_decide(&m, &unreadable));
    cr_assert(counts("r", 1, 2)); /* 5 */
    cr_assert(m.duplicates == 3 && m.quarantined == 1 && m.gaps == 1);
    static const bool again[] = {true, false, false, false, false, true};
    for (uint64_t offset = 0; offset < 6; offset++) {
        struct digest d = batch("r", 1, 1);
        d.offset = offset;
        d.unreadable = offset == 4;
        cr_assert_eq(marks_decide(&m, &d), again[offset], "offset %llu", (unsigned long long)offset);
    }
    cr_assert(m.duplicates == 3 && m.quarantined == 1 && m.gaps == 1 && m.at == 6);
}

Test(marks, a_gap_starts_where_the_runner_was_complete_or_at_the_batch_that_tells_of_it)
{
    static const struct {
        int64_t complete_through; /* after HOUR */
        int64_t from;
    } cases[] = {{10, 10}, {30, 10}, {20, 20}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct digest d = batch("r", 1, 10 * (i + 1));
        d.complete_through.v = HOUR + cases[i].complete_through;
        cr_assert(marks_decide(&m, &d));
        const struct gap *g = &m.gap[i].gap;
        cr_assert(g->from.v == HOUR + cases[i].from && g->to.v == d.complete_through.v, "case %zu", i);
        cr_assert(g->last == d.seq - 1);
    }
}

Test(marks, the_chain_breaks_when_the_batch_before_was_another)
{
    struct digest d = batch("r", 1, 1);
    d.sha256[0] = 7;
    cr_assert(marks_decide(&m, &d));
    d = batch("r", 1, 2);
    d.previous_sha256[0] = d.sha256[0] = 7;
    cr_assert(marks_decide(&m, &d));
    cr_assert_eq(m.chain_breaks, 0);
    d = batch("r", 1, 3);
    cr_assert(marks_decide(&m, &d));
    cr_assert_eq(m.chain_breaks, 1);
}

/* As one row of a batch. */
static void capacity(const char *runner, int64_t at, uint64_t warm, uint64_t vcpus_allocated)
{
    static uint64_t seq;
    struct digest d = batch(runner, 1, ++seq);
    struct digest_capacity row = {{HOUR + at}, {.warm = warm, .vcpus_allocated = vcpus_allocated}};
    d.capacity = &row;
    d.capacity_count = 1;
    cr_assert(marks_decide(&m, &d));
}

Test(marks, an_older_capacity_raises_the_peak_and_nothing_else)
{
    capacity("r", 100, 1, 5);
    capacity("r", 50, 2, 9);
    cr_assert_eq(m.capacity_count, 2);
    const struct capacity *newest = &m.capacity[0].capacity, *hour = &m.capacity[1].capacity;
    cr_assert(newest->at.v == HOUR + 100 && newest->is.warm == 1 && newest->is.vcpus_allocated == 5);
    cr_assert(hour->at.v == HOUR + 100 && hour->is.warm == 1 && hour->is.vcpus_allocated == 9);
}

Test(marks, hours_of_the_same_runner_are_dropped_after_two_days)
{
    capacity("r", 0, 1, 1);
    capacity("other", 0, 1, 1);
    capacity("r", MARKS_CAPACITY_KEPT_MS, 1, 1);
    for (size_t i = 0; i < m.capacity_count; i++) cr_assert_not(m.capacity[i].dropped);
    capacity("r", MARKS_CAPACITY_KEPT_MS + 1, 1, 1);
    for (size_t i = 0; i < m.capacity_count; i++)
        cr_assert_eq(m.capacity[i].dropped, m.capacity[i].hour.v == HOUR && strcmp(m.capacity[i].runner.s, "r") == 0);
    size_t count = m.capacity_count;
    marks_stored(&m, 0, 10);
    cr_assert_eq(m.capacity_count, count - 1);
    for (size_t i = 0; i < m.capacity_count; i++) cr_assert_not(m.capacity[i].dropped || m.capacity[i].changed);
}

Test(marks, what_changed_waits_until_it_is_stored)
{
    cr_assert(counts("r", 1, 3) && !counts("r", 1, 1) && !counts("r", 1, 2) && counts("other", 1, 1));
    cr_assert_eq(marks_changed(&m), 2 + 2 + 1); /* runners, duplicates, the gap */
    marks_stored(&m, 2, 10);                    /* the duplicate at 1 is not in the log any more */
    cr_assert(marks_changed(&m) == 0 && m.present && m.stored == 4 && m.gap_count == 0);
    cr_assert(m.duplicate_count == 1 && m.duplicate[0] == 2);
    cr_assert_not(counts("r", 1, 3));
    cr_assert_eq(marks_changed(&m), 1);
    marks_stored(&m, 100, 1); /* no more than one command has deleted */
    cr_assert(m.duplicate_count == 1 && m.duplicate[0] == 4);
    marks_stored(&m, 100, 1); /* nothing new: nothing was deleted */
    cr_assert_eq(m.duplicate_count, 1);
}

#define SHA "0000000000000000000000000000000000000000000000000000000000000000"
#define MARK                                                                                                           \
    "seq=9 ct=8 last=7 region=eu sha=" SHA " vcpu_ms=1 mem_mib_ms=2 disk_mib_ms=3 running_ms=4 events=5 refused=6"
#define CAPACITY                                                                                                       \
    "region=eu at=5 vcpus_total=1 mem_mib_total=2 disk_mib_total=3 warm=4 vcpus_allocated=5 mem_mib_allocated=6 "      \
    "disk_mib_allocated=7 sandboxes_running=8"

Test(marks, stored_fields_are_taken_or_refused)
{
    static const struct {
        const char *field, *text;
        enum sg_error e;
    } cases[] = {
        {"at", "12", SG_OK},
        {"at", "x", SG_ERR_MALFORMED},
        {"at", "12 ", SG_ERR_MALFORMED},
        {"ax", "12", SG_ERR_MALFORMED},
        {"d:7", "", SG_OK},
        {"d:x", "", SG_ERR_MALFORMED},
        {"d:", "", SG_ERR_MALFORMED},
        {"r:r:1", MARK, SG_OK},
        {"r:r:1", "seq=", SG_ERR_MALFORMED},
        {"r:r", MARK, SG_ERR_MALFORMED},
        {"", "", SG_ERR_MALFORMED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        marks_clear(&m);
        cr_assert_eq(load(cases[i].field, cases[i].text), cases[i].e, "%s: %s", cases[i].field, cases[i].text);
    }
}

Test(marks, stored_capacities_are_taken_or_refused)
{
    static const struct {
        const char *field, *text;
        enum sg_error e;
    } cases[] = {
        {"r", CAPACITY, SG_OK},
        {"r:1763884800", CAPACITY, SG_OK},
        {"r", "region=eu", SG_ERR_MALFORMED},
        {"r:", CAPACITY, SG_ERR_MALFORMED},
        {"r:17x", CAPACITY, SG_ERR_MALFORMED},
        {"r:18446744073709551615", CAPACITY, SG_ERR_MALFORMED},
        {"a.b", CAPACITY, SG_ERR_MALFORMED},
        {"", CAPACITY, SG_ERR_MALFORMED},
    };
    size_t taken = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cr_assert_eq(load_capacity(cases[i].field, cases[i].text), cases[i].e, "%s", cases[i].field);
        taken += cases[i].e == SG_OK;
        cr_assert_eq(m.capacity_count, taken, "%s", cases[i].field);
    }
    cr_assert(m.capacity[0].hour.v == 0 && m.capacity[1].hour.v == HOUR && m.capacity[1].capacity.is.warm == 4);
}

Test(marks, what_was_loaded_decides_as_if_it_had_been_seen)
{
    cr_assert_eq(load("at", "12"), SG_OK);
    cr_assert_eq(load("d:7", ""), SG_OK);
    cr_assert_eq(load("r:r:1", MARK), SG_OK);
    cr_assert_eq(marks_loaded(&m, 13), SG_ERR_CORRUPT);
    cr_assert_eq(marks_loaded(&m, 12), SG_OK);
    cr_assert_eq(marks_changed(&m), 0);
    struct digest d = batch("r", 1, 1);
    d.offset = 7;
    cr_assert_not(marks_decide(&m, &d));
    cr_assert_not(counts("r", 1, 9));
    cr_assert(counts("r", 1, 10) && m.gaps == 0);
}
