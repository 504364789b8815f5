/* What the host counts for each sandbox.
 *
 * FILES     below <root>/<cgroup>/ of cgroup v2 (Documentation/admin-guide/cgroup-v2.rst):
 *             cpu.stat         usage_usec                        cpu_us
 *             memory.current   one number                        mem_bytes
 *             memory.peak      one number (Linux 5.19)           mem_peak_bytes
 *             io.stat          rbytes=, wbytes= of every device  their sums
 *             cgroup.events    populated                         proof of life
 *           Each is opened when it is first there and kept; a read is one pread from offset 0, which makes the kernel
 *           write the file anew. openat2 keeps every path beneath the root, through links too.
 * LINKS     sampler_links.h; name to index once, again when the index is gone.
 *
 * FAILURES  root, group or file missing,     its metric is unavailable; it is looked for at the next sweep
 *           controller off
 *           group removed (ENODEV)           all descriptors are closed; a new group of the same name is found again.
 *                                            Its counters start anew, which the meter takes for a reset
 *           content not understood           unavailable
 *           no descriptors left (EMFILE)     unavailable
 *           link gone, dump interrupted      net is unavailable this time
 *   Nothing here is an error that stops anything: events carry the counters too.
 *
 * TABLE     entries are dense, so that a sweep is a walk; a hash of handles, open addressing, finds them. */
#include "collector/sampler.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "collector/sampler_links.h"
#include "sandglass/limits.h"

enum { TEXT_BYTES_MAX = 64 << 10, SLOTS_MIN = 64 };

struct entry {
    uint64_t handle;
    char *cgroup; /* NULL: none */
    char tap[SAMPLER_TAP_BYTES_MAX + 1];
    uint32_t ifindex; /* 0: not known */
    int fd[SAMPLER_FILES_PER_SANDBOX];
};

struct sampler {
    char *root;  /* NULL: groups are not read */
    int root_fd; /* -1: it was not there yet */
    bool with_links;
    struct links links;
    struct entry *entry;
    size_t count, room;
    uint32_t *slot; /* index of an entry + 1; 0: free */
    size_t slots;   /* a power of two, at least twice the entries */
    char text[TEXT_BYTES_MAX + 1];
};

/* ---- the files ---- */

/* A decimal number at text, ended by end; false beyond COUNTER_MAX. */
static bool number(const char *text, const char *ends, uint64_t *out)
{
    uint64_t v = 0;
    const char *p = text;
    for (; *p >= '0' && *p <= '9'; p++) {
        v = v * 10 + (uint64_t)(*p - '0');
        if (v > COUNTER_MAX) return false;
    }
    *out = v;
    return p > text && (*p == '\0' || strchr(ends, *p));
}

/* The number behind "key " at the start of a line. */
static bool keyed(const char *text, const char *key, uint64_t *out)
{
    size_t length = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        if (*line == '\n') line++;
        if (strncmp(line, key, length) == 0 && line[length] == ' ') return number(line + length + 1, "\n", out);
    }
    return false;
}

static bool take_cpu(const char *text, struct sample *s)
{
    return keyed(text, "usage_usec", &s->cpu_us);
}

static bool take_mem(const char *text, struct sample *s)
{
    return number(text, "\n", &s->mem_bytes);
}

static bool take_mem_peak(const char *text, struct sample *s)
{
    return number(text, "\n", &s->mem_peak_bytes);
}

/* "8:0 rbytes=1 wbytes=2 rios=..." a device; a group that did no I/O yet has none: that is a measured zero. */
static bool take_io(const char *text, struct sample *s)
{
    uint64_t sum[2] = {0, 0};
    static const char *const key[2] = {" rbytes=", " wbytes="};
    for (size_t k = 0; k < 2; k++) {
        for (const char *p = text; (p = strstr(p, key[k]));) {
            uint64_t v;
            p += strlen(key[k]);
            if (!number(p, " \n", &v) || sum[k] + v > COUNTER_MAX) return false;
            sum[k] += v;
        }
    }
    s->io_read_bytes = sum[0];
    s->io_write_bytes = sum[1];
    return true;
}

static bool take_life(const char *text, struct sample *s)
{
    uint64_t v;
    if (!keyed(text, "populated", &v) || v > 1) return false;
    s->populated = v == 1;
    return true;
}

static const struct {
    const char *name;
    uint32_t has;
    bool (*take)(const char *text, struct sample *s); /* fills its members only when it returns true */
} files[SAMPLER_FILES_PER_SANDBOX] = {
    {"cpu.stat", SAMPLE_CPU, take_cpu},
    {"memory.current", SAMPLE_MEM, take_mem},
    {"memory.peak", SAMPLE_MEM_PEAK, take_mem_peak},
    {"io.stat", SAMPLE_IO, take_io},
    {"cgroup.events", SAMPLE_LIFE, take_life},
};

