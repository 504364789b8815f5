/* Identifiers: [A-Za-z0-9_-]{1,64}; "-" alone is reserved for "no project". (ingest.md) */
#ifndef SANDGLASS_ID_H
#define SANDGLASS_ID_H

#include <stdbool.h>
#include <stddef.h>

#include "sandglass/limits.h"

/* A copied identifier, NUL-terminated. */
struct id {
    char s[ID_BYTES_MAX + 1];
};

/* True when s[0..length) is an identifier ("-" alone is not). */
bool id_valid(const char *s, size_t length);
/* The same, and "-" alone too: a project's place in keys and batches. */
bool id_valid_or_none(const char *s, size_t length);

#endif
