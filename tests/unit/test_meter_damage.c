/* The meter's state as a disk could give it: numbers written by hand after proto/meter_state.md, one of them wrong. */
#include "tests/unit/meter_fixture.h"

struct token {
    const char *name;
    enum { NUMBER, SIGNED, TEXT } kind;
    uint64_t number;
    const char *text;
};

#define N(name, value)                                                                                                 \
    {                                                                                                                  \
        name, NUMBER, (value), NULL                                                                                    \
    }
#define S(name, value)                                                                                                 \
    {                                                                                                                  \
        name, SIGNED, (uint64_t)(value), NULL                                                                          \
    }
#define T(name, value)                                                                                                 \
    {                                                                                                                  \
        name, TEXT, 0, (value)                                                                                         \
    }

#define RUNNER                                                                                                         \
    N("version", 1), N("kind", 1), S("complete_through_ms", NOON), N("vcpu_ms", 4), N("mem_mib_ms", 5),                \
        N("disk_mib_ms", 6), N("running_ms", 7), N("events", 8), N("refused", 9), N("late_events", 10), N("gaps", 11), \
        N("saturated", 0), N("capacity_known", 1), N("vcpus_total", 12), N("mem_mib_total", 13),                       \
        N("disk_mib_total", 14), N("warm", 15)
#define SOURCE(index, name)                                                                                            \
    N("index of " name, index), T(name, name), T("boot_id of " name, "b1"), N("n of " name, 7),                        \
        N("newest_ms of " name, 1000), N("closed_ms of " name, 900), N("alive_ms of " name, 0),                        \
        N("greeted_ms of " name, 0), S("offset_ms of " name, NOON), S("target_ms of " name, NOON),                     \
        N("slewed_ms of " name, 0)
#define COUNTER N("last", 1), N("sampled_last", 2)
#define CHANGING(id, state)                                                                                            \
    N("state of " id, state), N("open_ms of " id, 950), N("proven_ms of " id, 0), N("mem_peak_bytes of " id, 3),       \
        N("known of " id, 31), N("carried of " id, 1), N("sampled of " id, 2), COUNTER, COUNTER, COUNTER, COUNTER,     \
        COUNTER
#define WHOLE(id, source, state)                                                                                       \
    N("entry of " id, 1), T(id, id), T("team of " id, "t"), T("project of " id, "p"), T("cgroup of " id, "cg"),        \
        T("tap of " id, ""), N("source of " id, source), N("vcpus of " id, 2), N("mem_mib of " id, 10),                \
        N("disk_mib of " id, 100), CHANGING(id, state)

/* Two sources, a sandbox of each; the second is hibernated. */
static const struct token snapshot[] = {RUNNER,          N("sources", 2),     SOURCE(3, "s1"),    SOURCE(5, "s2"),
                                        N("entries", 2), WHOLE("run1", 3, 0), WHOLE("run2", 5, 1)};

/* run1 is gone, run2 runs, run3 is new. */
static const struct token delta[] = {
    RUNNER,          N("sources", 1),       SOURCE(3, "s1"),   N("removed", 1),     T("run1", "run1"),
    N("entries", 2), N("entry of run2", 2), T("run2", "run2"), CHANGING("run2", 0), WHOLE("run3", 3, 0)};

enum { SNAPSHOT_TOKENS = sizeof snapshot / sizeof *snapshot, DELTA_TOKENS = sizeof delta / sizeof *delta };

struct bytes {
    uint8_t b[4096];
    size_t length;
};

static void put_number(struct bytes *out, uint64_t v)
{
    for (; v > 127; v >>= 7) out->b[out->length++] = (uint8_t)(v | 128);
    out->b[out->length++] = (uint8_t)v;
}

static void put(struct bytes *out, const struct token *t)
{
    if (t->kind == TEXT) {
        put_number(out, strlen(t->text));
        memcpy(out->b + out->length, t->text, strlen(t->text));
        out->length += strlen(t->text);
    } else
        put_number(out, t->kind == NUMBER ? t->number : t->number << 1 ^ (uint64_t)((int64_t)t->number >> 63));
}

/* The tokens, with another in the place of that of its name; NULL: as they are. */
static void encode(struct bytes *out, const struct token *tokens, size_t count, const struct token *other)
{
    bool found = !other;
    out->length = 0;
    for (size_t i = 0; i < count; i++) {
        bool this = !found && strcmp(tokens[i].name, other->name) == 0;
        put(out, this ? other : &tokens[i]);
        found |= this;
    }
    cr_assert(found, "%s", other ? other->name : "");
}

static enum sg_error load(struct meter *m, const struct bytes *b, struct sg_fault *f)
{
    return meter_load(m, b->b, b->length, f);
}

