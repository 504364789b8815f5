#include "common/json_out.h"

#include <assert.h>
#include <string.h>

#include "common/rfc3339.h"

enum { DIGITS_MAX = 40, MILLI_DIGITS = 3, MICRO_DIGITS = 6 };

void json_out_init(struct json_out *j, struct buffer *out)
{
    *j = (struct json_out){.out = out};
}

/* Length of the well-formed UTF-8 sequence at s, 0 when there is none (Unicode 15, table 3-7). */
static size_t sequence_bytes(const unsigned char *s, size_t left)
{
    static const struct {
        unsigned char first_low, first_high, second_low, second_high, bytes;
    } row[] = {
        {0x00, 0x7f, 0x00, 0x00, 1}, {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        if (s[0] < row[i].first_low || s[0] > row[i].first_high) continue;
        if (row[i].bytes > left) return 0;
        if (row[i].bytes > 1 && (s[1] < row[i].second_low || s[1] > row[i].second_high)) return 0;
        for (size_t k = 2; k < row[i].bytes; k++)
            if ((s[k] & 0xc0) != 0x80) return 0;
        return row[i].bytes;
    }
    return 0;
}

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

static void escape_ascii(struct buffer *out, unsigned char c)
{
    static const char named[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    for (const char *p = named; *p; p += 2) {
        if ((unsigned char)*p != c) continue;
        const char pair[] = {'\\', p[1]};
        buffer_append(out, pair, sizeof pair);
        return;
    }
    buffer_printf(out, "\\u%04x", c);
}

static void put_string(struct buffer *out, const char *text, size_t length)
{
    const unsigned char *s = (const unsigned char *)text;
    buffer_append(out, "\"", 1);
    for (size_t i = 0, run; i < length; i += run) {
        for (run = 0; i + run < length && is_plain(s[i + run]);) run++;
        if (run) {
            buffer_append(out, s + i, run);
            continue;
        }
        run = sequence_bytes(s + i, length - i);
        if (run > 1) {
            buffer_append(out, s + i, run);
        } else if (run == 1) {
            escape_ascii(out, s[i]);
        } else {
            buffer_text(out, "\xef\xbf\xbd");
            run = 1;
        }
    }
    buffer_append(out, "\"", 1);
}

/* What stands before a value: a comma, its key. */
static void begin(struct json_out *j, const char *key)
{
    assert(!!key == j->in_object[j->depth]);
    assert(j->depth > 0 || !j->has_items[0]);
    if (j->has_items[j->depth]) buffer_append(j->out, ",", 1);
    j->has_items[j->depth] = true;
    if (!key) return;
    put_string(j->out, key, strlen(key));
    buffer_append(j->out, ":", 1);
}

static void open_level(struct json_out *j, const char *key, bool object)
{
    begin(j, key);
    assert(j->depth < JSON_OUT_DEPTH_MAX);
    j->depth++;
    j->in_object[j->depth] = object;
    j->has_items[j->depth] = false;
    buffer_append(j->out, object ? "{" : "[", 1);
}

static void close_level(struct json_out *j, bool object)
{
    assert(j->depth > 0 && j->in_object[j->depth] == object);
    j->depth--;
    buffer_append(j->out, object ? "}" : "]", 1);
}

void json_out_object_begin(struct json_out *j, const char *key)
{
    open_level(j, key, true);
}

void json_out_object_end(struct json_out *j)
{
    close_level(j, true);
}

void json_out_array_begin(struct json_out *j, const char *key)
{
    open_level(j, key, false);
}

void json_out_array_end(struct json_out *j)
{
    close_level(j, false);
}

void json_out_bytes(struct json_out *j, const char *key, const char *text, size_t length)
{
    begin(j, key);
    put_string(j->out, text, length);
}

void json_out_string(struct json_out *j, const char *key, const char *text)
{
    if (text)
        json_out_bytes(j, key, text, strlen(text));
    else
        json_out_null(j, key);
}

/* v / 10^places without trailing zeros, and a sign. */
static void put_decimal(struct buffer *out, bool negative, unsigned __int128 v, unsigned places)
{
    char digits[DIGITS_MAX + 3]; /* and sign, point, leading zero */
    char *p = digits + sizeof digits;
    for (; places && v % 10 == 0; places--) v /= 10;
    if (places) {
        for (; places; places--, v /= 10) *--p = (char)('0' + (int)(v % 10));
        *--p = '.';
    }
    do *--p = (char)('0' + (int)(v % 10));
    while (v /= 10);
    if (negative) *--p = '-';
    buffer_append(out, p, (size_t)(digits + sizeof digits - p));
}

static void put_signed(struct buffer *out, __int128 v, unsigned places)
{
    put_decimal(out, v < 0, v < 0 ? -(unsigned __int128)v : (unsigned __int128)v, places);
}

void json_out_u64(struct json_out *j, const char *key, uint64_t v)
{
    begin(j, key);
    put_decimal(j->out, false, v, 0);
}

void json_out_i64(struct json_out *j, const char *key, int64_t v)
{
    begin(j, key);
    put_signed(j->out, v, 0);
}

void json_out_u128(struct json_out *j, const char *key, unsigned __int128 v)
{
    begin(j, key);
    put_decimal(j->out, false, v, 0);
}

void json_out_micro(struct json_out *j, const char *key, __int128 v)
{
    begin(j, key);
    put_signed(j->out, v, MICRO_DIGITS);
}

void json_out_milli(struct json_out *j, const char *key, __int128 v)
{
    begin(j, key);
    put_signed(j->out, v, MILLI_DIGITS);
}

void json_out_bool(struct json_out *j, const char *key, bool v)
{
    begin(j, key);
    buffer_text(j->out, v ? "true" : "false");
}

void json_out_null(struct json_out *j, const char *key)
{
    begin(j, key);
    buffer_text(j->out, "null");
}

void json_out_time(struct json_out *j, const char *key, struct wall_ms t)
{
    char text[RFC3339_BYTES];
    rfc3339_format(t, text);
    json_out_string(j, key, text);
}

enum sg_error json_out_finish(struct json_out *j)
{
    assert(j->depth == 0 && j->has_items[0]);
    return j->out->error;
}
