/* Mutations of a segment behind which every checksum is made right again, but now and then: so that what lies behind
 * the checksums is reached. */
#include <string.h>
#include <xxhash.h>

#include "proto/spool_format.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

enum { HEADER_CHECKED = 128, RECORD_CHECKSUM = 32 };

/* The header's checksum; the epoch that seeds those of the records. */
static uint64_t mend_header(uint8_t *data)
{
    uint64_t checksum = XXH3_64bits(data, HEADER_CHECKED), epoch;
    memcpy(data + HEADER_CHECKED, &checksum, sizeof checksum);
    memcpy(&epoch, data + 16, sizeof epoch);
    return epoch;
}

static void mend_records(uint8_t *data, size_t size, uint64_t epoch)
{
    struct spool_record r;
    uint8_t header[SPOOL_RECORD_HEADER_BYTES];
    for (size_t at = 0; size - at >= sizeof header; at += spool_record_bytes(&r)) {
        const uint8_t *body = data + at + sizeof header;
        if (spool_record_decode(data + at, &r, NULL) != SG_OK || spool_record_bytes(&r) > size - at) return;
        spool_record_encode(&r, epoch, body, body + r.batch_bytes, header);
        memcpy(data + at + RECORD_CHECKSUM, header + RECORD_CHECKSUM, sizeof r.checksum);
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    size = LLVMFuzzerMutate(data, size, max_size);
    if (seed % 8 == 0) return size;
    if (size >= SPOOL_HEADER_BYTES && memcmp(data, "SGSPOOL\n", 8) == 0) {
        uint64_t epoch = mend_header(data);
        mend_records(data + SPOOL_HEADER_BYTES, size - SPOOL_HEADER_BYTES, epoch);
    } else {
        mend_records(data, size, 1);
    }
    return size;
}
