/* Mutations of a batch that keep protobuf's nesting: one field's value, or one field of a message in it, is changed,
 * and the lengths around it are written anew. Else nearly every change would die in the scan for lengths. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

enum { LENGTH = 2, FIRST_MESSAGE = 11, LAST_MESSAGE = 20, FIELDS_MAX = 64, INPUT_MAX = 1 << 20 };

/* A field: [tag, value), [value, end). */
struct field {
    size_t tag, value, end;
    uint64_t number, wire;
};

static uint64_t take_varint(const uint8_t *data, size_t size, size_t *at)
{
    uint64_t v = 0;
    for (unsigned shift = 0; *at < size && shift < 64; shift += 7) {
        uint8_t byte = data[(*at)++];
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) return v;
    }
    *at = size + 1;
    return 0;
}

static size_t put_varint(uint8_t *out, uint64_t v)
{
    size_t n = 0;
    for (; v > 0x7f; v >>= 7) out[n++] = (uint8_t)(v | 0x80);
    out[n++] = (uint8_t)v;
    return n;
}

/* The fields in data[from..to); 0 when it is no message. */
static size_t split(const uint8_t *data, size_t from, size_t to, struct field *out)
{
    size_t count = 0;
    for (size_t at = from; at < to && count < FIELDS_MAX; count++) {
        struct field *f = &out[count];
        f->tag = at;
        uint64_t tag = take_varint(data, to, &at);
        f->number = tag >> 3;
        f->wire = tag & 7;
        f->value = at;
        uint64_t length = at <= to ? take_varint(data, to, &at) : 0;
        if (f->wire == LENGTH) {
            f->value = at;
            at = at <= to && length <= to - at ? at + (size_t)length : to + 1;
        }
        if (at > to) return 0;
        f->end = at;
    }
    return count;
}

/* Writes the field with another value; its length in out. */
static size_t put_field(uint8_t *out, const struct field *f, const uint8_t *value, size_t length)
{
    size_t n = put_varint(out, f->number << 3 | f->wire);
    if (f->wire == LENGTH) n += put_varint(out + n, length);
    memcpy(out + n, value, length);
    return n + length;
}

/* data[from..to) with field f changed, into out. */
static size_t change(const uint8_t *data, size_t from, size_t to, const struct field *f, const uint8_t *value,
                     size_t length, uint8_t *out)
{
    size_t n = f->tag - from;
    memcpy(out, data + from, n);
    n += put_field(out + n, f, value, length);
    memcpy(out + n, data + f->end, to - f->end);
    return n + to - f->end;
}

/* A mutated value of f. */
static size_t mutate_value(const uint8_t *data, const struct field *f, uint8_t *out)
{
    size_t length = f->end - f->value, room = length + 64;
    memcpy(out, data + f->value, length);
    return LLVMFuzzerMutate(out, length, room);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    static uint8_t value[2 * INPUT_MAX], inner[2 * INPUT_MAX], outer[2 * INPUT_MAX];
    struct field outers[FIELDS_MAX], inners[FIELDS_MAX];
    size_t count = size < INPUT_MAX / 2 ? split(data, 0, size, outers) : 0;
    if (count == 0 || seed % 16 == 0) return LLVMFuzzerMutate(data, size, max_size);
    const struct field *f = &outers[seed / 16 % count];
    bool message = f->wire == LENGTH && f->number >= FIRST_MESSAGE && f->number <= LAST_MESSAGE;
    size_t inside = message ? split(data, f->value, f->end, inners) : 0, length;
    if (inside && seed / 1024 % 8) {
        const struct field *g = &inners[seed / 8192 % inside];
        length = mutate_value(data, g, value);
        length = change(data, f->value, f->end, g, value, length, inner);
        length = change(data, 0, size, f, inner, length, outer);
    } else {
        length = mutate_value(data, f, value);
        length = change(data, 0, size, f, value, length, outer);
    }
    if (length > max_size) return LLVMFuzzerMutate(data, size, max_size);
    memcpy(data, outer, length);
    return length;
}
