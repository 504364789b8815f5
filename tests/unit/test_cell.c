#include <criterion/criterion.h>
#include <string.h>

#include "proto/cell.h"
#include "proto/keys.h"
#include "proto/run_cell.h"
#include "sandglass/id.h"

static void check_bad(const char *text)
{
    uint64_t offset;
    struct sums s = {0};
    cr_assert_neq(cell_decode(text, strlen(text), &offset, &s), SG_OK, "accepted: %s", text);
    sums_destroy(&s);
}

Test(cell, every_field_has_a_name_that_is_found_again)
{
    for (unsigned i = 0; i < FIELDS; i++) {
        char name[FIELD_NAME_BYTES_MAX];
        enum field f;
        size_t length = field_name((enum field)i, name);
        cr_assert_eq(strlen(name), length);
        cr_assert(field_parse(name, length, &f));
        cr_assert_eq((unsigned)f, i);
    }
}

Test(cell, names_that_are_no_field_are_refused)
{
    static const char *const names[] = {"",
                                        "vcpu",
                                        "vcpu_msx",
                                        "exit.",
                                        "exit.256",
                                        "exit.01",
                                        "exit.-1",
                                        "creates.",
                                        "creates.x",
                                        "destroys.xx",
                                        "api.",
                                        "api.other",
                                        "api.other.6xx",
                                        "api.other.0xx",
                                        "api..2xx",
                                        "exit.1234",
                                        "exit.07",
                                        "exit./",
                                        "exit.a",
                                        "api.other-2xx",
                                        "api.other.2yx",
                                        "api.other.2xy",
                                        "api.nothing.2xx"};
    enum field f;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        cr_assert_not(field_parse(names[i], strlen(names[i]), &f));
}

Test(cell, text_is_canonical_and_read_back)
{
    struct sums s = {0}, back = {0};
    char text[CELL_BYTES_MAX];
    uint64_t offset;
    cr_assert_eq(sums_add(&s, (enum field)(FIELD_EXIT + 137), (struct amount){1}), SG_OK);
    cr_assert_eq(sums_add(&s, (enum field)(FIELD_EXIT + 0), (struct amount){12}), SG_OK);
    cr_assert_eq(sums_add(&s, FIELD_VCPU_MS, (struct amount){3600000}), SG_OK);
    cr_assert_eq(sums_add(&s, FIELD_CPU_US, (struct amount){0}), SG_OK);
    size_t length = cell_encode(88123, &s, text);
    cr_assert_leq(length, cell_encoded_bytes_max(&s));
    cr_assert_eq(strncmp(text, "@88123 vcpu_ms=3600000 exit.0=12 exit.137=1", length), 0);
    cr_assert_eq(cell_decode(text, length, &offset, &back), SG_OK);
    cr_assert_eq(offset, 88123);
    cr_assert_eq(sums_get(&back, (enum field)(FIELD_EXIT + 137)).v, 1);
    sums_destroy(&s);
    sums_destroy(&back);
}

Test(cell, a_sum_that_does_not_fit_is_an_error)
{
    struct sums s = {0};
    cr_assert_eq(sums_add(&s, FIELD_EXECS, (struct amount){UINT64_MAX}), SG_OK);
    cr_assert_eq(sums_add(&s, FIELD_EXECS, (struct amount){1}), SG_ERR_OVERFLOW);
    cr_assert_eq(sums_get(&s, FIELD_EXECS).v, UINT64_MAX);
    sums_destroy(&s);
}

Test(cell, what_encoding_would_not_write_is_refused)
{
    check_bad("");
    check_bad("@");
    check_bad("88");
    check_bad("@088");
    check_bad("@1 ");
    check_bad("@1 vcpu_ms=0");
    check_bad("@1 vcpu_ms=01");
    check_bad("@1 vcpu_ms=-1");
    check_bad("@1 vcpu_ms=1 ");
    check_bad("@1  vcpu_ms=1");
    check_bad("@1 vcpu_ms=18446744073709551616");
    check_bad("@1 nothing=1");
    check_bad("@1 mem_mib_ms=1 vcpu_ms=1");
    check_bad("@1 vcpu_ms=1 vcpu_ms=1");
}

