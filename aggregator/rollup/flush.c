/* What a flush writes: dirty cells with their indexes, then gaps, capacities, marks, then the vector (rollup.h).
 *
 * CHUNKS  Between two chunks of a flush the shard may go back to before the first and still have the vector that was
 * last seen; and a chunk of somebody else's flush, which was under way when the partition changed hands, may arrive and
 * bring cells back to what they were. So every chunk but the last leaves a token that names this flush and its own
 * number, at each partition of the writer: its next one, and theirs, must find their own at all of their partitions,
 * whichever others two writers have. A chunk may be cut in the middle: it overwrites whatever tokens stand there before
 * it changes a cell, and leaves its own behind its last one.
 *
 * MEMORY  Redis without memory refuses a script at its first command that could take some; behind another write, a
 * delete, it lets all of them pass (SCRIPT_WRITE_DIRTY). So a chunk begins with a HSET.
 *
 * A command is its number of words, then the words. Beside Redis' own there are two of our script's: ALIVE and ENDED
 * keep the indexes of runs, TRIM takes index members whose key has expired (scripts.h). */
#include <assert.h>

#include "aggregator/rollup/memory.h"
#include "aggregator/rollup/rollup.h"
#include "aggregator/rollup/rollup_cell.h"
#include "proto/keys.h"
#include "proto/text.h"

enum { DROPPED_MAX = 1000 }; /* duplicates of one command: Lua's stack bounds it */

void rollup_flush_destroy(struct rollup_flush *f)
{
    for (uint32_t p = 0; f->entry && p < f->partitions; p++) vector_entry_destroy(&f->entry[p]);
    free(f->entry);
    free(f->moves);
    wordlist_destroy(&f->words);
    *f = (struct rollup_flush){0};
}

/* ---- what the vector will say ---- */

/* Below the marks, which tell of all runners at once, the entry holds back what it held back before, or everything, and
 * what every batch since then held back. */
static void entry_make(const struct rollup_partition *p, const struct rollup_seen *seen, struct vector_entry *e)
{
    e->offset = p->position;
    e->pair_count = 0;
    if (p->position >= p->marks.at) {
        e->heard = p->heard;
        marks_staircase(&p->marks, e);
        return;
    }
    e->heard = seen->entry.heard;
    for (size_t i = 0; i < seen->entry.pair_count; i++) memory_sufficed(vector_entry_add(e, seen->entry.pair[i]));
    if (seen->entry.pair_count == 0) memory_sufficed(vector_entry_add(e, (struct vector_pair){{1}, e->heard}));
    memory_sufficed(vector_entry_add(e, (struct vector_pair){seen->held, e->heard}));
}

/* An entry appears once something is known: a message, or that the log is empty. */
static bool entry_moves(const struct rollup_partition *p, const struct rollup_seen *seen)
{
    if (p->position > seen->entry.offset) return true;
    if (p->position < seen->entry.offset || p->position < p->marks.at) return false;
    return p->heard.v >= seen->entry.heard.v + (seen->text[0] ? ROLLUP_HEARD_REFRESH_MS : 1);
}

bool rollup_flush_begin(struct rollup *r, uint32_t shard, struct rollup_flush *f)
{
    bool any = false;
    if (!f->entry) {
        f->entry = memory_checked(calloc(r->partitions, sizeof *f->entry));
        f->moves = memory_checked(calloc(r->partitions, sizeof *f->moves));
        f->partitions = r->partitions;
    }
    f->shard = shard;
    f->next_cell = 0;
    f->chunks = 0;
    f->last = false;
    for (uint32_t i = 0; i < r->partitions; i++) {
        const struct rollup_partition *p = &r->partition[i];
        assert(!p->taken || p->seen[shard].known);
        f->moves[i] = p->taken && entry_moves(p, &p->seen[shard]);
        if (f->moves[i]) entry_make(p, &p->seen[shard], &f->entry[i]);
        any |= f->moves[i];
    }
    return f->active = any;
}

/* ---- commands ---- */

