/* Names of fields: tables for the closed sets, arithmetic for the families. */
#include "sandglass/field.h"

#include <assert.h>
#include <string.h>

struct word {
    const char *text;
    uint8_t length;
};

#define WORD(name, text) {text, sizeof(text) - 1},
static const struct word plain_words[] = {SG_PLAIN_FIELDS(WORD)};
static const struct word origin_words[] = {SG_ORIGINS(WORD)};
static const struct word reason_words[] = {SG_REASONS(WORD)};
static const struct word operation_words[] = {SG_OPERATIONS(WORD)};

static const char creates_prefix[] = "creates.";
static const char destroys_prefix[] = "destroys.";
static const char exit_prefix[] = "exit.";
static const char api_prefix[] = "api.";

enum { CLASS_SUFFIX_BYTES = 4 }; /* ".2xx" */

static bool word_find(const struct word *words, size_t count, const char *text, size_t length, unsigned *out)
{
    for (size_t i = 0; i < count; i++) {
        if (words[i].length == length && memcmp(words[i].text, text, length) == 0) {
            *out = (unsigned)i;
            return true;
        }
    }
    return false;
}

static bool starts_with(const char *text, size_t length, const char *prefix, size_t prefix_length)
{
    return length > prefix_length && memcmp(text, prefix, prefix_length) == 0;
}

const char *origin_text(enum origin o)
{
    assert((unsigned)o < ORIGINS);
    return origin_words[o].text;
}

const char *reason_text(enum reason r)
{
    assert((unsigned)r < REASONS);
    return reason_words[r].text;
}

const char *operation_text(enum operation o)
{
    assert((unsigned)o < OPERATIONS);
    return operation_words[o].text;
}

bool origin_parse(const char *text, size_t length, enum origin *out)
{
    unsigned i;
    if (!word_find(origin_words, ORIGINS, text, length, &i)) return false;
    *out = (enum origin)i;
    return true;
}

bool reason_parse(const char *text, size_t length, enum reason *out)
{
    unsigned i;
    if (!word_find(reason_words, REASONS, text, length, &i)) return false;
    *out = (enum reason)i;
    return true;
}

bool operation_parse(const char *text, size_t length, enum operation *out)
{
    unsigned i;
    if (!word_find(operation_words, OPERATIONS, text, length, &i)) return false;
    *out = (enum operation)i;
    return true;
}

static size_t join(char *out, const char *prefix, size_t prefix_length, const char *rest, size_t rest_length)
{
    assert(prefix_length + rest_length < FIELD_NAME_BYTES_MAX);
    memcpy(out, prefix, prefix_length);
    memcpy(out + prefix_length, rest, rest_length);
    out[prefix_length + rest_length] = '\0';
    return prefix_length + rest_length;
}

static size_t join_word(char *out, const char *prefix, size_t prefix_length, const struct word *w)
{
    return join(out, prefix, prefix_length, w->text, w->length);
}

static size_t exit_name(unsigned code, char *out)
{
    char digits[3];
    size_t n = 0;
    if (code >= 100) digits[n++] = (char)('0' + code / 100);
    if (code >= 10) digits[n++] = (char)('0' + code / 10 % 10);
    digits[n++] = (char)('0' + code % 10);
    return join(out, exit_prefix, sizeof exit_prefix - 1, digits, n);
}

static size_t api_name(unsigned index, char *out)
{
    size_t n = join_word(out, api_prefix, sizeof api_prefix - 1, &operation_words[index / STATUS_CLASSES]);
    const char suffix[CLASS_SUFFIX_BYTES] = {'.', (char)('1' + index % STATUS_CLASSES), 'x', 'x'};
    assert(n + sizeof suffix < FIELD_NAME_BYTES_MAX);
    memcpy(out + n, suffix, sizeof suffix);
    out[n + sizeof suffix] = '\0';
    return n + sizeof suffix;
}

size_t field_name(enum field f, char out[static FIELD_NAME_BYTES_MAX])
{
    unsigned i = (unsigned)f;
    assert(i < FIELDS);
    if (i < FIELD_CREATES) return join_word(out, "", 0, &plain_words[i]);
    if (i < FIELD_DESTROYS)
        return join_word(out, creates_prefix, sizeof creates_prefix - 1, &origin_words[i - FIELD_CREATES]);
    if (i < FIELD_EXIT)
        return join_word(out, destroys_prefix, sizeof destroys_prefix - 1, &reason_words[i - FIELD_DESTROYS]);
    if (i < FIELD_API) return exit_name(i - FIELD_EXIT, out);
    return api_name(i - FIELD_API, out);
}

static bool exit_parse(const char *digits, size_t length, enum field *out)
{
    unsigned code = 0;
    assert(length > 0);
    if (length > 3 || (length > 1 && digits[0] == '0')) return false;
    for (size_t i = 0; i < length; i++) {
        if (digits[i] < '0' || digits[i] > '9') return false;
        code = code * 10 + (unsigned)(digits[i] - '0');
    }
    if (code >= EXIT_CODES) return false;
    *out = (enum field)(FIELD_EXIT + (int)code);
    return true;
}

static bool api_parse(const char *rest, size_t length, enum field *out)
{
    enum operation o;
    if (length <= CLASS_SUFFIX_BYTES) return false;
    const char *suffix = rest + length - CLASS_SUFFIX_BYTES;
    if (suffix[0] != '.' || suffix[1] < '1' || suffix[1] > '5' || suffix[2] != 'x' || suffix[3] != 'x') return false;
    if (!operation_parse(rest, length - CLASS_SUFFIX_BYTES, &o)) return false;
    *out = (enum field)(FIELD_API + (int)o * STATUS_CLASSES + (suffix[1] - '1'));
    return true;
}

bool field_parse(const char *name, size_t length, enum field *out)
{
    unsigned i;
    enum origin o;
    enum reason r;
    size_t p;
    if (word_find(plain_words, PLAIN_FIELDS, name, length, &i)) {
        *out = (enum field)i;
        return true;
    }
    if (starts_with(name, length, exit_prefix, p = sizeof exit_prefix - 1))
        return exit_parse(name + p, length - p, out);
    if (starts_with(name, length, api_prefix, p = sizeof api_prefix - 1)) return api_parse(name + p, length - p, out);
    if (starts_with(name, length, creates_prefix, p = sizeof creates_prefix - 1)) {
        if (!origin_parse(name + p, length - p, &o)) return false;
        *out = (enum field)(FIELD_CREATES + (int)o);
        return true;
    }
    if (starts_with(name, length, destroys_prefix, p = sizeof destroys_prefix - 1)) {
        if (!reason_parse(name + p, length - p, &r)) return false;
        *out = (enum field)(FIELD_DESTROYS + (int)r);
        return true;
    }
    return false;
}
