/* Durable appends: the spool against its floor, a raw pwrite and fdatasync of the same bytes in the same group sizes
 * into a file whose space is reserved. Rounds alternate, so that both see the same disk. One JSON object goes to
 * stdout.
 *
 * usage: spool_append [DIRECTORY [COMMITS [BATCH_BYTES [STATE_BYTES [ROWS]]]]]
 * A commit is one batch of ROWS rows: rows_per_s is what that makes of the commits. */
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "collector/spool.h"

enum { ROUNDS = 8 };

struct load {
    uint64_t commits, batch_bytes, state_bytes, rows; /* commits: in one round */
    uint8_t *bytes;
};

struct cost {
    double wall_s, cpu_s;
};

static double seconds(struct timespec t)
{
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct cost now(void)
{
    struct timespec wall, cpu;
    clock_gettime(CLOCK_MONOTONIC, &wall);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    return (struct cost){seconds(wall), seconds(cpu)};
}

static void add_since(struct cost *sum, struct cost start)
{
    struct cost end = now();
    sum->wall_s += end.wall_s - start.wall_s;
    sum->cpu_s += end.cpu_s - start.cpu_s;
}

static void stop_on(bool failed, const char *what)
{
    if (!failed) return;
    perror(what);
    exit(1);
}

static void stop_on_fault(enum sg_error e, const struct sg_fault *f)
{
    if (!e) return;
    fprintf(stderr, "%s: %s\n", sg_error_text(e), f->text);
    exit(1);
}

static enum sg_error apply(void *arg, enum spool_record_kind kind, uint64_t seq, const uint8_t *bytes, size_t length,
                           struct sg_fault *f)
{
    (void)arg, (void)kind, (void)seq, (void)bytes, (void)length, (void)f;
    return SG_OK;
}

static void round_of_spool(struct spool *s, const struct load *l, struct cost *sum)
{
    struct sg_fault f = {0};
    struct cost start = now();
    for (uint64_t i = 0; i < l->commits; i++) {
        if (spool_wants_roll(s)) stop_on_fault(spool_roll(s, l->bytes, l->state_bytes, &f), &f);
        stop_on_fault(spool_append(s, l->bytes, l->batch_bytes, l->bytes + l->batch_bytes, l->state_bytes, &f), &f);
        stop_on_fault(spool_sync(s, &f), &f);
    }
    add_since(sum, start);
    stop_on_fault(spool_delivered(s, spool_durable_seq(s), &f), &f);
}

static void round_of_floor(const char *path, const struct load *l, struct cost *sum)
{
    uint64_t bytes = l->batch_bytes + l->state_bytes;
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    stop_on(fd < 0 || posix_fallocate(fd, 0, (off_t)(bytes * l->commits)) || fsync(fd), path);
    struct cost start = now();
    for (uint64_t i = 0; i < l->commits; i++) {
        stop_on(pwrite(fd, l->bytes, bytes, (off_t)(i * bytes)) != (ssize_t)bytes, path);
        stop_on(fdatasync(fd) != 0, path);
    }
    add_since(sum, start);
    close(fd);
}

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *at)
{
    (void)status, (void)kind, (void)at;
    return remove(path);
}

static void print(const struct load *l, struct cost spool, struct cost floor)
{
    double commits = (double)l->commits * ROUNDS, mb = commits * (double)(l->batch_bytes + l->state_bytes) / 1e6;
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    printf("{\"bench\":\"spool_append\",\"commits\":%.0f,\"batch_bytes\":%llu,\"state_bytes\":%llu,\"rows_per_batch\":%"
           "llu,"
           "\"commits_per_s\":%.0f,\"rows_per_s\":%.0f,\"mb_per_s\":%.1f,\"rows_per_cpu_s\":%.0f,\"mb_per_cpu_s\":%.1f,"
           "\"floor_commits_per_s\":%.0f,\"floor_mb_per_s\":%.1f,\"floor_mb_per_cpu_s\":%.1f,"
           "\"ratio_wall\":%.3f,\"ratio_cpu\":%.3f,\"rss_max_kib\":%ld}\n",
           commits, (unsigned long long)l->batch_bytes, (unsigned long long)l->state_bytes, (unsigned long long)l->rows,
           commits / spool.wall_s, commits * (double)l->rows / spool.wall_s, mb / spool.wall_s,
           commits * (double)l->rows / spool.cpu_s, mb / spool.cpu_s, commits / floor.wall_s, mb / floor.wall_s,
           mb / floor.cpu_s, floor.wall_s / spool.wall_s, floor.cpu_s / spool.cpu_s, use.ru_maxrss);
}

static uint64_t argument(char **argv, int argc, int i, uint64_t fallback)
{
    return argc > i ? strtoull(argv[i], NULL, 10) : fallback;
}

int main(int argc, char **argv)
{
    struct load l = {.commits = argument(argv, argc, 2, 200),
                     .batch_bytes = argument(argv, argc, 3, 64 << 10),
                     .state_bytes = argument(argv, argc, 4, 16 << 10),
                     .rows = argument(argv, argc, 5, 2000)};
    if (!l.commits || !l.batch_bytes || l.batch_bytes > BATCH_BYTES_MAX || l.state_bytes > SPOOL_DELTA_BYTES_MAX) {
        fprintf(stderr, "usage: spool_append [DIRECTORY [COMMITS [BATCH_BYTES [STATE_BYTES [ROWS]]]]]\n");
        return 2;
    }
    l.bytes = malloc(l.batch_bytes + l.state_bytes);
    stop_on(!l.bytes, "malloc");
    uint32_t random = 1;
    for (size_t i = 0; i < l.batch_bytes + l.state_bytes; i++)
        l.bytes[i] = (uint8_t)((random = random * 1664525u + 1013904223u) >> 24);

    char directory[512], path[600];
    snprintf(directory, sizeof directory, "%s/sandglass-bench-XXXXXX", argc > 1 ? argv[1] : "/var/tmp");
    stop_on(!mkdtemp(directory), directory);
    snprintf(path, sizeof path, "%s/floor", directory);
    struct spool s;
    struct sg_fault f = {0};
    struct spool_options o = {.directory = directory, .runner = "bench", .now = {1}, .bytes_max = UINT64_C(4) << 30};
    stop_on_fault(spool_open(&s, &o, apply, NULL, &f), &f);
    struct cost spool = {0}, floor = {0}, warm = {0};
    round_of_floor(path, &l, &warm);
    round_of_spool(&s, &l, &warm);
    for (int i = 0; i < ROUNDS; i++) {
        round_of_floor(path, &l, &floor);
        round_of_spool(&s, &l, &spool);
    }
    print(&l, spool, floor);
    spool_close(&s);
    free(l.bytes);
    return nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS) ? 1 : 0;
}
