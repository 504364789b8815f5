/* A disk in memory behind struct spool_io: one directory of files, what programs see of it, and what a power cut may
 * leave of it.
 *
 * MODEL       Every file and the directory have two contents: seen and durable. A change is made in what is seen at
 *             once, and waits in a list until a sync of its file, or of the directory, makes it durable.
 * POWER CUT   Of the changes that wait, any subset may have reached the disk: names one by one; sizes one by one; of a
 *             write each of its pieces, cut where the disk's sectors of 512 bytes end. What is kept is kept in order.
 * SYNC FAILS  Each piece that was to be written is kept or lost right then, but goes on to be seen, and no later sync
 *             tries it again: what Linux does. Names and sizes go on to wait: without its journal a file system stops.
 * DEATH       At the call whose number is dies_at the program is gone: that call and all later ones have no effect and
 *             fail, until disk_restart().
 *
 * Asserts its own limits. One thread. */
#ifndef SIM_DISK_H
#define SIM_DISK_H

#include "collector/spool.h"

enum { DISK_SECTOR_BYTES = 512, DISK_FILES_MAX = 256, DISK_OPEN_MAX = 16, DISK_CHANGES_MAX = 4096 };

/* What chance decides. */
enum disk_event {
    DISK_KEEPS, /* a piece or a change that was not synced has reached the disk */
    DISK_WRITE_SHORT,
    DISK_WRITE_FAILS,
    DISK_READ_FAILS,
    DISK_SYNC_FAILS,
    DISK_FULL,             /* for a new file, for reserved space */
    DISK_FULL_FOR_A_WRITE, /* also in space that was reserved: of a file system that writes elsewhere */
};

/* length bytes, then zeros up to size. */
struct disk_content {
    uint8_t *bytes;
    size_t length, room;
    uint64_t size;
};

struct disk_file {
    bool used;
    struct disk_content seen, durable;
};

/* A directory: names of files. */
struct disk_names {
    struct disk_name {
        char name[32];
        int file; /* -1: no entry */
    } entry[DISK_FILES_MAX];
    size_t count; /* entries ever used; all behind are empty */
};

enum disk_change_kind { DISK_WRITE, DISK_SIZE, DISK_LINK, DISK_UNLINK, DISK_RENAME };

struct disk_change {
    enum disk_change_kind kind;
    int file;
    uint64_t offset, length; /* DISK_SIZE: length is the size */
    uint8_t *bytes;          /* DISK_WRITE; owned */
    char name[32], to[32];
};

/* Zeroed is an empty disk on which nothing fails. */
struct disk {
    struct disk_file file[DISK_FILES_MAX];
    int files; /* ever used; all behind are empty */
    struct disk_names seen, durable;
    struct disk_change change[DISK_CHANGES_MAX];
    size_t changes;
    int open[DISK_OPEN_MAX]; /* file + 1; 0: free */
    uint64_t calls, dies_at; /* calls that change something; 0: never */
    bool dead;
    uint64_t reserve_shown; /* reserved space is zeros up to so many bytes behind what was written; 0: all of it */
    bool (*happens)(void *arg, enum disk_event event); /* NULL: nothing fails, and nothing unsynced is kept */
    void (*before)(void *arg, const char *call);       /* each call that changes something; NULL: nobody asks */
    void *arg;
};

/* The calls of this disk. */
struct spool_io disk_io(struct disk *d);
/* The program is gone, the machine is not: what was seen stays. */
void disk_restart(struct disk *d);
/* The power is cut: `happens` says for each piece that was not synced whether it is kept. */
void disk_cut_power(struct disk *d);
/* How many times a power cut would ask now. */
size_t disk_unsynced(const struct disk *d);
/* Makes *to, which is zeroed or was copied to before, the same disk; not its `happens`, `before` and counters. */
void disk_copy(struct disk *to, const struct disk *from);
/* Bytes of a file are others than they were, in memory and on the disk: each is exclusive-or'ed with noise. */
void disk_damage(struct disk *d, const char *name, uint64_t offset, size_t length, uint8_t noise);
/* A file is gone, as when a file system was repaired. Nothing is open. */
void disk_lose(struct disk *d, const char *name);
/* All files are gone, as when a disk is replaced. */
void disk_empty(struct disk *d);
/* Frees everything. */
void disk_destroy(struct disk *d);
/* What files whose names end so take, by the sizes that are shown. */
uint64_t disk_bytes(const struct disk *d, const char *ending);
/* A number that differs, almost surely, where what is durable differs. */
uint64_t disk_hash(const struct disk *d);

#endif
