/* The spool against the disk and against its faults: what was synced is there again, what was torn is cut, what is
 * damaged stops, what is full refuses first. */
#include "tests/unit/spool_fixture.h"

#include "proto/batch.h"

TestSuite(spool, .init = make_directory, .fini = remove_directory);

Test(spool, a_new_spool_is_empty_and_takes_its_epoch_from_the_time)
{
    struct spool s;
    struct meter m;
    struct spool_options o = options();
    must_open(&s, &o, &m);
    cr_assert_eq(spool_epoch(&s), EPOCH);
    cr_assert_eq(spool_last_seq(&s), 0);
    cr_assert_eq(m.snapshots, 1);
    cr_assert_eq(m.covered, 0);
    spool_close(&s);
    o.now.v++;
    must_open(&s, &o, &m);
    cr_assert_eq(spool_epoch(&s), EPOCH, "an epoch is for the life of a spool");
    spool_close(&s);
}

Test(spool, what_was_committed_is_there_again_over_many_segments)
{
    struct spool s;
    struct meter m;
    struct spool_options o = options();
    must_open(&s, &o, &m);
    commit(&s, 40);
    cr_assert_gt(s.segment_count, 5u);
    uint8_t sha[SPOOL_SHA256_BYTES];
    memcpy(sha, spool_previous_sha256(&s), sizeof sha);
    spool_close(&s);

    must_open(&s, &o, &m);
    cr_assert_eq(spool_last_seq(&s), 40);
    cr_assert_eq(spool_durable_seq(&s), 40);
    cr_assert_eq(m.snapshots, 1);
    cr_assert_eq(m.covered, 40);
    cr_assert_str_eq(m.last, "after 40");
    cr_assert_arr_eq(sha, spool_previous_sha256(&s), sizeof sha);
    expect_batches(&s, 1, 40);
    expect_batches(&s, 7, 9);
    commit(&s, 3);
    expect_batches(&s, 38, 43);
    spool_close(&s);
}

Test(spool, the_digest_of_the_last_batch_survives_a_roll_without_batches)
{
    struct spool s;
    struct meter m;
    struct spool_options o = options();
    struct sg_fault f = {0};
    must_open(&s, &o, &m);
    commit(&s, 1);
    uint8_t batch[512], sha[SPOOL_SHA256_BYTES];
    size_t length = batch_of(1, batch);
    batch_sha256(batch, length, sha);
    cr_assert_eq(roll(&s, &f), SG_OK);
    cr_assert_eq(roll(&s, &f), SG_ERR_STATE, "a segment without batches is not rolled");
    spool_close(&s);
    must_open(&s, &o, &m);
    cr_assert_arr_eq(sha, spool_previous_sha256(&s), sizeof sha);
    cr_assert_str_eq(m.last, "after 1");
    cr_assert_eq(m.deltas, 0);
    spool_close(&s);
}

Test(spool, delivered_segments_are_deleted_and_the_cursor_is_kept)
{
    struct spool s;
    struct meter m;
    struct spool_options o = options();
    struct sg_fault f = {0};
    must_open(&s, &o, &m);
    commit(&s, 40);
    size_t before = s.segment_count;
    uint64_t bytes = spool_bytes(&s);
    cr_assert_eq(spool_delivered(&s, 30, &f), SG_OK);
    cr_assert_eq(spool_save_cursor(&s, &f), SG_OK);
    cr_assert_lt(s.segment_count, before);
    cr_assert_lt(spool_bytes(&s), bytes);
    expect_batches(&s, 31, 40);
    spool_close(&s);
    must_open(&s, &o, &m);
    cr_assert_eq(spool_delivered_seq(&s), 30);
    expect_batches(&s, 31, 40);
    cr_assert_eq(spool_delivered(&s, 40, &f), SG_OK);
    cr_assert_eq(s.segment_count, 1u, "the newest is never deleted");
    spool_close(&s); /* the cursor stays behind */
    must_open(&s, &o, &m);
    cr_assert_geq(spool_delivered_seq(&s), 30);
    cr_assert_eq(spool_last_seq(&s), 40);
    spool_close(&s);
}

Test(spool, a_second_collector_is_refused)
{
    struct spool s, other;
    struct meter m;
    struct spool_options o = options();
    struct sg_fault f = {0};
    must_open(&s, &o, &m);
    cr_assert_eq(spool_open(&other, &o, apply, &m, &f), SG_ERR_LOCKED);
    cr_assert(strstr(f.text, "another collector"));
    spool_close(&s);
    must_open(&other, &o, &m);
    spool_close(&other);
}

Test(spool, another_runners_spool_is_refused)
{
    struct spool s;
    struct meter m;
    struct spool_options o = options();
    struct sg_fault f = {0};
    must_open(&s, &o, &m);
    spool_close(&s);
    o.runner = "r-2";
    cr_assert_eq(spool_open(&s, &o, apply, &m, &f), SG_ERR_CONFIG);
}

Test(spool, a_full_spool_refuses_before_anything_is_accepted_and_empties)
{
    struct spool s;
    struct meter m;
    struct spool_options o = options();
    o.bytes_max = 64 << 20;
    struct sg_fault f = {0};
    must_open(&s, &o, &m);
    uint8_t *batch = calloc(1, BATCH_BYTES_MAX);
    enum sg_error e = SG_OK;
    unsigned rolls = 0;
    while (!e) {
        if (spool_wants_roll(&s)) {
            e = roll(&s, &f);
            rolls++;
            continue;
        }
        cr_assert_eq(spool_append(&s, batch, BATCH_BYTES_MAX, NULL, 0, &f), SG_OK);
        cr_assert_eq(spool_sync(&s, &f), SG_OK);
    }
    cr_assert_eq(e, SG_ERR_LIMIT);
    cr_assert(strstr(f.text, "full"));
    cr_assert_gt(rolls, 20);
    uint64_t last = spool_last_seq(&s);
    cr_assert_leq(spool_bytes(&s), o.bytes_max);
    cr_assert_eq(spool_append(&s, batch, 1, NULL, 0, &f), SG_ERR_LIMIT);
    cr_assert_eq(spool_last_seq(&s), last);
    spool_close(&s);

    must_open(&s, &o, &m);
    cr_assert_eq(spool_last_seq(&s), last);
    cr_assert_eq(roll(&s, &f), SG_ERR_LIMIT);
    cr_assert_eq(spool_delivered(&s, 20, &f), SG_OK);
    cr_assert_eq(roll(&s, &f), SG_OK, "%s", f.text);
    cr_assert_eq(spool_append(&s, batch, BATCH_BYTES_MAX, NULL, 0, &f), SG_OK);
    spool_close(&s);
    free(batch);
}

Test(spool, limits_in_which_it_could_not_empty_are_refused)
{
    struct spool s;
    struct meter m;
    struct spool_options o = options();
    struct sg_fault f = {0};
    o.bytes_max = 1 << 20;
    cr_assert_eq(spool_open(&s, &o, apply, &m, &f), SG_ERR_CONFIG);
    o.bytes_max = 128 << 20;
    o.segment_bytes = 64 << 20;
    cr_assert_eq(spool_open(&s, &o, apply, &m, &f), SG_ERR_CONFIG);
}
