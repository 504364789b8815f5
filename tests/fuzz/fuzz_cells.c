/* The texts in Redis: a cell, a run, a vector entry. Decoding never accepts what encoding would not write. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/cell.h"
#include "proto/run_cell.h"
#include "proto/vector.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_cell(const char *text, size_t size)
{
    uint64_t offset;
    struct sums s = {0};
    if (cell_decode(text, size, &offset, &s) == SG_OK) {
        char *again = malloc(cell_encoded_bytes_max(&s));
        assert(again && cell_encode(offset, &s, again) == size && memcmp(again, text, size) == 0);
        free(again);
    }
    sums_destroy(&s);
}

static void check_run(const char *text, size_t size)
{
    uint64_t offset;
    struct run r;
    char again[RUN_CELL_BYTES_MAX];
    if (run_cell_decode(text, size, &offset, &r) != SG_OK) return;
    assert(run_cell_encode(offset, &r, again) == size && memcmp(again, text, size) == 0);
}

static void check_vector(const char *text, size_t size)
{
    struct vector_entry e = {0};
    if (vector_entry_decode(text, size, &e) == SG_OK) {
        char *again = malloc(vector_entry_bytes_max(&e));
        assert(again && vector_entry_encode(&e, again) == size && memcmp(again, text, size) == 0);
        free(again);
    }
    vector_entry_destroy(&e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_cell((const char *)data, size);
    check_run((const char *)data, size);
    check_vector((const char *)data, size);
    return 0;
}
