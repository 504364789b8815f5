#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum option_kind { KIND_NUMBER, KIND_TEXT, KIND_FLAG };

struct option_row {
    const char *name;
    enum option_kind kind;
    size_t offset;
    uint64_t min;
    uint64_t max;
    uint64_t preset;
    const char *help;
};

#define NUMBER(name, member, min, max, preset, help)                                                                   \
    {                                                                                                                  \
        name, KIND_NUMBER, offsetof(struct fleet_options, member), min, max, preset, help                              \
    }
#define TEXT(name, member, help)                                                                                       \
    {                                                                                                                  \
        name, KIND_TEXT, offsetof(struct fleet_options, member), 0, 0, 0, help                                         \
    }
#define FLAG(name, member, help)                                                                                       \
    {                                                                                                                  \
        name, KIND_FLAG, offsetof(struct fleet_options, member), 0, 0, 0, help                                         \
    }

static const struct option_row option_rows[] = {
    NUMBER("sandboxes", sandboxes, 1, 1000000, 200, "sandboxes alive at a time, over all runners"),
    NUMBER("events", events, 1, UINT64_C(1) << 40, 100000, "stop after about so many events, over all runners"),
    NUMBER("seed", seed, 0, UINT64_MAX >> 1, 1, "the same seed and --start give the same fleet"),
    NUMBER("seconds", seconds, 0, 864000, 0, "real time to spread the run over; 0: as fast as possible"),
    NUMBER("start", start_ms, 0, UINT64_C(1) << 42, 0, "Unix ms of the first anchor; 0: so that the run ends now"),
    NUMBER("span-ms", span_ms, 1, UINT64_C(86400000) * 366, 4 * 3600000, "simulated time (clock=event)"),
    NUMBER("drain-ms", drain_ms, 0, UINT64_C(86400000) * 7, 2 * 3600000,
           "simulated idle time after the last hour, so that every hour closes"),
    NUMBER("teams", teams, 1, 10000, 4, "teams team-1.."),
    NUMBER("projects", projects, 1, 1000, 3, "projects proj-1.. of every team"),
    NUMBER("sources", sources, 1, FLEET_SOURCES_MAX, 1, "sources a runner"),
    NUMBER("bad-percent", bad_percent, 0, 50, 0, "deliberately bad lines among the good ones"),
    NUMBER("window", window, 64, 4000000, 200000, "events kept for sending again, over all runners"),
    NUMBER("stall", stall_s, 1, 86400, 120, "give up after so many seconds without an ack"),
    NUMBER("dump-lines", dump_lines, 0, UINT64_C(1) << 40, 0, "print the first lines instead of connecting"),
    TEXT("clock", clock, "event (default) or system: what moves time"),
    TEXT("expect", expect, "file for the expected totals, JSON"),
    TEXT("progress", progress, "file rewritten about five times a second, JSON"),
    TEXT("source", source_prefix, "prefix of the source names (default: fleet)"),
    TEXT("canary", canary, "text put into bad lines, to be searched for afterwards"),
    FLAG("reboot", reboot, "every host boots anew in mid-run (clock=event only)"),
    FLAG("all-end", all_end, "every sandbox is destroyed at the end; else a tenth lives on (clock=event)"),
    FLAG("minutes", minutes, "expected totals by minute, too"),
};
enum {
    OPTION_COUNT = sizeof option_rows / sizeof *option_rows,
    OPTION_SOCKET = OPTION_COUNT,
    OPTION_HELP,
    OPTION_VERSION
};

static void print_help(void)
{
    puts("usage: sandglass-fleet --socket NAME:REGION:PATH [--socket ...] [OPTION ...]\n\n"
         "Simulates runners full of sandboxes, speaks the ingest protocol to their collectors, and knows the exact "
         "totals\n"
         "that must come out. Exit code: 0 all acked, nothing unexpected refused; 1 the run failed; 2 wrong use.\n\n"
         "  --socket NAME:REGION:PATH  a runner and the socket of its collector (up to 64)");
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const struct option_row *row = &option_rows[i];
        printf("  --%s%s\n        %s", row->name, row->kind == KIND_FLAG ? "" : " X", row->help);
        if (row->kind == KIND_NUMBER) printf(" (default %llu)", (unsigned long long)row->preset);
        putchar('\n');
    }
}

