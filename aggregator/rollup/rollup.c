#include "aggregator/rollup/rollup.h"

#include <assert.h>

#include "aggregator/rollup/memory.h"
#include "aggregator/rollup/rollup_cell.h"
#include "proto/keys.h"
#include "proto/text.h"
#include "sandglass/limits.h"

void rollup_init(struct rollup *r, uint32_t shards, uint32_t partitions)
{
    assert(shards > 0 && shards <= SHARDS_MAX && partitions > 0 && partitions <= PARTITIONS_MAX);
    *r = (struct rollup){.shards = shards, .partitions = partitions, .chunk_cells = ROLLUP_CHUNK_CELLS};
    r->partition = memory_checked(calloc(partitions, sizeof *r->partition));
    r->queue = memory_checked(calloc(ROLLUP_QUEUE_MAX, sizeof *r->queue));
    r->queue_partition = memory_checked(calloc(ROLLUP_QUEUE_MAX, sizeof *r->queue_partition));
    cells_init(&r->cells, shards);
    r->digester.cells = &r->cells;
    for (uint32_t p = 0; p < partitions; p++) {
        r->partition[p].id = p;
        r->partition[p].seen = memory_checked(calloc(shards, sizeof *r->partition[p].seen));
        r->partition[p].vouched = memory_checked(calloc(shards, sizeof *r->partition[p].vouched));
    }
}

static void seen_forget(struct rollup_partition *p, uint32_t shard)
{
    struct rollup_seen *seen = &p->seen[shard];
    free(seen->text);
    vector_entry_destroy(&seen->entry);
    *seen = (struct rollup_seen){0};
    p->vouched[shard] = 0;
}

void rollup_destroy(struct rollup *r)
{
    for (uint32_t p = 0; p < r->partitions; p++) {
        for (uint32_t s = 0; s < r->shards; s++) seen_forget(&r->partition[p], s);
        free(r->partition[p].seen);
        free(r->partition[p].vouched);
        marks_destroy(&r->partition[p].marks);
    }
    for (size_t i = 0; r->queue && i < ROLLUP_QUEUE_MAX; i++) digest_destroy(&r->queue[i]);
    cells_destroy(&r->cells);
    digester_destroy(&r->digester);
    free(r->partition);
    free(r->queue);
    free(r->queue_partition);
    *r = (struct rollup){0};
}

/* ---- partitions and shards ---- */

void rollup_queue_drop(struct rollup *r)
{
    for (uint32_t p = 0; p < r->partitions; p++) r->partition[p].next = r->partition[p].position;
    r->queue_first = r->queue_count = r->queue_rows = 0;
}

void rollup_take(struct rollup *r, uint32_t partition)
{
    assert(partition < r->partitions);
    struct rollup_partition *p = &r->partition[partition];
    if (p->taken) return;
    p->taken = true;
    p->position = p->next = ROLLUP_NOWHERE;
    p->log_start = 0;
    p->heard.v = 0;
}

void rollup_drop(struct rollup *r, uint32_t partition)
{
    struct rollup_partition *p = &r->partition[partition];
    if (!p->taken) return;
    rollup_queue_drop(r);
    cells_forget(&r->cells, UINT32_MAX, partition);
    for (uint32_t s = 0; s < r->shards; s++) seen_forget(p, s);
    marks_clear(&p->marks);
    p->taken = false;
}

static bool knows_all(const struct rollup *r, const struct rollup_partition *p)
{
    for (uint32_t s = 0; s < r->shards; s++)
        if (!p->seen[s].known) return false;
    return true;
}

bool rollup_unknown(const struct rollup *r, uint32_t shard)
{
    for (uint32_t p = 0; p < r->partitions; p++)
        if (r->partition[p].taken && !r->partition[p].seen[shard].known) return true;
    return false;
}

bool rollup_ready(const struct rollup *r)
{
    for (uint32_t s = 0; s < r->shards; s++)
        if (rollup_unknown(r, s)) return false;
    return true;
}

void rollup_lost(struct rollup *r, uint32_t shard)
{
    rollup_queue_drop(r);
    cells_forget(&r->cells, shard, UINT32_MAX);
    for (uint32_t p = 0; p < r->partitions; p++) seen_forget(&r->partition[p], shard);
}

typedef enum sg_error load_field(struct marks *m, const char *field, size_t field_length, const char *text,
                                 size_t length);

static enum sg_error load_hash(struct marks *m, const struct wordlist *hash, load_field *load)
{
    enum sg_error e = SG_OK;
    for (size_t i = 0; !e && i + 1 < hash->count; i += 2) {
        size_t field_length, length;
        const char *field = wordlist_at(hash, i, &field_length), *text = wordlist_at(hash, i + 1, &length);
        e = load(m, field, field_length, text, length);
    }
    return e;
}

