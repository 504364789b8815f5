/* The bytes of the collector's spool: segment header, records, cursor. The text is proto/spool.md.
 *
 * Pure: bytes in, values out, no descriptor; XXH3-64 is the only thing that is called. All integers little-endian.
 *
 * LAYOUT  segment `<first seq, 20 digits>.seg`:  | header 136 | snapshot record | batch record | batch record | ... | 0
 * 0 0
 *
 *   header   0 magic "SGSPOOL\n"   8 u32 version   12 u32 runner length   16 u64 epoch   24 u64 first seq
 *           32 runner, 64 bytes padded with zeros   96 SHA-256 of batch first seq - 1 (zeros for first seq 1)
 *          128 u64 checksum of [0, 128)
 *   record   0 u32 length (of all, header included)   4 u8 kind   5 zeros, 3   8 u64 seq   16 u64 durable seq
 *           24 u32 batch length   28 u32 zero   32 u64 checksum   40 batch bytes, then state bytes to the end
 *   cursor   0 magic "SGCURSR\n"   8 u32 version   12 u32 zero   16 u64 generation   24 u64 epoch   32 u64 delivered
 * seq 40 u64 checksum of [0, 40)
 *
 * A record is valid if and only if
 *   1. kind is 1 (snapshot) or 2 (batch), and bytes 5..7 and 28..31 are zero;
 *   2. a snapshot has batch length 0; a batch has 1 <= batch length <= BATCH_BYTES_MAX;
 *   3. length is 40 + batch length + state length, with the state at most SPOOL_SNAPSHOT_BYTES_MAX or
 *      SPOOL_DELTA_BYTES_MAX;
 *   4. a snapshot's seq is first seq - 1; a batch's is one more than that of the record before it;
 *   5. durable seq < seq for a batch, = seq for a snapshot;
 *   6. the checksum is XXH3-64, seeded with the epoch, of bytes [0, 32) and [40, length).
 * Rules 1-3, 5 are spool_record_decode, 6 is spool_record_check, 4 is the reader's.
 *
 * `durable seq` is the newest batch that was known to be on disk when the record was written: a valid record behind
 * damage proves the damage (and not a torn write) when its durable seq has reached the damaged record's number. */
#ifndef PROTO_SPOOL_FORMAT_H
#define PROTO_SPOOL_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sandglass/error.h"
#include "sandglass/id.h"
#include "sandglass/limits.h"

enum {
    SPOOL_VERSION = 1,
    SPOOL_HEADER_BYTES = 136,
    SPOOL_RECORD_HEADER_BYTES = 40,
    SPOOL_CURSOR_BYTES = 48,
    SPOOL_SNAPSHOT_BYTES_MAX = 16 << 20, /* state of a whole meter */
    SPOOL_DELTA_BYTES_MAX = 8 << 20,     /* what one batch changed in it */
    SPOOL_BATCH_RECORD_BYTES_MAX = SPOOL_RECORD_HEADER_BYTES + BATCH_BYTES_MAX + SPOOL_DELTA_BYTES_MAX,
    SPOOL_NAME_BYTES = 25, /* "00000000000000000001.seg" and its NUL */
    SPOOL_SHA256_BYTES = 32,
};

enum spool_record_kind { SPOOL_SNAPSHOT = 1, SPOOL_BATCH = 2 };

struct spool_header {
    uint64_t epoch, first_seq; /* both >= 1 */
    struct id runner;
    uint8_t previous_sha256[SPOOL_SHA256_BYTES];
};

/* A record's header. */
struct spool_record {
    enum spool_record_kind kind;
    uint32_t batch_bytes, state_bytes;
    uint64_t seq, durable_seq;
    uint64_t checksum;
};

struct spool_cursor {
    uint64_t generation; /* rises by one with each writing */
    uint64_t epoch;
    uint64_t delivered_seq; /* 0: nothing yet */
};

/* Writes the file name of the segment that starts with first_seq. */
void spool_name(uint64_t first_seq, char out[static SPOOL_NAME_BYTES]);
/* False when name is not that of a segment. */
SG_MUST_USE bool spool_name_parse(const char *name, uint64_t *first_seq);

/* h is checked by assertion. */
void spool_header_encode(const struct spool_header *h, uint8_t out[static SPOOL_HEADER_BYTES]);
/* VERSION (with its number), CORRUPT. */
SG_MUST_USE enum sg_error spool_header_decode(const uint8_t *bytes, size_t length, struct spool_header *out,
                                              struct sg_fault *f);

/* Bytes of the whole record. */
static inline size_t spool_record_bytes(const struct spool_record *r)
{
    return SPOOL_RECORD_HEADER_BYTES + (size_t)r->batch_bytes + r->state_bytes;
}
/* Fills r->checksum and writes the header; batch and state are r->batch_bytes and r->state_bytes long. */
void spool_record_encode(struct spool_record *r, uint64_t epoch, const uint8_t *batch, const uint8_t *state,
                         uint8_t out[static SPOOL_RECORD_HEADER_BYTES]);
/* Reads a record's header; its lengths are within their limits after OK. CORRUPT names the rule. */
SG_MUST_USE enum sg_error spool_record_decode(const uint8_t bytes[static SPOOL_RECORD_HEADER_BYTES],
                                              struct spool_record *out, struct sg_fault *f);
/* Rule 6: r was decoded from header, body is the spool_record_bytes(r) - 40 bytes that follow it. */
SG_MUST_USE bool spool_record_check(const struct spool_record *r, uint64_t epoch,
                                    const uint8_t header[static SPOOL_RECORD_HEADER_BYTES], const uint8_t *body);
/* One past what records that begin in bytes[0..length) take by what their headers say, at least length: the last one
 * may end in zeros, which cannot be told from the reserved space behind it. */
SG_MUST_USE size_t spool_records_reach(const uint8_t *bytes, size_t length);
/* Is there, anywhere in bytes[0..length), a valid record whose durable seq is at least lost_seq? Then what stands
 * before it was on disk once, and is damaged, not torn. */
SG_MUST_USE bool spool_proves_damage(const uint8_t *bytes, size_t length, uint64_t epoch, uint64_t lost_seq);

/* Writes a cursor file's content. */
void spool_cursor_encode(const struct spool_cursor *c, uint8_t out[static SPOOL_CURSOR_BYTES]);
/* VERSION, CORRUPT. */
SG_MUST_USE enum sg_error spool_cursor_decode(const uint8_t *bytes, size_t length, struct spool_cursor *out,
                                              struct sg_fault *f);

#endif
