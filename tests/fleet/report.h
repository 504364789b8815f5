/* What the run came to: the file of expected totals, and the file of progress. */
#ifndef FLEET_REPORT_H
#define FLEET_REPORT_H

#include "oracle.h"
#include "session.h"

#include <stdbool.h>
#include <stdint.h>

/* Everything a report speaks of; sessions are those of the oracle's sources, in order. */
struct report {
    const struct fleet_options *options;
    const struct oracle *oracle;
    const struct session *sessions;
    const struct session_faults *faults;
    uint64_t simulated_ms; /* UTC ms that every source has reached */
    uint64_t elapsed_ms;
    bool done;
};

/* Lines a session was given, over all its boots. */
uint64_t report_written(const struct session *session);

/* Those the collector answered for. */
uint64_t report_acked(const struct session *session);

/* Write a file whole, or not at all (a new one is renamed over it). False after an error message. */
bool report_expect(const struct report *report, const char *path);

/* As report_expect, for the file of progress. */
bool report_progress(const struct report *report, const char *path);

#endif