static void command(struct wordlist *w, uint64_t count, const char *name)
{
    wordlist_number(w, count);
    wordlist_text(w, name);
}

static void put_cell_text(struct wordlist *w, const struct cell *cell)
{
    if (cell->kind == CELL_RUN) {
        char *room = wordlist_room(w, RUN_CELL_BYTES_MAX);
        wordlist_commit(w, run_cell_encode(cell->offset, cell->run, room));
    } else {
        char *room = wordlist_room(w, cell_encoded_bytes_max(&cell->sums));
        wordlist_commit(w, cell_encode(cell->offset, &cell->sums, room));
    }
}

/* HSET key field text, and EXPIREAT unless that is stored already. */
static void put_cell(struct wordlist *w, const struct cell *cell)
{
    int64_t expiry_s = cells_expiry_s(cell);
    command(w, 4, "HSET");
    rollup_cell_key(cell, w);
    rollup_cell_field(cell, w);
    put_cell_text(w, cell);
    if (expiry_s == 0 || expiry_s == cell->expiry_s) return;
    command(w, 3, "EXPIREAT");
    rollup_cell_key(cell, w);
    wordlist_number(w, (uint64_t)expiry_s);
}

static void put_rollup_index(struct wordlist *w, const struct cell *cell)
{
    char key[KEY_BYTES_MAX], member[KEY_BYTES_MAX];
    const struct group *g = cell->group;
    key_rollup_index(key, cell->shard, (enum window_kind)cell->window, g->team.s);
    key_rollup_member(member, cell->start, g->project.s, g->region.s);
    command(w, 4, "ZADD");
    wordlist_text(w, key);
    wordlist_number(w, (uint64_t)cell->start.v / SECOND_MS);
    wordlist_text(w, member);
    if (cell->window != WINDOW_MINUTE) return;
    command(w, 4, "TRIM");
    wordlist_text(w, key);
    key_plain(key, cell->shard, "u:m:");
    wordlist_text(w, key);
    wordlist_text(w, g->team.s);
}

/* due: <team>:<hour>:<p>; arch: <w>:<start>:<team>:<project>:<region>:<p>. */
static void put_changed(struct wordlist *w, const struct cell *cell)
{
    char key[KEY_BYTES_MAX];
    const struct group *g = cell->group;
    uint64_t start = (uint64_t)cell->start.v / SECOND_MS;
    if (cell->window == WINDOW_HOUR) {
        command(w, 4, "HSET");
        key_plain(key, cell->shard, "due");
        wordlist_text(w, key);
        char *room = wordlist_room(w, KEY_BYTES_MAX);
        char *end = text_put_u64(text_put_str(text_put_str(room, g->team.s), ":"), start);
        end = text_put_u64(text_put_str(end, ":"), cell->partition);
        wordlist_commit(w, (size_t)(end - room));
        wordlist_number(w, cell->offset);
    }
    command(w, 4, "HSET");
    key_plain(key, cell->shard, "arch");
    wordlist_text(w, key);
    char *room = wordlist_room(w, KEY_BYTES_MAX + TEXT_U64_BYTES_MAX),
         letter[] = {window_letter((enum window_kind)cell->window), 0};
    char *end = text_put_str(text_put_u64(text_put_str(text_put_str(room, letter), ":"), start), ":");
    end = text_put_str(text_put_str(end, g->team.s), ":");
    end = text_put_str(text_put_str(end, g->project.s), ":");
    end = text_put_str(text_put_str(end, g->region.s), ":");
    wordlist_commit(w, (size_t)(text_put_u64(end, cell->partition) - room));
    wordlist_number(w, cell->offset);
}

static void put_rollup(struct wordlist *w, const struct cell *cell)
{
    put_cell(w, cell);
    if (!cell->indexed) put_rollup_index(w, cell);
    if (cell->window != WINDOW_MINUTE) put_changed(w, cell);
}

