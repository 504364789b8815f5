/* The fenced log: one (topic, partition) that one owner appends to in Kafka transactions, and that anybody follows.
 *
 * WRITER    txlog_open() fences every older writer of the same transactional.id, *then* reads everything that was ever
 *           committed, then the owner may append. Between open and the first append nothing else can have been
 *           committed under that id, so what was read is the whole truth.
 *
 *               init_transactions -> barrier (an aborted record) -> read_committed from `from` past the barrier
 *                                 -> append = begin, produce, commit -> append ...
 *
 *           The barrier is what "the end" means: a leader that has just been elected may for a moment show less than
 *           was committed, but never less once it shows the barrier. It also proves the right to write.
 * ANSWERS   append says OK (committed), FENCED (a newer owner exists; nothing of this call is in the log, or what is in
 *           the log the newer owner has read) or UNKNOWN (anything else: it may or may not be in the log). After
 *           anything but OK the log is dead: destroy it; to go on, open again and fold again. (design.md, section 6)
 * READER    txlog_reader_*: no fence, read_committed from an offset on, and follows.
 * OFFSETS   are those of records; control records and aborted records take offsets too, so they rise with holes.
 *
 * Blocking; every call ends within the time that it is given (plus librdkafka's own teardown). Not thread-safe: one
 * thread per log. librdkafka 2.0 and newer; settings from the measurements in proto/topics.md. */
#ifndef STORE_TXLOG_H
#define STORE_TXLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sandglass/error.h"
#include "sandglass/time.h"

enum {
    TXLOG_RECORD_BYTES_MAX = 900 * 1000, /* the client's limit is 1,000,000 with overhead */
    TXLOG_APPEND_RECORDS_MAX = 10000,    /* in one transaction */
    TXLOG_APPEND_BYTES_MAX = 16 * 1000 * 1000,
    TXLOG_NAME_BYTES_MAX = 250,
};

/* Where the log is and how to reach it. Strings are copied. */
struct txlog_config {
    const char *brokers; /* bootstrap.servers */
    const char *topic;
    uint32_t partition;
    const char *transactional_id;    /* writer only */
    const char *client_id;           /* shown in the broker's logs */
    const char *const *kafka;        /* more librdkafka properties, name, value, ..., NULL (security); NULL: none */
    bool at_once;                    /* reader only: it is read now, so wait up to a second for the leader; see below */
    uint32_t timeout_ms;             /* of one open (without the reading), one append; 0: 10 s */
    const struct txlog_waiter *wait; /* while open blocks; NULL: none */
    const struct txlog_waiter *append_wait; /* while append does; kept; NULL: none */
};

/* Called about every 100 ms while open blocks, and while append waits for its records (not in the 5 s at most in which
 * they are committed): for watchdogs; true asks to give up (SIGTERM): open fails with STATE, append with UNKNOWN. */
struct txlog_waiter {
    bool (*tick)(void *arg);
    void *arg;
};

/* A record as the log has it. Valid during the call. time: the broker's or producer's message time. */
struct txlog_record {
    uint64_t offset;
    struct wall_ms time;
    const char *bytes;
    size_t length;
};
/* Takes the next record, in order. Anything but OK ends the reading and is what the reading call returns; f is that
 * call's fault, to be filled. */
typedef enum sg_error txlog_each(void *arg, const struct txlog_record *record, struct sg_fault *f);

/* A writer. Opaque. */
struct txlog;

/* Fences, reads from offset `from` (0: whatever there is) and calls each for every committed record. *out is set on OK
 * only. CORRUPT: the log does not have `from`. UNREACHABLE, TIMEOUT (try again later: fencing may have taken place),
 * FENCED (somebody newer came while we opened), DENIED, NOT_FOUND (no such topic or partition), CONFIG, NOMEM, STATE
 * (asked to give up), or what each returned. */
SG_MUST_USE enum sg_error txlog_open(struct txlog **out, const struct txlog_config *config, uint64_t from,
                                     txlog_each *each, void *arg, struct sg_fault *f);

/* What is appended. */
struct txlog_bytes {
    const char *bytes;
    size_t length;
};
/* Commits records[0..count) in one transaction, in order. OK: offsets[i] (may be NULL) is where record i stands.
 * FENCED, UNKNOWN: see above. LIMIT: too many or too large, nothing was begun and the log lives on. count 0 is OK. */
SG_MUST_USE enum sg_error txlog_append(struct txlog *log, const struct txlog_bytes *records, size_t count,
                                       uint64_t *offsets, struct sg_fault *f);
/* One past the last record read or appended. */
uint64_t txlog_end(const struct txlog *log);
/* NULL is allowed. */
void txlog_destroy(struct txlog *log);

/* A follower. Opaque. */
struct txlog_reader;

/* OK also when no broker can be reached. Connects lazily, and then finds the partition's leader in steps of a quarter
 * of a second or more, unless config->at_once. CONFIG, NOMEM. */
SG_MUST_USE enum sg_error txlog_reader_open(struct txlog_reader **out, const struct txlog_config *config, uint64_t from,
                                            struct sg_fault *f);
/* Calls each for up to max records; waits up to timeout_ms for the first one, then takes what is there. OK also when
 * there was none, and while no broker answers (see lag). UNREACHABLE (said once), DENIED, NOT_FOUND: the reader lives
 * on and retries by itself. CORRUPT: the log no longer has this offset; open again. Or what each returned: the record
 * counts as taken. */
SG_MUST_USE enum sg_error txlog_reader_poll(struct txlog_reader *r, uint32_t timeout_ms, size_t max, txlog_each *each,
                                            void *arg, struct sg_fault *f);
/* Asks the brokers whether they live and lead the partition, waiting up to timeout_ms. *lag = what is still to be read
 * (0: everything that was committed and stable when last fetched, at most a moment ago, was given to each). This is
 * what health should rest on. UNREACHABLE, TIMEOUT, NOT_FOUND, DENIED. */
SG_MUST_USE enum sg_error txlog_reader_lag(struct txlog_reader *r, uint32_t timeout_ms, uint64_t *lag,
                                           struct sg_fault *f);
/* Offset of the next record that poll may give. */
uint64_t txlog_reader_position(const struct txlog_reader *r);
/* NULL is allowed. */
void txlog_reader_destroy(struct txlog_reader *r);

#endif
