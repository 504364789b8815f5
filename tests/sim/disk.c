#include "tests/sim/disk.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { DIRECTORY_FD = 1000 };

/* ---- contents ---- */

static void set_size(struct disk_content *c, uint64_t size)
{
    c->size = size;
    if (c->length > size) c->length = (size_t)size;
}

static void put(struct disk_content *c, uint64_t offset, const uint8_t *bytes, size_t length)
{
    size_t end = (size_t)offset + length;
    if (end > c->room) {
        c->room = end < 4096 ? 4096 : 2 * end;
        c->bytes = realloc(c->bytes, c->room);
        if (!c->bytes) abort();
    }
    if (c->length < offset) memset(c->bytes + c->length, 0, (size_t)offset - c->length);
    memcpy(c->bytes + offset, bytes, length);
    if (c->length < end) c->length = end;
    if (c->size < end) c->size = end;
}

static void copy_content(struct disk_content *to, const struct disk_content *from)
{
    to->length = 0;
    if (from->length) put(to, 0, from->bytes, from->length);
    to->size = from->size;
}

static void free_content(struct disk_content *c)
{
    free(c->bytes);
    *c = (struct disk_content){0};
}

/* ---- names ---- */

static struct disk_name *find(struct disk_names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++)
        if (names->entry[i].file >= 0 && strcmp(names->entry[i].name, name) == 0) return &names->entry[i];
    return NULL;
}

static void unlink_name(struct disk_names *names, const char *name)
{
    struct disk_name *entry = find(names, name);
    if (entry) entry->file = -1;
    while (names->count && names->entry[names->count - 1].file < 0) names->count--;
}

static void link_name(struct disk_names *names, const char *name, int file)
{
    unlink_name(names, name);
    size_t i = 0;
    while (i < names->count && names->entry[i].file >= 0) i++;
    assert(i < DISK_FILES_MAX && strlen(name) < sizeof names->entry[i].name);
    if (i == names->count) names->count++;
    snprintf(names->entry[i].name, sizeof names->entry[i].name, "%s", name);
    names->entry[i].file = file;
}

/* ---- changes ---- */

static struct disk_change *note(struct disk *d, enum disk_change_kind kind, int file)
{
    assert(d->changes < DISK_CHANGES_MAX);
    struct disk_change *c = &d->change[d->changes++];
    *c = (struct disk_change){.kind = kind, .file = file};
    return c;
}

static bool of_directory(const struct disk_change *c)
{
    return c->kind == DISK_LINK || c->kind == DISK_UNLINK || c->kind == DISK_RENAME;
}

static void apply_name(struct disk_names *names, const struct disk_change *c)
{
    if (c->kind == DISK_LINK) link_name(names, c->name, c->file);
    if (c->kind != DISK_LINK) unlink_name(names, c->name);
    if (c->kind == DISK_RENAME) link_name(names, c->to, c->file);
}

static size_t piece_bytes(uint64_t offset, uint64_t left)
{
    uint64_t in_sector = DISK_SECTOR_BYTES - offset % DISK_SECTOR_BYTES;
    return (size_t)(left < in_sector ? left : in_sector);
}

static bool happens(struct disk *d, enum disk_event event)
{
    return d->happens && d->happens(d->arg, event);
}

/* Makes a change durable; in part and by chance unless whole. */
static void settle(struct disk *d, struct disk_change *c, bool whole)
{
    struct disk_content *durable = of_directory(c) ? NULL : &d->file[c->file].durable;
    if (!durable) {
        if (whole || happens(d, DISK_KEEPS)) apply_name(&d->durable, c);
    } else if (c->kind == DISK_SIZE) {
        if (whole || happens(d, DISK_KEEPS)) set_size(durable, c->length);
    } else if (whole) {
        put(durable, c->offset, c->bytes, (size_t)c->length);
    } else {
        for (uint64_t done = 0; done < c->length;) {
            size_t n = piece_bytes(c->offset + done, c->length - done);
            if (happens(d, DISK_KEEPS)) put(durable, c->offset + done, c->bytes + done, n);
            done += n;
        }
    }
    free(c->bytes);
}

enum { DIRECTORY = -1, EVERYTHING = -2 };
enum how { WHOLE, BY_CHANCE, SYNC_FAILED };

/* Settles the changes of one file, of the directory, or all. */
static void settle_all(struct disk *d, int file, enum how how)
{
    size_t kept = 0;
    for (size_t i = 0; i < d->changes; i++) {
        struct disk_change *c = &d->change[i];
        bool its = file == EVERYTHING || (of_directory(c) ? file == DIRECTORY : c->file == file);
        if (its && (how != SYNC_FAILED || c->kind == DISK_WRITE))
            settle(d, c, how == WHOLE);
        else
            d->change[kept++] = *c;
    }
    d->changes = kept;
}

