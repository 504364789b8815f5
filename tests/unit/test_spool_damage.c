/* Every way in which the spool's files can be shorter than they were, or other than they were. */
#include "tests/unit/spool_fixture.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "collector/spool_iter.h"

TestSuite(spool_damage, .init = make_directory, .fini = remove_directory, .timeout = 300);

enum { BATCHES = 12, FILE_BYTES_MAX = 8192 };

/* The newest segment as the tests found it, and where its records end. */
static struct {
    char path[128];
    uint8_t bytes[FILE_BYTES_MAX];
    size_t length;       /* used part */
    size_t end[BATCHES]; /* end[i]: of its record i, the snapshot is 0 */
    size_t count;        /* of records */
    uint64_t first_seq;
} newest;

static void write_file(const char *path, const uint8_t *bytes, size_t length)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, bytes, length), (ssize_t)length);
    close(fd);
}

static size_t read_file(const char *path, uint8_t *bytes, size_t room)
{
    int fd = open(path, O_RDONLY);
    cr_assert_geq(fd, 0);
    ssize_t n = pread(fd, bytes, room, 0);
    close(fd);
    cr_assert_geq(n, 0);
    return (size_t)n;
}

static void path_of(uint64_t first_seq, char out[static 128])
{
    char name[SPOOL_NAME_BYTES];
    spool_name(first_seq, name);
    snprintf(out, 128, "%s/%s", directory, name);
}

/* A spool of BATCHES batches in two segments and more, the newest with several. */
static void make_spool(void)
{
    struct spool s;
    struct meter m;
    struct spool_options o = options();
    must_open(&s, &o, &m);
    commit(&s, BATCHES);
    cr_assert_gt(s.segment_count, 1u);
    newest.first_seq = s.segment[s.segment_count - 1].first_seq;
    newest.length = s.used;
    spool_close(&s);
    path_of(newest.first_seq, newest.path);
    cr_assert_lt(newest.length, sizeof newest.bytes);
    cr_assert_geq(read_file(newest.path, newest.bytes, newest.length), newest.length);
    newest.count = 0;
    for (size_t at = SPOOL_HEADER_BYTES; at < newest.length; newest.count++) {
        struct spool_record r;
        cr_assert_eq(spool_record_decode(newest.bytes + at, &r, NULL), SG_OK);
        at += spool_record_bytes(&r);
        newest.end[newest.count] = at;
    }
    cr_assert_gt(newest.count, 3u);
}

/* Opens, and if that works commits two more and opens again: nothing of what was cut may come back. */
static enum sg_error open_and_go_on(uint64_t *last_seq, struct sg_fault *f)
{
    struct spool s;
    struct meter m = {0};
    struct spool_options o = options();
    enum sg_error e = spool_open(&s, &o, apply, &m, f);
    if (e) return e;
    *last_seq = spool_last_seq(&s);
    cr_assert_eq(m.covered, *last_seq);
    expect_batches(&s, 1, *last_seq);
    commit(&s, 2);
    spool_close(&s);
    must_open(&s, &o, &m);
    cr_assert_eq(spool_last_seq(&s), *last_seq + 2);
    expect_batches(&s, 1, *last_seq + 2);
    bool rolled = s.segment[s.segment_count - 1].first_seq != newest.first_seq;
    uint64_t first_seq = s.segment[s.segment_count - 1].first_seq;
    spool_close(&s);
    if (rolled) {
        char path[128];
        path_of(first_seq, path);
        cr_assert_eq(unlink(path), 0);
    }
    return SG_OK;
}

/* Whole batches in the first length bytes of the newest segment. */
static uint64_t batches_within(size_t length)
{
    uint64_t n = 0;
    for (size_t i = 1; i < newest.count; i++) n += newest.end[i] <= length;
    return n;
}

