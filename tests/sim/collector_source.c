/* Supervisors, after ingest.md to the letter. A line is kept until it is acknowledged; its text is made anew each time
 * that it is sent. Sandboxes go through their lives as this side sees them; now and then a line is no good. */
#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/text.h"
#include "tests/sim/collector_world.h"

enum { RETRY_MS = 2 * SECOND_MS, COUNTER_STEP = 5000000, ANSWER_ROOM = 256 };

struct collector_life *collector_life(struct collector_source *c)
{
    return &c->life[c->lives - 1];
}

static struct collector_boot *boot_of(struct collector_source *c)
{
    return &c->boot[c->boots - 1];
}

static struct sim *sim_of(struct collector_source *c)
{
    return c->runner->world->sim;
}

/* ---- lives ---- */

static void new_life(struct collector_source *c, uint64_t first_n)
{
    assert(c->lives < COLLECTOR_LIVES_MAX);
    c->life[c->lives++] = (struct collector_life){
        .boot = c->boots - 1, .epoch = c->runner->epochs, .first_n = first_n, .last_n = UINT64_MAX};
}

void collector_source_boot(struct collector_source *c)
{
    assert(c->boots < COLLECTOR_BOOTS_MAX);
    c->boots++;
    c->acked = c->sent = 0;
    memset(c->box, 0, sizeof c->box);
    new_life(c, 1);
}

static struct collector_line *say(struct collector_source *c, enum ingest_type type)
{
    struct collector_boot *b = boot_of(c);
    if (b->count == b->capacity) {
        b->capacity = b->capacity ? 2 * b->capacity : 64;
        b->line = reallocarray(b->line, b->capacity, sizeof *b->line);
        if (!b->line) abort();
    }
    struct collector_line *l = &b->line[b->count++];
    *l = (struct collector_line){.type = type, .owner = c->index, .boot_ms = collector_boot_now(c->runner).v};
    return l;
}

void collector_source_lost(struct collector_source *c)
{
    collector_life(c)->last_n = c->acked;
    c->sent = c->acked;
    new_life(c, c->acked + 1);
    struct collector_boot *boot = boot_of(c);
    if (c->acked < boot->count && boot->line[c->acked].bad == BAD_JSON_WITHOUT_N)
        boot->line[c->acked].bad = BAD_JSON; /* from a later number than 1 on, the first line must tell its own */
    for (unsigned i = 0; i < COLLECTOR_BOXES; i++) {
        struct collector_box *b = &c->box[i];
        if (!b->alive || b->said_n > c->acked) continue;
        struct collector_line *l = say(c, INGEST_TYPE_ADOPTED);
        uint64_t boot_ms = l->boot_ms;
        *l = b->born;
        l->type = INGEST_TYPE_ADOPTED;
        l->boot_ms = boot_ms;
        l->choice = b->running;
        b->said_n = boot_of(c)->count;
    }
}

/* ---- what happens ---- */

static void born(struct collector_source *c, unsigned box)
{
    struct sim *s = sim_of(c);
    struct collector_line *l = say(c, INGEST_TYPE_CREATED);
    l->box = box;
    l->team = (unsigned)sim_draw(s, COLLECTOR_TEAMS);
    l->project = (unsigned)sim_draw(s, COLLECTOR_PROJECTS);
    l->vcpus = 1 + (uint32_t)sim_draw(s, 64);
    l->mem_mib = 1 + (uint32_t)sim_draw(s, 100000);
    l->disk_mib = (uint32_t)sim_draw(s, 1000000);
    l->choice = (unsigned)sim_draw(s, ORIGINS);
    l->number = (uint32_t)sim_draw(s, 5000);
    c->box[box] = (struct collector_box){.alive = true, .running = true, .born = *l, .said_n = boot_of(c)->count};
}

