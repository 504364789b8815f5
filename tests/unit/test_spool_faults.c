/* The spool on a disk that fails, fills and loses what was not synced.
 *
 * CRASHES  A fault is a number: the n-th call that changes the disk is the last one that takes effect (in part, if it
 * is a write). Every write since the last sync of its file may then be kept, lost, trashed or torn, and a rename since
 * the last sync of the directory undone: chosen by a seed. After that what was synced must be there, in full, and
 * nothing that was never appended. */
#include "tests/unit/spool_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum call { CALL_WRITE, CALL_FDATASYNC, CALL_FSYNC, CALL_ALLOCATE, CALL_TRUNCATE, CALL_RENAME, CALL_UNLINK, CALLS };
enum { PENDING_MAX = 4096 };

/* A disk with faults. */
static struct {
    /* one failing call */
    enum call failing;
    int fail_at; /* counted from 1; 0: never */
    int error;   /* errno; 0: a write is short, by half */
    int seen[CALLS];
    /* a crash */
    int crash_at, calls;
    bool crashed;
    struct pending { /* a write that was not synced */
        char path[96];
        off_t offset;
        size_t length;
    } pending[PENDING_MAX];
    size_t pending_count;
    char renamed_from[96], renamed_to[96]; /* not synced */
} disk;

static void path_of_fd(int fd, char out[static 96])
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, out, 95);
    cr_assert_gt(n, 0);
    out[n] = '\0';
}

/* Counts the call; false: it fails, with errno. *whole: it takes effect in full. */
static bool pass(enum call call, bool *whole)
{
    *whole = true;
    if (disk.crashed || (disk.crash_at && ++disk.calls > disk.crash_at)) {
        disk.crashed = true;
        errno = EIO;
        return false;
    }
    if (disk.crash_at && disk.calls == disk.crash_at) *whole = false;
    if (call != disk.failing || ++disk.seen[call] != disk.fail_at) return true;
    *whole = false;
    errno = disk.error;
    return disk.error == 0;
}

static ssize_t bad_pwritev(void *arg, int fd, const struct iovec *iov, int count, off_t offset)
{
    (void)arg;
    bool whole;
    if (!pass(CALL_WRITE, &whole)) return -1;
    uint8_t bytes[4096];
    size_t length = 0;
    for (int i = 0; i < count; i++) {
        cr_assert_leq(length + iov[i].iov_len, sizeof bytes);
        memcpy(bytes + length, iov[i].iov_base, iov[i].iov_len);
        length += iov[i].iov_len;
    }
    if (!whole) length = length / 2 + 1;
    cr_assert_lt(disk.pending_count, (size_t)PENDING_MAX);
    struct pending *p = &disk.pending[disk.pending_count++];
    path_of_fd(fd, p->path);
    p->offset = offset;
    p->length = length;
    return pwrite(fd, bytes, length, offset);
}

static int sync_file(enum call call, int fd)
{
    bool whole;
    if (!pass(call, &whole) || !whole) return -1;
    char path[96];
    path_of_fd(fd, path);
    if (strcmp(path, directory) == 0) disk.renamed_from[0] = '\0';
    size_t kept = 0;
    for (size_t i = 0; i < disk.pending_count; i++)
        if (strcmp(disk.pending[i].path, path) != 0) disk.pending[kept++] = disk.pending[i];
    disk.pending_count = kept;
    return 0;
}

static int bad_fdatasync(void *arg, int fd)
{
    (void)arg;
    return disk.crashed ? -1 : sync_file(CALL_FDATASYNC, fd);
}

static int bad_fsync(void *arg, int fd)
{
    (void)arg;
    return disk.crashed ? -1 : sync_file(CALL_FSYNC, fd);
}

static int bad_fallocate(void *arg, int fd, off_t offset, off_t length)
{
    (void)arg;
    bool whole;
    if (!pass(CALL_ALLOCATE, &whole)) return errno;
    return posix_fallocate(fd, offset, length);
}

static int bad_ftruncate(void *arg, int fd, off_t length)
{
    (void)arg;
    bool whole;
    return pass(CALL_TRUNCATE, &whole) ? ftruncate(fd, length) : -1;
}

static int bad_rename(void *arg, int directory_fd, const char *from, const char *to)
{
    (void)arg;
    bool whole;
    if (!pass(CALL_RENAME, &whole)) return -1;
    snprintf(disk.renamed_from, sizeof disk.renamed_from, "%s/%s", directory, from);
    snprintf(disk.renamed_to, sizeof disk.renamed_to, "%s/%s", directory, to);
    for (size_t i = 0; i < disk.pending_count; i++)
        if (strcmp(disk.pending[i].path, disk.renamed_from) == 0)
            memcpy(disk.pending[i].path, disk.renamed_to, sizeof disk.renamed_to);
    return renameat(directory_fd, from, directory_fd, to);
}

