/* See spool_format.h for the layout and what makes a record valid. */
#include "proto/spool_format.h"

#include <assert.h>
#include <endian.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define XXH_STATIC_LINKING_ONLY /* the streaming state on the stack */
#include <xxhash.h>

static const uint8_t SEGMENT_MAGIC[8] = {'S', 'G', 'S', 'P', 'O', 'O', 'L', '\n'};
static const uint8_t CURSOR_MAGIC[8] = {'S', 'G', 'C', 'U', 'R', 'S', 'R', '\n'};

enum { HEADER_CHECKED = SPOOL_HEADER_BYTES - 8, RECORD_CHECKED = 32, CURSOR_CHECKED = SPOOL_CURSOR_BYTES - 8 };
enum { NAME_DIGITS = 20 };

_Static_assert((uint64_t)SPOOL_RECORD_HEADER_BYTES + SPOOL_SNAPSHOT_BYTES_MAX <= UINT32_MAX, "length is a u32");
_Static_assert((uint64_t)SPOOL_BATCH_RECORD_BYTES_MAX <= UINT32_MAX, "length is a u32");

static void put_u32(uint8_t *p, uint32_t v)
{
    v = htole32(v);
    memcpy(p, &v, sizeof v);
}

static void put_u64(uint8_t *p, uint64_t v)
{
    v = htole64(v);
    memcpy(p, &v, sizeof v);
}

static uint32_t get_u32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return le32toh(v);
}

static uint64_t get_u64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return le64toh(v);
}

static bool all_zero(const uint8_t *p, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (p[i]) return false;
    return true;
}

/* ---- names ---- */

void spool_name(uint64_t first_seq, char out[static SPOOL_NAME_BYTES])
{
    snprintf(out, SPOOL_NAME_BYTES, "%020" PRIu64 ".seg", first_seq);
}

bool spool_name_parse(const char *name, uint64_t *first_seq)
{
    if (strlen(name) != SPOOL_NAME_BYTES - 1 || strcmp(name + NAME_DIGITS, ".seg") != 0) return false;
    uint64_t v = 0;
    for (size_t i = 0; i < NAME_DIGITS; i++) {
        if (name[i] < '0' || name[i] > '9') return false;
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(name[i] - '0'), &v)) return false;
    }
    *first_seq = v;
    return v > 0;
}

/* ---- segment header ---- */

void spool_header_encode(const struct spool_header *h, uint8_t out[static SPOOL_HEADER_BYTES])
{
    size_t runner_bytes = strlen(h->runner.s);
    assert(id_valid(h->runner.s, runner_bytes) && h->epoch && h->first_seq);
    memset(out, 0, SPOOL_HEADER_BYTES);
    memcpy(out, SEGMENT_MAGIC, sizeof SEGMENT_MAGIC);
    put_u32(out + 8, SPOOL_VERSION);
    put_u32(out + 12, (uint32_t)runner_bytes);
    put_u64(out + 16, h->epoch);
    put_u64(out + 24, h->first_seq);
    memcpy(out + 32, h->runner.s, runner_bytes);
    memcpy(out + 96, h->previous_sha256, SPOOL_SHA256_BYTES);
    put_u64(out + HEADER_CHECKED, XXH3_64bits(out, HEADER_CHECKED));
}

