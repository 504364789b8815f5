#include "reply.h"

#include <string.h>

static const char *const code_texts[] = {
#define X(name, text) text,
    REPLY_CODES(X)
#undef X
        "unknown",
    "none",
};

const char *reply_code_text(enum reply_code code)
{
    return code_texts[code];
}

struct cursor {
    const char *at;
    const char *end;
};

struct text {
    const char *at;
    size_t bytes;
};

static void skip_space(struct cursor *cursor)
{
    while (cursor->at < cursor->end && (*cursor->at == ' ' || *cursor->at == '\t' || *cursor->at == '\r')) cursor->at++;
}

static bool take(struct cursor *cursor, char wanted)
{
    skip_space(cursor);
    if (cursor->at == cursor->end || *cursor->at != wanted) return false;
    cursor->at++;
    return true;
}

static bool take_text(struct cursor *cursor, struct text *text)
{
    if (!take(cursor, '"')) return false;
    text->at = cursor->at;
    while (cursor->at < cursor->end && *cursor->at != '"' && *cursor->at != '\\') cursor->at++;
    text->bytes = (size_t)(cursor->at - text->at);
    return take(cursor, '"');
}

static bool take_number(struct cursor *cursor, uint64_t *number)
{
    const char *start = cursor->at;
    *number = 0;
    for (; cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9'; cursor->at++) {
        if (*number > (UINT64_MAX - 9) / 10) return false;
        *number = *number * 10 + (uint64_t)(*cursor->at - '0');
    }
    return cursor->at > start;
}

static bool is(struct text text, const char *name)
{
    return text.bytes == strlen(name) && memcmp(text.at, name, text.bytes) == 0;
}

static bool take_word(struct cursor *cursor, const char *word)
{
    size_t bytes = strlen(word);
    if ((size_t)(cursor->end - cursor->at) < bytes || memcmp(cursor->at, word, bytes) != 0) return false;
    cursor->at += bytes;
    return true;
}

static enum reply_code code_of(struct text text)
{
    int code = 0;
    while (code < REPLY_UNKNOWN && !is(text, code_texts[code])) code++;
    return (enum reply_code)code;
}

static bool take_member(struct cursor *cursor, struct reply *reply)
{
    struct text name, value;
    uint64_t number;
    if (!take_text(cursor, &name) || !take(cursor, ':')) return false;
    skip_space(cursor);
    if (cursor->at == cursor->end) return false;
    if (*cursor->at == '"') {
        if (!take_text(cursor, &value)) return false;
        if (is(name, "error")) reply->error = code_of(value);
        return true;
    }
    if (take_word(cursor, "true")) {
        if (is(name, "new")) reply->is_new = true;
        return true;
    }
    if (take_word(cursor, "false")) return true;
    if (!take_number(cursor, &number)) return false;
    if (is(name, "ack")) reply->has_ack = true, reply->ack = number;
    if (is(name, "reject")) reply->has_reject = true, reply->reject = number;
    if (is(name, "at")) reply->at = number;
    return true;
}

bool reply_parse(struct reply *reply, const char *text, size_t bytes)
{
    struct cursor cursor = {text, text + bytes};
    *reply = (struct reply){.error = REPLY_NONE};
    if (!take(&cursor, '{')) return false;
    do {
        if (!take_member(&cursor, reply)) return false;
    } while (take(&cursor, ','));
    if (!take(&cursor, '}')) return false;
    skip_space(&cursor);
    return cursor.at == cursor.end;
}