static int bad_unlink(void *arg, int directory_fd, const char *name)
{
    (void)arg;
    bool whole;
    return pass(CALL_UNLINK, &whole) ? unlinkat(directory_fd, name, 0) : -1;
}

static struct spool_io bad_io;

static void set_up(void)
{
    make_directory();
    bad_io = spool_io_real;
    bad_io.pwritev = bad_pwritev;
    bad_io.fdatasync = bad_fdatasync;
    bad_io.fsync = bad_fsync;
    bad_io.fallocate = bad_fallocate;
    bad_io.ftruncate = bad_ftruncate;
    bad_io.rename = bad_rename;
    bad_io.unlink = bad_unlink;
}

TestSuite(spool_faults, .init = set_up, .fini = remove_directory, .timeout = 300);

/* ---- one failing call ---- */

/* A run of the collector: commits, rolls, deliveries, cursors, until something fails or it is through. */
struct run {
    uint64_t appended, acked, delivered;
    enum sg_error error;
    struct sg_fault fault;
};

enum { RUN_BATCHES = 25 };

static enum sg_error one_commit(struct spool *s, struct run *r)
{
    enum sg_error e = spool_wants_roll(s) ? roll(s, &r->fault) : SG_OK;
    if (!e) e = append(s, &r->fault);
    if (!e && s->last_seq % 3 == 0 && !spool_wants_roll(s))
        e = append(s, &r->fault); /* two in one sync, now and then */
    r->appended = spool_last_seq(s);
    if (!e) e = spool_sync(s, &r->fault);
    if (!e) r->acked = spool_durable_seq(s);
    if (!e && r->acked > r->delivered + 4) {
        r->delivered = r->acked - 2; /* Kafka has it, whatever the disk says of it */
        e = spool_delivered(s, r->delivered, &r->fault);
    }
    if (!e && r->acked % 4 == 0) e = spool_save_cursor(s, &r->fault);
    return e;
}

static void run(const struct spool_io *io, struct run *r)
{
    struct spool s;
    struct meter m = {0};
    struct spool_options o = options();
    o.io = io;
    r->error = spool_open(&s, &o, apply, &m, NULL);
    if (r->error) return;
    while (!r->error && spool_last_seq(&s) < RUN_BATCHES) r->error = one_commit(&s, r);
    if (r->error == SG_ERR_IO) {
        cr_assert(strstr(r->fault.text, ".seg") || strstr(r->fault.text, "/cursor."), "no file is named: %s",
                  r->fault.text);
        cr_assert_eq(append(&s, NULL), SG_ERR_IO, "what failed once is dead");
        cr_assert_eq(spool_sync(&s, NULL), SG_ERR_IO);
        cr_assert_eq(spool_save_cursor(&s, NULL), SG_ERR_IO);
    }
    spool_close(&s);
}

static void expect_recovery(const struct run *r, const char *what, int n)
{
    struct spool s;
    struct meter m = {0};
    struct spool_options o = options();
    struct sg_fault f = {0};
    o.now.v++;
    enum sg_error e = spool_open(&s, &o, apply, &m, &f);
    cr_assert_eq(e, SG_OK, "%s %d: %s", what, n, f.text);
    cr_assert_geq(spool_last_seq(&s), r->acked, "%s %d: %llu was acked, the log ends at %llu", what, n,
                  (unsigned long long)r->acked, (unsigned long long)spool_last_seq(&s));
    cr_assert_leq(spool_last_seq(&s), r->appended + 1, "%s %d", what, n);
    cr_assert_leq(spool_delivered_seq(&s), r->delivered, "%s %d", what, n);
    cr_assert_eq(m.covered, spool_last_seq(&s));
    if (r->acked) cr_assert_eq(spool_epoch(&s), EPOCH, "%s %d: a new epoch after an ack", what, n);
    expect_batches(&s, spool_delivered_seq(&s) + 1, spool_last_seq(&s));
    uint64_t last = spool_last_seq(&s);
    commit(&s, 2);
    spool_close(&s);
    must_open(&s, &o, &m);
    cr_assert_eq(spool_last_seq(&s), last + 2);
    expect_batches(&s, spool_delivered_seq(&s) + 1, last + 2);
    spool_close(&s);
}

static void fresh(void)
{
    remove_directory();
    make_directory();
    memset(&disk, 0, sizeof disk);
}

/* Every call of one kind fails in turn, with one error. */
static void fail_each(enum call call, int error, enum sg_error expected, const char *what)
{
    int n = 1;
    for (;; n++) {
        fresh();
        disk.failing = call;
        disk.fail_at = n;
        disk.error = error;
        struct run r = {0};
        run(&bad_io, &r);
        if (disk.seen[call] < n) break;
        cr_assert_eq(r.error, expected, "%s %d: %s", what, n, sg_error_text(r.error));
        expect_recovery(&r, what, n);
    }
    cr_assert_gt(n, 1, "%s never happened", what);
}