Test(spool_damage, a_newest_segment_cut_at_any_byte_loses_only_what_is_cut)
{
    make_spool();
    for (size_t length = 0; length <= newest.length; length++) {
        write_file(newest.path, newest.bytes, length);
        struct sg_fault f = {0};
        uint64_t last_seq;
        enum sg_error e = open_and_go_on(&last_seq, &f);
        if (length < newest.end[0]) {
            cr_assert_eq(e, SG_ERR_CORRUPT, "cut at %zu: %s", length, f.text);
            continue;
        }
        cr_assert_eq(e, SG_OK, "cut at %zu: %s", length, f.text);
        cr_assert_eq(last_seq, newest.first_seq - 1 + batches_within(length), "cut at %zu", length);
    }
}

Test(spool_damage, a_flipped_bit_in_the_newest_segment_stops_unless_it_can_be_a_torn_tail)
{
    make_spool();
    size_t last_start = newest.end[newest.count - 2];
    for (size_t at = 0; at < newest.length + 100; at++) {
        uint8_t bytes[FILE_BYTES_MAX] = {0};
        memcpy(bytes, newest.bytes, newest.length);
        bytes[at] ^= (uint8_t)(1 << at % 8);
        write_file(newest.path, bytes, newest.length + 200);
        struct sg_fault f = {0};
        uint64_t last_seq;
        enum sg_error e = open_and_go_on(&last_seq, &f);
        if (at < last_start) {
            bool version = at >= 8 && at < 12;
            cr_assert_eq(e, version ? SG_ERR_VERSION : SG_ERR_CORRUPT, "byte %zu: %s", at, f.text);
            cr_assert(strstr(f.text, strrchr(newest.path, '/') + 1), "%s", f.text);
            size_t start = 0;
            if (at >= SPOOL_HEADER_BYTES) start = SPOOL_HEADER_BYTES;
            for (size_t i = 0; i + 1 < newest.count; i++)
                if (at >= newest.end[i]) start = newest.end[i];
            char where[32];
            snprintf(where, sizeof where, "offset %zu", start);
            cr_assert(strstr(f.text, where), "byte %zu: %s", at, f.text);
        } else {
            cr_assert_eq(e, SG_OK, "byte %zu: %s", at, f.text);
            cr_assert_eq(last_seq, at < newest.length ? BATCHES - 1 : BATCHES);
        }
    }
}

Test(spool_damage, a_flipped_bit_in_an_older_segment_stops_at_start)
{
    make_spool();
    char path[128];
    path_of(1, path);
    uint8_t bytes[FILE_BYTES_MAX];
    size_t length = read_file(path, bytes, sizeof bytes);
    for (size_t at = 0; at < length; at++) {
        bytes[at] ^= 0x10;
        write_file(path, bytes, length);
        bytes[at] ^= 0x10;
        struct spool s;
        struct meter m;
        struct spool_options o = options();
        struct sg_fault f = {0};
        enum sg_error e = spool_open(&s, &o, apply, &m, &f);
        cr_assert(e == SG_ERR_CORRUPT || e == SG_ERR_VERSION, "byte %zu: %s", at, f.text);
        cr_assert(strstr(f.text, "00000000000000000001.seg"), "%s", f.text);
    }
}

Test(spool_damage, damage_that_comes_while_running_stops_the_reader)
{
    struct spool s;
    struct meter m;
    struct spool_options o = options();
    struct sg_fault f = {0};
    must_open(&s, &o, &m);
    commit(&s, BATCHES);
    char path[128];
    path_of(1, path);
    int fd = open(path, O_WRONLY);
    cr_assert_eq(pwrite(fd, "x", 1, SPOOL_HEADER_BYTES + SPOOL_RECORD_HEADER_BYTES + 60), 1);
    close(fd);
    const uint8_t *batch;
    size_t length;
    cr_assert_eq(spool_read(&s, 1, &batch, &length, &f), SG_ERR_CORRUPT);
    cr_assert(strstr(f.text, "00000000000000000001.seg offset 176"), "%s", f.text);
    spool_close(&s);
}