/* Counters rise; some are not said; some begin anew, or all do: then some of them have not risen yet. */
static void count(struct collector_source *c, struct collector_box *b, struct collector_line *l)
{
    struct sim *s = sim_of(c);
    if (collector_fault(c->runner->world, SIM_COUNTERS_BEGIN_ANEW)) {
        for (unsigned k = 0; k < METER_COUNTERS; k++)
            l->counter[k] = b->counter[k] = sim_draw(s, 2) ? sim_draw(s, 9) : 0;
        l->present = (1U << METER_COUNTERS) - 1;
        return;
    }
    for (unsigned k = 0; k < METER_COUNTERS; k++) {
        b->counter[k] = sim_draw(s, 20) ? b->counter[k] + sim_draw(s, COUNTER_STEP) : sim_draw(s, COUNTER_STEP);
        l->counter[k] = b->counter[k];
        if (sim_draw(s, 3)) l->present |= (uint8_t)(1U << k);
    }
}

static void live(struct collector_source *c, unsigned box)
{
    static const enum ingest_type types[] = {INGEST_TYPE_USAGE,       INGEST_TYPE_USAGE,      INGEST_TYPE_USAGE,
                                             INGEST_TYPE_EXEC_EXITED, INGEST_TYPE_HIBERNATED, INGEST_TYPE_RESUMED,
                                             INGEST_TYPE_DESTROYED};
    struct sim *s = sim_of(c);
    struct collector_box *b = &c->box[box];
    struct collector_line *l = say(c, types[sim_draw(s, sizeof types / sizeof *types)]);
    l->box = box;
    if (l->type == INGEST_TYPE_USAGE || l->type == INGEST_TYPE_DESTROYED) count(c, b, l);
    if (l->type == INGEST_TYPE_DESTROYED) l->choice = (unsigned)sim_draw(s, REASON_HOST);
    if (l->type == INGEST_TYPE_EXEC_EXITED) l->choice = (unsigned)sim_draw(s, EXIT_CODES);
    if (l->type == INGEST_TYPE_EXEC_EXITED) l->number = (uint32_t)sim_draw(s, 90000);
    if (l->type == INGEST_TYPE_HIBERNATED) b->running = false; /* also when it is: that line is refused */
    if (l->type == INGEST_TYPE_RESUMED) b->running = true;
    if (l->type == INGEST_TYPE_DESTROYED) b->alive = false;
}

static void call(struct collector_source *c)
{
    struct sim *s = sim_of(c);
    struct collector_line *l = say(c, INGEST_TYPE_API_CALLED);
    l->team = (unsigned)sim_draw(s, COLLECTOR_TEAMS);
    l->project = (unsigned)sim_draw(s, COLLECTOR_PROJECTS + 1); /* the last: none */
    l->choice = (unsigned)sim_draw(s, OPERATIONS);
    l->number = 100 + (uint32_t)sim_draw(s, 500);
}

/* Lines that are refused: by themselves, for their time, for a sandbox of somebody else or of nobody. */
static void go_wrong(struct collector_source *c)
{
    struct sim *s = sim_of(c);
    unsigned box = (unsigned)sim_draw(s, COLLECTOR_BOXES);
    struct collector_line *l = say(c, INGEST_TYPE_USAGE);
    l->box = box;
    l->present = 1;
    switch (sim_draw(s, 4)) {
    case 0: l->owner = (c->index + 1) % COLLECTOR_SOURCES; break;
    case 1: l->boot_ms -= l->boot_ms > MINUTE_MS ? MINUTE_MS : l->boot_ms; break;
    case 2: /* one that is there is made again; one that is not is made */
        if (!c->box[box].alive) break;
        *l = c->box[box].born;
        l->type = INGEST_TYPE_CREATED;
        l->boot_ms = collector_boot_now(c->runner).v;
        break;
    default: l->bad = (enum collector_bad)(1 + sim_draw(s, BAD_TYPE));
    }
}

/* Lines that no supervisor should say, whatever its sandboxes do: without sense, of no time, of a time to come. */
static void talk_nonsense(struct collector_source *c)
{
    struct sim *s = sim_of(c);
    struct collector_line *l = say(c, INGEST_TYPE_TICK);
    int64_t ahead = c->runner->world->ahead_ms_most;
    switch (sim_draw(s, 6)) {
    case 0: l->boot_ms = WALL_MS_MAX; break;
    case 1: l->boot_ms = 0; break;
    case 2: /* seldom: for so long every line goes back */
        if (ahead && sim_draw(s, 4) == 0) l->boot_ms += sim_draw(s, (uint64_t)ahead);
        break;
    default: l->bad = (enum collector_bad)(1 + sim_draw(s, BAD_KINDS - 1));
    }
}