/* ENDED run ra re sandbox ended / ALIVE ra re sandbox created, both with the prefix of the runs' keys to trim by. */
static void put_run(struct wordlist *w, const struct cell *cell)
{
    char key[KEY_BYTES_MAX];
    const struct run *run = cell->run;
    bool ended = run->state == RUN_ENDED;
    put_cell(w, cell);
    if (!ended && cell->indexed && !cell->reborn) return;
    command(w, 7, ended ? "ENDED" : "ALIVE");
    key_id(key, cell->shard, "ra", run->team.s);
    wordlist_text(w, key);
    key_id(key, cell->shard, "re", run->team.s);
    wordlist_text(w, key);
    wordlist_text(w, cell->sandbox);
    wordlist_number(w, (uint64_t)(ended ? run->ended.v : run->created.v));
    key_plain(key, cell->shard, "r:");
    wordlist_text(w, key);
    rollup_cell_key(cell, w);
}

static void (*const put_kind[])(struct wordlist *, const struct cell *) = {
    [CELL_ROLLUP] = put_rollup,
    [CELL_RUN] = put_run,
    [CELL_RUN_HOUR] = put_cell,
};

/* ---- marks ---- */

static void put_mark(struct wordlist *w, const struct marks_runner *m)
{
    char field[MARK_FIELD_BYTES_MAX];
    wordlist_add(w, field, mark_field_encode(m->runner.s, m->epoch, field));
    char *room = wordlist_room(w, MARK_BYTES_MAX);
    wordlist_commit(w, mark_encode(&m->mark, room));
}

static void put_duplicate(struct wordlist *w, uint64_t offset)
{
    char *room = wordlist_room(w, 2 + TEXT_U64_BYTES_MAX);
    wordlist_commit(w, (size_t)(text_put_u64(text_put_str(room, "d:"), offset) - room));
    wordlist_text(w, "");
}

/* What changed, in one command: stored marks are those of one offset. */
static void put_marks_changed(struct wordlist *w, const struct marks *m, const char *key)
{
    size_t pairs = 1;
    size_t first = marks_duplicates_below(m, m->stored);
    for (size_t i = 0; i < m->runner_count; i++) pairs += m->runner[i].changed > m->stored;
    pairs += m->duplicate_count - first;
    command(w, 2 + 2 * pairs, "HSET");
    wordlist_text(w, key);
    wordlist_text(w, "at");
    wordlist_number(w, m->at);
    for (size_t i = 0; i < m->runner_count; i++)
        if (m->runner[i].changed > m->stored) put_mark(w, &m->runner[i]);
    for (size_t i = first; i < m->duplicate_count; i++) put_duplicate(w, m->duplicate[i]);
}

static void put_gap(struct wordlist *w, const struct marks_gap *g, const char *key)
{
    command(w, 4, "HSET");
    wordlist_text(w, key);
    char *room = wordlist_room(w, 2 * TEXT_U64_BYTES_MAX + 1);
    wordlist_commit(w, (size_t)(text_put_u64(text_put_str(text_put_u64(room, g->offset), ":"), g->index) - room));
    room = wordlist_room(w, GAP_BYTES_MAX);
    wordlist_commit(w, gap_encode(&g->gap, room));
}

static void put_capacity(struct wordlist *w, const struct marks_capacity *c, const char *key)
{
    command(w, c->dropped ? 3 : 4, c->dropped ? "HDEL" : "HSET");
    wordlist_text(w, key);
    char *room = wordlist_room(w, KEY_BYTES_MAX), *end = text_put_str(room, c->runner.s);
    if (c->hour.v) end = text_put_u64(text_put_str(end, ":"), (uint64_t)c->hour.v / SECOND_MS);
    wordlist_commit(w, (size_t)(end - room));
    if (c->dropped) return;
    room = wordlist_room(w, CAPACITY_BYTES_MAX);
    wordlist_commit(w, capacity_encode(&c->capacity, room));
}