Test(spool_damage, a_missing_segment_stops)
{
    make_spool();
    struct spool s;
    struct meter m;
    struct spool_options o = options();
    struct sg_fault f = {0};
    must_open(&s, &o, &m);
    cr_assert_gt(s.segment_count, 2u);
    char path[128];
    path_of(s.segment[1].first_seq, path);
    spool_close(&s);
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(spool_open(&s, &o, apply, &m, &f), SG_ERR_CORRUPT);
    cr_assert(strstr(f.text, "missing"), "%s", f.text);
}

Test(spool_damage, a_record_lost_before_a_record_that_never_was_synced_is_a_torn_tail)
{
    struct spool s;
    struct meter m;
    struct spool_options o = options();
    struct sg_fault f = {0};
    o.segment_bytes = 1 << 20;
    must_open(&s, &o, &m);
    commit(&s, 4);
    uint64_t lost = s.used;
    for (int i = 0; i < 3; i++) cr_assert_eq(append(&s, &f), SG_OK); /* 5, 6, 7: one group, not synced */
    spool_close(&s);
    char path[128];
    path_of(1, path);
    int fd = open(path, O_WRONLY);
    uint8_t zeros[SPOOL_RECORD_HEADER_BYTES + 20] = {0};
    cr_assert_eq(pwrite(fd, zeros, sizeof zeros, (off_t)lost), (ssize_t)sizeof zeros);
    close(fd);
    must_open(&s, &o, &m);
    cr_assert_eq(spool_last_seq(&s), 4);
    commit(&s, 1); /* as long as the lost 5: 6 must not come back behind it */
    spool_close(&s);
    must_open(&s, &o, &m);
    cr_assert_eq(spool_last_seq(&s), 5);
    spool_close(&s);
}

/* Four batches in one segment, each synced: states of so many zeros. Then a byte of batch `lost`'s record is changed.
 * Returns where that record begins. */
static uint64_t damage_before_zeros(size_t zeros, uint64_t lost)
{
    struct spool s;
    struct meter m;
    struct spool_options o = options();
    const uint8_t state[64] = {0};
    uint64_t at = 0;
    o.segment_bytes = 1 << 20;
    must_open(&s, &o, &m);
    for (uint64_t seq = 1; seq <= 4; seq++) {
        uint8_t batch[512];
        if (seq == lost) at = s.used;
        cr_assert_eq(spool_append(&s, batch, batch_of(seq, batch), state, zeros, NULL), SG_OK);
        cr_assert_eq(spool_sync(&s, NULL), SG_OK);
    }
    spool_close(&s);
    char path[128];
    path_of(1, path);
    int fd = open(path, O_WRONLY);
    cr_assert_eq(pwrite(fd, "x", 1, (off_t)at + SPOOL_RECORD_HEADER_BYTES), 1);
    close(fd);
    return at;
}

/* What the reader for people says first, but for records. */
static enum sg_error iterate(void)
{
    struct spool_iter it;
    struct spool_entry entry;
    enum sg_error e = spool_iter_open(&it, directory, NULL);
    while (!e) e = spool_iter_next(&it, &entry, NULL);
    spool_iter_close(&it);
    return e;
}

Test(spool_damage, a_last_record_that_ends_in_zeros_proves_damage_before_it)
{
    for (size_t zeros = 0; zeros < 64; zeros++) {
        struct spool s;
        struct meter m;
        struct spool_options o = options();
        struct sg_fault f = {0};
        (void)damage_before_zeros(zeros, 3);
        o.segment_bytes = 1 << 20;
        cr_assert_eq(spool_open(&s, &o, apply, &m, &f), SG_ERR_CORRUPT, "%zu zeros", zeros);
        cr_assert(strstr(f.text, "00000000000000000001.seg offset"), "%s", f.text);
        cr_assert_eq(iterate(), SG_ERR_CORRUPT, "%zu zeros", zeros);
        remove_directory();
        make_directory();
    }
}

