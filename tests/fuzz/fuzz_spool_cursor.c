/* A cursor file, and a file's name. */
#include <assert.h>
#include <string.h>

#include "proto/spool_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct spool_cursor c;
    struct sg_fault f = {0};
    if (spool_cursor_decode(data, size, &c, &f) == SG_OK) {
        uint8_t again[SPOOL_CURSOR_BYTES];
        spool_cursor_encode(&c, again);
        assert(memcmp(again, data, sizeof again) == 0);
    }
    char name[64] = "", again[SPOOL_NAME_BYTES];
    uint64_t seq;
    memcpy(name, data, size < sizeof name - 1 ? size : sizeof name - 1);
    if (spool_name_parse(name, &seq)) {
        spool_name(seq, again);
        assert(strcmp(name, again) == 0);
    }
    return 0;
}
