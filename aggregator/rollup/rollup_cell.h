/* Shared by the files of the rollup only. */
#ifndef ROLLUP_ROLLUP_CELL_H
#define ROLLUP_ROLLUP_CELL_H

#include "aggregator/rollup/rollup.h"

/* Appends the key of a cell's hash. */
void rollup_cell_key(const struct cell *cell, struct wordlist *w);
/* Appends its field there. */
void rollup_cell_field(const struct cell *cell, struct wordlist *w);
/* True when the hour has a cell of its own: the run did not start in it. The run is read. */
bool rollup_own_hour(const struct digest *d, const struct digest_sandbox *s, const struct digest_hour *h);
/* True when every cell that the digest needs is read. */
bool rollup_digest_ready(const struct digest *d);

#endif
