/* The parameters of a request, `name=value` a line, as the HTTP library has decoded them. What is taken is within its
 * range and can be written again; what is refused is not quoted. Instants are held against the formatter. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/api/params.h"
#include "common/rfc3339.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect_instant(const char *value)
{
    char text[RFC3339_BYTES];
    struct wall_ms t, again;
    if (!rfc3339_parse(value, strlen(value), &t)) return;
    rfc3339_format(t, text);
    bool same = rfc3339_parse(text, strlen(text), &again) && again.v == t.v;
    assert(same);
    /* what is in the formatter's own form is that text: no other date is taken for it */
    if (strlen(value) == strlen(text) && value[4] == '-' && value[10] == 'T' && value[19] == '.' && value[23] == 'Z')
        assert(strcmp(value, text) == 0);
}

static void expect_taken(const struct params *p, const char *name, const char *value)
{
    char cursor[CURSOR_BYTES_MAX];
    assert(p->from.v >= 0 && p->to.v <= WALL_MS_MAX && p->limit >= 1 && p->limit <= LIMIT_MAX);
    assert((unsigned)p->step < WINDOW_KINDS && p->group_by <= GROUP_REGION && p->format <= FORMAT_CSV);
    if (strcmp(name, "project") == 0) assert(strcmp(p->project.s, value) == 0);
    if (strcmp(name, "region") == 0) assert(strcmp(p->region.s, value) == 0 && id_valid(value, strlen(value)));
    if (strcmp(name, "cursor") == 0) {
        cursor_format(p->cursor, cursor);
        assert(p->cursor.set && strcmp(cursor, value) == 0);
    }
    if (strcmp(name, "meter") == 0) {
        char field[FIELD_NAME_BYTES_MAX];
        (void)field_name(p->meter, field);
        assert(strcmp(field, value) == 0);
    }
}

/* Cuts text at c; what is behind it, NULL when it is not there. */
static char *cut(char *text, char c)
{
    char *at = strchr(text, c);
    if (at) *at++ = '\0';
    return at;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = strndup((const char *)data, size), *next;
    struct params p;
    enum sg_error e = SG_OK;
    assert(text);
    params_init(&p);
    for (char *line = text; line && e == SG_OK; line = next) {
        struct sg_fault f = {0};
        next = cut(line, '\n');
        char *value = cut(line, '=');
        if (value) expect_instant(value);
        unsigned before = p.given;
        e = params_take(&p, (1u << PARAMS) - 1, line, value, &f);
        assert(e == SG_OK ? p.given != before && value : e == SG_ERR_USAGE && !strstr(f.text, "canary"));
        if (e == SG_OK) expect_taken(&p, line, value);
    }
    if (e == SG_OK && params_finish(&p, PARAM_BIT(PARAM_FROM), NULL) == SG_OK)
        assert(p.from.v <= p.to.v && p.given & PARAM_BIT(PARAM_FROM));
    free(text);
    return 0;
}