/* Duplicates whose offsets the log does not have any more. */
static void put_duplicates_dropped(struct wordlist *w, const struct rollup_partition *p, const char *key)
{
    size_t count = marks_duplicates_below(&p->marks, p->log_start);
    if (count > DROPPED_MAX) count = DROPPED_MAX;
    if (count == 0) return;
    command(w, 2 + count, "HDEL");
    wordlist_text(w, key);
    for (size_t i = 0; i < count; i++) {
        char *room = wordlist_room(w, 2 + TEXT_U64_BYTES_MAX);
        wordlist_commit(w, (size_t)(text_put_u64(text_put_str(room, "d:"), p->marks.duplicate[i]) - room));
    }
}

static void put_home(struct wordlist *w, const struct rollup_partition *p, uint32_t shard)
{
    char key[KEY_BYTES_MAX];
    const struct marks *m = &p->marks;
    if (m->at == m->stored) return;
    key_partition(key, shard, "gaps", p->id);
    for (size_t i = 0; i < m->gap_count; i++) put_gap(w, &m->gap[i], key);
    key_partition(key, shard, "cap", p->id);
    for (size_t i = 0; i < m->capacity_count; i++)
        if (m->capacity[i].changed || m->capacity[i].dropped) put_capacity(w, &m->capacity[i], key);
    key_partition(key, shard, "marks", p->id);
    put_marks_changed(w, m, key);
    put_duplicates_dropped(w, p, key);
}

/* ---- the token ---- */

/* BEGUN: in the place of whatever stands there, whoever left it, before a cell changes. It is no token. */
enum tokens { TOKENS_BEGUN, TOKENS_LEFT, TOKENS_GONE };

/* <nonce>:<flush>:<chunks written> */
static void put_token(const struct rollup *r, const struct rollup_flush *f, struct wordlist *w)
{
    char *room = wordlist_room(w, 3 * TEXT_U64_BYTES_MAX + 2);
    char *end = text_put_str(text_put_u64(room, r->nonce), ":");
    end = text_put_str(text_put_u64(end, r->flushes), ":");
    wordlist_commit(w, (size_t)(text_put_u64(end, f->chunks) - room));
}

static uint32_t taken_count(const struct rollup *r)
{
    uint32_t count = 0;
    for (uint32_t p = 0; p < r->partitions; p++) count += r->partition[p].taken;
    return count;
}

/* At every partition of the writer. */
static void put_tokens(const struct rollup *r, struct rollup_flush *f, enum tokens what)
{
    char key[KEY_BYTES_MAX];
    struct wordlist *w = &f->words;
    key_plain(key, f->shard, "flush");
    command(w, 2 + (what == TOKENS_GONE ? 1 : 2) * taken_count(r), what == TOKENS_GONE ? "HDEL" : "HSET");
    wordlist_text(w, key);
    for (uint32_t p = 0; p < r->partitions; p++) {
        if (!r->partition[p].taken) continue;
        wordlist_number(w, p);
        if (what == TOKENS_BEGUN) wordlist_text(w, "-");
        if (what == TOKENS_LEFT) put_token(r, f, w);
    }
}

/* The token stands at every partition. */
static void put_token_checks(const struct rollup *r, const struct rollup_flush *f, struct wordlist *w)
{
    char key[KEY_BYTES_MAX];
    key_plain(key, f->shard, "flush");
    for (uint32_t p = 0; p < r->partitions; p++) {
        if (!r->partition[p].taken) continue;
        wordlist_text(w, key);
        wordlist_number(w, p);
        put_token(r, f, w);
    }
}

/* What a chunk must find: k, then k times (key, field, text or ""): the token, and the marks that changes are changes
 * of. */
static void put_found_checks(const struct rollup *r, const struct rollup_flush *f, struct wordlist *w)
{
    char key[KEY_BYTES_MAX];
    uint32_t shard = f->shard;
    uint64_t count = f->chunks > 0 ? taken_count(r) : 0;
    for (uint32_t p = shard; p < r->partitions; p += r->shards) count += r->partition[p].taken;
    wordlist_number(w, count);
    if (f->chunks > 0) put_token_checks(r, f, w);
    for (uint32_t p = shard; p < r->partitions; p += r->shards) {
        const struct marks *m = &r->partition[p].marks;
        if (!r->partition[p].taken) continue;
        assert(shard_home(p, r->shards) == shard);
        key_partition(key, shard, "marks", p);
        wordlist_text(w, key);
        wordlist_text(w, "at");
        if (m->present)
            wordlist_number(w, m->stored);
        else
            wordlist_text(w, "");
    }
}

