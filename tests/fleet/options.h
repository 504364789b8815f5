/* The command line of sandglass-fleet. */
#ifndef FLEET_OPTIONS_H
#define FLEET_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum { FLEET_RUNNERS_MAX = 64, FLEET_SOURCES_MAX = 4, FLEET_NAME_MAX = 64 };

struct fleet_runner {
    char name[FLEET_NAME_MAX + 1];
    char region[FLEET_NAME_MAX + 1];
    const char *path; /* points into argv */
};

/* Strings point into argv. */
struct fleet_options {
    struct fleet_runner runners[FLEET_RUNNERS_MAX];
    uint32_t runner_count;
    uint64_t sources; /* a runner */
    uint64_t sandboxes;
    uint64_t events;
    uint64_t seed;
    uint64_t seconds;
    uint64_t start_ms;
    uint64_t span_ms;
    uint64_t drain_ms;
    uint64_t teams;
    uint64_t projects;
    uint64_t bad_percent;
    uint64_t window;
    uint64_t stall_s;
    uint64_t dump_lines;
    const char *expect;
    const char *progress;
    const char *clock;
    const char *source_prefix;
    const char *canary;
    bool clock_system;
    bool reboot;
    bool minutes;
    bool all_end;
};

/* Fills `options` from the command line. Returns 0, or 1 when --help or --version was answered, or 2 after an error
 * message. */
int options_parse(struct fleet_options *options, int argc, char **argv);

#endif