static bool is_named(const struct disk_names *names, int file)
{
    for (size_t i = 0; i < names->count; i++)
        if (names->entry[i].file == file) return true;
    return false;
}

/* Frees files that nobody can reach any more, not even after a power cut. */
static void collect(struct disk *d)
{
    for (int i = 0; i < d->files; i++) {
        bool needed = !d->file[i].used || is_named(&d->seen, i) || is_named(&d->durable, i);
        for (size_t k = 0; k < DISK_OPEN_MAX && !needed; k++) needed = d->open[k] == i + 1;
        for (size_t k = 0; k < d->changes && !needed; k++)
            needed = of_directory(&d->change[k]) && d->change[k].file == i;
        if (needed) continue;
        settle_all(d, i, WHOLE);
        free_content(&d->file[i].seen);
        free_content(&d->file[i].durable);
        d->file[i].used = false;
    }
}

/* ---- the calls ---- */

/* A call that changes something begins; false: the program is gone. */
static bool begin(struct disk *d, const char *call)
{
    if (d->before && !d->dead) d->before(d->arg, call);
    if (!d->dead && ++d->calls == d->dies_at) d->dead = true;
    errno = EIO;
    return !d->dead;
}

static int fails(int error)
{
    errno = error;
    return -1;
}

static struct disk_file *file_of(struct disk *d, int fd)
{
    assert(fd > 0 && fd <= DISK_OPEN_MAX && d->open[fd - 1]);
    return &d->file[d->open[fd - 1] - 1];
}

static int disk_open_directory(void *arg, const char *path)
{
    (void)path;
    return ((struct disk *)arg)->dead ? fails(EIO) : DIRECTORY_FD;
}

static int create(struct disk *d, const char *name)
{
    int file = 0;
    if (!begin(d, "create")) return -1;
    if (happens(d, DISK_FULL)) return fails(ENOSPC);
    while (file < DISK_FILES_MAX && d->file[file].used) file++;
    assert(file < DISK_FILES_MAX);
    if (file == d->files) d->files++;
    d->file[file].used = true;
    link_name(&d->seen, name, file);
    snprintf(note(d, DISK_LINK, file)->name, sizeof d->change->name, "%s", name);
    return file;
}

static int disk_open(void *arg, int directory_fd, const char *name, int flags)
{
    struct disk *d = arg;
    assert(directory_fd == DIRECTORY_FD);
    if (d->dead) return fails(EIO);
    struct disk_name *entry = find(&d->seen, name);
    if (!entry && !(flags & O_CREAT)) return fails(ENOENT);
    int file = entry ? entry->file : create(d, name);
    if (file < 0) return -1;
    if (entry && (flags & O_TRUNC)) {
        if (!begin(d, "truncate")) return -1;
        set_size(&d->file[file].seen, 0);
        note(d, DISK_SIZE, file);
    }
    int fd = 0;
    while (fd < DISK_OPEN_MAX && d->open[fd]) fd++;
    assert(fd < DISK_OPEN_MAX);
    d->open[fd] = file + 1;
    return fd + 1;
}

static void disk_close(void *arg, int fd)
{
    struct disk *d = arg;
    if (fd == DIRECTORY_FD) return;
    assert(fd > 0 && fd <= DISK_OPEN_MAX);
    d->open[fd - 1] = 0;
}

static int disk_lock(void *arg, int fd)
{
    struct disk *d = arg;
    (void)file_of(d, fd);
    return d->dead ? fails(EIO) : 0;
}

static int disk_list(void *arg, int directory_fd, spool_take_name *take, void *taker)
{
    struct disk *d = arg;
    assert(directory_fd == DIRECTORY_FD);
    if (d->dead) return fails(EIO);
    for (size_t i = 0; i < d->seen.count; i++) {
        char name[sizeof d->seen.entry->name];
        memcpy(name, d->seen.entry[i].name, sizeof name);
        if (d->seen.entry[i].file >= 0 && !take(taker, name)) break;
    }
    return 0;
}

static int disk_size(void *arg, int fd, uint64_t *bytes)
{
    struct disk *d = arg;
    *bytes = file_of(d, fd)->seen.size;
    return d->dead ? fails(EIO) : 0;
}

static void disk_sequential(void *arg, int fd)
{
    (void)arg;
    (void)fd;
}

