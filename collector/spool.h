/* The spool: the collector's durable log of batches and of the meter's state, in one directory.
 *
 * The bytes are proto/spool_format.h; the design, the failures and the invariants stand at the top of spool.c.
 * Not thread-safe: everything is the main thread's. Blocking on the disk only.
 *
 * HOW TO USE IT
 *   open     spool_open() locks, recovers and hands the meter's state to `apply`: the newest segment's snapshot (empty
 *            for a new spool), then the state of each batch behind it, in order.
 *   commit   seal batch number spool_last_seq() + 1, carrying spool_epoch() and spool_previous_sha256();
 *            spool_append(batch, delta); spool_sync(); now acknowledge.
 *   roll     when spool_wants_roll() and the meter's state is exactly that after the last appended batch:
 *            spool_roll(snapshot). Until that succeeds nothing more can be appended: accept nothing before it did.
 *            LIMIT from it is "the spool is full": stop reading and acking, call it again after deliveries.
 *   ship     spool_read() any batch up to spool_durable_seq(); spool_delivered(); spool_save_cursor() once a second and
 *            at the end.
 * After IO the spool is dead (a failed fsync is final): every call says IO; exit and recover. */
#ifndef COLLECTOR_SPOOL_H
#define COLLECTOR_SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "proto/spool_format.h"
#include "sandglass/error.h"
#include "sandglass/time.h"

enum {
    SPOOL_SEGMENT_BYTES_DEFAULT = 32 << 20,
    SPOOL_BYTES_MIN = 64 << 20, /* two segments with the largest snapshot must fit, or a full spool never empties */
    SPOOL_SEGMENTS_MAX = 4096,
    SPOOL_PATH_BYTES_MAX = 4096, /* of the directory's name */
};

/* Takes one name of a directory; false ends the listing. */
typedef bool spool_take_name(void *taker, const char *name);

/* All that the spool asks of the operating system, so that tests can put faults or another disk here. Return values and
 * errno as those of the calls of the same name (openat, renameat, unlinkat), but: fallocate returns an error number, as
 * posix_fallocate; lock is an exclusive flock that does not wait; list and size are 0 or -1. A file that open creates
 * is for its owner alone. A name may be unlinked while it is listed. */
struct spool_io {
    int (*open_directory)(void *arg, const char *path);
    int (*open)(void *arg, int directory_fd, const char *name, int flags);
    void (*close)(void *arg, int fd);
    int (*lock)(void *arg, int fd);
    int (*list)(void *arg, int directory_fd, spool_take_name *take, void *taker);
    int (*size)(void *arg, int fd, uint64_t *bytes);
    void (*sequential)(void *arg, int fd); /* advice: it will be read from its start to its end */
    ssize_t (*pwritev)(void *arg, int fd, const struct iovec *iov, int count, off_t offset);
    ssize_t (*pread)(void *arg, int fd, void *bytes, size_t length, off_t offset);
    int (*fdatasync)(void *arg, int fd);
    int (*fsync)(void *arg, int fd); /* of a new file, of the directory */
    int (*fallocate)(void *arg, int fd, off_t offset, off_t length);
    int (*ftruncate)(void *arg, int fd, off_t length);
    int (*rename)(void *arg, int directory_fd, const char *from, const char *to);
    int (*unlink)(void *arg, int directory_fd, const char *name);
    void *arg;
};

/* The operating system itself. */
extern const struct spool_io spool_io_real;

struct spool_options {
    const char *directory;     /* exists; 0700 is advised */
    const char *runner;        /* identifier; a spool of another runner is refused */
    struct wall_ms now;        /* becomes the epoch of a new spool; > 0 */
    uint64_t bytes_max;        /* of all segments together, reserved space included; >= SPOOL_BYTES_MIN */
    uint64_t segment_bytes;    /* batches after which a segment wants a roll; 0: 32 MiB, or bytes_max / 16 if less */
    const struct spool_io *io; /* NULL: spool_io_real */
};

/* Takes the meter's state during recovery: kind SPOOL_SNAPSHOT replaces everything, SPOOL_BATCH changes it. seq is the
 * last batch it covers. bytes live during the call. Anything but OK ends spool_open with that. */
typedef enum sg_error spool_apply(void *arg, enum spool_record_kind kind, uint64_t seq, const uint8_t *bytes,
                                  size_t length, struct sg_fault *f);

struct spool_segment {
    uint64_t first_seq;
    uint64_t bytes; /* on disk; the newest: reserved */
};

