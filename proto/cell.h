/* Sums and cells: the integers of one partition in one rollup, and their text form (proto/redis.md, "Cell"). Pure.
 *
 * struct sums holds the plain fields densely and the families (creates.*, destroys.*, exit.*, api.*) sparsely, sorted
 * by field. Text form: `@<offset> <field>=<decimal>...`, fields ascending, zeros left out: equal sums have equal bytes.
 * Decoding refuses what encoding would not write: unknown field, order, zero, sign, leading zero, a number that does
 * not fit. */
#ifndef PROTO_CELL_H
#define PROTO_CELL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sandglass/amount.h"
#include "sandglass/error.h"
#include "sandglass/field.h"

/* A counter of a family: exit.137 = 2. */
struct sums_extra {
    uint64_t value;
    uint16_t field;
};

/* Zeroed is empty. Owns extra. */
struct sums {
    struct amount plain[PLAIN_FIELDS];
    struct sums_extra *extra;
    uint16_t extra_count, extra_capacity;
};

/* Frees what s owns and zeroes it. */
void sums_destroy(struct sums *s);
/* s[f] += a. OVERFLOW or NOMEM: unchanged. */
SG_MUST_USE enum sg_error sums_add(struct sums *s, enum field f, struct amount a);
/* s += other, field by field. OVERFLOW or NOMEM: s may have been added to in part; the caller gives up on s. */
SG_MUST_USE enum sg_error sums_add_all(struct sums *s, const struct sums *other);
/* Value of a field; 0 when it never was added to. */
struct amount sums_get(const struct sums *s, enum field f);
/* True when every field is zero. */
bool sums_empty(const struct sums *s);
/* Calls each(arg, field, value) for every non-zero field, ascending. */
void sums_each(const struct sums *s, void (*each)(void *arg, enum field f, struct amount value), void *arg);

/* Longest text of a cell: all fields with 20 digits. */
enum { CELL_BYTES_MAX = 24 + FIELDS * (FIELD_NAME_BYTES_MAX + 22) };

/* An upper bound of cell_encode()'s length for these sums. */
size_t cell_encoded_bytes_max(const struct sums *s);
/* Writes the text (not NUL-terminated) to out, which has cell_encoded_bytes_max() bytes; returns its length. */
size_t cell_encode(uint64_t offset, const struct sums *s, char *out);
/* Parses text[0..length) into *offset and s (which must be zeroed or initialised; it is overwritten). MALFORMED,
 * OVERFLOW, NOMEM. */
SG_MUST_USE enum sg_error cell_decode(const char *text, size_t length, uint64_t *offset, struct sums *s);

#endif
