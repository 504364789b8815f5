#include "aggregator/api/view_text.h"

#include <string.h>

#include "proto/text.h"

const char *words_get(struct words *w, const char *name, size_t *length)
{
    const char *p = w->p, *end = w->p + w->length;
    size_t name_length = strlen(name);
    while (p < end) {
        const char *space = memchr(p, ' ', (size_t)(end - p)), *stop = space ? space : end;
        if ((size_t)(stop - p) > name_length && memcmp(p, name, name_length) == 0 && p[name_length] == '=') {
            *length = (size_t)(stop - p) - name_length - 1;
            return p + name_length + 1;
        }
        p = stop + 1;
    }
    w->bad = true;
    *length = 0;
    return NULL;
}

uint64_t words_u64(struct words *w, const char *name)
{
    size_t length;
    const char *s = words_get(w, name, &length);
    if (!s) return 0;
    struct text t = text_over(s, length);
    uint64_t v = text_u64(&t);
    if (!text_done(&t)) w->bad = true;
    return w->bad ? 0 : v;
}

struct wall_ms words_wall(struct words *w, const char *name)
{
    uint64_t v = words_u64(w, name);
    if (v > (uint64_t)WALL_MS_MAX) w->bad = true;
    return (struct wall_ms){w->bad ? 0 : (int64_t)v};
}

void words_copy(struct words *w, const char *name, char *out, size_t size)
{
    size_t length;
    const char *s = words_get(w, name, &length);
    if (length >= size || (s && memchr(s, '\0', length))) w->bad = true;
    if (w->bad || !s) {
        out[0] = '\0';
        return;
    }
    memcpy(out, s, length);
    out[length] = '\0';
}

void words_id(struct words *w, const char *name, struct id *out)
{
    words_copy(w, name, out->s, sizeof out->s);
    if (!id_valid_or_none(out->s, strlen(out->s))) w->bad = true;
}