/* All fields are the spool's own. Zeroed is valid for spool_close. */
struct spool {
    const struct spool_io *io;
    char directory[SPOOL_PATH_BYTES_MAX]; /* for messages */
    struct id runner;
    uint64_t epoch, bytes_max, segment_bytes;
    int directory_fd, lock_fd, active_fd, cursor_fd[2];
    bool open, dead, unsynced;

    struct spool_segment *segment; /* oldest first; the last one is active */
    size_t segment_count;
    uint64_t segments_bytes; /* sum of their bytes */
    uint64_t start, used;    /* of the active segment: end of its snapshot, end of its last record */
    uint64_t unproven;       /* while recovering: what stands from there on nobody has said to be durable */

    uint64_t last_seq, durable_seq, delivered_seq;
    uint8_t previous_sha256[SPOOL_SHA256_BYTES];
    struct spool_cursor cursor; /* as last written; generation 0: never */

    struct { /* stands before record seq, at offset of the segment that starts with first_seq */
        int fd;
        uint64_t first_seq, seq, offset;
        uint8_t *buffer; /* holds one record */
        size_t buffer_bytes;
    } reader;
};

/* Opens, creates or recovers. Errors: LOCKED (another collector has it), CORRUPT (f names file and offset), VERSION,
 * CONFIG (another runner's; limits too small), LIMIT (no room for the first segment), IO, NOMEM, what apply said. */
SG_MUST_USE enum sg_error spool_open(struct spool *s, const struct spool_options *o, spool_apply *apply, void *arg,
                                     struct sg_fault *f);
/* Releases everything; does not sync and does not save the cursor. */
void spool_close(struct spool *s);

/* Appends batch number spool_last_seq() + 1 and what it changed in the meter's state (may be empty) by one write. Not
 * durable before spool_sync. LIMIT: a roll must come first, or the disk is full although space was reserved; nothing
 * was stored, the same call may be made again. IO: dead. */
SG_MUST_USE enum sg_error spool_append(struct spool *s, const uint8_t *batch, size_t batch_bytes, const uint8_t *state,
                                       size_t state_bytes, struct sg_fault *f);
/* Makes everything appended durable. IO: dead. */
SG_MUST_USE enum sg_error spool_sync(struct spool *s, struct sg_fault *f);
/* True when the active segment has reached its size: spool_append says LIMIT until spool_roll. */
bool spool_wants_roll(const struct spool *s);
/* Starts a new segment with this state of the meter, which covers every appended batch. Space for all that the segment
 * may take is reserved here. LIMIT: the spool or the disk is full; nothing has changed. IO: dead. */
SG_MUST_USE enum sg_error spool_roll(struct spool *s, const uint8_t *snapshot, size_t length, struct sg_fault *f);

/* When the spool was created (ms since 1970): the epoch of its batches. */
uint64_t spool_epoch(const struct spool *s);
/* Number of the last appended batch; 0: none yet. */
uint64_t spool_last_seq(const struct spool *s);
/* Number of the last batch that is on disk. */
uint64_t spool_durable_seq(const struct spool *s);
/* Number of the last batch that Kafka has. */
uint64_t spool_delivered_seq(const struct spool *s);
/* SHA-256 of the last appended batch (zeros: none yet); 32 bytes, valid until the next append. */
const uint8_t *spool_previous_sha256(const struct spool *s);
/* True when the cursor on disk is where Kafka is. */
bool spool_cursor_saved(const struct spool *s);
/* Bytes that the spool takes on disk, reserved space included. */
uint64_t spool_bytes(const struct spool *s);

/* Gives batch seq, delivered < seq <= durable; *batch lives until the next spool_read. Reading on in order is one pread
 * or two per batch. CORRUPT (file and offset; the collector stops), IO, NOMEM. */
SG_MUST_USE enum sg_error spool_read(struct spool *s, uint64_t seq, const uint8_t **batch, size_t *length,
                                     struct sg_fault *f);
/* Kafka has every batch up to seq (delivered <= seq <= durable): segments wholly below are deleted. IO. */
SG_MUST_USE enum sg_error spool_delivered(struct spool *s, uint64_t seq, struct sg_fault *f);
/* Writes the cursor if it moved, and syncs it. A crash before only means that batches are sent twice. IO: dead. */
SG_MUST_USE enum sg_error spool_save_cursor(struct spool *s, struct sg_fault *f);

#endif
