/* Batch decoding: whatever is accepted holds to what proto/batch.h promises. */
#include <assert.h>

#include "proto/batch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct batch_decoder d;
    struct batch b;
    struct sg_fault f = {0};
    if (batch_decoder_init(&d)) return 0;
    if (batch_decode(&d, data, size, &b, &f) == SG_OK) {
        assert(batch_row_count(&b) <= BATCH_ROWS_MAX);
        for (size_t i = 0; i < b.slices.count; i++) {
            assert(column_u32(b.slices.sandbox, i) < b.sandboxes.count);
            assert(b.base_ms + column_i64(b.slices.start_ms, i) >= 0);
        }
    } else {
        assert(f.text[0]);
    }
    batch_decoder_destroy(&d);
    return 0;
}
