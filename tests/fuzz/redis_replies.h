/* Redis without a server: the calls of hiredis by which store/redis_store.c speaks, answered out of a fuzz input.
 *
 * The bytes are read by hiredis' own reader, so what the code under test gets is what hiredis would give it. All
 * connections share one stream of replies. When the stream is at its end, or is no RESP, the connection is lost; what
 * was asked is not looked at. An array of 100,000 elements and more ends the stream too: hiredis would ask for the
 * memory before it has seen an element. */
#ifndef FUZZ_REDIS_REPLIES_H
#define FUZZ_REDIS_REPLIES_H

#include <stddef.h>
#include <stdint.h>

/* The next replies are in bytes[0..length); borrowed until replies_end. */
void replies_begin(const uint8_t *bytes, size_t length);
/* Forgets what was not asked for. */
void replies_end(void);

#endif
