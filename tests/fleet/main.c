/* sandglass-fleet: runners full of simulated sandboxes, and the exact totals that must come out.
 *
 * HAPPY PATH  One thread, one epoll. Per source: the world makes an event, it becomes a line in the session's ring, the
 * oracle adds it up; the session writes the ring and moves its tail by the acks. When every world is done and every
 * line is acked, the expected totals are written. FAILURES    No ack for --stall seconds, or a fault of a session that
 * cannot go on: the run ends with exit code 1, and the report says why. SIGINT and SIGTERM end the busy time early; the
 * totals are those of what was made. */
#include "bad.h"
#include "line.h"
#include "options.h"
#include "oracle.h"
#include "report.h"
#include "session.h"
#include "world.h"

#include <assert.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum {
    TURN_LINES = 2048, /* made per source before the others have their turn */
    PROGRESS_MS = 200,
    PACED_WAIT_MS = 5,
    IDLE_WAIT_MS = 50,
    ODD_STYLE_ONE_IN = 32,
};

struct source {
    struct world world;
    struct rng style;
    struct rng bad;
    bool done;
    bool busy; /* has more to do at once */
};

struct fleet {
    struct fleet_options options;
    struct oracle oracle;
    struct session_faults faults;
    struct source *sources;
    struct session *sessions;
    uint32_t count;
    int epoll;
    uint64_t began_ms;
    uint64_t acked;       /* of all */
    uint64_t acked_at_ms; /* when it last rose */
};

static volatile sig_atomic_t stop_asked;

static void ask_stop(int signal)
{
    (void)signal;
    stop_asked = 1;
}

