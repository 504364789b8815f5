/* Durable appends: the spool against its floor, a raw pwrite and fdatasync of the same bytes in the same group sizes
 * into a file whose space is reserved. Rounds alternate, so that both see the same disk.
 *
 * usage: spool_append [DIRECTORY [COMMITS [BATCH_BYTES [STATE_BYTES [ROWS]]]]]
 * A commit is one batch of ROWS rows and one fdatasync. */
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/measure.h"
#include "collector/spool.h"

enum { ROUNDS = 8 };

struct load {
    uint64_t commits, batch_bytes, state_bytes, rows; /* commits: in one round */
    uint8_t *bytes;
};

/* One side's rounds: rows against wall time and against CPU time. */
struct cost {
    struct measure wall, cpu;
};

struct start {
    uint64_t wall_ns, cpu_ns;
};

static struct start now(void)
{
    return (struct start){measure_wall_ns(), measure_cpu_ns()};
}

static void add_since(struct cost *c, const struct load *l, struct start start)
{
    measure_add(&c->wall, l->commits * l->rows, measure_wall_ns() - start.wall_ns);
    measure_add(&c->cpu, l->commits * l->rows, measure_cpu_ns() - start.cpu_ns);
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

static void round_of_spool(struct spool *s, const struct load *l, struct cost *cost)
{
    struct sg_fault f = {0};
    struct start start = now();
    for (uint64_t i = 0; i < l->commits; i++) {
        if (spool_wants_roll(s)) stop_on_fault(spool_roll(s, l->bytes, l->state_bytes, &f), &f);
        stop_on_fault(spool_append(s, l->bytes, l->batch_bytes, l->bytes + l->batch_bytes, l->state_bytes, &f), &f);
        stop_on_fault(spool_sync(s, &f), &f);
    }
    add_since(cost, l, start);
    stop_on_fault(spool_delivered(s, spool_durable_seq(s), &f), &f);
}

static void round_of_floor(const char *path, const struct load *l, struct cost *cost)
{
    uint64_t bytes = l->batch_bytes + l->state_bytes;
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    stop_on(fd < 0 || posix_fallocate(fd, 0, (off_t)(bytes * l->commits)) || fsync(fd), path);
    struct start start = now();
    for (uint64_t i = 0; i < l->commits; i++) {
        stop_on(pwrite(fd, l->bytes, bytes, (off_t)(i * bytes)) != (ssize_t)bytes, path);
        stop_on(fdatasync(fd) != 0, path);
    }
    add_since(cost, l, start);
    close(fd);
}

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *at)
{
    (void)status, (void)kind, (void)at;
    return remove(path);
}

static uint64_t argument(char **argv, int argc, int i, uint64_t fallback)
{
    return argc > i ? strtoull(argv[i], NULL, 10) : fallback;
}

int main(int argc, char **argv)
{
    struct load l = {.commits = argument(argv, argc, 2, 200),
                     .batch_bytes = argument(argv, argc, 3, 96 << 10),
                     .state_bytes = argument(argv, argc, 4, 64 << 10),
                     .rows = argument(argv, argc, 5, 4096)};
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
    snprintf(directory, sizeof directory, "%s/sandglass-bench-XXXXXX", argc > 1 ? argv[1] : ".");
    stop_on(!mkdtemp(directory), directory);
    snprintf(path, sizeof path, "%s/floor", directory);
    struct spool s;
    struct sg_fault f = {0};
    struct spool_options o = {.directory = directory, .runner = "bench", .now = {1}, .bytes_max = UINT64_C(4) << 30};
    stop_on_fault(spool_open(&s, &o, apply, NULL, &f), &f);
    struct cost warm = {0};
    struct cost spool = {{.name = "durable rows", .unit = "rows"}, {.name = "rows by CPU", .unit = "rows"}};
    struct cost floor = {{.name = "pwrite and fdatasync"}, {.name = "pwrite and fdatasync"}};
    round_of_floor(path, &l, &warm);
    round_of_spool(&s, &l, &warm);
    for (int i = 0; i < ROUNDS; i++) {
        round_of_floor(path, &l, &floor);
        round_of_spool(&s, &l, &spool);
    }
    measure_print("spool_append", &spool.wall, "s", &floor.wall);
    measure_print("spool_append", &spool.cpu, "cpu_s", &floor.cpu);
    spool_close(&s);
    free(l.bytes);
    return nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS) ? 1 : 0;
}