static void write_piece(struct disk *d, int fd, uint64_t offset, const void *bytes, size_t length)
{
    struct disk_file *f = file_of(d, fd);
    struct disk_change *c = note(d, DISK_WRITE, (int)(f - d->file));
    c->offset = offset;
    c->length = length;
    c->bytes = malloc(length);
    if (!c->bytes) abort();
    memcpy(c->bytes, bytes, length);
    put(&f->seen, offset, c->bytes, length);
}

static ssize_t disk_pwritev(void *arg, int fd, const struct iovec *iov, int count, off_t offset)
{
    struct disk *d = arg;
    if (!begin(d, "write")) return -1;
    if (happens(d, DISK_FULL_FOR_A_WRITE)) return fails(ENOSPC);
    if (happens(d, DISK_WRITE_FAILS)) return fails(EIO);
    size_t all = 0, done = 0;
    for (int i = 0; i < count; i++) all += iov[i].iov_len;
    if (happens(d, DISK_WRITE_SHORT)) all = all / 2 + 1;
    for (int i = 0; i < count && done < all; i++) {
        size_t n = iov[i].iov_len < all - done ? iov[i].iov_len : all - done;
        if (n) write_piece(d, fd, (uint64_t)offset + done, iov[i].iov_base, n);
        done += n;
    }
    return (ssize_t)done;
}

static ssize_t disk_pread(void *arg, int fd, void *bytes, size_t length, off_t offset)
{
    struct disk *d = arg;
    const struct disk_content *c = &file_of(d, fd)->seen;
    uint64_t at = (uint64_t)offset;
    if (d->dead || happens(d, DISK_READ_FAILS)) return fails(EIO);
    if (at >= c->size) return 0;
    if (length > c->size - at) length = (size_t)(c->size - at);
    size_t there = at >= c->length ? 0 : c->length - (size_t)at;
    if (there > length) there = length;
    if (there) memcpy(bytes, c->bytes + at, there);
    memset((uint8_t *)bytes + there, 0, length - there);
    return (ssize_t)length;
}

static int disk_sync(void *arg, int fd)
{
    struct disk *d = arg;
    int file = fd == DIRECTORY_FD ? DIRECTORY : (int)(file_of(d, fd) - d->file);
    if (!begin(d, "sync")) return -1;
    bool whole = !happens(d, DISK_SYNC_FAILS);
    settle_all(d, file, whole ? WHOLE : SYNC_FAILED);
    if (file == DIRECTORY) collect(d);
    return whole ? 0 : fails(EIO);
}

static int disk_fallocate(void *arg, int fd, off_t offset, off_t length)
{
    struct disk *d = arg;
    struct disk_content *c = &file_of(d, fd)->seen;
    if (!begin(d, "reserve")) return EIO;
    if (happens(d, DISK_FULL)) return ENOSPC;
    uint64_t size = (uint64_t)(offset + length);
    if (d->reserve_shown && size > c->length + d->reserve_shown) size = c->length + d->reserve_shown;
    if (c->size >= size) return 0;
    set_size(c, size);
    note(d, DISK_SIZE, d->open[fd - 1] - 1)->length = c->size;
    return 0;
}

static int disk_ftruncate(void *arg, int fd, off_t length)
{
    struct disk *d = arg;
    if (!begin(d, "truncate")) return -1;
    set_size(&file_of(d, fd)->seen, (uint64_t)length);
    note(d, DISK_SIZE, d->open[fd - 1] - 1)->length = (uint64_t)length;
    return 0;
}

static int disk_rename(void *arg, int directory_fd, const char *from, const char *to)
{
    struct disk *d = arg;
    assert(directory_fd == DIRECTORY_FD);
    if (!begin(d, "rename")) return -1;
    const struct disk_name *entry = find(&d->seen, from);
    if (!entry) return fails(ENOENT);
    struct disk_change *c = note(d, DISK_RENAME, entry->file);
    snprintf(c->name, sizeof c->name, "%s", from);
    snprintf(c->to, sizeof c->to, "%s", to);
    apply_name(&d->seen, c);
    return 0;
}

static int disk_unlink(void *arg, int directory_fd, const char *name)
{
    struct disk *d = arg;
    assert(directory_fd == DIRECTORY_FD);
    if (!begin(d, "unlink")) return -1;
    const struct disk_name *entry = find(&d->seen, name);
    if (!entry) return fails(ENOENT);
    struct disk_change *c = note(d, DISK_UNLINK, entry->file);
    snprintf(c->name, sizeof c->name, "%s", name);
    apply_name(&d->seen, c);
    return 0;
}

