/* Ingest lines, formatted by hand: this program has to outrun the collector it measures. */
#include "line.h"

#include <string.h>

static inline void put_text(struct line *line, const char *text)
{
    size_t bytes = strlen(text);
    memcpy(line->at, text, bytes);
    line->at += bytes;
}

static inline void put_number(struct line *line, uint64_t value)
{
    char digits[20];
    int count = 0;
    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    while (count > 0) *line->at++ = digits[--count];
}

static inline void put_name(struct line *line, const char *name)
{
    if (!line->first) put_text(line, line->style.spaced ? " , " : ",");
    line->first = false;
    *line->at++ = '"';
    put_text(line, name);
    put_text(line, line->style.spaced ? "\": " : "\":");
}

void line_open(struct line *line, char *buffer, struct line_style style)
{
    *line = (struct line){.at = buffer, .style = style, .first = true};
    put_text(line, style.spaced ? "{ " : "{");
}

void line_number(struct line *line, const char *name, uint64_t value)
{
    put_name(line, name);
    put_number(line, value);
}

void line_text(struct line *line, const char *name, const char *value)
{
    put_name(line, name);
    *line->at++ = '"';
    put_text(line, value);
    *line->at++ = '"';
}

void line_truth(struct line *line, const char *name, bool value)
{
    put_name(line, name);
    put_text(line, value ? "true" : "false");
}

size_t line_close(struct line *line, const char *buffer)
{
    put_text(line, line->style.spaced ? " }\n" : "}\n");
    return (size_t)(line->at - buffer);
}

void line_head(struct line *line, uint64_t n, uint64_t boot_ms, const char *type)
{
    line_number(line, "n", n);
    line_number(line, "boot_ms", boot_ms);
    line_text(line, "type", type);
}

static void put_hex(struct line *line, uint64_t value, int digits)
{
    for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4) *line->at++ = "0123456789abcdef"[(value >> shift) & 15];
}

void line_sandbox(struct line *line, uint64_t sandbox)
{
    put_name(line, "sandbox");
    put_text(line, "\"run");
    put_hex(line, sandbox, 16);
    *line->at++ = '"';
}

static void put_indexed(struct line *line, const char *name, const char *prefix, uint32_t index)
{
    put_name(line, name);
    *line->at++ = '"';
    put_text(line, prefix);
    put_number(line, (uint64_t)index + 1);
    *line->at++ = '"';
}

/* The optional paths are those of the host: a cgroup below the configured root, and a TAP device. */
static void put_paths(struct line *line, uint64_t sandbox)
{
    put_name(line, "cgroup");
    put_text(line, "\"sandboxes/run");
    put_hex(line, sandbox, 16);
    put_text(line, ".scope\"");
    put_name(line, "tap");
    put_text(line, "\"tap");
    put_hex(line, sandbox, 8);
    *line->at++ = '"';
}

static void put_birth(struct line *line, const struct event *event)
{
    line_sandbox(line, event->sandbox);
    put_indexed(line, "team", "team-", event->team);
    put_indexed(line, "project", "proj-", event->project);
    line_number(line, "vcpus", event->vcpus);
    line_number(line, "mem_mib", event->mem_mib);
    line_number(line, "disk_mib", event->disk_mib);
    if (event->type == EVENT_CREATED) {
        line_text(line, "origin", event_origin_names[event->origin]);
        line_number(line, "create_ms", event->create_ms);
    } else {
        line_truth(line, "running", event->running);
    }
    if (event->has_paths) put_paths(line, event->sandbox);
}

static void put_counters(struct line *line, const struct event *event)
{
    for (uint32_t i = 0; i < COUNTERS; i++)
        if (event->present >> i & 1) line_number(line, event_counter_names[i], event->counters[i]);
    if (event->has_mem) line_number(line, "mem_bytes", event->mem_bytes);
}

static void put_api(struct line *line, const struct event *event)
{
    put_indexed(line, "team", "team-", event->team);
    if (event->project != PROJECT_NONE) put_indexed(line, "project", "proj-", event->project);
    line_text(line, "operation", event_operation_names[event->operation]);
    line_number(line, "status", event->status);
}

void line_body(struct line *line, const struct event *event)
{
    switch (event->type) {
    case EVENT_CREATED:
    case EVENT_ADOPTED: put_birth(line, event); break;
    case EVENT_HIBERNATED: line_sandbox(line, event->sandbox); break;
    case EVENT_RESUMED:
        line_sandbox(line, event->sandbox);
        if (event->has_create_ms) line_number(line, "create_ms", event->create_ms);
        break;
    case EVENT_USAGE:
        line_sandbox(line, event->sandbox);
        put_counters(line, event);
        break;
    case EVENT_DESTROYED:
        line_sandbox(line, event->sandbox);
        line_text(line, "reason", event_reason_names[event->reason]);
        put_counters(line, event);
        if (event->has_mem_peak) line_number(line, "mem_peak_bytes", event->mem_peak_bytes);
        break;
    case EVENT_EXEC:
        line_sandbox(line, event->sandbox);
        line_number(line, "exit_code", event->exit_code);
        line_number(line, "duration_ms", event->duration_ms);
        break;
    case EVENT_API: put_api(line, event); break;
    case EVENT_CAPACITY:
        for (uint32_t i = 0; i < CAPACITIES; i++) line_number(line, event_capacity_names[i], event->capacity[i]);
        break;
    case EVENT_TICK:
    case EVENT_TYPES: break;
    }
}

size_t line_event(char *buffer, struct line_style style, uint64_t n, const struct event *event)
{
    struct line line;
    line_open(&line, buffer, style);
    if (!style.head_last) line_head(&line, n, event->boot_ms, event_type_names[event->type]);
    line_body(&line, event);
    if (style.head_last) line_head(&line, n, event->boot_ms, event_type_names[event->type]);
    return line_close(&line, buffer);
}

size_t line_hello(char *buffer, const char *source, const char *boot_id, uint64_t boot_ms, uint64_t wall_ms)
{
    struct line line;
    line_open(&line, buffer, (struct line_style){0});
    line_number(&line, "v", 1);
    line_text(&line, "type", "hello");
    line_text(&line, "source", source);
    line_text(&line, "boot_id", boot_id);
    line_number(&line, "boot_ms", boot_ms);
    line_number(&line, "wall_ms", wall_ms);
    return line_close(&line, buffer);
}