/* A meter with the snapshot as it is. */
static struct meter *loaded(void)
{
    struct meter *m = new_meter(METER_CLOCK_EVENT);
    struct bytes b;
    struct sg_fault f = {0};
    encode(&b, snapshot, SNAPSHOT_TOKENS, NULL);
    cr_assert_eq(load(m, &b, &f), SG_OK, "%s", f.text);
    return m;
}

static const char long_text[] =
    "gggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggg"
    "gggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggg"
    "ggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggg";

/* Each is out of its range, and nothing else is wrong. */
#define WRONG_HEAD                                                                                                     \
    N("kind", 0), N("kind", 3), S("complete_through_ms", -1), S("complete_through_ms", WALL_MS_MAX + 1),               \
        N("saturated", 2), N("capacity_known", 2), N("vcpus_total", COUNTER_MAX + 1), N("warm", COUNTER_MAX + 1),      \
        N("sources", 17), N("sources", 3), N("index of s1", 16), T("s1", ""), T("s1", "a b"), T("boot_id of s1", "-"), \
        N("n of s1", COUNTER_MAX + 1), N("newest_ms of s1", COUNTER_MAX + 1), N("closed_ms of s1", UINT64_C(1) << 63), \
        N("alive_ms of s1", UINT64_C(1) << 63), N("greeted_ms of s1", COUNTER_MAX + 1),                                \
        S("offset_ms of s1", WALL_MS_MAX + 1), S("offset_ms of s1", -(int64_t)COUNTER_MAX - 1),                        \
        S("target_ms of s1", WALL_MS_MAX + 1), S("target_ms of s1", -(int64_t)COUNTER_MAX - 1),                        \
        N("slewed_ms of s1", UINT64_C(1) << 63)

Test(meter_damage, a_snapshot_is_refused_for_any_number_or_name_that_cannot_be)
{
    static const struct token wrong[] = {
        WRONG_HEAD,
        N("kind", 2),
        N("index of s2", 3),
        N("entries", 1),
        N("entries", 3),
        N("entries", 100000),
        N("entry of run1", 0),
        N("entry of run1", 2),
        N("entry of run1", 3),
        T("run1", ""),
        T("run1", "a/b"),
        T("run2", "run1"),
        T("team of run1", "-"),
        T("project of run1", ""),
        T("cgroup of run1", long_text),
        T("tap of run1", "sixteen-letters-"),
        N("source of run1", 16),
        N("source of run1", 4),
        N("vcpus of run1", VCPUS_MAX + 1),
        N("mem_mib of run1", MEM_MIB_MAX + 1),
        N("disk_mib of run1", DISK_MIB_MAX + UINT64_C(1)),
        N("state of run1", 2),
        N("open_ms of run1", UINT64_C(1) << 63),
        N("proven_ms of run1", UINT64_C(1) << 63),
        N("known of run1", 32),
        N("carried of run1", 32),
        N("sampled of run1", 32),
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct meter *m = new_meter(METER_CLOCK_EVENT);
        struct bytes b;
        struct sg_fault f = {0};
        encode(&b, snapshot, SNAPSHOT_TOKENS, &wrong[i]);
        cr_expect_eq(load(m, &b, &f), SG_ERR_MALFORMED, "%s (%zu)", wrong[i].name, i);
        cr_expect(strstr(f.text, "wrong at byte"), "%s: %s", wrong[i].name, f.text);
        meter_free(m);
    }
}

Test(meter_damage, a_delta_is_refused_when_it_is_not_one_of_the_state_before)
{
    static const struct token kind = N("kind", 2);
    static const struct token wrong[] = {
        WRONG_HEAD,          T("run1", "gone"),     T("run1", "a b"),      N("removed", 0),        N("removed", 2),
        N("removed", 10000), N("entry of run2", 0), N("entry of run2", 1), T("run2", "run1"),      T("run2", "run9"),
        T("run3", "run2"),   N("entry of run3", 2), N("state of run2", 2), N("source of run3", 0),
    };
    struct token good[DELTA_TOKENS];
    memcpy(good, delta, sizeof delta);
    good[1] = kind;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct meter *m = loaded();
        struct bytes b;
        struct sg_fault f = {0};
        encode(&b, good, DELTA_TOKENS, &wrong[i]);
        cr_expect_eq(meter_apply(m, b.b, b.length, &f), SG_ERR_MALFORMED, "%s (%zu)", wrong[i].name, i);
        meter_free(m);
    }
    struct meter *m = loaded();
    struct meter_stats stats;
    struct bytes b;
    struct sg_fault f = {0};
    encode(&b, good, DELTA_TOKENS, NULL);
    cr_expect_eq(meter_apply(m, b.b, b.length, &f), SG_OK, "%s", f.text);
    meter_stats(m, &stats);
    cr_expect_eq(stats.sandboxes, 2);
    cr_expect_eq(stats.running, 2);
    cr_expect_eq(stats.vcpus_allocated, 4);
    meter_free(m);
}