static void write_cursor(int index, struct spool_cursor c, size_t length)
{
    uint8_t bytes[SPOOL_CURSOR_BYTES];
    char path[128];
    spool_cursor_encode(&c, bytes);
    snprintf(path, sizeof path, "%s/cursor.%d", directory, index);
    write_file(path, bytes, length);
}

static void expect_delivered(uint64_t seq)
{
    struct spool s;
    struct meter m;
    struct spool_options o = options();
    must_open(&s, &o, &m);
    cr_assert_eq(spool_delivered_seq(&s), seq);
    spool_close(&s);
}

Test(spool_damage, of_two_cursors_the_newer_valid_one_counts)
{
    struct spool s;
    struct meter m;
    struct spool_options o = options();
    o.segment_bytes = 1 << 20;
    must_open(&s, &o, &m);
    commit(&s, BATCHES);
    spool_close(&s);
    struct spool_cursor older = {6, EPOCH, 3}, newer = {7, EPOCH, 5};
    for (int i = 0; i < 2; i++) {
        write_cursor(i, older, SPOOL_CURSOR_BYTES);
        write_cursor(!i, newer, SPOOL_CURSOR_BYTES);
        expect_delivered(5);
        for (size_t length = 0; length < SPOOL_CURSOR_BYTES; length++) {
            write_cursor(!i, newer, length);
            expect_delivered(3);
        }
        write_cursor(i, older, SPOOL_CURSOR_BYTES / 2);
        expect_delivered(0); /* both torn: all is sent again */
    }
}

Test(spool_damage, a_cursor_that_contradicts_the_log_stops)
{
    make_spool();
    struct spool s;
    struct meter m;
    struct spool_options o = options();
    struct sg_fault f = {0};
    write_cursor(0, (struct spool_cursor){2, EPOCH, BATCHES + 1}, SPOOL_CURSOR_BYTES);
    cr_assert_eq(spool_open(&s, &o, apply, &m, &f), SG_ERR_CORRUPT);
    cr_assert(strstr(f.text, "the log ends at 12"), "%s", f.text);
    write_cursor(0, (struct spool_cursor){2, EPOCH + 1, 1}, SPOOL_CURSOR_BYTES);
    cr_assert_eq(spool_open(&s, &o, apply, &m, &f), SG_ERR_CORRUPT);
    cr_assert(strstr(f.text, "epoch"), "%s", f.text);
}

Test(spool_damage, a_last_record_that_kafka_has_is_no_torn_tail)
{
    struct spool s;
    struct meter m;
    struct spool_options o = options();
    struct sg_fault f = {0};
    (void)damage_before_zeros(0, 4);
    write_cursor(0, (struct spool_cursor){.generation = 2, .epoch = EPOCH, .delivered_seq = 4}, SPOOL_CURSOR_BYTES);
    for (int i = 0; i < 2; i++) { /* it is not cut, either */
        cr_assert_eq(spool_open(&s, &o, apply, &m, &f), SG_ERR_CORRUPT);
        cr_assert(strstr(f.text, "00000000000000000001.seg offset"), "%s", f.text);
    }
    cr_assert_eq(iterate(), SG_ERR_CORRUPT);
    write_cursor(0, (struct spool_cursor){.generation = 2, .epoch = EPOCH, .delivered_seq = 3}, SPOOL_CURSOR_BYTES);
    cr_assert_eq(iterate(), SG_ERR_STATE);
    must_open(&s, &o, &m);
    cr_assert_eq(spool_last_seq(&s), 3);
    spool_close(&s);
}

