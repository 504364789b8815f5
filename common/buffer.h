/* A growing buffer of bytes with a bound. Appending beyond the bound, or without memory, sets a sticky error and drops
 * that append and every later one; so a writer checks once, at its end. */
#ifndef COMMON_BUFFER_H
#define COMMON_BUFFER_H

#include <stddef.h>

#include "sandglass/error.h"

struct buffer {
    char *data;          /* owned; NULL while nothing was appended. Always followed by a NUL that length leaves out */
    size_t length;       /* bytes in use */
    size_t capacity;     /* bytes allocated, the NUL included */
    size_t limit;        /* length never exceeds it */
    enum sg_error error; /* SG_OK, LIMIT or NOMEM */
};

/* Empty; nothing is allocated yet. */
void buffer_init(struct buffer *b, size_t limit);
/* Frees; safe on a zeroed struct. */
void buffer_destroy(struct buffer *b);
/* Empty again and without error; keeps its memory. */
void buffer_reset(struct buffer *b);
/* Appends length bytes. */
void buffer_append(struct buffer *b, const void *bytes, size_t length);
/* Appends a NUL-terminated text, without its NUL. */
void buffer_text(struct buffer *b, const char *text);
/* Appends as printf does. */
void buffer_printf(struct buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Room for length more bytes: where to write them, or NULL (and the error set). They count once buffer_commit was
 * called with how many were written. */
char *buffer_reserve(struct buffer *b, size_t length);
/* Takes over length bytes that were written at what buffer_reserve gave. */
void buffer_commit(struct buffer *b, size_t length);
/* Removes the first length bytes and moves the rest to the front. */
void buffer_consume(struct buffer *b, size_t length);

#endif
