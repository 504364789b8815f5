/* Encoding and decoding of batches, against what protobuf-c alone takes for the same bytes.
 *
 * Batches are made by the builder, as the collector makes them: a thousand sandboxes, most rows slices on the ten
 * second grid with the rises of counters, some lives that start and end, executions, API calls. Several different ones
 * are taken in turn, so that branch predictors do not learn them.
 *
 *     decode   batch_decode(): rows with every check          floor: protobuf-c's unpack into an arena of the same kind
 *     seal     batch_builder_seal() of rows appended before   floor: protobuf-c's pack of the unpacked message
 *     append   the rows' way into the builder, with the benchmark's own making-up of them  (no floor)
 *     chain    SHA-256 of the sealed bytes                    (no floor: it is one) */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch.pb-c.h"
#include "bench/measure.h"
#include "proto/batch.h"

enum { ROUNDS = 21, ROUND_ROWS = 1 << 20, VARIANTS = 4, SANDBOXES = 1000, TEXT_BYTES = 48 };
enum { ARENA_BYTES = 16 << 20, ARENA_ALIGN = 16 };
static const int64_t BEGIN_MS = INT64_C(1760000040000);

/* ---- the same numbers in every run ---- */

static uint64_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

/* ---- batches ---- */

/* The dictionary's indexes, and where each sandbox's next slice starts. */
struct fleet {
    struct batch_builder *rows;
    uint32_t index[SANDBOXES];
    int64_t open_ms[SANDBOXES];
    uint64_t random;
};

static void must(enum sg_error e)
{
    if (e) {
        fprintf(stderr, "codec: %s\n", sg_error_text(e));
        exit(EXIT_FAILURE);
    }
}

static void add_sandboxes(struct fleet *f)
{
    for (unsigned i = 0; i < SANDBOXES; i++) {
        char id[TEXT_BYTES], team[TEXT_BYTES], project[TEXT_BYTES];
        snprintf(id, sizeof id, "sbx-%08llx%04x", (unsigned long long)next_random(&f->random), i);
        snprintf(team, sizeof team, "team-%u", i % 40);
        snprintf(project, sizeof project, "proj-%u", i % 3);
        uint32_t vcpus = 1u << next_random(&f->random) % 4;
        struct batch_sandbox s = {id, team, project, vcpus, vcpus * 2048, vcpus * 4096};
        must(batch_builder_sandbox(f->rows, &s, &f->index[i]));
        f->open_ms[i] = BEGIN_MS + (int64_t)(next_random(&f->random) % 60000);
    }
}

static void add_slice(struct fleet *f, size_t at)
{
    int64_t start = f->open_ms[at], end = start - start % 10000 + 10000;
    uint64_t ms = (uint64_t)(end - start), r = next_random(&f->random);
    struct batch_rise rise = {.cpu_us = ms * (r % 900), .mem_bytes = (UINT64_C(100) << 20) + (r % 4096) * 65536};
    if (r % 2) rise.net_rx_bytes = r % 1000000, rise.net_tx_bytes = r % 100000;
    if (r % 5 == 0) rise.io_read_bytes = r % 5000000, rise.io_write_bytes = r % 9000000;
    must(batch_builder_slice(f->rows, f->index[at], (struct wall_ms){start}, (uint32_t)ms, &rise));
    f->open_ms[at] = end;
}

static void add_row(struct fleet *f)
{
    uint64_t r = next_random(&f->random);
    size_t at = next_random(&f->random) % SANDBOXES;
    struct wall_ms now = {f->open_ms[at]};
    uint32_t sandbox = f->index[at];
    switch (r % 20) {
    case 0: must(batch_builder_start(f->rows, sandbox, now, 1 + (uint32_t)(r / 32 % 3), 20 + r % 400)); break;
    case 1: must(batch_builder_end(f->rows, sandbox, now, (enum reason)(r / 32 % REASONS), r << 10)); break;
    case 2: must(batch_builder_exec(f->rows, sandbox, now, r / 32 % 8 ? 0 : 1, r % 60000)); break;
    case 3: {
        char team[TEXT_BYTES];
        snprintf(team, sizeof team, "team-%u", (unsigned)(at % 40));
        must(batch_builder_api_call(f->rows, team, "-", now, (enum operation)(r / 32 % OPERATIONS), 200));
        break;
    }
    default: add_slice(f, at); break;
    }
}

static void add_rows(struct fleet *f, size_t rows)
{
    add_sandboxes(f);
    while (batch_builder_rows(f->rows) < rows) add_row(f);
}

static void seal(struct fleet *f, const uint8_t **bytes, size_t *length)
{
    static const uint8_t previous[SHA256_BYTES] = {1};
    struct batch_head head = {.runner = "r1",
                              .region = "eu",
                              .epoch = 1,
                              .seq = 2,
                              .previous_sha256 = previous,
                              .complete_through = {BEGIN_MS},
                              .totals = {1u << 30, 1u << 30, 1u << 30, 1u << 30, 1u << 20, 0}};
    must(batch_builder_seal(f->rows, &head, bytes, length));
}

/* ---- what is measured ---- */

struct arena {
    uint8_t *bytes;
    size_t used;
};