/* How many records the reader for people gives, and the one thing that it says of all. */
static size_t records_before(enum sg_error want, const char *text)
{
    struct spool_iter it;
    struct spool_entry entry;
    struct sg_fault f = {0};
    size_t records = 0;
    enum sg_error e = spool_iter_open(&it, directory, &f);
    while (!e && !(e = spool_iter_next(&it, &entry, &f))) records++;
    cr_assert_eq(e, want, "%s", f.text);
    cr_assert(strstr(f.text, text), "%s", f.text);
    cr_assert_eq(spool_iter_next(&it, &entry, &f), SG_ERR_NOT_FOUND, "%s", f.text);
    spool_iter_close(&it);
    return records;
}

/* Nothing of the last record is left: there are zeros in its place, or the file ends before it. */
Test(spool_damage, a_last_record_that_kafka_has_is_missed)
{
    for (int cut = 0; cut < 2; cut++) {
        struct spool s;
        struct meter m;
        struct spool_options o = options();
        struct sg_fault f = {0};
        off_t at = (off_t)damage_before_zeros(0, 4), room = at + 1024;
        char path[128];
        path_of(1, path);
        cr_assert_eq(truncate(path, at), 0);
        if (!cut) cr_assert_eq(truncate(path, room), 0);
        write_cursor(0, (struct spool_cursor){.generation = 2, .epoch = EPOCH, .delivered_seq = 4}, SPOOL_CURSOR_BYTES);
        cr_assert_eq(records_before(SG_ERR_CORRUPT, "batch 4 was delivered, but the log ends at 3"), 4u);
        cr_assert_eq(records_before(SG_ERR_CORRUPT, "00000000000000000001.seg offset"), 4u);
        cr_assert_eq(spool_open(&s, &o, apply, &m, &f), SG_ERR_CORRUPT);
        cr_assert(strstr(f.text, "batch 4 was delivered, but the log ends at 3"), "%s", f.text);
        write_cursor(0, (struct spool_cursor){.generation = 2, .epoch = EPOCH, .delivered_seq = 3}, SPOOL_CURSOR_BYTES);
        cr_assert_eq(iterate(), SG_ERR_NOT_FOUND);
        expect_delivered(3);
        remove_directory();
        make_directory();
    }
}

/* The reader gives every record before it says what stops the collector. */
static void expect_stop(size_t records, enum sg_error want, const char *text)
{
    struct spool s;
    struct meter m;
    struct spool_options o = options();
    struct sg_fault f = {0};
    cr_assert_eq(records_before(want, text), records);
    cr_assert_eq(spool_open(&s, &o, apply, &m, &f), want, "%s", f.text);
}

Test(spool_damage, the_iterator_says_of_a_cursor_what_stops_the_collector)
{
    make_spool();
    struct spool_cursor c = {3, EPOCH, 1};
    uint8_t bytes[SPOOL_CURSOR_BYTES];
    char path[128];
    snprintf(path, sizeof path, "%s/cursor.1", directory);
    write_cursor(1, c, SPOOL_CURSOR_BYTES);
    size_t records = records_before(SG_ERR_NOT_FOUND, "");
    c.epoch++;
    write_cursor(1, c, SPOOL_CURSOR_BYTES);
    expect_stop(records, SG_ERR_CORRUPT, "the cursor is of epoch");
    cr_assert_eq(read_file(path, bytes, sizeof bytes), sizeof bytes);
    bytes[8]++;
    write_file(path, bytes, sizeof bytes);
    expect_stop(records, SG_ERR_VERSION, "cursor.1: cursor format version");
    cr_assert(unlink(path) == 0 && mkdir(path, 0700) == 0);
    expect_stop(records, SG_ERR_IO, "cursor.1: read");
    cr_assert_eq(rmdir(path), 0);
}

Test(spool_damage, cursors_without_segments_stop)
{
    write_cursor(0, (struct spool_cursor){2, EPOCH, 1}, SPOOL_CURSOR_BYTES);
    struct spool s;
    struct meter m;
    struct spool_options o = options();
    struct sg_fault f = {0};
    cr_assert_eq(spool_open(&s, &o, apply, &m, &f), SG_ERR_CORRUPT);
    cr_assert(strstr(f.text, "new epoch"), "%s", f.text);
}

