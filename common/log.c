/* The log's state is one table behind one mutex: the line is made on the caller's stack, the mutex is held for the
 * repeat count alone, and write(2) puts a whole line out, so lines of threads do not mix (pipes: up to PIPE_BUF). */
#include "common/log.h"

#include <assert.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/rfc3339.h"

const char *const log_level_words[] = {"error", "warn", "info", "debug", NULL};

enum { EVENT_BYTES_MAX = 48 };

/* Repeats of one event name. */
struct repeats {
    char event[EVENT_BYTES_MAX];
    struct boot_ms since;
    unsigned written;
    uint64_t suppressed;
};

static struct {
    _Atomic(const char *) program;
    atomic_int level;
    atomic_int fd; /* -1: standard error */
    pthread_mutex_t mutex;
    size_t count;
    struct repeats repeats[LOG_EVENTS_MAX];
} state = {.program = "sandglass", .level = LOG_INFO, .fd = -1, .mutex = PTHREAD_MUTEX_INITIALIZER};

void log_init(const char *program, enum log_level level)
{
    atomic_store(&state.program, program);
    atomic_store(&state.level, (int)level);
}

bool log_enabled(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&state.level, memory_order_relaxed);
}

void log_to(int fd)
{
    atomic_store(&state.fd, fd);
}

/* A log that cannot be written has nowhere to say so. */
static void put_line(const char *line, size_t length)
{
    int fd = atomic_load_explicit(&state.fd, memory_order_relaxed);
    ssize_t written = write(fd < 0 ? STDERR_FILENO : fd, line, length);
    (void)written;
}

static size_t put_head(char line[static LOG_LINE_BYTES_MAX], enum log_level level, const char *event)
{
    char now[RFC3339_BYTES];
    rfc3339_format(clock_wall(), now);
    int length = snprintf(line, LOG_LINE_BYTES_MAX, "time=%s level=%s program=%s event=%s", now, log_level_words[level],
                          atomic_load(&state.program), event);
    assert(length > 0 && length < LOG_LINE_BYTES_MAX / 2);
    return (size_t)length;
}

static void put_suppressed(const char *event, uint64_t suppressed)
{
    char line[LOG_LINE_BYTES_MAX];
    size_t length = put_head(line, LOG_WARN, event);
    int tail = snprintf(line + length, sizeof line - length, " suppressed=%llu\n", (unsigned long long)suppressed);
    put_line(line, length + (size_t)tail);
}

static struct repeats *find(const char *event)
{
    for (size_t i = 0; i < state.count; i++)
        if (strcmp(state.repeats[i].event, event) == 0) return &state.repeats[i];
    if (state.count == LOG_EVENTS_MAX || strlen(event) >= EVENT_BYTES_MAX) return NULL;
    struct repeats *r = &state.repeats[state.count++];
    *r = (struct repeats){.since = clock_boot()};
    memcpy(r->event, event, strlen(event) + 1);
    return r;
}

/* Takes one expired count out of the table, so that lines are written without the mutex. */
static bool take_expired(bool all, struct repeats *out)
{
    struct boot_ms now = clock_boot();
    bool found = false;
    pthread_mutex_lock(&state.mutex);
    for (size_t i = 0; i < state.count && !found; i++) {
        struct repeats *r = &state.repeats[i];
        if (!r->suppressed || (!all && clock_since(now, r->since) < LOG_PERIOD_MS)) continue;
        *out = *r;
        r->suppressed = 0;
        r->written = 0;
        r->since = now;
        found = true;
    }
    pthread_mutex_unlock(&state.mutex);
    return found;
}

void log_flush(bool all)
{
    struct repeats expired;
    for (size_t i = 0; i < LOG_EVENTS_MAX && take_expired(all, &expired); i++)
        put_suppressed(expired.event, expired.suppressed);
}

static bool may_write(const char *event)
{
    struct boot_ms now = clock_boot();
    pthread_mutex_lock(&state.mutex);
    struct repeats *r = find(event);
    bool may = true;
    if (r) {
        if (clock_since(now, r->since) >= LOG_PERIOD_MS) {
            r->since = now;
            r->written = 0;
        }
        may = r->written < LOG_REPEATS_MAX;
        if (may)
            r->written++;
        else
            r->suppressed++;
    }
    pthread_mutex_unlock(&state.mutex);
    return may;
}

void log_event(enum log_level level, const char *event, const char *format, ...)
{
    char line[LOG_LINE_BYTES_MAX];
    va_list args;
    assert((unsigned)level <= LOG_DEBUG);
    if (!log_enabled(level)) return;
    log_flush(false);
    if (!may_write(event)) return;
    size_t length = put_head(line, level, event);
    if (format[0]) {
        line[length++] = ' ';
        size_t room = sizeof line - length - 1; /* for the newline */
        va_start(args, format);
        int wanted = vsnprintf(line + length, room, format, args);
        va_end(args);
        assert(wanted >= 0);
        length += (size_t)wanted < room ? (size_t)wanted : room - 1;
    }
    /* whatever a caller let in, an event stays one line */
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f) line[i] = '?';
    line[length++] = '\n';
    put_line(line, length);
}

void log_fault(enum log_level level, const char *event, const struct sg_fault *f)
{
    char reason[SG_FAULT_BYTES * 2];
    const char *text = f->text[0] ? f->text : sg_error_text(f->code);
    log_event(level, event, "error=%s reason=%s", sg_error_name(f->code), log_quote(text, reason, sizeof reason));
}

static bool is_bare(unsigned char c)
{
    return c > 0x20 && c != '"' && c != '=' && c != '\\' && c != 0x7f;
}

const char *log_quote(const char *value, char *out, size_t size)
{
    assert(size >= 3);
    size_t length = 0;
    bool bare = value[0] != '\0';
    for (const char *p = value; *p; p++) bare = bare && is_bare((unsigned char)*p);
    if (!bare) out[length++] = '"';
    /* room for an escaped byte, the closing quote and the NUL */
    for (const char *p = value; *p && length + 4 <= size; p++) {
        if (*p == '"' || *p == '\\') out[length++] = '\\';
        out[length++] = (unsigned char)*p < 0x20 || *p == 0x7f ? '?' : *p;
    }
    if (!bare) out[length++] = '"';
    out[length] = '\0';
    return out;
}