enum sg_error spool_header_decode(const uint8_t *bytes, size_t length, struct spool_header *out, struct sg_fault *f)
{
    if (length < SPOOL_HEADER_BYTES) return sg_fail(f, SG_ERR_CORRUPT, "the segment header is cut short");
    if (memcmp(bytes, SEGMENT_MAGIC, sizeof SEGMENT_MAGIC) != 0) return sg_fail(f, SG_ERR_CORRUPT, "not a segment");
    uint32_t version = get_u32(bytes + 8), runner_bytes = get_u32(bytes + 12);
    if (version != SPOOL_VERSION)
        return sg_fail(f, SG_ERR_VERSION, "segment format version %" PRIu32 " is not known", version);
    if (get_u64(bytes + HEADER_CHECKED) != XXH3_64bits(bytes, HEADER_CHECKED))
        return sg_fail(f, SG_ERR_CORRUPT, "the segment header's checksum is wrong");
    const char *runner = (const char *)bytes + 32;
    if (runner_bytes > ID_BYTES_MAX || !id_valid(runner, runner_bytes) ||
        !all_zero(bytes + 32 + runner_bytes, ID_BYTES_MAX - runner_bytes))
        return sg_fail(f, SG_ERR_CORRUPT, "the segment header's runner is not an identifier");
    *out = (struct spool_header){.epoch = get_u64(bytes + 16), .first_seq = get_u64(bytes + 24)};
    memcpy(out->runner.s, runner, runner_bytes);
    memcpy(out->previous_sha256, bytes + 96, SPOOL_SHA256_BYTES);
    if (!out->epoch || !out->first_seq) return sg_fail(f, SG_ERR_CORRUPT, "the segment header's numbers are zero");
    return SG_OK;
}

/* ---- records ---- */

static uint64_t record_checksum(uint64_t epoch, const uint8_t *header, const uint8_t *a, size_t a_bytes,
                                const uint8_t *b, size_t b_bytes)
{
    XXH3_state_t state;
    XXH3_INITSTATE(&state);
    XXH3_64bits_reset_withSeed(&state, epoch);
    XXH3_64bits_update(&state, header, RECORD_CHECKED);
    if (a_bytes) XXH3_64bits_update(&state, a, a_bytes);
    if (b_bytes) XXH3_64bits_update(&state, b, b_bytes);
    return XXH3_64bits_digest(&state);
}

/* Rules 1, 2, 3 and 5; NULL or the rule that is broken. */
static const char *record_fault(const struct spool_record *r)
{
    if (r->kind == SPOOL_SNAPSHOT) {
        if (r->batch_bytes) return "a snapshot record holds a batch";
        if (r->state_bytes > SPOOL_SNAPSHOT_BYTES_MAX) return "a snapshot record is too long";
        if (r->durable_seq != r->seq) return "a snapshot record's durable number is wrong";
        return NULL;
    }
    if (r->kind != SPOOL_BATCH) return "a record's kind is not known";
    if (r->batch_bytes < 1 || r->batch_bytes > BATCH_BYTES_MAX) return "a record's batch length is out of range";
    if (r->state_bytes > SPOOL_DELTA_BYTES_MAX) return "a record's state is too long";
    if (r->durable_seq >= r->seq) return "a record's durable number is wrong";
    return NULL;
}

void spool_record_encode(struct spool_record *r, uint64_t epoch, const uint8_t *batch, const uint8_t *state,
                         uint8_t out[static SPOOL_RECORD_HEADER_BYTES])
{
    assert(!record_fault(r));
    memset(out, 0, SPOOL_RECORD_HEADER_BYTES);
    put_u32(out, (uint32_t)spool_record_bytes(r));
    out[4] = (uint8_t)r->kind;
    put_u64(out + 8, r->seq);
    put_u64(out + 16, r->durable_seq);
    put_u32(out + 24, r->batch_bytes);
    r->checksum = record_checksum(epoch, out, batch, r->batch_bytes, state, r->state_bytes);
    put_u64(out + RECORD_CHECKED, r->checksum);
}

/* NULL and *r, or the rule that is broken; without printing, because the search for records asks at every byte. */
static const char *record_read(const uint8_t *bytes, struct spool_record *r)
{
    uint32_t length = get_u32(bytes), batch_bytes = get_u32(bytes + 24);
    if (!all_zero(bytes + 5, 3) || get_u32(bytes + 28)) return "a record's reserved bytes are not zero";
    if (length < SPOOL_RECORD_HEADER_BYTES || batch_bytes > length - SPOOL_RECORD_HEADER_BYTES)
        return "a record's lengths contradict each other";
    *r = (struct spool_record){
        .kind = (enum spool_record_kind)bytes[4],
        .batch_bytes = batch_bytes,
        .state_bytes = length - SPOOL_RECORD_HEADER_BYTES - batch_bytes,
        .seq = get_u64(bytes + 8),
        .durable_seq = get_u64(bytes + 16),
        .checksum = get_u64(bytes + RECORD_CHECKED),
    };
    return record_fault(r);
}