static enum sg_error know_marks(struct rollup_partition *p, const struct rollup_stored *stored, uint64_t vouched,
                                struct sg_fault *f)
{
    marks_clear(&p->marks);
    enum sg_error e = load_hash(&p->marks, stored->marks, marks_load);
    if (!e) e = load_hash(&p->marks, stored->caps, marks_load_capacity);
    if (e) return sg_fail(f, e, "the marks of partition %u cannot be read", p->id);
    e = marks_loaded(&p->marks, vouched);
    if (e) return sg_fail(f, e, "the marks of partition %u stand behind their vector: a damaged store", p->id);
    return SG_OK;
}

/* The position is where the shard furthest behind stands; what was heard is what all of them have heard. */
static void position_back(const struct rollup *r, struct rollup_partition *p, uint64_t offset)
{
    if (p->position == ROLLUP_NOWHERE || offset < p->position) p->position = offset;
    if (p->position < p->log_start) p->position = p->log_start;
    p->next = p->position;
    p->heard.v = INT64_MAX;
    for (uint32_t s = 0; s < r->shards; s++)
        if (p->seen[s].entry.heard.v < p->heard.v) p->heard = p->seen[s].entry.heard;
}

enum sg_error rollup_know(struct rollup *r, uint32_t shard, uint32_t partition, const struct rollup_stored *stored,
                          struct sg_fault *f)
{
    struct rollup_partition *p = &r->partition[partition];
    struct rollup_seen *seen = &p->seen[shard];
    assert(p->taken && r->queue_count == 0);
    if (seen->known) return SG_OK;
    enum sg_error e = SG_OK;
    if (stored->entry_length) e = vector_entry_decode(stored->entry, stored->entry_length, &seen->entry);
    if (e) return sg_fail(f, e, "the vector entry of partition %u in shard %u cannot be read", partition, shard);
    if (shard_home(partition, r->shards) == shard) e = know_marks(p, stored, seen->entry.offset, f);
    if (e) return e;
    free(seen->text);
    seen->text = memory_text(stored->entry, stored->entry_length);
    seen->known = true;
    p->vouched[shard] = seen->entry.offset;
    position_back(r, p, seen->entry.offset);
    return SG_OK;
}

/* A shard without an entry was restored: of the windows that were closed then it has what is below the stored marks. */
static uint64_t had_by(const struct rollup_partition *p, const struct rollup_seen *seen)
{
    return seen->text[0] ? seen->entry.offset : p->marks.stored;
}

/* How many of the offsets from had to start were not told yet. */
static uint64_t untold(const struct rollup_partition *p, uint64_t had, uint64_t start)
{
    uint64_t from = had > p->told_to ? had : p->told_to, count = 0;
    if (start > from) count += start - from;
    if (had < p->told_from) count += p->told_from - had;
    return count;
}

bool rollup_misses(const struct rollup *r, uint32_t partition, uint64_t start)
{
    const struct rollup_partition *p = &r->partition[partition];
    if (!p->taken || !knows_all(r, p)) return false;
    bool misses = p->position < start;
    for (uint32_t s = 0; s < r->shards; s++)
        misses |= !p->seen[s].judged && untold(p, had_by(p, &p->seen[s]), start) > 0;
    return misses;
}

uint64_t rollup_log_start(struct rollup *r, uint32_t partition, uint64_t start)
{
    struct rollup_partition *p = &r->partition[partition];
    uint64_t missed = 0;
    p->log_start = start;
    if (!p->taken || !knows_all(r, p)) return 0;
    for (uint32_t s = 0; s < r->shards; s++) {
        struct rollup_seen *seen = &p->seen[s];
        uint64_t had = had_by(p, seen);
        if (!seen->judged && had < start) {
            missed += untold(p, had, start);
            if (p->told_to == 0 || had < p->told_from) p->told_from = had;
            p->told_to = start; /* a log's start never falls */
        }
        seen->judged = true;
    }
    if (p->position >= start) return missed;
    rollup_queue_drop(r);
    p->position = p->next = start;
    return missed;
}

/* ---- batches ---- */

uint64_t rollup_next(const struct rollup *r, uint32_t partition)
{
    return r->partition[partition].next;
}

bool rollup_queue_full(const struct rollup *r)
{
    return r->queue_count == ROLLUP_QUEUE_MAX || r->queue_rows >= ROLLUP_QUEUE_ROWS_MAX;
}

void rollup_enqueue(struct rollup *r, uint32_t partition, uint64_t offset, struct wall_ms message_time,
                    const struct batch *b, const uint8_t *sha256)
{
    struct rollup_partition *p = &r->partition[partition];
    assert(p->taken && offset == p->next && r->queue_count < ROLLUP_QUEUE_MAX);
    struct digest *d = &r->queue[r->queue_count];
    struct digest_place place = {partition, offset, message_time, p->vouched};
    if (b) {
        digest_make(&r->digester, &place, b, d);
        memcpy(d->sha256, sha256, SHA256_BYTES);
    } else {
        digest_make_unreadable(&r->digester, &place, d);
    }
    r->queue_partition[r->queue_count++] = partition;
    r->queue_rows += d->rows;
    p->next++;
}

void rollup_heard(struct rollup *r, uint32_t partition, struct wall_ms now)
{
    struct rollup_partition *p = &r->partition[partition];
    if (p->taken && now.v > p->heard.v) p->heard = now;
}

