/* The cells in memory: found again whatever their names hash to, dirty until vouched for, forgotten only when asked. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "aggregator/rollup/cells.h"

enum { SHARDS = 2, MANY = 3000 }; /* MANY: tables grow twice, and neighbours share slots */

static struct cells c;

static void begin(void)
{
    cells_init(&c, SHARDS);
}

static void end(void)
{
    cells_destroy(&c);
}

TestSuite(cells, .init = begin, .fini = end);

static struct group *group(const char *team)
{
    const uint64_t hashes[] = {cells_hash(team), 2, 3};
    return cells_group(&c, 0, team, "p", "eu", hashes);
}

static struct group *group_number(int i)
{
    char team[24];
    (void)snprintf(team, sizeof team, "t%d", i);
    return group(team);
}

static struct cell *hour_of(struct group *g)
{
    return cells_rollup(&c, g, WINDOW_HOUR, (struct wall_ms){HOUR_MS});
}

static struct cell *run_in(uint32_t partition, uint32_t shard, const char *sandbox)
{
    return cells_run(&c, partition, shard, sandbox, cells_hash(sandbox));
}

/* Stands beyond a vector at 0. */
static struct cell *dirty(struct cell *cell)
{
    cr_assert_eq(cells_load(&c, cell, NULL, 0, 0), SG_OK);
    cells_touch(&c, cell, 1, (struct wall_ms){5});
    return cell;
}

Test(cells, zeroed_ones_are_destroyed)
{
    struct cells none = {0};
    cells_destroy(&none);
    cr_assert_null(none.slot);
}

Test(cells, many_are_each_found_again)
{
    static struct cell *hour[MANY], *run[MANY];
    char id[24];
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(id, sizeof id, "s%d", i);
        hour[i] = hour_of(group_number(i));
        run[i] = run_in(0, 0, id);
    }
    cr_assert(c.count == 2 * MANY && c.group_count == MANY);
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(id, sizeof id, "s%d", i);
        group_number(i)->recent[WINDOW_HOUR] = NULL; /* through the table */
        cr_assert_eq(hour_of(group_number(i)), hour[i]);
        cr_assert_eq(run_in(0, 0, id), run[i]);
    }
    cr_assert(c.count == 2 * MANY && c.group_count == MANY);
}

/* Takes every third away, and looks for all others: what stood behind a hole has moved up. */
Test(cells, forgetting_some_loses_no_other)
{
    static struct cell *run[MANY];
    char id[24];
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(id, sizeof id, "s%d", i);
        run[i] = run_in(i % 3 == 0, 0, id);
        (void)hour_of(group_number(i));
    }
    cells_forget(&c, UINT32_MAX, 1);
    cr_assert_eq(c.count, 2 * MANY - MANY / 3);
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(id, sizeof id, "s%d", i);
        if (i % 3) cr_assert_eq(run_in(0, 0, id), run[i], "%s is lost", id);
    }
    cells_forget(&c, UINT32_MAX, 0);
    cr_assert(c.count == 0 && c.group_count == 0);
    for (size_t i = 0; i < c.slot_count; i++) cr_assert_null(c.slot[i]);
    for (size_t i = 0; i < c.group_slot_count; i++) cr_assert_null(c.group[i]);
}

Test(cells, groups_whose_names_hash_alike_are_kept_apart)
{
    const uint64_t hashes[] = {1, 2, 3}, before[] = {1, 2, 2};
    struct group *const all[] = {
        cells_group(&c, 0, "t", "p", "eu", hashes), cells_group(&c, 1, "t", "p", "eu", before),
        cells_group(&c, 0, "u", "p", "eu", hashes), cells_group(&c, 0, "t", "q", "eu", hashes),
        cells_group(&c, 0, "t", "p", "us", hashes),
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        cr_assert_eq(all[i]->hash, all[0]->hash);
        for (size_t k = 0; k < i; k++) cr_assert_neq(all[i], all[k], "%zu is %zu", i, k);
    }
    cr_assert_eq(cells_group(&c, 0, "t", "p", "us", hashes), all[4]);
    struct cell *first = hour_of(all[0]), *second = hour_of(all[2]);
    cr_assert(first != second && first->hash == second->hash);
}

Test(cells, sandboxes_whose_names_hash_alike_are_kept_apart)
{
    const struct wall_ms hour = {HOUR_MS};
    struct cell *run = cells_run(&c, 0, 0, "s", 7);
    struct cell neighbour = *run;
    neighbour.hash += (uint64_t)HOUR_MS;
    const struct cell *const all[] = {
        run,
        cells_run(&c, 1, 0, "s", 7 - (UINT64_C(1) << 16)),
        cells_run(&c, 0, 1, "s", 6),
        cells_run(&c, 0, 0, "r", 7),
        cells_run_hour(&c, run, (struct wall_ms){2 * HOUR_MS}),
        cells_run_hour(&c, &neighbour, hour),
        cells_run(&c, 0, 0, "s", run->hash + 2 * (uint64_t)HOUR_MS + 1),
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        cr_assert_eq(all[i]->hash, i < 4 ? all[0]->hash : all[4]->hash, "%zu", i);
        for (size_t k = 0; k < i; k++) cr_assert_neq(all[i], all[k], "%zu is %zu", i, k);
    }
    cr_assert_eq(cells_run(&c, 0, 0, "r", 7), all[3]);
}