/* ---- chunks ---- */

static void put_vector(const struct rollup *r, struct rollup_flush *f)
{
    char key[KEY_BYTES_MAX];
    uint64_t count = 0;
    for (uint32_t p = 0; p < r->partitions; p++) count += f->moves[p];
    command(&f->words, 2 + 2 * count, "HSET");
    key_plain(key, f->shard, "v");
    wordlist_text(&f->words, key);
    for (uint32_t p = 0; p < r->partitions; p++) {
        if (!f->moves[p]) continue;
        wordlist_number(&f->words, p);
        char *room = wordlist_room(&f->words, vector_entry_bytes_max(&f->entry[p]));
        wordlist_commit(&f->words, vector_entry_encode(&f->entry[p], room));
    }
}

void rollup_flush_chunk(struct rollup *r, struct rollup_flush *f)
{
    const struct cell_list *dirty = &r->cells.dirty[f->shard];
    size_t end = f->next_cell + r->chunk_cells;
    assert(f->active && !f->last);
    if (end > dirty->count) end = dirty->count;
    wordlist_reset(&f->words);
    rollup_checks(r, f->shard, &f->words);
    put_found_checks(r, f, &f->words);
    put_tokens(r, f, TOKENS_BEGUN);
    for (; f->next_cell < end; f->next_cell++) {
        const struct cell *cell = dirty->cell[f->next_cell];
        put_kind[cell->kind](&f->words, cell);
    }
    f->last = f->next_cell == dirty->count;
    f->chunks++;
    put_tokens(r, f, f->last ? TOKENS_GONE : TOKENS_LEFT);
    if (!f->last) return;
    for (uint32_t p = 0; p < r->partitions; p++)
        if (r->partition[p].taken && shard_home(p, r->shards) == f->shard)
            put_home(&f->words, &r->partition[p], f->shard);
    put_vector(r, f);
}

static void seen_moved(struct rollup_seen *seen, struct vector_entry *entry)
{
    char *text = memory_checked(malloc(vector_entry_bytes_max(entry) + 1));
    text[vector_entry_encode(entry, text)] = '\0';
    free(seen->text);
    seen->text = text;
    struct vector_entry old = seen->entry;
    seen->entry = *entry;
    seen->held.v = 0;
    *entry = old;
}

bool rollup_flush_ok(struct rollup *r, struct rollup_flush *f)
{
    if (!f->last) return true;
    uint64_t *vouched = memory_checked(calloc(r->partitions, sizeof *vouched));
    for (uint32_t i = 0; i < r->partitions; i++) {
        struct rollup_partition *p = &r->partition[i];
        if (!p->taken) continue;
        if (f->moves[i]) seen_moved(&p->seen[f->shard], &f->entry[i]);
        vouched[i] = p->vouched[f->shard] = p->seen[f->shard].entry.offset;
        if (shard_home(i, r->shards) == f->shard) marks_stored(&p->marks, p->log_start, DROPPED_MAX);
    }
    cells_vouched(&r->cells, f->shard, vouched);
    free(vouched);
    f->active = false;
    return false;
}

size_t rollup_dirty(const struct rollup *r)
{
    size_t count = 0;
    for (uint32_t s = 0; s < r->shards; s++) count += r->cells.dirty[s].count;
    return count;
}

bool rollup_flush_due(const struct rollup *r)
{
    if (rollup_dirty(r) >= ROLLUP_DIRTY_MAX) return true;
    for (uint32_t p = 0; p < r->partitions; p++)
        if (r->partition[p].taken && marks_changed(&r->partition[p].marks) >= MARKS_CHANGED_MAX) return true;
    return false;
}