/* ---- reading ---- */

void rollup_read_destroy(struct rollup_read *q)
{
    wordlist_destroy(&q->words);
    free(q->cell);
    *q = (struct rollup_read){0};
}

void rollup_cell_field(const struct cell *cell, struct wordlist *w)
{
    char *room = wordlist_room(w, 2 * TEXT_U64_BYTES_MAX + 1), *end = text_put_u64(room, cell->partition);
    if (cell->kind == CELL_RUN_HOUR) end = text_put_u64(text_put_str(end, ":"), (uint64_t)cell->start.v / SECOND_MS);
    wordlist_commit(w, (size_t)(end - room));
}

void rollup_cell_key(const struct cell *cell, struct wordlist *w)
{
    char key[KEY_BYTES_MAX];
    if (cell->kind == CELL_ROLLUP) {
        const struct group *g = cell->group;
        key_rollup(key, cell->shard, (enum window_kind)cell->window, cell->start, g->team.s, g->project.s, g->region.s);
    } else {
        key_id(key, cell->shard, "r", cell->sandbox);
    }
    wordlist_text(w, key);
}

static void read_add(struct rollup_read *reads, struct cell *cell)
{
    struct rollup_read *q = &reads[cell->shard];
    if (cell->read || cell->wanted || q->count == ROLLUP_READ_CELLS) return;
    q->cell = memory_grow(q->cell, &q->capacity, q->count + 1, sizeof *q->cell);
    q->cell[q->count++] = cell;
    cell->wanted = true;
    rollup_cell_key(cell, &q->words);
    rollup_cell_field(cell, &q->words);
}

bool rollup_own_hour(const struct digest *d, const struct digest_sandbox *s, const struct digest_hour *h)
{
    return wall_floor(digest_created(d, s, s->run->run), HOUR_MS).v != h->hour.v;
}

/* An hour has a cell of its own unless the run started in it, which is known once the run is read. */
static void read_hours(struct rollup *r, struct rollup_read *reads, struct digest *d, struct digest_sandbox *s)
{
    if (!s->run->read) return;
    for (uint32_t i = s->hours; i != DIGEST_NONE; i = d->hour[i].next) {
        struct digest_hour *h = &d->hour[i];
        if (!rollup_own_hour(d, s, h)) continue;
        if (!h->cell) h->cell = cells_run_hour(&r->cells, s->run, h->hour);
        read_add(reads, h->cell);
    }
}

bool rollup_needs(struct rollup *r, struct rollup_read *reads)
{
    bool any = false;
    for (uint32_t s = 0; s < r->shards; s++) {
        wordlist_reset(&reads[s].words);
        reads[s].count = 0;
        rollup_checks(r, s, &reads[s].words);
    }
    for (size_t q = r->queue_first; q < r->queue_count; q++) {
        struct digest *d = &r->queue[q];
        for (size_t i = 0; i < d->minute_count; i++)
            for (int w = 0; w < WINDOW_KINDS; w++) read_add(reads, d->minute[i].cell[w]);
        for (size_t i = 0; i < d->sandbox_count; i++) {
            read_add(reads, d->sandbox[i].run);
            read_hours(r, reads, d, &d->sandbox[i]);
        }
    }
    for (uint32_t s = 0; s < r->shards; s++) {
        for (size_t i = 0; i < reads[s].count; i++) reads[s].cell[i]->wanted = false;
        any |= reads[s].count > 0;
    }
    return any;
}

bool rollup_digest_ready(const struct digest *d)
{
    for (size_t i = 0; i < d->minute_count; i++)
        for (int w = 0; w < WINDOW_KINDS; w++)
            if (!d->minute[i].cell[w]->read) return false;
    for (size_t i = 0; i < d->sandbox_count; i++) {
        const struct digest_sandbox *s = &d->sandbox[i];
        if (!s->run->read) return false;
        for (uint32_t h = s->hours; h != DIGEST_NONE; h = d->hour[h].next)
            if (rollup_own_hour(d, s, &d->hour[h]) && !(d->hour[h].cell && d->hour[h].cell->read)) return false;
    }
    return true;
}

enum sg_error rollup_loaded(struct rollup *r, struct rollup_read *q, size_t i, const char *text, size_t length)
{
    assert(i < q->count);
    struct cell *cell = q->cell[i];
    cell->touched = r->flushes;
    return cells_load(&r->cells, cell, text, length, r->partition[cell->partition].vouched[cell->shard]);
}

void rollup_checks(const struct rollup *r, uint32_t shard, struct wordlist *w)
{
    uint64_t n = 0;
    for (uint32_t p = 0; p < r->partitions; p++) n += r->partition[p].taken;
    wordlist_number(w, n);
    for (uint32_t p = 0; p < r->partitions; p++) {
        if (!r->partition[p].taken) continue;
        assert(r->partition[p].seen[shard].known);
        wordlist_number(w, p);
        wordlist_text(w, r->partition[p].seen[shard].text);
    }
}