Test(meter_damage, a_state_that_is_cut_or_goes_on_is_refused)
{
    struct bytes whole;
    encode(&whole, snapshot, SNAPSHOT_TOKENS, NULL);
    for (size_t length = 1; length <= whole.length + 1; length++) {
        struct meter *m = new_meter(METER_CLOCK_EVENT);
        struct sg_fault f = {0};
        uint8_t *cut = calloc(1, length);
        memcpy(cut, whole.b, length < whole.length ? length : whole.length);
        cr_expect_eq(meter_load(m, cut, length, &f), length == whole.length ? SG_OK : SG_ERR_MALFORMED, "%zu", length);
        free(cut);
        meter_free(m);
    }
}

Test(meter_damage, a_byte_of_zero_in_a_text_is_refused)
{
    struct meter *m = new_meter(METER_CLOCK_EVENT);
    struct bytes b;
    encode(&b, snapshot, SNAPSHOT_TOKENS, NULL);
    uint8_t *cgroup = memmem(b.b, b.length, "\2cg", 3);
    cr_assert_not_null(cgroup);
    cgroup[2] = '\0';
    cr_expect_eq(load(m, &b, NULL), SG_ERR_MALFORMED);
    meter_free(m);
}

/* Where the number of version stands: ten bytes are 64 bits, and no more. */
Test(meter_damage, a_number_of_more_than_64_bits_is_refused)
{
    struct meter *m = new_meter(METER_CLOCK_EVENT);
    struct sg_fault f = {0};
    uint8_t longest[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1};
    cr_expect_eq(meter_load(m, longest, sizeof longest, &f), SG_ERR_VERSION);
    cr_expect(strstr(f.text, "18446744073709551615"), "%s", f.text);
    longest[9] = 2;
    cr_expect_eq(meter_load(m, longest, sizeof longest, NULL), SG_ERR_MALFORMED);
    longest[9] = 0x81;
    cr_expect_eq(meter_load(m, longest, sizeof longest, NULL), SG_ERR_MALFORMED);
    meter_free(m);
}

Test(meter_damage, more_sandboxes_than_are_configured_are_refused_with_both_numbers)
{
    const struct meter_config config = {.runner = "r1", .region = "eu", .sandboxes_max = 1};
    struct meter *m = meter_new(&config);
    struct bytes b;
    struct sg_fault f = {0};
    encode(&b, snapshot, SNAPSHOT_TOKENS, NULL);
    cr_expect_eq(load(m, &b, &f), SG_ERR_LIMIT);
    cr_expect(strstr(f.text, "2 sandboxes, configured are 1"), "%s", f.text);
    meter_free(m);
}

Test(meter_damage, sums_that_have_reached_their_end_stay_there_and_say_so)
{
    static const char *const sums[] = {"vcpu_ms", "mem_mib_ms", "disk_mib_ms", "running_ms"};
    for (size_t i = 0; i < sizeof sums / sizeof *sums; i++) {
        const struct token end = N(sums[i], UINT64_MAX - 10);
        struct bench b = setup(METER_CLOCK_EVENT);
        struct meter_stats stats;
        struct bytes bytes;
        struct sg_fault f = {0};
        encode(&bytes, snapshot, SNAPSHOT_TOKENS, &end);
        cr_assert_eq(load(b.meter, &bytes, &f), SG_OK, "%s", f.text);
        meter_stats(b.meter, &stats);
        cr_expect_not(stats.saturated);
        say(&b, 3, TICK, U(8), U(2000));
        commit(&b);
        meter_stats(b.meter, &stats);
        cr_expect(stats.saturated, "%s", sums[i]);
        const uint64_t now[] = {stats.totals.vcpu_ms, stats.totals.mem_mib_ms, stats.totals.disk_mib_ms,
                                stats.totals.running_ms};
        cr_expect_eq(now[i], UINT64_MAX, "%s", sums[i]);
        cr_expect_eq(b.got.running_ms, 1050, "the bill is of the slices");
        teardown(&b);
    }
}

Test(meter_damage, what_a_runner_has_is_not_said_before_a_source_says_when)
{
    static const struct token nobody[] = {RUNNER, N("sources", 0), N("entries", 0)};
    struct bench b = setup(METER_CLOCK_EVENT);
    struct bytes bytes;
    encode(&bytes, nobody, sizeof nobody / sizeof *nobody, NULL);
    cr_assert_eq(load(b.meter, &bytes, NULL), SG_OK);
    b.got.complete_through_ms = NOON;
    cr_expect_eq(meter_heartbeat(b.meter), METER_ACCEPTED);
    seal(&b);
    cr_expect_eq(b.got.capacities, 0);
    cr_expect_eq(b.got.complete_through_ms, NOON);
    teardown(&b);
}