static void close_files(struct entry *e)
{
    for (size_t i = 0; i < SAMPLER_FILES_PER_SANDBOX; i++) {
        if (e->fd[i] >= 0) close(e->fd[i]);
        e->fd[i] = -1;
    }
}

static bool open_root(struct sampler *s)
{
    if (s->root_fd < 0 && s->root) s->root_fd = open(s->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return s->root_fd >= 0;
}

static void open_files(struct sampler *s, struct entry *e)
{
    size_t missing = 0;
    for (size_t i = 0; i < SAMPLER_FILES_PER_SANDBOX; i++) missing += e->fd[i] < 0;
    if (!missing) return;
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_BENEATH};
    int directory_fd = (int)syscall(SYS_openat2, s->root_fd, e->cgroup, &how, sizeof how);
    if (directory_fd < 0) return;
    for (size_t i = 0; i < SAMPLER_FILES_PER_SANDBOX; i++)
        if (e->fd[i] < 0) e->fd[i] = openat(directory_fd, files[i].name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    close(directory_fd);
}

/* The whole content into s->text; 0, or an error number. */
static int read_text(struct sampler *s, int fd)
{
    size_t length = 0;
    while (length < TEXT_BYTES_MAX) {
        ssize_t n = pread(fd, s->text + length, TEXT_BYTES_MAX - length, (off_t)length);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno;
        if (n == 0) break;
        length += (size_t)n;
    }
    s->text[length] = '\0';
    return length < TEXT_BYTES_MAX ? 0 : EFBIG;
}

static void sample_group(struct sampler *s, struct entry *e, struct sample *out)
{
    if (!e->cgroup || !open_root(s)) return;
    open_files(s, e);
    for (size_t i = 0; i < SAMPLER_FILES_PER_SANDBOX; i++) {
        if (e->fd[i] < 0) continue;
        int error = read_text(s, e->fd[i]);
        if (error == ENODEV) { /* what was read before the group went is still true */
            close_files(e);
            return;
        }
        if (!error && files[i].take(s->text, out)) out->has |= files[i].has;
    }
}

/* ---- links ---- */

static void sample_link(struct sampler *s, struct entry *e, struct sample *out)
{
    const struct link_stats *link = links_find(&s->links, e->ifindex);
    if (!link) {
        e->ifindex = 0;
        return;
    }
    if (link->tx_bytes > COUNTER_MAX || link->rx_bytes > COUNTER_MAX) return;
    out->net_rx_bytes = link->tx_bytes;
    out->net_tx_bytes = link->rx_bytes;
    out->has |= SAMPLE_NET;
}

static bool find_link(const struct sampler *s, struct entry *e)
{
    if (!s->with_links || !e->tap[0]) return false;
    if (!e->ifindex) e->ifindex = if_nametoindex(e->tap);
    return e->ifindex != 0;
}

/* ---- the table ---- */

static size_t slot_of(const struct sampler *s, uint64_t handle)
{
    uint64_t h = handle * UINT64_C(0x9e3779b97f4a7c15);
    size_t i = (size_t)(h >> 32) & (s->slots - 1);
    while (s->slot[i] && s->entry[s->slot[i] - 1].handle != handle) i = (i + 1) & (s->slots - 1);
    return i;
}

static struct entry *find(const struct sampler *s, uint64_t handle)
{
    if (!s->slots) return NULL;
    uint32_t at = s->slot[slot_of(s, handle)];
    return at ? &s->entry[at - 1] : NULL;
}

static void rebuild(struct sampler *s)
{
    memset(s->slot, 0, s->slots * sizeof *s->slot);
    for (size_t i = 0; i < s->count; i++) s->slot[slot_of(s, s->entry[i].handle)] = (uint32_t)i + 1;
}

static bool grow(struct sampler *s)
{
    if (s->count < s->room) return true;
    size_t room = s->room ? 2 * s->room : SLOTS_MIN / 2;
    struct entry *entry = reallocarray(s->entry, room, sizeof *entry);
    if (!entry) return false;
    s->entry = entry;
    uint32_t *slot = reallocarray(s->slot, 2 * room, sizeof *slot);
    if (!slot) return false;
    s->slot = slot;
    s->slots = 2 * room;
    s->room = room;
    rebuild(s);
    return true;
}

/* Frees a slot and moves up those behind it that had been pushed aside by it. */
static void free_slot(struct sampler *s, size_t i)
{
    s->slot[i] = 0;
    for (size_t j = (i + 1) & (s->slots - 1); s->slot[j]; j = (j + 1) & (s->slots - 1)) {
        uint32_t at = s->slot[j];
        s->slot[j] = 0;
        s->slot[slot_of(s, s->entry[at - 1].handle)] = at;
    }
}

static bool path_allowed(const char *cgroup)
{
    if (strlen(cgroup) > SAMPLER_CGROUP_BYTES_MAX) return false;
    for (const char *p = cgroup; (p = strstr(p, "..")); p++)
        if ((p == cgroup || p[-1] == '/') && (p[2] == '\0' || p[2] == '/')) return false;
    return true;
}

enum sg_error sampler_add(struct sampler *s, uint64_t handle, const char *cgroup, const char *tap, struct sg_fault *f)
{
    if (cgroup && !path_allowed(cgroup)) return sg_fail(f, SG_ERR_MALFORMED, "a cgroup path that is not allowed");
    if (tap && strlen(tap) > SAMPLER_TAP_BYTES_MAX) return sg_fail(f, SG_ERR_MALFORMED, "an interface name too long");
    if (find(s, handle)) return sg_fail(f, SG_ERR_STATE, "the sandbox is sampled already");
    if (s->count == SAMPLER_SANDBOXES_MAX) return sg_fail(f, SG_ERR_LIMIT, "no room for another sandbox to sample");
    struct entry e = {.handle = handle, .fd = {-1, -1, -1, -1, -1}};
    if (tap) snprintf(e.tap, sizeof e.tap, "%s", tap);
    while (cgroup && *cgroup == '/') cgroup++; /* paths of cgroups are often written from their root */
    if (cgroup && *cgroup) e.cgroup = strdup(cgroup);
    if ((cgroup && *cgroup && !e.cgroup) || !grow(s)) {
        free(e.cgroup);
        return sg_fail(f, SG_ERR_NOMEM, "no memory for another sandbox to sample");
    }
    s->slot[slot_of(s, handle)] = (uint32_t)s->count + 1;
    s->entry[s->count++] = e;
    return SG_OK;
}

void sampler_remove(struct sampler *s, uint64_t handle)
{
    struct entry *e = find(s, handle);
    if (!e) return;
    close_files(e);
    free(e->cgroup);
    size_t at = (size_t)(e - s->entry), last = s->count - 1;
    free_slot(s, slot_of(s, handle));
    if (at != last) {
        s->slot[slot_of(s, s->entry[last].handle)] = (uint32_t)at + 1;
        s->entry[at] = s->entry[last];
    }
    s->count--;
}

size_t sampler_count(const struct sampler *s)
{
    return s->count;
}

/* ---- the whole ---- */

enum sg_error sampler_new(struct sampler **out, const char *cgroup_root, bool links, struct sg_fault *f)
{
    struct sampler *s = calloc(1, sizeof *s);
    if (!s) return sg_fail(f, SG_ERR_NOMEM, "no memory for the sampler");
    s->root_fd = -1;
    s->with_links = links;
    enum sg_error e = links ? links_init(&s->links, f) : SG_OK;
    if (!e && cgroup_root && *cgroup_root) {
        s->root = strdup(cgroup_root);
        if (!s->root) e = sg_fail(f, SG_ERR_NOMEM, "no memory for the sampler");
    }
    if (e) {
        sampler_free(s);
        return e;
    }
    *out = s;
    return SG_OK;
}

void sampler_free(struct sampler *s)
{
    if (!s) return;
    for (size_t i = 0; i < s->count; i++) {
        close_files(&s->entry[i]);
        free(s->entry[i].cgroup);
    }
    if (s->root_fd >= 0) close(s->root_fd);
    links_destroy(&s->links);
    free(s->root);
    free(s->entry);
    free(s->slot);
    free(s);
}

void sampler_sweep(struct sampler *s, sampler_each *each, void *arg)
{
    size_t taps = 0;
    for (size_t i = 0; i < s->count; i++) taps += find_link(s, &s->entry[i]);
    bool linked = taps && links_read(&s->links, 0);
    for (size_t i = 0; i < s->count; i++) {
        struct entry *e = &s->entry[i];
        struct sample sample = {.handle = e->handle};
        sample_group(s, e, &sample);
        if (linked && e->ifindex) sample_link(s, e, &sample);
        if (sample.has) each(arg, &sample);
    }
}

bool sampler_read(struct sampler *s, uint64_t handle, struct sample *out)
{
    struct entry *e = find(s, handle);
    if (!e) return false;
    *out = (struct sample){.handle = handle};
    sample_group(s, e, out);
    if (!find_link(s, e)) return true;
    if (links_read(&s->links, e->ifindex))
        sample_link(s, e, out);
    else
        e->ifindex = 0;
    return true;
}