void collector_source_event(struct collector_source *c)
{
    struct sim *s = sim_of(c);
    if (collector_fault(c->runner->world, SIM_SOURCE_TALKS_NONSENSE)) {
        talk_nonsense(c);
        return;
    }
    uint64_t y = sim_draw(s, 100);
    unsigned box = (unsigned)sim_draw(s, COLLECTOR_BOXES);
    if (y < 5)
        go_wrong(c);
    else if (y < 15)
        call(c);
    else if (y < 20)
        (void)say(c, INGEST_TYPE_TICK);
    else if (y < 22)
        (void)say(c, INGEST_TYPE_CAPACITY);
    else if (c->box[box].alive)
        live(c, box);
    else
        born(c, box);
}

void collector_source_flood(struct collector_source *c)
{
    struct sim *s = sim_of(c);
    if (!c->greeted) return;
    for (uint64_t n = SESSION_REFUSALS_MAX + sim_draw(s, SESSION_REFUSALS_MAX / 4); n; n--)
        say(c, INGEST_TYPE_TICK)->bad = BAD_RANGE;
    c->deaf = true;
    c->hears_at = s->now + (int64_t)sim_draw(s, MINUTE_MS);
}

void collector_source_finish(struct collector_source *c)
{
    for (unsigned i = 0; i < COLLECTOR_BOXES; i++) {
        if (!c->box[i].alive) continue;
        struct collector_line *l = say(c, INGEST_TYPE_DESTROYED);
        l->box = i;
        count(c, &c->box[i], l);
        c->box[i].alive = false;
    }
    (void)say(c, INGEST_TYPE_TICK);
}

/* ---- the connection ---- */

void collector_source_cut(struct collector_source *c, bool half)
{
    if (c->connected && !half) session_end(&c->session[c->slot]);
    c->connected = c->greeted = c->ended = false;
    c->ending = INGEST_OK;
    c->out_used = c->in_used = 0;
    c->retry_at = sim_of(c)->now + (int64_t)sim_draw(sim_of(c), RETRY_MS);
}

/* What ends a session before it has begun. */
static char *put_no_greeting(struct collector_source *c, char *out)
{
    bool other = sim_draw(sim_of(c), 2);
    c->ending = other ? INGEST_BAD_HELLO : INGEST_NOT_GREETED;
    if (other) return collector_put_hello(c, "{\"v\":2", c->name, 1, 1, out);
    return text_put_str(out, "{\"n\":1,\"boot_ms\":1,\"type\":\"tick\"}\n");
}

static bool has_room(const struct collector_source *c)
{
    return sizeof c->out - c->out_used > INGEST_LINE_BYTES_MAX + COLLECTOR_LINE_BYTES;
}

/* Line n is, or will be, the newest that the collector has of this boot, and the one behind the next tells its number.
 */
static bool leaves_a_hole(const struct collector_source *c, uint64_t n)
{
    const struct collector_boot *boot = &c->boot[c->boots - 1];
    return n >= c->life[c->lives - 1].first_n && n >= c->sent_most &&
           n + 1 >= meter_next_n(c->runner->collector.meter, c->session[c->slot].source) && n + 2 <= boot->count &&
           boot->line[n + 1].bad != BAD_JSON_WITHOUT_N;
}

/* What ends a session: a number is left out, or another source greets in it. */
static void end_session(struct collector_source *c)
{
    uint64_t n = c->sent;
    if (!has_room(c) || c->session[c->slot].state != SESSION_GREETED) return;
    if (sim_draw(sim_of(c), 2)) {
        c->ending = INGEST_BAD_HELLO;
        c->out_used = (size_t)(collector_put_hello(c, "{\"v\":1", "another", 1, 1, c->out + c->out_used) - c->out);
    } else if (leaves_a_hole(c, n)) {
        c->ending = INGEST_NUMBER_GAP;
        c->sent = n + 2;
        c->out_used = (size_t)(collector_put_line(c, c->sent, c->out + c->out_used) - c->out);
    }
}