Test(cells, a_damaged_text_leaves_the_cell_unread)
{
    static const char good[] = "@3 cpu_us=5";
    struct cell *run = run_in(0, 0, "s"), *hour = hour_of(group("t"));
    for (int again = 0; again < 2; again++) {
        cr_assert_eq(cells_load(&c, run, "@1 team=", 8, 9), SG_ERR_MALFORMED);
        cr_assert_eq(cells_load(&c, hour, "@1 nothing", 10, 9), SG_ERR_MALFORMED);
        cr_assert_not(run->read || hour->read || run->dirty || hour->dirty);
    }
    cr_assert_eq(cells_load(&c, run, NULL, 0, 9), SG_OK);
    cr_assert_eq(cells_load(&c, hour, good, sizeof good - 1, 9), SG_OK);
    cr_assert(run->read && hour->read && hour->offset == 3 && hour->sums.plain[FIELD_CPU_US].v == 5);
    cr_assert(hour->indexed && !run->indexed); /* the vector has reached it, so the index has it */
}

Test(cells, what_is_stored_beyond_the_vector_is_dirty_and_not_known_to_be_indexed)
{
    struct cell *hour = hour_of(group("t"));
    cr_assert_eq(cells_load(&c, hour, "@3 cpu_us=5", 11, 2), SG_OK);
    cr_assert(hour->dirty && !hour->indexed);
    cr_assert_eq(c.dirty[hour->shard].count, 1);
}

Test(cells, the_newest_message_time_decides_when_a_cell_expires)
{
    struct cell *run = dirty(run_in(0, 0, "s"));
    int64_t expiry = cells_expiry_s(run);
    cells_touch(&c, run, 2, (struct wall_ms){4});
    cr_assert(run->last.v == 5 && run->offset == 2);
    cells_touch(&c, run, 3, (struct wall_ms){5 + 2 * HOUR_MS});
    cr_assert_eq(cells_expiry_s(run), expiry + 2 * 3600);
    cr_assert_eq(c.dirty[0].count, 1); /* once, however often it was touched */
}

Test(cells, a_shard_or_a_partition_forgets_its_own_and_no_other)
{
    static const struct {
        uint32_t shard, partition;
        bool kept[4]; /* of (shard, partition) 0 0, 0 1, 1 0, 1 1 */
    } cases[] = {
        {0, UINT32_MAX, {false, false, true, true}},
        {UINT32_MAX, 1, {true, false, true, false}},
        {1, 1, {true, true, true, false}},
        {UINT32_MAX, UINT32_MAX, {false}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t kept = 0;
        for (uint32_t k = 0; k < 4; k++) (void)dirty(run_in(k % 2, k / 2, "s"));
        cells_forget(&c, cases[i].shard, cases[i].partition);
        for (int k = 0; k < 4; k++) kept += cases[i].kept[k];
        cr_assert_eq(c.count, kept, "case %zu", i);
        for (uint32_t k = 0; k < 4; k++)
            cr_assert_eq(run_in(k % 2, k / 2, "s")->dirty, cases[i].kept[k], "case %zu, cell %u", i, k);
        cr_assert_eq(c.dirty[0].count, (size_t)cases[i].kept[0] + cases[i].kept[1]);
        cells_forget(&c, UINT32_MAX, UINT32_MAX);
        cr_assert(c.count == 0 && c.dirty[0].count == 0 && c.dirty[1].count == 0);
    }
}

Test(cells, one_that_is_not_its_groups_newest_is_forgotten_alone)
{
    struct group *g = group("t");
    struct cell *old = hour_of(g), *recent = cells_rollup(&c, g, WINDOW_HOUR, (struct wall_ms){2 * HOUR_MS});
    old->touched = 1;
    recent->touched = 2;
    cells_sweep(&c, 2, c.slot_count);
    cr_assert(c.count == 1 && g->recent[WINDOW_HOUR] == recent && c.group_count == 1);
    cells_sweep(&c, 3, c.slot_count);
    cr_assert(c.count == 0 && c.group_count == 0);
}

Test(cells, a_sweep_of_all_slots_forgets_all_that_are_clean)
{
    for (int i = 0; i < MANY; i++) {
        struct cell *cell = hour_of(group_number(i));
        if (i % 3 == 0) (void)dirty(cell);
    }
    cells_sweep(&c, UINT32_MAX, c.slot_count);
    cr_assert_eq(c.count, MANY / 3);
    for (size_t i = 0; i < c.dirty[0].count; i++) cr_assert(c.dirty[0].cell[i]->dirty);
}
