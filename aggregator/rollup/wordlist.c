#include "aggregator/rollup/wordlist.h"

#include "aggregator/rollup/memory.h"
#include "proto/text.h"

void wordlist_destroy(struct wordlist *w)
{
    free(w->bytes);
    free(w->end);
    *w = (struct wordlist){0};
}

void wordlist_reset(struct wordlist *w)
{
    w->length = w->count = 0;
}

char *wordlist_room(struct wordlist *w, size_t most)
{
    w->bytes = memory_grow(w->bytes, &w->capacity, w->length + most, 1);
    w->end = memory_grow(w->end, &w->end_capacity, w->count + 1, sizeof *w->end);
    return w->bytes + w->length;
}

void wordlist_commit(struct wordlist *w, size_t length)
{
    w->length += length;
    w->end[w->count++] = w->length;
}

void wordlist_add(struct wordlist *w, const char *p, size_t length)
{
    char *room = wordlist_room(w, length + 1);
    if (length) memcpy(room, p, length);
    wordlist_commit(w, length);
}

void wordlist_text(struct wordlist *w, const char *s)
{
    wordlist_add(w, s, strlen(s));
}

void wordlist_number(struct wordlist *w, uint64_t v)
{
    char *room = wordlist_room(w, TEXT_U64_BYTES_MAX);
    wordlist_commit(w, (size_t)(text_put_u64(room, v) - room));
}

void wordlist_patch(struct wordlist *w, size_t i, uint64_t v)
{
    size_t start = i ? w->end[i - 1] : 0;
    for (size_t at = w->end[i]; at > start; v /= 10) w->bytes[--at] = (char)('0' + v % 10);
}