static void connect(struct collector_source *c)
{
    struct collector_runner *r = c->runner;
    uint64_t boot = collector_boot_now(r).v;
    int64_t wall = collector_wall_now(r).v;
    c->slot ^= 1;
    session_end(&c->session[c->slot]);
    session_init(&c->session[c->slot], &r->sessions);
    c->connected = true;
    c->greeted = c->ended = false;
    c->ending = INGEST_OK;
    c->sent_most = 0;
    c->deaf = collector_fault(r->world, SIM_SOURCE_DOES_NOT_READ);
    c->hears_at = 0;
    c->hello_offset = wall - (int64_t)boot;
    c->in_used = 0;
    char *out = c->out;
    if (collector_fault(r->world, SIM_SOURCE_TALKS_NONSENSE)) out = put_no_greeting(c, out);
    c->out_used = (size_t)(collector_put_hello(c, "{\"v\":1", c->name, boot, wall, out) - c->out);
}

static void take_reject(struct collector_source *c, uint64_t n, const char *code)
{
    int error = INGEST_ERROR_COUNT - 1;
    while (error > 0 && strcmp(ingest_error_text((enum ingest_error)error), code) != 0) error--;
    if (n == 0 || n > boot_of(c)->count) {
        sim_fail(sim_of(c), "%s %s: line %" PRIu64 " is refused, and was never said", c->runner->name, c->name, n);
        return;
    }
    struct collector_line *l = &boot_of(c)->line[n - 1];
    if (l->told && l->told != (enum ingest_error)error)
        sim_fail(sim_of(c), "%s %s: line %" PRIu64 " is refused twice, and differently", c->runner->name, c->name, n);
    l->told = (enum ingest_error)error;
}

/* The session ends: for what was said, and nothing of that is in the answer. */
static void take_end(struct collector_source *c, const char *code)
{
    if (c->ended || !c->ending || strcmp(code, ingest_error_text(c->ending)) != 0)
        sim_fail(sim_of(c), "%s %s: the session ends for %s", c->runner->name, c->name, code);
    c->ended = true;
}

