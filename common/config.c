/* Loading: the file is read whole, cut into lines, each line is looked up in the table and parsed by its type's
 * function, which writes the member or a sentence into the fault; the fault is then wrapped with file, line and key.
 * Defaults take the same path, so a wrong default is found by the first load in any test.
 *
 * INVARIANTS
 *   1. A value, an unknown key and a secret's content never reach a fault.
 *   2. The file's bytes are wiped before they are freed: a secret may have been put there by mistake.
 *   3. After an error the program's struct is all zero and owns nothing. */
#include "common/config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/config_type.h"

enum { FILE_BYTES_MAX = 256 * 1024 };

/* What is being loaded. */
struct load {
    const char *file;
    const struct config_table *table;
    char *out;
    bool given[CONFIG_KEYS_MAX];
    unsigned line;
    struct sg_fault *f;
};

/* text has room for FILE_BYTES_MAX + 1 bytes. */
static enum sg_error read_file(const char *file, char *text, size_t *length, struct sg_fault *f)
{
    FILE *in = fopen(file, "re");
    if (!in) return sg_fail(f, SG_ERR_IO, "%s: %s", file, strerror(errno));
    enum sg_error e = SG_OK;
    *length = fread(text, 1, FILE_BYTES_MAX + 1, in);
    if (ferror(in))
        e = sg_fail(f, SG_ERR_IO, "%s: %s", file, strerror(errno));
    else if (*length > FILE_BYTES_MAX)
        e = sg_fail(f, SG_ERR_LIMIT, "%s: larger than %d bytes", file, FILE_BYTES_MAX);
    fclose(in);
    return e;
}

static enum sg_error fail_line(const struct load *l, const char *sentence)
{
    return sg_fail(l->f, SG_ERR_CONFIG, "%s:%u: %s", l->file, l->line, sentence);
}

static enum sg_error fail_key(const struct load *l, const struct config_key *k, const char *sentence)
{
    return sg_fail(l->f, SG_ERR_CONFIG, "%s:%u: %s: %s", l->file, l->line, k->name, sentence);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

/* Cuts spaces at both ends, in place. */
static char *trim(char *text)
{
    while (is_space(*text)) text++;
    size_t length = strlen(text);
    while (length && is_space(text[length - 1])) length--;
    text[length] = '\0';
    return text;
}

static const struct config_key *find_key(const struct config_table *t, const char *name, size_t *index)
{
    for (*index = 0; *index < t->count; (*index)++)
        if (strcmp(t->keys[*index].name, name) == 0) return &t->keys[*index];
    return NULL;
}

static bool has_control(const char *line, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)line[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) return true;
    }
    return false;
}

/* line is NUL-terminated and may be changed. */
static enum sg_error take_line(struct load *l, char *line, size_t length)
{
    if (length > CONFIG_LINE_BYTES_MAX) return fail_line(l, "the line is too long");
    if (has_control(line, length)) return fail_line(l, "the line has control characters");
    line = trim(line);
    if (!line[0] || line[0] == '#') return SG_OK;
    char *equals = strchr(line, '=');
    if (!equals) return fail_line(l, "not a line of `key = value`");
    *equals = '\0';
    size_t index;
    const struct config_key *k = find_key(l->table, trim(line), &index);
    if (!k) return fail_line(l, "unknown key");
    if (l->given[index] && k->type != CONFIG_TYPE_LIST) return fail_key(l, k, "given twice");
    l->given[index] = true;
    const char *value = trim(equals + 1);
    if (!value[0]) return fail_key(l, k, "no value");
    if (strlen(value) > CONFIG_VALUE_BYTES_MAX) return fail_key(l, k, "the value is too long");
    enum sg_error e = config_type_parse(k, value, l->out + k->offset, l->f);
    if (e) sg_wrap(l->f, "%s:%u: %s", l->file, l->line, k->name);
    return e;
}

static enum sg_error take_lines(struct load *l, char *text, size_t length)
{
    char *end = text + length;
    for (l->line = 1; text < end; l->line++) {
        char *newline = memchr(text, '\n', (size_t)(end - text));
        char *stop = newline ? newline : end;
        *stop = '\0'; /* at worst the byte behind the file's last */
        enum sg_error e = take_line(l, text, (size_t)(stop - text));
        if (e) return e;
        text = stop + 1;
    }
    return SG_OK;
}

static enum sg_error take_defaults(struct load *l)
{
    for (size_t i = 0; i < l->table->count; i++) {
        const struct config_key *k = &l->table->keys[i];
        if (l->given[i]) continue;
        if (!k->fallback) return sg_fail(l->f, SG_ERR_CONFIG, "%s: %s: must be given", l->file, k->name);
        enum sg_error e = config_type_default(k, l->out + k->offset, l->f);
        assert(e == SG_OK || e == SG_ERR_NOMEM); /* else the table is wrong */
        if (e) return sg_wrap(l->f, "%s: %s", l->file, k->name);
    }
    return SG_OK;
}

enum sg_error config_parse(const char *file, char *text, size_t length, const struct config_table *table, void *out,
                           struct sg_fault *f)
{
    struct load l = {.file = file, .table = table, .out = out, .f = f};
    assert(table->count <= CONFIG_KEYS_MAX);
    memset(out, 0, table->struct_bytes);
    enum sg_error e = take_lines(&l, text, length);
    if (!e) e = take_defaults(&l);
    if (!e && table->check) {
        e = table->check(out, f);
        if (e) sg_wrap(f, "%s", file);
    }
    if (e) config_destroy(table, out);
    return e;
}

enum sg_error config_load(const char *file, const struct config_table *table, void *out, struct sg_fault *f)
{
    size_t length = 0;
    memset(out, 0, table->struct_bytes);
    char *text = malloc(FILE_BYTES_MAX + 1);
    if (!text) return sg_fail(f, SG_ERR_NOMEM, "%s: no memory", file);
    enum sg_error e = read_file(file, text, &length, f);
    if (!e) e = config_parse(file, text, length, table, out, f);
    explicit_bzero(text, FILE_BYTES_MAX + 1);
    free(text);
    return e;
}

void config_destroy(const struct config_table *table, void *config)
{
    char *c = config;
    for (size_t i = 0; i < table->count; i++) config_type_free(&table->keys[i], c + table->keys[i].offset);
    explicit_bzero(config, table->struct_bytes);
}

enum sg_error config_list_pairs(const struct config_list *list, const char *key,
                                const char *pairs[static 2 * CONFIG_LIST_MAX + 1], struct sg_fault *f)
{
    assert(list->count <= CONFIG_LIST_MAX);
    for (size_t i = 0; i < list->count; i++) {
        char *space = strchr(list->item[i], ' ');
        if (!space) return sg_fail(f, SG_ERR_CONFIG, "%s: NAME VALUE is needed", key);
        *space = '\0';
        pairs[2 * i] = list->item[i];
        pairs[2 * i + 1] = space + 1;
    }
    pairs[2 * list->count] = NULL;
    return SG_OK;
}