Test(cell, a_run_is_read_back_whatever_is_known_of_it)
{
    struct run r = {.team = {"t"}, .project = {"-"}, .region = {"eu"}, .runner = {"r1"}, .vcpus = 1, .mem_mib = 2},
               back;
    char text[RUN_CELL_BYTES_MAX], again[RUN_CELL_BYTES_MAX];
    uint64_t offset;
    size_t length = run_cell_encode(5, &r, text);
    cr_assert_eq(run_cell_decode(text, length, &offset, &back), SG_OK);
    cr_assert_eq(offset, 5);
    r.has_origin = r.has_reason = r.has_exit = r.has_create_ms = true;
    r.origin = ORIGIN_RESTORE;
    r.reason = REASON_HOST;
    r.exit_code = 255;
    r.state = RUN_ENDED;
    r.created.v = r.started.v = r.ended.v = r.seen.v = r.exit_at.v = WALL_MS_MAX;
    r.running_ms.v = r.cpu_us.v = r.net_rx_bytes.v = r.net_tx_bytes.v = UINT64_MAX;
    r.io_read_bytes.v = r.io_write_bytes.v = r.execs.v = r.mem_peak_bytes = UINT64_MAX;
    memset(r.team.s, 'x', ID_BYTES_MAX);
    memset(r.project.s, 'x', ID_BYTES_MAX);
    memset(r.region.s, 'x', ID_BYTES_MAX);
    memset(r.runner.s, 'x', ID_BYTES_MAX);
    length = run_cell_encode(UINT64_MAX, &r, text);
    cr_assert_eq(run_cell_decode(text, length, &offset, &back), SG_OK);
    cr_assert_eq(run_cell_encode(offset, &back, again), length);
    cr_assert_eq(memcmp(text, again, length), 0);
    for (size_t cut = 0; cut < length; cut++)
        if (run_cell_decode(text, cut, &offset, &back) == SG_OK)
            cr_assert_eq(run_cell_encode(offset, &back, again), cut);
}

Test(cell, keys_carry_their_shard_as_a_hash_tag)
{
    char key[KEY_BYTES_MAX];
    key_rollup(key, 3, WINDOW_HOUR, (struct wall_ms){INT64_C(1763884800000)}, "t", "-", "eu");
    cr_assert_str_eq(key, "sg:{s3}:u:h:1763884800:t:-:eu");
    key_rollup_index(key, 3, WINDOW_DAY, "t");
    cr_assert_str_eq(key, "sg:{s3}:ux:d:t");
    key_rollup_member(key, (struct wall_ms){INT64_C(60000)}, "p", "us");
    cr_assert_str_eq(key, "60:p:us");
    key_partition(key, 1, "marks", 17);
    cr_assert_str_eq(key, "sg:{s1}:marks:17");
    cr_assert_eq(shard_of_team("team-a", 16), shard_of_team("team-a", 16));
    cr_assert_lt(shard_of_team("team-a", 4), 4);
}

Test(cell, identifiers_are_letters_digits_underscore_and_dash)
{
    cr_assert(id_valid("a", 1));
    cr_assert(id_valid("--", 2));
    cr_assert_not(id_valid("-", 1));
    cr_assert(id_valid_or_none("-", 1));
    cr_assert_not(id_valid("", 0));
    cr_assert_not(id_valid("a.b", 3));
    cr_assert_not(id_valid("a\0b", 3));
    char longest[ID_BYTES_MAX + 1];
    memset(longest, 'z', sizeof longest);
    cr_assert(id_valid(longest, ID_BYTES_MAX));
    cr_assert_not(id_valid(longest, ID_BYTES_MAX + 1));
}

