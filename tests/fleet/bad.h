/* Lines that a collector has to refuse, and how. */
#ifndef FLEET_BAD_H
#define FLEET_BAD_H

#include "rng.h"
#include "world.h"

#include <stddef.h>
#include <stdint.h>

/* Writes a bad line numbered `n` to a buffer of LINE_ROOM bytes and returns its bytes. `codes` gets a bit per enum
 * reply_code that is a right answer. The world stays as it is. */
size_t bad_line(const struct world *world, struct rng *rng, uint64_t n, char *buffer, uint32_t *codes);

#endif
