/* The texts in Redis: a cell, a run, a vector entry, a mark and its field, a capacity. Decoding never accepts what
 * encoding would not write. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/cell.h"
#include "proto/mark.h"
#include "proto/run_cell.h"
#include "proto/vector.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

_Static_assert((int)CAPACITY_BYTES_MAX <= (int)MARK_BYTES_MAX && (int)MARK_FIELD_BYTES_MAX <= (int)MARK_BYTES_MAX,
               "one buffer");

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

static void check_mark(const char *text, size_t size)
{
    struct mark m;
    struct capacity c;
    struct id runner;
    uint64_t epoch;
    char again[MARK_BYTES_MAX];
    if (mark_decode(text, size, &m) == SG_OK) assert(mark_encode(&m, again) == size && memcmp(again, text, size) == 0);
    if (capacity_decode(text, size, &c) == SG_OK)
        assert(capacity_encode(&c, again) == size && memcmp(again, text, size) == 0);
    if (mark_field_decode(text, size, &runner, &epoch))
        assert(mark_field_encode(runner.s, epoch, again) == size && memcmp(again, text, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_cell((const char *)data, size);
    check_run((const char *)data, size);
    check_vector((const char *)data, size);
    check_mark((const char *)data, size);
    return 0;
}