Test(spool_faults, a_short_write_is_finished)
{
    fail_each(CALL_WRITE, 0, SG_OK, "short write");
}

Test(spool_faults, a_failed_write_is_final)
{
    fail_each(CALL_WRITE, EIO, SG_ERR_IO, "write");
}

Test(spool_faults, a_failed_sync_is_final)
{
    fail_each(CALL_FDATASYNC, EIO, SG_ERR_IO, "fdatasync");
    fail_each(CALL_FSYNC, EIO, SG_ERR_IO, "fsync");
}

Test(spool_faults, a_failed_change_of_the_directory_is_final)
{
    fail_each(CALL_RENAME, EIO, SG_ERR_IO, "rename");
    fail_each(CALL_UNLINK, EIO, SG_ERR_IO, "unlink");
    fail_each(CALL_TRUNCATE, EIO, SG_ERR_IO, "ftruncate");
}

Test(spool_faults, a_disk_without_room_for_a_segment_refuses_the_roll_and_nothing_else)
{
    fail_each(CALL_ALLOCATE, ENOSPC, SG_ERR_LIMIT, "fallocate");

    fresh();
    struct spool s;
    struct meter m;
    struct spool_options o = options();
    struct sg_fault f = {0};
    o.io = &bad_io;
    must_open(&s, &o, &m);
    while (!spool_wants_roll(&s)) commit(&s, 1);
    disk.failing = CALL_ALLOCATE;
    disk.fail_at = 1;
    disk.error = ENOSPC;
    uint64_t bytes = spool_bytes(&s), last = spool_last_seq(&s);
    cr_assert_eq(roll(&s, &f), SG_ERR_LIMIT);
    cr_assert(strstr(f.text, "no space"), "%s", f.text);
    cr_assert_eq(spool_bytes(&s), bytes);
    cr_assert_eq(append(&s, &f), SG_ERR_LIMIT);
    cr_assert_eq(spool_last_seq(&s), last);
    cr_assert_eq(roll(&s, &f), SG_OK, "once there is room again: %s", f.text);
    commit(&s, 3);
    expect_batches(&s, 1, last + 3);
    spool_close(&s);
}

Test(spool_faults, a_disk_that_breaks_its_promise_of_room_is_tried_again)
{
    struct spool s;
    struct meter m;
    struct spool_options o = options();
    o.io = &bad_io;
    must_open(&s, &o, &m);
    commit(&s, 2);
    disk.failing = CALL_WRITE;
    disk.seen[CALL_WRITE] = 0;
    disk.fail_at = 1;
    disk.error = ENOSPC;
    struct sg_fault f = {0};
    cr_assert_eq(append(&s, &f), SG_ERR_LIMIT);
    cr_assert_eq(spool_last_seq(&s), 2u);
    commit(&s, 2);
    spool_close(&s);
    must_open(&s, &o, &m);
    expect_batches(&s, 1, 4);
    spool_close(&s);
}

/* ---- crashes ---- */

static uint32_t random_of(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* What the power cut leaves of an unsynced write. */
static void settle_write(const struct pending *p, uint32_t *random)
{
    enum { KEPT, LOST, TRASHED, TORN, FATES };
    int fd = open(p->path, O_WRONLY);
    if (fd < 0) return; /* its file is gone */
    uint8_t bytes[4096];
    size_t from = 0;
    uint32_t fate = random_of(random) % FATES;
    memset(bytes, fate == TRASHED ? 0xa5 : 0, sizeof bytes);
    if (fate == TORN) from = random_of(random) % p->length;
    if (fate != KEPT) cr_assert_geq(pwrite(fd, bytes, p->length - from, p->offset + (off_t)from), 0);
    close(fd);
}

static void power_cut(uint32_t seed)
{
    uint32_t random = seed * 2654435761u + 1;
    for (size_t i = 0; i < disk.pending_count; i++) settle_write(&disk.pending[i], &random);
    if (disk.renamed_from[0] && random_of(&random) % 2) (void)!rename(disk.renamed_to, disk.renamed_from);
}

Test(spool_faults, after_a_crash_at_any_call_what_was_acked_is_there)
{
    enum { SEEDS = 6 };
    bool through = false;
    int crashes = 0;
    for (int n = 1; !through; n++) {
        for (uint32_t seed = 1; seed <= SEEDS; seed++, crashes++) {
            fresh();
            disk.crash_at = n;
            struct run r = {0};
            run(&bad_io, &r);
            through = !r.error;
            power_cut((uint32_t)n * SEEDS + seed);
            expect_recovery(&r, "crash at call, seed", n * 10 + (int)seed);
        }
    }
    cr_assert_gt(crashes, 300);
}
