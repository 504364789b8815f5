/* Mutations of a cursor whose checksum is made right again, but now and then. */
#include <string.h>
#include <xxhash.h>

#include "proto/spool_format.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    enum { CHECKED = SPOOL_CURSOR_BYTES - 8 };
    size = LLVMFuzzerMutate(data, size, max_size);
    if (size == SPOOL_CURSOR_BYTES && seed % 8) {
        uint64_t checksum = XXH3_64bits(data, CHECKED);
        memcpy(data + CHECKED, &checksum, sizeof checksum);
    }
    return size;
}