Test(spool_damage, a_segment_whose_creation_was_cut_short_is_forgotten)
{
    struct spool s;
    struct meter m;
    struct spool_options o = options();
    must_open(&s, &o, &m);
    commit(&s, 2);
    spool_close(&s);
    char path[160];
    snprintf(path, sizeof path, "%s/00000000000000000003.seg.tmp", directory);
    write_file(path, (const uint8_t *)"half", 4);
    must_open(&s, &o, &m);
    cr_assert_eq(spool_last_seq(&s), 2);
    cr_assert_neq(access(path, F_OK), 0);
    spool_close(&s);
}

/* ---- the reader for people ---- */

Test(spool_damage, the_iterator_gives_every_record_and_names_damage)
{
    make_spool();
    struct spool_iter it;
    struct spool_entry entry;
    struct sg_fault f = {0};
    cr_assert_eq(spool_iter_open(&it, directory, &f), SG_OK, "%s", f.text);
    uint64_t batches = 0, snapshots = 0;
    enum sg_error e;
    while (!(e = spool_iter_next(&it, &entry, &f))) {
        if (entry.record.kind == SPOOL_SNAPSHOT) snapshots++;
        if (entry.record.kind != SPOOL_BATCH) continue;
        uint8_t want[512];
        cr_assert_eq(entry.record.batch_bytes, batch_of(++batches, want));
        cr_assert_arr_eq(entry.batch, want, entry.record.batch_bytes);
        cr_assert_str_eq(entry.header->runner.s, "r-1");
    }
    cr_assert_eq(e, SG_ERR_NOT_FOUND);
    cr_assert_eq(batches, BATCHES);
    cr_assert_gt(snapshots, 1u);
    spool_iter_close(&it);

    /* one damaged record in the first segment, a torn tail in the newest */
    char path[128];
    path_of(1, path);
    int fd = open(path, O_WRONLY);
    cr_assert_eq(pwrite(fd, "x", 1, SPOOL_HEADER_BYTES + SPOOL_RECORD_HEADER_BYTES + 60), 1);
    close(fd);
    write_file(newest.path, newest.bytes, newest.length - 1);
    cr_assert_eq(spool_iter_open(&it, directory, &f), SG_OK);
    unsigned corrupt = 0, torn = 0;
    while ((e = spool_iter_next(&it, &entry, &f)) != SG_ERR_NOT_FOUND) {
        if (e == SG_ERR_CORRUPT) {
            corrupt++;
            cr_assert(strstr(f.text, "00000000000000000001.seg offset 176"), "%s", f.text);
        } else if (e == SG_ERR_STATE) {
            torn++;
            cr_assert(strstr(f.text, "torn tail"), "%s", f.text);
        }
    }
    cr_assert_eq(corrupt, 1u);
    cr_assert_eq(torn, 1u);
    spool_iter_close(&it);

    cr_assert_eq(spool_iter_open(&it, path, &f), SG_OK, "%s", f.text);
    cr_assert_eq(spool_iter_next(&it, &entry, &f), SG_OK);
    cr_assert_eq(entry.record.kind, SPOOL_SNAPSHOT);
    spool_iter_close(&it);
    cr_assert_eq(spool_iter_open(&it, "/nonexistent", &f), SG_ERR_NOT_FOUND);
}

Test(spool_damage, the_iterator_reads_the_cursor)
{
    struct spool_cursor c;
    cr_assert_eq(spool_iter_cursor(directory, &c, NULL), SG_ERR_NOT_FOUND);
    write_cursor(0, (struct spool_cursor){2, EPOCH, 1}, SPOOL_CURSOR_BYTES);
    write_cursor(1, (struct spool_cursor){3, EPOCH, 2}, SPOOL_CURSOR_BYTES);
    cr_assert_eq(spool_iter_cursor(directory, &c, NULL), SG_OK);
    cr_assert_eq(c.delivered_seq, 2u);
}