struct spool_io disk_io(struct disk *d)
{
    return (struct spool_io){.open_directory = disk_open_directory,
                             .open = disk_open,
                             .close = disk_close,
                             .lock = disk_lock,
                             .list = disk_list,
                             .size = disk_size,
                             .sequential = disk_sequential,
                             .pwritev = disk_pwritev,
                             .pread = disk_pread,
                             .fdatasync = disk_sync,
                             .fsync = disk_sync,
                             .fallocate = disk_fallocate,
                             .ftruncate = disk_ftruncate,
                             .rename = disk_rename,
                             .unlink = disk_unlink,
                             .arg = d};
}

/* ---- bad days ---- */

void disk_restart(struct disk *d)
{
    d->dead = false;
    d->dies_at = 0;
    memset(d->open, 0, sizeof d->open);
    collect(d);
}

void disk_cut_power(struct disk *d)
{
    settle_all(d, EVERYTHING, BY_CHANCE);
    d->seen = d->durable;
    for (int i = 0; i < d->files; i++)
        if (d->file[i].used) copy_content(&d->file[i].seen, &d->file[i].durable);
    disk_restart(d);
}

size_t disk_unsynced(const struct disk *d)
{
    size_t count = 0;
    for (size_t i = 0; i < d->changes; i++) {
        const struct disk_change *c = &d->change[i];
        uint64_t from = c->offset / DISK_SECTOR_BYTES, to = (c->offset + c->length - 1) / DISK_SECTOR_BYTES;
        count += c->kind == DISK_WRITE ? (size_t)(to - from + 1) : 1;
    }
    return count;
}

void disk_copy(struct disk *to, const struct disk *from)
{
    if (to->files < from->files) to->files = from->files;
    for (int i = 0; i < to->files; i++) { /* what is not used is empty */
        to->file[i].used = from->file[i].used;
        copy_content(&to->file[i].seen, &from->file[i].seen);
        copy_content(&to->file[i].durable, &from->file[i].durable);
    }
    for (size_t i = 0; i < to->changes; i++) free(to->change[i].bytes);
    for (size_t i = 0; i < from->changes; i++) {
        struct disk_change *c = &to->change[i];
        *c = from->change[i];
        if (!c->bytes) continue;
        c->bytes = malloc(c->length);
        if (!c->bytes) abort();
        memcpy(c->bytes, from->change[i].bytes, (size_t)c->length);
    }
    to->changes = from->changes;
    to->seen = from->seen;
    to->durable = from->durable;
    memset(to->open, 0, sizeof to->open);
    to->dead = false;
}

static void damage(struct disk_content *c, uint64_t offset, size_t length, uint8_t noise)
{
    for (uint64_t at = offset; at < offset + length; at++) {
        uint8_t byte = (uint8_t)((at < c->length ? c->bytes[at] : 0) ^ noise);
        put(c, at, &byte, 1);
    }
}

void disk_damage(struct disk *d, const char *name, uint64_t offset, size_t length, uint8_t noise)
{
    const struct disk_name *entry = find(&d->seen, name);
    assert(entry);
    damage(&d->file[entry->file].seen, offset, length, noise);
    damage(&d->file[entry->file].durable, offset, length, noise);
}

void disk_lose(struct disk *d, const char *name)
{
    unlink_name(&d->seen, name);
    unlink_name(&d->durable, name);
    collect(d);
}

void disk_empty(struct disk *d)
{
    for (size_t i = 0; i < d->changes; i++) free(d->change[i].bytes);
    d->changes = 0;
    d->seen.count = d->durable.count = 0;
    disk_restart(d);
}

void disk_destroy(struct disk *d)
{
    disk_empty(d);
    for (int i = 0; i < d->files; i++) {
        free_content(&d->file[i].seen);
        free_content(&d->file[i].durable);
    }
}

uint64_t disk_bytes(const struct disk *d, const char *ending)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < d->seen.count; i++) {
        const struct disk_name *n = &d->seen.entry[i];
        size_t length = strlen(n->name), tail = strlen(ending);
        if (n->file >= 0 && length >= tail && strcmp(n->name + length - tail, ending) == 0)
            bytes += d->file[n->file].seen.size;
    }
    return bytes;
}

uint64_t disk_hash(const struct disk *d)
{
    uint64_t hash = 0;
    for (size_t i = 0; i < d->durable.count; i++) {
        const struct disk_name *n = &d->durable.entry[i];
        if (n->file < 0) continue;
        const struct disk_content *c = &d->file[n->file].durable;
        uint64_t one = XXH3_64bits_withSeed(n->name, strlen(n->name), c->size);
        hash += c->length ? XXH3_64bits_withSeed(c->bytes, c->length, one) : one;
    }
    return hash;
}