static void *arena_alloc(void *arg, size_t size)
{
    struct arena *a = arg;
    size_t rounded = (size + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    if (rounded > ARENA_BYTES - a->used) return NULL;
    void *p = a->bytes + a->used;
    a->used += rounded;
    return p;
}

static void arena_free(void *arg, void *p)
{
    (void)arg;
    (void)p;
}

struct bench {
    struct fleet fleet;
    struct batch_decoder decoder;
    struct arena arena;
    ProtobufCAllocator allocator;
    uint8_t *sealed[VARIANTS], *packed;
    size_t length[VARIANTS], rows;
    struct measure unpack, decode, pack, seal, append, chain;
};

static void bench_init(struct bench *b, size_t rows)
{
    *b = (struct bench){.rows = rows,
                        .unpack = {.name = "protobuf-c unpack", .unit = "rows"},
                        .pack = {.name = "protobuf-c pack", .unit = "rows"}};
    b->fleet.rows = batch_builder_new();
    b->arena.bytes = malloc(ARENA_BYTES);
    b->packed = malloc(BATCH_BYTES_MAX);
    must(b->fleet.rows && b->arena.bytes && b->packed ? SG_OK : SG_ERR_NOMEM);
    must(batch_decoder_init(&b->decoder));
    b->allocator = (ProtobufCAllocator){arena_alloc, arena_free, &b->arena};
    for (size_t i = 0; i < VARIANTS; i++) {
        const uint8_t *bytes;
        b->fleet.random = i + 1;
        add_rows(&b->fleet, rows);
        seal(&b->fleet, &bytes, &b->length[i]);
        b->sealed[i] = malloc(b->length[i]);
        must(b->sealed[i] ? SG_OK : SG_ERR_NOMEM);
        memcpy(b->sealed[i], bytes, b->length[i]);
    }
}

static void bench_destroy(struct bench *b)
{
    for (size_t i = 0; i < VARIANTS; i++) free(b->sealed[i]);
    batch_builder_free(b->fleet.rows);
    batch_decoder_destroy(&b->decoder);
    free(b->arena.bytes);
    free(b->packed);
}

static Sandglass__V1__Batch *unpack(struct bench *b, size_t variant)
{
    b->arena.used = 0;
    Sandglass__V1__Batch *m = sandglass__v1__batch__unpack(&b->allocator, b->length[variant], b->sealed[variant]);
    must(m ? SG_OK : SG_ERR_MALFORMED);
    return m;
}

static void round_of_reading(struct bench *b, size_t batches)
{
    uint64_t rows = 0, began = measure_cpu_ns();
    for (size_t i = 0; i < batches; i++) rows += unpack(b, i % VARIANTS)->slices->n_sandbox > 0 ? b->rows : 0;
    measure_add(&b->unpack, rows, measure_cpu_ns() - began);
    rows = 0;
    began = measure_cpu_ns();
    for (size_t i = 0; i < batches; i++) {
        struct batch out;
        struct sg_fault f = {0};
        must(batch_decode(&b->decoder, b->sealed[i % VARIANTS], b->length[i % VARIANTS], &out, &f));
        rows += batch_row_count(&out);
    }
    measure_add(&b->decode, rows, measure_cpu_ns() - began);
}

static void round_of_writing(struct bench *b, size_t batches)
{
    uint64_t append_ns = 0, seal_ns = 0, chain_ns = 0, pack_ns = 0;
    for (size_t i = 0; i < batches; i++) {
        const uint8_t *bytes;
        uint8_t sha256[SHA256_BYTES];
        size_t length;
        b->fleet.random = i % VARIANTS + 1;
        uint64_t began = measure_cpu_ns();
        add_rows(&b->fleet, b->rows);
        uint64_t appended = measure_cpu_ns();
        seal(&b->fleet, &bytes, &length);
        uint64_t sealed = measure_cpu_ns();
        batch_sha256(bytes, length, sha256);
        uint64_t chained = measure_cpu_ns();
        append_ns += appended - began, seal_ns += sealed - appended, chain_ns += chained - sealed;
        const Sandglass__V1__Batch *m = unpack(b, i % VARIANTS);
        began = measure_cpu_ns();
        size_t size = sandglass__v1__batch__get_packed_size(m);
        assert(size == length);
        size = sandglass__v1__batch__pack(m, b->packed);
        pack_ns += measure_cpu_ns() - began;
        assert(size == length && memcmp(b->packed, bytes, length) == 0);
    }
    uint64_t rows = batches * b->rows;
    measure_add(&b->append, rows, append_ns);
    measure_add(&b->seal, rows, seal_ns);
    measure_add(&b->chain, rows, chain_ns);
    measure_add(&b->pack, rows, pack_ns);
}

static void run(size_t rows)
{
    char name[4][TEXT_BYTES];
    static const char *const what[] = {"decode", "seal", "append", "chain"};
    struct bench b;
    bench_init(&b, rows);
    for (size_t i = 0; i < 4; i++) snprintf(name[i], sizeof name[i], "%s %zu rows", what[i], rows);
    b.decode = (struct measure){.name = name[0], .unit = "rows"};
    b.seal = (struct measure){.name = name[1], .unit = "rows"};
    b.append = (struct measure){.name = name[2], .unit = "rows"};
    b.chain = (struct measure){.name = name[3], .unit = "rows"};
    for (size_t i = 0; i < ROUNDS; i++) {
        round_of_reading(&b, ROUND_ROWS / rows);
        round_of_writing(&b, ROUND_ROWS / rows / 4);
    }
    measure_print("codec", &b.decode, "cpu_s", &b.unpack);
    measure_print("codec", &b.seal, "cpu_s", &b.pack);
    measure_print("codec", &b.append, "cpu_s", NULL);
    measure_print("codec", &b.chain, "cpu_s", NULL);
    bench_destroy(&b);
}

int main(void)
{
    run(4096);
    run(16384);
    return EXIT_SUCCESS;
}
