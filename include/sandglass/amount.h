/* Quantities of usage: unsigned integers in the unit that the field's name ends with, added and multiplied with a
 * check. A sum that does not fit is an error that its caller must handle, never a wrapped number. (design.md, law 5) */
#ifndef SANDGLASS_AMOUNT_H
#define SANDGLASS_AMOUNT_H

#include <stdbool.h>
#include <stdint.h>

struct amount {
    uint64_t v;
};

/* sum += a; false and unchanged when it does not fit. */
__attribute__((warn_unused_result)) static inline bool amount_add(struct amount *sum, struct amount a)
{
    uint64_t r;
    if (__builtin_add_overflow(sum->v, a.v, &r)) return false;
    sum->v = r;
    return true;
}

/* *out = a * b; false and unchanged when it does not fit. */
__attribute__((warn_unused_result)) static inline bool amount_mul(struct amount *out, uint64_t a, uint64_t b)
{
    uint64_t r;
    if (__builtin_mul_overflow(a, b, &r)) return false;
    out->v = r;
    return true;
}

/* *out = a - b; false and unchanged when b > a. */
__attribute__((warn_unused_result)) static inline bool amount_sub(struct amount *out, struct amount a, struct amount b)
{
    if (b.v > a.v) return false;
    out->v = a.v - b.v;
    return true;
}

#endif
