#include "common/buffer.h"

#include <assert.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CAPACITY_MIN = 64 };

void buffer_init(struct buffer *b, size_t limit)
{
    assert(limit < SIZE_MAX); /* the NUL */
    *b = (struct buffer){.limit = limit};
}

void buffer_destroy(struct buffer *b)
{
    free(b->data);
    *b = (struct buffer){.limit = b->limit};
}

void buffer_reset(struct buffer *b)
{
    b->length = 0;
    b->error = SG_OK;
    if (b->data) b->data[0] = '\0';
}

static size_t grown(size_t capacity, size_t need)
{
    if (capacity < CAPACITY_MIN) capacity = CAPACITY_MIN;
    while (capacity < need) {
        if (capacity > SIZE_MAX / 2) return need;
        capacity *= 2;
    }
    return capacity;
}

char *buffer_reserve(struct buffer *b, size_t length)
{
    if (b->error) return NULL;
    if (length > b->limit - b->length) {
        b->error = SG_ERR_LIMIT;
        return NULL;
    }
    size_t need = b->length + length + 1;
    if (need > b->capacity) {
        size_t capacity = grown(b->capacity, need);
        char *data = realloc(b->data, capacity);
        if (!data) {
            b->error = SG_ERR_NOMEM;
            return NULL;
        }
        b->data = data;
        b->capacity = capacity;
        b->data[b->length] = '\0';
    }
    return b->data + b->length;
}

void buffer_commit(struct buffer *b, size_t length)
{
    assert(b->data && length < b->capacity - b->length);
    b->length += length;
    b->data[b->length] = '\0';
}

void buffer_append(struct buffer *b, const void *bytes, size_t length)
{
    char *to = buffer_reserve(b, length);
    if (!to) return;
    if (length) memcpy(to, bytes, length);
    buffer_commit(b, length);
}

void buffer_text(struct buffer *b, const char *text)
{
    buffer_append(b, text, strlen(text));
}

void buffer_printf(struct buffer *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    assert(length >= 0);
    char *to = buffer_reserve(b, (size_t)length);
    if (!to) return;
    va_start(args, format);
    vsnprintf(to, (size_t)length + 1, format, args);
    va_end(args);
    buffer_commit(b, (size_t)length);
}

void buffer_consume(struct buffer *b, size_t length)
{
    assert(length <= b->length);
    if (length == 0) return;
    b->length -= length;
    memmove(b->data, b->data + length, b->length + 1);
}
