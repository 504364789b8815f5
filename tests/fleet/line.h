/* Ingest lines: the text of an event as a supervisor would write it (the ingest contract, "Events"). */
#ifndef FLEET_LINE_H
#define FLEET_LINE_H

#include "event.h"

#include <stddef.h>
#include <stdint.h>

/* Room that any line of this program fits in, the deliberately too long ones included. */
enum { LINE_ROOM = 8192 };

/* How one line is spelled. The contract leaves order and white space free, so both are varied. */
struct line_style {
    bool spaced;    /* white space around colons and commas */
    bool head_last; /* n, boot_ms and type stand after the other fields */
};

/* A line being written. `at` is where the next byte goes. */
struct line {
    char *at;
    struct line_style style;
    bool first;
};

/* Begins an object in `buffer`. */
void line_open(struct line *line, char *buffer, struct line_style style);

/* Appends a member whose value is a number. */
void line_number(struct line *line, const char *name, uint64_t value);

/* Appends a member whose value is a text; nothing is escaped. */
void line_text(struct line *line, const char *name, const char *value);

/* Appends a member whose value is true or false. */
void line_truth(struct line *line, const char *name, bool value);

/* Ends the object and the line; returns its bytes. */
size_t line_close(struct line *line, const char *buffer);

/* Appends n, boot_ms and type. */
void line_head(struct line *line, uint64_t n, uint64_t boot_ms, const char *type);

/* Appends the member `sandbox`: "run" and 16 hex digits. */
void line_sandbox(struct line *line, uint64_t sandbox);

/* Appends everything of an event but the head. */
void line_body(struct line *line, const struct event *event);

/* Writes the whole line of an event, newline included, to a buffer of LINE_ROOM bytes; returns its bytes. */
size_t line_event(char *buffer, struct line_style style, uint64_t n, const struct event *event);

/* Writes the greeting. */
size_t line_hello(char *buffer, const char *source, const char *boot_id, uint64_t boot_ms, uint64_t wall_ms);

#endif