static uint64_t clock_ms(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void fleet_init(struct fleet *fleet)
{
    const struct fleet_options *options = &fleet->options;
    struct world_present present = {clock_ms(CLOCK_BOOTTIME), clock_ms(CLOCK_REALTIME)};
    uint64_t from_ms = options->clock_system ? present.wall_ms : options->start_ms;
    uint64_t length_ms = options->clock_system ? options->seconds * 1000 : options->span_ms + options->drain_ms;
    fleet->count = options->runner_count * (uint32_t)options->sources;
    fleet->epoll = epoll_create1(EPOLL_CLOEXEC);
    fleet->sources = calloc(fleet->count, sizeof *fleet->sources);
    fleet->sessions = calloc(fleet->count, sizeof *fleet->sessions);
    assert(fleet->epoll >= 0 && fleet->sources != NULL && fleet->sessions != NULL);
    oracle_init(&fleet->oracle, options, (uint32_t)(options->sandboxes / fleet->count + 1), from_ms,
                from_ms + length_ms + 86400000);
    uint64_t window = 64;
    while (window * 2 <= options->window / fleet->count) window *= 2;
    for (uint32_t i = 0; i < fleet->count; i++) {
        struct source *source = &fleet->sources[i];
        uint32_t runner = i / (uint32_t)options->sources;
        char name[FLEET_NAME_MAX + 1];
        snprintf(name, sizeof name, "%.48s-%u", options->source_prefix, i % (uint32_t)options->sources + 1);
        world_init(&source->world, options, runner, i, fleet->count, present);
        source->style.state = rng_mix(options->seed + 77) + i;
        source->bad.state = rng_mix(options->seed + 99) + i;
        session_init(&fleet->sessions[i], &fleet->faults, fleet->epoll, &options->runners[runner], name, window);
    }
    fleet->began_ms = fleet->acked_at_ms = clock_ms(CLOCK_MONOTONIC);
}

static void fleet_destroy(struct fleet *fleet)
{
    for (uint32_t i = 0; i < fleet->count; i++) {
        world_destroy(&fleet->sources[i].world);
        session_destroy(&fleet->sessions[i]);
    }
    oracle_destroy(&fleet->oracle);
    free(fleet->sources);
    free(fleet->sessions);
    close(fleet->epoll);
}

/* The world's present boot becomes the session's and the oracle's. */
static void begin_boot(struct fleet *fleet, uint32_t index)
{
    const struct world *world = &fleet->sources[index].world;
    session_boot(&fleet->sessions[index], world->boot_id, world->anchor_boot_ms, world->anchor_wall_ms);
    oracle_boot(&fleet->oracle, index, world->anchor_boot_ms, world->anchor_wall_ms);
}

/* How far a world may go now, in its boot time. */
static uint64_t limit_of(const struct fleet *fleet, const struct world *world, uint64_t now_ms)
{
    const struct fleet_options *options = &fleet->options;
    if (options->clock_system) return clock_ms(CLOCK_BOOTTIME);
    if (options->seconds == 0) return UINT64_MAX;
    uint64_t wall_ms = options->start_ms + (uint64_t)((unsigned __int128)options->span_ms * (now_ms - fleet->began_ms) /
                                                      (options->seconds * 1000));
    return world->anchor_boot_ms + (wall_ms > world->anchor_wall_ms ? wall_ms - world->anchor_wall_ms : 0);
}

static struct line_style pick_style(struct rng *rng)
{
    uint64_t dice = rng_below(rng, ODD_STYLE_ONE_IN);
    return (struct line_style){.spaced = dice == 0, .head_last = dice <= 1};
}

/* A bad line after a good one, so often that they make up the wanted share. */
static size_t maybe_bad(struct fleet *fleet, uint32_t index, uint64_t n, char *buffer, uint32_t *codes)
{
    struct source *source = &fleet->sources[index];
    uint64_t percent = fleet->options.bad_percent;
    if (percent == 0 || source->world.phase != PHASE_RUN || rng_below(&source->bad, 100 - percent) >= percent) return 0;
    return bad_line(&source->world, &source->bad, n, buffer, codes);
}

/* Makes lines as long as there is room and time. */
static void generate(struct fleet *fleet, uint32_t index, uint64_t now_ms)
{
    struct source *source = &fleet->sources[index];
    struct session *session = &fleet->sessions[index];
    uint64_t limit_ms = limit_of(fleet, &source->world, now_ms);
    char buffer[LINE_ROOM];
    source->busy = false;
    for (int made = 0; session_has_room(session); made++) {
        source->busy = made == TURN_LINES;
        if (source->busy) return;
        struct event event;
        enum world_step step = world_next(&source->world, limit_ms, session->n_head + 1, &event);
        if (step == WORLD_WAIT) return;
        if (step == WORLD_EVENT) {
            size_t bytes = line_event(buffer, pick_style(&source->style), session->n_head + 1, &event);
            session_append(session, buffer, bytes, 0);
            oracle_apply(&fleet->oracle, index, &event);
            uint32_t codes;
            if (!session_has_room(session)) return;
            bytes = maybe_bad(fleet, index, session->n_head + 1, buffer, &codes);
            if (bytes > 0) session_append(session, buffer, bytes, codes);
            continue;
        }
        if (!session_settled(session, now_ms)) return;
        source->done = step == WORLD_DONE;
        if (source->done) return;
        world_boot(&source->world);
        begin_boot(fleet, index);
        limit_ms = limit_of(fleet, &source->world, now_ms);
    }
}

static void handle_loss(struct fleet *fleet, uint32_t index)
{
    struct session *session = &fleet->sessions[index];
    bool exact = session->n_head == session->n_acked;
    if (exact) oracle_lost(&fleet->oracle, index);
    world_readopt(&fleet->sources[index].world, session->n_acked);
    session->lost = false;
}

/* One turn of one source; true while it is not through. */
static bool drive(struct fleet *fleet, uint32_t index, uint64_t now_ms)
{
    struct source *source = &fleet->sources[index];
    struct session *session = &fleet->sessions[index];
    if (session->lost) handle_loss(fleet, index);
    if (stop_asked) source->world.stopping = true;
    if (!source->done) generate(fleet, index, now_ms);
    session_drive(session, now_ms);
    source->busy =
        source->busy || (session->state == SESSION_OPEN && !session->wants_write && session->sent < session->head);
    return !source->done;
}

static struct report report_of(const struct fleet *fleet, bool done)
{
    struct report report = {.options = &fleet->options,
                            .oracle = &fleet->oracle,
                            .sessions = fleet->sessions,
                            .faults = &fleet->faults,
                            .simulated_ms = UINT64_MAX,
                            .elapsed_ms = clock_ms(CLOCK_MONOTONIC) - fleet->began_ms,
                            .done = done};
    for (uint32_t i = 0; i < fleet->count; i++) {
        const struct world *world = &fleet->sources[i].world;
        uint64_t wall_ms = world_wall_ms(world, world->t_ms);
        if (wall_ms < report.simulated_ms) report.simulated_ms = wall_ms;
    }
    return report;
}

/* False when nothing moves any more. */
static bool still_alive(struct fleet *fleet, uint64_t now_ms)
{
    uint64_t acked = 0, written = 0;
    for (uint32_t i = 0; i < fleet->count; i++) {
        if (fleet->sessions[i].state == SESSION_FAILED) return false;
        acked += report_acked(&fleet->sessions[i]);
        written += report_written(&fleet->sessions[i]);
    }
    if (acked != fleet->acked || acked == written) fleet->acked_at_ms = now_ms;
    fleet->acked = acked;
    if (now_ms - fleet->acked_at_ms < fleet->options.stall_s * 1000) return true;
    session_fault(&fleet->faults, "no ack for %" PRIu64 " s", fleet->options.stall_s);
    return false;
}

static void wait_ready(struct fleet *fleet, int timeout_ms)
{
    struct epoll_event events[64];
    int count = epoll_wait(fleet->epoll, events, 64, timeout_ms);
    uint64_t now_ms = clock_ms(CLOCK_MONOTONIC);
    for (int i = 0; i < count; i++) session_ready(events[i].data.ptr, events[i].events, now_ms);
}

/* Runs to the end; true when every source is through. */
static bool run(struct fleet *fleet)
{
    uint64_t progress_at_ms = 0;
    for (uint32_t i = 0; i < fleet->count; i++) begin_boot(fleet, i);
    for (;;) {
        uint64_t now_ms = clock_ms(CLOCK_MONOTONIC);
        bool open = false, busy = false;
        for (uint32_t i = 0; i < fleet->count; i++) {
            open = drive(fleet, i, now_ms) || open;
            busy = busy || fleet->sources[i].busy;
        }
        if (fleet->options.progress != NULL && now_ms >= progress_at_ms) {
            struct report report = report_of(fleet, false);
            if (!report_progress(&report, fleet->options.progress)) return false;
            progress_at_ms = now_ms + PROGRESS_MS;
        }
        if (!open) return true;
        if (!still_alive(fleet, now_ms)) return false;
        wait_ready(fleet, busy ? 0 : fleet->options.seconds > 0 ? PACED_WAIT_MS : IDLE_WAIT_MS);
    }
}

/* The first lines of the first source, as they would be written. */
static int dump(struct fleet *fleet)
{
    struct source *source = &fleet->sources[0];
    char buffer[LINE_ROOM];
    fwrite(buffer, 1,
           line_hello(buffer, fleet->sessions[0].source, source->world.boot_id, source->world.anchor_boot_ms,
                      source->world.anchor_wall_ms),
           stdout);
    for (uint64_t n = 1; n <= fleet->options.dump_lines; n++) {
        struct event event;
        uint32_t codes;
        size_t bytes = n > 1 ? maybe_bad(fleet, 0, n, buffer, &codes) : 0;
        if (bytes == 0 && world_next(&source->world, UINT64_MAX, n, &event) != WORLD_EVENT) break;
        if (bytes == 0) bytes = line_event(buffer, pick_style(&source->style), n, &event);
        fwrite(buffer, 1, bytes, stdout);
    }
    return ferror(stdout) == 0 ? 0 : 1;
}

static int conclude(struct fleet *fleet, bool complete)
{
    oracle_finish(&fleet->oracle);
    struct report report = report_of(fleet, complete);
    bool written = fleet->options.progress == NULL || report_progress(&report, fleet->options.progress);
    if (fleet->options.expect != NULL) written = report_expect(&report, fleet->options.expect) && written;
    for (uint64_t i = 0; i < fleet->faults.count && i < SESSION_FAULTS_MAX; i++)
        fprintf(stderr, "sandglass-fleet: %s\n", fleet->faults.texts[i]);
    uint64_t acked = 0;
    for (uint32_t i = 0; i < fleet->count; i++) acked += report_acked(&fleet->sessions[i]);
    printf("acked %" PRIu64 " events in %" PRIu64 ".%03" PRIu64 " s, %" PRIu64 " sandboxes, %" PRIu64 " faults%s\n",
           acked, report.elapsed_ms / 1000, report.elapsed_ms % 1000, fleet->oracle.sandboxes_seen, fleet->faults.count,
           complete ? "" : ", not complete");
    return complete && written && fleet->faults.count == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    static struct fleet fleet;
    int answer = options_parse(&fleet.options, argc, argv);
    if (answer != 0) return answer == 1 ? 0 : 2;
    struct sigaction stop = {.sa_handler = ask_stop};
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGTERM, &stop, NULL);
    fleet_init(&fleet);
    answer = fleet.options.dump_lines > 0 ? dump(&fleet) : conclude(&fleet, run(&fleet));
    fleet_destroy(&fleet);
    return answer;
}
