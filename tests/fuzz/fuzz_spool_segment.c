/* A segment as the spool's readers walk it. What is accepted is what encoding would write, and no length leads outside.
 */
#include <assert.h>
#include <string.h>

#include "proto/spool_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct spool_header h;
    struct sg_fault f = {0};
    uint64_t epoch = 1;
    size_t at = 0;
    if (spool_header_decode(data, size, &h, &f) == SG_OK) {
        uint8_t again[SPOOL_HEADER_BYTES];
        spool_header_encode(&h, again);
        assert(memcmp(again, data, sizeof again) == 0);
        epoch = h.epoch;
        at = SPOOL_HEADER_BYTES;
    }
    while (size - at >= SPOOL_RECORD_HEADER_BYTES) {
        struct spool_record r;
        if (spool_record_decode(data + at, &r, &f) != SG_OK || spool_record_bytes(&r) > size - at) break;
        const uint8_t *body = data + at + SPOOL_RECORD_HEADER_BYTES;
        uint8_t again[SPOOL_RECORD_HEADER_BYTES];
        bool valid = spool_record_check(&r, epoch, data + at, body);
        spool_record_encode(&r, epoch, body, body + r.batch_bytes, again);
        assert(valid == (memcmp(again, data + at, sizeof again) == 0));
        at += spool_record_bytes(&r);
    }
    (void)!spool_proves_damage(data + at, size - at, epoch, 1);
    return 0;
}