/* Answers have a code, numbers, and nothing else. */
static bool says(const char *line, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool says(const char *line, const char *format, ...)
{
    char text[ANSWER_ROOM];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return strcmp(line, text) == 0;
}

/* The first greeting of a boot that was taken holds for it. */
static void anchor(struct collector_source *c)
{
    struct collector_life *life = collector_life(c);
    if (life->anchored) return;
    life->anchored = true;
    life->offset = c->hello_offset;
}

static void take_answer(struct collector_source *c, const char *line)
{
    struct sim *s = sim_of(c);
    unsigned long long n = 0;
    unsigned at;
    char code[64];
    bool fresh = says(line, "{\"ack\":0,\"new\":true}");
    if (sscanf(line, "{\"reject\":%llu,\"error\":\"%63[a-z_]\",\"at\":%u", &n, code, &at) == 3 &&
        says(line, "{\"reject\":%llu,\"error\":\"%s\",\"at\":%u}", n, code, at) && at <= INGEST_LINE_BYTES_MAX) {
        take_reject(c, n, code);
        return;
    }
    if (sscanf(line, "{\"error\":\"%63[a-z_]\",\"at\":%u", code, &at) == 2 &&
        says(line, "{\"error\":\"%s\",\"at\":%u}", code, at) && at <= INGEST_LINE_BYTES_MAX) {
        take_end(c, code);
        return;
    }
    if (!fresh && (sscanf(line, "{\"ack\":%llu", &n) != 1 || !says(line, "{\"ack\":%llu}", n))) {
        sim_fail(s, "%s %s: the collector says %s", c->runner->name, c->name, line);
        return;
    }
    if (c->ended) sim_fail(s, "%s %s: an ack behind the end", c->runner->name, c->name);
    if (fresh && c->greeted) sim_fail(s, "%s %s: new, in a session", c->runner->name, c->name);
    if (!fresh && n < c->acked)
        sim_fail(s, "%s %s: ack %llu behind %llu", c->runner->name, c->name, n, (unsigned long long)c->acked);
    if (n > boot_of(c)->count)
        sim_fail(s, "%s %s: ack %llu of %llu", c->runner->name, c->name, n, (unsigned long long)boot_of(c)->count);
    if (!fresh && n > c->acked) c->acked = n;
    if (!c->greeted) {
        c->sent = c->acked;
        anchor(c); /* a greeting that had to wait for a seal */
    }
    c->greeted = true;
}

static void read_answers(struct collector_source *c)
{
    struct session *session = &c->session[c->slot];
    while (c->connected) {
        size_t bytes, room = sizeof c->in - 1 - c->in_used;
        const char *out = session_output(session, &bytes);
        if (bytes == 0) break;
        if (bytes > room) bytes = room;
        memcpy(c->in + c->in_used, out, bytes);
        session_written(session, bytes);
        c->in_used += bytes;
        for (char *end; (end = memchr(c->in, '\n', c->in_used));) {
            *end = '\0';
            take_answer(c, c->in);
            c->in_used -= (size_t)(end + 1 - c->in);
            memmove(c->in, end + 1, c->in_used);
        }
    }
    if (session->state != SESSION_OVER || !c->connected) return;
    if (!c->ended) sim_fail(sim_of(c), "%s %s: the session ends without a word", c->runner->name, c->name);
    collector_source_cut(c, false);
}

/* There is room to write, and the session is told so if it waits for that. */
static void hear(struct collector_source *c)
{
    struct session *session = &c->session[c->slot];
    bool waits = session_writes(session);
    read_answers(c);
    if (!c->connected || !waits) return;
    session_take(session);
    read_answers(c);
}

/* Lines into the buffer; after the greeting only. */
static void fill(struct collector_source *c)
{
    while (c->greeted && !c->ending && c->sent < boot_of(c)->count && has_room(c))
        c->out_used = (size_t)(collector_put_line(c, ++c->sent, c->out + c->out_used) - c->out);
    if (c->sent > c->sent_most) c->sent_most = c->sent;
}

static bool send(struct collector_source *c, bool all)
{
    struct session *session = &c->session[c->slot];
    size_t room, bytes = c->out_used;
    if (bytes == 0 || !session_reads(session)) return false;
    if (!all && sim_draw(sim_of(c), 2)) bytes = 1 + sim_draw(sim_of(c), bytes);
    char *in = session_room(session, &room);
    if (bytes > room) bytes = room;
    if (bytes == 0) return false;
    memcpy(in, c->out, bytes);
    session_received(session, bytes);
    c->out_used -= bytes;
    memmove(c->out, c->out + bytes, c->out_used);
    if (session->state == SESSION_GREETED) anchor(c);
    return true;
}

/* Lines that this spool was told, again; from one that says its number. */
static void repeat(struct collector_source *c)
{
    uint64_t least = collector_life(c)->first_n - 1, told = c->sent - least;
    if (told == 0) return;
    uint64_t from = c->sent - sim_draw(sim_of(c), told < 20 ? told : 20);
    while (from > least && from < c->sent && boot_of(c)->line[from].bad == BAD_JSON_WITHOUT_N) from--;
    if (from < c->sent && boot_of(c)->line[from].bad != BAD_JSON_WITHOUT_N) c->sent = from;
}

void collector_source_talk(struct collector_source *c, bool all)
{
    struct sim *s = sim_of(c);
    if (!c->runner->alive) return;
    if (!c->connected && s->now >= c->retry_at) connect(c);
    if (!c->connected) return;
    if (s->quiet || (c->hears_at && s->now >= c->hears_at)) c->deaf = false;
    if (c->greeted && collector_fault(c->runner->world, SIM_SOURCE_REPEATS) && !c->ending) repeat(c);
    if (c->greeted && !c->ending && collector_fault(c->runner->world, SIM_SOURCE_TALKS_NONSENSE)) end_session(c);
    for (int i = 0; i < 64 && c->connected; i++) {
        fill(c);
        if (!c->deaf || !c->greeted) hear(c);
        if (!c->connected || !send(c, all)) break;
        if (!all && sim_draw(s, 4) == 0) break;
    }
    if (c->connected && !c->deaf) hear(c);
}

bool collector_source_quiet(const struct collector_source *c)
{
    return c->acked == c->boot[c->boots - 1].count;
}

void collector_source_destroy(struct collector_source *c)
{
    for (size_t i = 0; i < c->boots; i++) free(c->boot[i].line);
}