static bool parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || *text == '-' || value < min || value > max) return false;
    *out = value;
    return true;
}

static bool parse_socket(struct fleet_options *options, const char *text)
{
    if (options->runner_count == FLEET_RUNNERS_MAX) return false;
    struct fleet_runner *runner = &options->runners[options->runner_count];
    const char *region = strchr(text, ':');
    if (region == NULL || region == text || region - text > FLEET_NAME_MAX) return false;
    const char *path = strchr(++region, ':');
    if (path == NULL || path == region || path - region > FLEET_NAME_MAX || path[1] == '\0') return false;
    memcpy(runner->name, text, (size_t)(region - 1 - text));
    memcpy(runner->region, region, (size_t)(path - region));
    runner->path = path + 1;
    options->runner_count++;
    return true;
}

static bool set_option(struct fleet_options *options, const struct option_row *row, const char *text)
{
    void *member = (char *)options + row->offset;
    switch (row->kind) {
    case KIND_NUMBER: return parse_number(text, row->min, row->max, member);
    case KIND_TEXT: memcpy(member, &text, sizeof text); return true;
    case KIND_FLAG: *(bool *)member = true; return true;
    }
    return false;
}

/* What can only be judged when everything is known. */
static int settle(struct fleet_options *options)
{
    if (options->clock != NULL && strcmp(options->clock, "event") != 0 && strcmp(options->clock, "system") != 0) {
        fputs("sandglass-fleet: --clock is event or system\n", stderr);
        return 2;
    }
    options->clock_system = options->clock != NULL && strcmp(options->clock, "system") == 0;
    if (options->clock_system && options->reboot) {
        fputs("sandglass-fleet: with --clock system the end of an old boot depends on the collector: no --reboot\n",
              stderr);
        return 2;
    }
    if (options->runner_count == 0 && options->dump_lines == 0) {
        fputs("sandglass-fleet: no --socket given; see --help\n", stderr);
        return 2;
    }
    if (options->runner_count == 0 && !parse_socket(options, "r1:eu:-")) return 2;
    if (options->source_prefix == NULL) options->source_prefix = "fleet";
    if (options->canary == NULL) options->canary = "canary-in-refused-input";
    if (options->start_ms == 0 && !options->clock_system) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        options->start_ms = (uint64_t)now.tv_sec * 1000 - options->span_ms - options->drain_ms - 3600000;
    }
    return 0;
}

int options_parse(struct fleet_options *options, int argc, char **argv)
{
    struct option longs[OPTION_COUNT + 4] = {{0}};
    memset(options, 0, sizeof *options);
    for (int i = 0; i < OPTION_COUNT; i++) {
        const struct option_row *row = &option_rows[i];
        longs[i] = (struct option){row->name, row->kind == KIND_FLAG ? no_argument : required_argument, NULL, i};
        if (row->kind == KIND_NUMBER) memcpy((char *)options + row->offset, &row->preset, sizeof row->preset);
    }
    longs[OPTION_SOCKET] = (struct option){"socket", required_argument, NULL, OPTION_SOCKET};
    longs[OPTION_HELP] = (struct option){"help", no_argument, NULL, OPTION_HELP};
    longs[OPTION_VERSION] = (struct option){"version", no_argument, NULL, OPTION_VERSION};
    for (int chosen; (chosen = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        bool good = false;
        if (chosen == OPTION_HELP) return print_help(), 1;
        if (chosen == OPTION_VERSION) return puts("sandglass-fleet " SANDGLASS_VERSION), 1;
        if (chosen == OPTION_SOCKET) good = parse_socket(options, optarg);
        if (chosen < OPTION_COUNT && chosen >= 0) good = set_option(options, &option_rows[chosen], optarg);
        if (chosen == '?') return 2;
        if (!good) {
            fprintf(stderr, "sandglass-fleet: bad value of --%s; see --help\n", longs[chosen].name);
            return 2;
        }
    }
    if (optind != argc) return fputs("sandglass-fleet: options only; see --help\n", stderr), 2;
    return settle(options);
}