Test(cell, sums_of_families_do_not_overflow_either)
{
    const enum field exit_0 = FIELD_EXIT, exit_2 = (enum field)(FIELD_EXIT + 2);
    struct sums s = {0}, most = {0}, plain = {0};
    cr_assert(sums_empty(&s));
    cr_assert_eq(sums_add(&s, exit_2, (struct amount){UINT64_MAX}), SG_OK);
    cr_assert_not(sums_empty(&s));
    cr_assert_eq(sums_get(&s, exit_0).v, 0);
    cr_assert_eq(sums_get(&s, (enum field)(FIELD_EXIT + 3)).v, 0);
    cr_assert_eq(sums_add(&s, exit_2, (struct amount){1}), SG_ERR_OVERFLOW);
    cr_assert_eq(sums_add(&most, exit_0, (struct amount){1}), SG_OK);
    cr_assert_eq(sums_add(&most, exit_2, (struct amount){1}), SG_OK);
    cr_assert_eq(sums_add_all(&s, &most), SG_ERR_OVERFLOW);
    cr_assert_eq(sums_get(&s, exit_2).v, UINT64_MAX);
    cr_assert_eq(sums_add(&plain, FIELD_EXECS, (struct amount){UINT64_MAX}), SG_OK);
    cr_assert_not(sums_empty(&plain));
    cr_assert_eq(sums_add_all(&plain, &plain), SG_ERR_OVERFLOW);
    sums_destroy(&s);
    sums_destroy(&most);
}

Test(cell, amounts_and_windows_are_exact)
{
    struct amount a = {7};
    cr_assert(amount_mul(&a, UINT64_MAX / 3, 3) && a.v == UINT64_MAX);
    cr_assert_not(amount_mul(&a, UINT64_MAX / 3 + 1, 3));
    cr_assert(amount_sub(&a, (struct amount){5}, (struct amount){5}) && a.v == 0);
    cr_assert_not(amount_sub(&a, (struct amount){5}, (struct amount){6}));
    cr_assert_eq(window_length_ms(WINDOW_MINUTE), MINUTE_MS);
    cr_assert_eq(window_length_ms(WINDOW_HOUR), HOUR_MS);
    cr_assert_eq(window_length_ms(WINDOW_DAY), DAY_MS);
}

#define RUN "@5 team=t project=- region=eu runner=r1 vcpus=1 mem_mib=2 disk_mib=3 state=running"

Test(cell, what_a_run_would_not_write_is_refused)
{
    static const char *const bad[] = {
        "@5 team=- project=p region=eu runner=r1 vcpus=1 mem_mib=2 disk_mib=3 state=running",
        "@5 team=t project=. region=eu runner=r1 vcpus=1 mem_mib=2 disk_mib=3 state=running",
        "@5 team=t project=p region=eu runner=r1 vcpus=1025 mem_mib=2 disk_mib=3 state=running",
        "@5 team=t project=p region=eu runner=r1 vcpus=x mem_mib=2 disk_mib=3 state=running",
        "@5 team=t project=p region=eu runner=r1 vcpus:1 mem_mib=2 disk_mib=3 state=running",
        "@5 team=t project=p region=eu runner=r1 vcpus=1 mem_mib=2 disk_mib=3 state=running ",
        "@5 team=t project=p region=eu runner=r1 vcpus=1 mem_mib=2 disk_mib=3 state=runningx",
        "@5 team=t project=p region=eu runner=r1 vcpus=1 mem_mib=2 disk_mib=3 state=stopped",
        "@5 team=t project=p region=eu runner=r1 vcpus=1 mem_mib=2 disk_mib=3 states=running",
        "@5 team=t project=p region=eu runner=r1 vcpus=1 mem_mib=2 disk_mib=3",
        "@5\tteam=t project=p region=eu runner=r1 vcpus=1 mem_mib=2 disk_mib=3 state=running",
        RUN " create_ms=86400001",
        RUN " created=0",
        RUN " created=9999999999999999",
        RUN " origin=nothing",
        RUN " reason=nothing",
        RUN " exit=256 exit_at=1",
        RUN " exit=1",
        RUN " exit=1 exit_at=9999999999999999",
        RUN " exit=1 exit_at=x",
        RUN " create_ms=x",
        RUN " execs=0",
    };
    struct run r;
    uint64_t offset;
    cr_assert_eq(run_cell_decode(RUN, sizeof RUN - 1, &offset, &r), SG_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_assert_eq(run_cell_decode(bad[i], strlen(bad[i]), &offset, &r), SG_ERR_MALFORMED, "accepted: %s", bad[i]);
}