enum sg_error spool_record_decode(const uint8_t bytes[static SPOOL_RECORD_HEADER_BYTES], struct spool_record *out,
                                  struct sg_fault *f)
{
    const char *fault = record_read(bytes, out);
    return fault ? sg_fail(f, SG_ERR_CORRUPT, "%s", fault) : SG_OK;
}

bool spool_record_check(const struct spool_record *r, uint64_t epoch,
                        const uint8_t header[static SPOOL_RECORD_HEADER_BYTES], const uint8_t *body)
{
    size_t body_bytes = (size_t)r->batch_bytes + r->state_bytes;
    return r->checksum == record_checksum(epoch, header, body, body_bytes, NULL, 0);
}

size_t spool_records_reach(const uint8_t *bytes, size_t length)
{
    size_t reach = length;
    for (size_t at = 0; at + SPOOL_RECORD_HEADER_BYTES <= length; at++) {
        struct spool_record r;
        if (!record_read(bytes + at, &r) && at + spool_record_bytes(&r) > reach) reach = at + spool_record_bytes(&r);
    }
    return reach;
}

bool spool_proves_damage(const uint8_t *bytes, size_t length, uint64_t epoch, uint64_t lost_seq)
{
    for (size_t at = 0; at + SPOOL_RECORD_HEADER_BYTES <= length; at++) {
        struct spool_record r;
        const uint8_t *header = bytes + at;
        if (record_read(header, &r) || r.durable_seq < lost_seq || spool_record_bytes(&r) > length - at) continue;
        if (spool_record_check(&r, epoch, header, header + SPOOL_RECORD_HEADER_BYTES)) return true;
    }
    return false;
}

/* ---- cursor ---- */

void spool_cursor_encode(const struct spool_cursor *c, uint8_t out[static SPOOL_CURSOR_BYTES])
{
    memset(out, 0, SPOOL_CURSOR_BYTES);
    memcpy(out, CURSOR_MAGIC, sizeof CURSOR_MAGIC);
    put_u32(out + 8, SPOOL_VERSION);
    put_u64(out + 16, c->generation);
    put_u64(out + 24, c->epoch);
    put_u64(out + 32, c->delivered_seq);
    put_u64(out + CURSOR_CHECKED, XXH3_64bits(out, CURSOR_CHECKED));
}

enum sg_error spool_cursor_decode(const uint8_t *bytes, size_t length, struct spool_cursor *out, struct sg_fault *f)
{
    if (length != SPOOL_CURSOR_BYTES) return sg_fail(f, SG_ERR_CORRUPT, "a cursor of the wrong length");
    if (memcmp(bytes, CURSOR_MAGIC, sizeof CURSOR_MAGIC) != 0) return sg_fail(f, SG_ERR_CORRUPT, "not a cursor");
    uint32_t version = get_u32(bytes + 8);
    if (version == 0) return sg_fail(f, SG_ERR_CORRUPT, "a cursor that was cut short");
    if (version != SPOOL_VERSION)
        return sg_fail(f, SG_ERR_VERSION, "cursor format version %" PRIu32 " is not known", version);
    if (get_u64(bytes + CURSOR_CHECKED) != XXH3_64bits(bytes, CURSOR_CHECKED))
        return sg_fail(f, SG_ERR_CORRUPT, "a cursor's checksum is wrong");
    *out = (struct spool_cursor){
        .generation = get_u64(bytes + 16), .epoch = get_u64(bytes + 24), .delivered_seq = get_u64(bytes + 32)};
    if (get_u32(bytes + 12) || !out->generation || !out->epoch)
        return sg_fail(f, SG_ERR_CORRUPT, "a cursor's numbers are out of range");
    return SG_OK;
}
