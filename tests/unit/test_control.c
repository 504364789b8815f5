#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "aggregator/store/control_view.h"

static struct control_fact fact_of(enum control_kind kind, const char *team, const char *customer, char digit)
{
    struct control_fact f = {.kind = kind, .at = {INT64_C(1763884800000)}, .by = {"root"}, .role = ROLE_BILLING};
    if (team) snprintf(f.team.s, sizeof f.team.s, "%s", team);
    if (customer) snprintf(f.customer.s, sizeof f.customer.s, "%s", customer);
    memset(f.key_hex, digit, CONTROL_HEX_BYTES - 1);
    return f;
}

static void say(struct control_view *v, struct control_chain *writer, struct control_fact fact)
{
    char text[CONTROL_BYTES_MAX];
    size_t length;
    struct sg_fault f = {0};
    cr_assert_eq(control_encode(writer, &fact, text, &length), SG_OK);
    cr_assert_eq(control_view_fold(v, text, length, &f), SG_OK, "%s", f.text);
}

Test(control, facts_are_folded_and_found)
{
    struct control_view v = {0};
    struct control_chain writer = {0};
    struct control_fact a = fact_of(CONTROL_KEY_CREATED, "t1", NULL, 'a'),
                        b = fact_of(CONTROL_KEY_CREATED, "t2", NULL, 'b');
    cr_assert_null(control_view_key(&v, a.key_hex));
    say(&v, &writer, a);
    say(&v, &writer, b);
    cr_assert_str_eq(control_view_key(&v, a.key_hex)->team.s, "t1");
    cr_assert_eq(control_view_key(&v, b.key_hex)->role, ROLE_BILLING);
    say(&v, &writer, fact_of(CONTROL_KEY_REVOKED, NULL, NULL, 'a'));
    cr_assert(control_view_key(&v, a.key_hex)->revoked);
    cr_assert_not(control_view_key(&v, b.key_hex)->revoked);
    say(&v, &writer, a);
    cr_assert(control_view_key(&v, a.key_hex)->revoked, "a revoked key is not revived");
    control_view_destroy(&v);
}

Test(control, a_customer_belongs_to_one_team)
{
    struct control_view v = {0};
    struct control_chain writer = {0};
    say(&v, &writer, fact_of(CONTROL_ACCOUNT_SET, "t1", "cus_1", '0'));
    say(&v, &writer, fact_of(CONTROL_ACCOUNT_SET, "t2", "cus_1", '0'));
    cr_assert_null(control_view_account(&v, "t2"));
    say(&v, &writer, fact_of(CONTROL_ACCOUNT_SET, "t1", "cus_2", '0'));
    cr_assert_str_eq(control_view_account(&v, "t1")->customer.s, "cus_2");
    say(&v, &writer, fact_of(CONTROL_ACCOUNT_SET, "t2", "cus_1", '0'));
    cr_assert_null(control_view_account(&v, "t2"), "old hours of t1 are billed to it");
    say(&v, &writer, fact_of(CONTROL_ACCOUNT_SET, "t1", "cus_1", '0'));
    cr_assert_str_eq(control_view_account(&v, "t1")->customer.s, "cus_1");
    control_view_destroy(&v);
}

Test(control, many_keys_are_all_found)
{
    struct control_view v = {0};
    struct control_chain writer = {0};
    struct control_fact f = fact_of(CONTROL_KEY_CREATED, "t1", NULL, '0');
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(f.key_hex, sizeof f.key_hex, "%064x", i);
        say(&v, &writer, f);
    }
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(f.key_hex, sizeof f.key_hex, "%064x", i);
        cr_assert_not_null(control_view_key(&v, f.key_hex));
    }
    control_view_destroy(&v);
}

/* As full as they may become: the counts alone are set, a million facts are too many for a test. */
Test(control, a_full_view_takes_no_more_and_keeps_what_it_has)
{
    static const struct {
        enum control_kind kind;
        bool keys, owners; /* which are full */
        enum sg_error e;
    } cases[] = {
        {CONTROL_KEY_CREATED, true, false, SG_ERR_LIMIT},
        {CONTROL_KEY_CREATED, false, true, SG_OK},
        {CONTROL_ACCOUNT_SET, false, true, SG_ERR_LIMIT},
        {CONTROL_ACCOUNT_SET, true, false, SG_OK},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct control_view v = {0};
        struct control_chain writer = {0};
        struct control_fact known = fact_of(CONTROL_KEY_CREATED, "t1", NULL, 'a'),
                            more = fact_of(cases[i].kind, "t2", "cus_2", 'b');
        char text[CONTROL_BYTES_MAX];
        size_t length, keys, owners;
        say(&v, &writer, known);
        say(&v, &writer, fact_of(CONTROL_ACCOUNT_SET, "t1", "cus_1", '0'));
        cr_assert_eq(control_encode(&writer, &more, text, &length), SG_OK);
        keys = v.key_count;
        owners = v.owner_count;
        if (cases[i].keys) v.key_count = CONTROL_KEYS_MAX;
        if (cases[i].owners) v.owner_count = CONTROL_ACCOUNTS_MAX;
        cr_assert_eq(control_view_fold(&v, text, length, NULL), cases[i].e, "case %zu", i);
        cr_assert_eq(v.broken, cases[i].e != SG_OK, "case %zu", i);
        if (cases[i].keys) v.key_count = keys;
        if (cases[i].owners) v.owner_count = owners;
        cr_assert_str_eq(control_view_key(&v, known.key_hex)->team.s, "t1");
        cr_assert_str_eq(control_view_account(&v, "t1")->customer.s, "cus_1");
        control_view_destroy(&v);
    }
}

Test(control, a_changed_byte_breaks_the_chain_and_nothing_newer_is_taken)
{
    struct control_view v = {0};
    struct control_chain writer = {0};
    char text[CONTROL_BYTES_MAX];
    size_t length;
    struct sg_fault f = {0};
    struct control_fact fact = fact_of(CONTROL_KEY_CREATED, "t1", NULL, 'a');
    cr_assert_eq(control_encode(&writer, &fact, text, &length), SG_OK);
    char *by = strstr(text, "root");
    memcpy(by, "toor", 4);
    cr_assert_eq(control_view_fold(&v, text, length, &f), SG_OK);
    cr_assert_eq(control_encode(&writer, &fact, text, &length), SG_OK);
    cr_assert_eq(control_view_fold(&v, text, length, &f), SG_ERR_MISMATCH);
    cr_assert(v.broken);
    cr_assert_eq(control_view_fold(&v, text, length, &f), SG_ERR_STATE);
    cr_assert_not_null(control_view_key(&v, fact.key_hex));
    control_view_destroy(&v);
}

Test(control, malformed_records_are_refused_without_quoting_them)
{
    static const char zeros[] = "0000000000000000000000000000000000000000000000000000000000000000";
    static const char *const forms[] = {
        "CANARY",
        "{\"v\":2,\"seq\":1,\"prev\":\"%s\"}",
        "{\"v\":1,\"seq\":2,\"prev\":\"%s\"}",
        "{\"v\":1,\"seq\":1,\"prev\":\"%s\",\"at\":1,\"by\":\"CANARY\",\"fact\":\"CANARY\"}",
        "{\"v\":1,\"seq\":1,\"prev\":\"%s\",\"at\":-1,\"by\":\"x\",\"fact\":\"account_set\",\"team\":\"t\","
        "\"customer\":\"c\"}",
        "{\"v\":1,\"seq\":1,\"prev\":\"%s\",\"at\":1,\"by\":\"x\",\"fact\":\"account_set\",\"team\":\"t\",\"customer\":"
        "\"c.c\"}",
        "{\"v\":1,\"seq\":1,\"prev\":\"%s\",\"at\":1,\"by\":\"x\",\"fact\":\"account_set\",\"team\":\"t\",\"customer\":"
        "\"c\",\"CANARY\":1}",
        "{\"v\":1,\"seq\":1,\"prev\":\"%s\",\"at\":1,\"by\":\"x\",\"fact\":\"key_revoked\",\"key\":\"CANARY\"}",
        /* good facts, but not as they are written */
        "{\"v\":1, "
        "\"seq\":1,\"prev\":\"%s\",\"at\":1,\"by\":\"x\",\"fact\":\"account_set\",\"team\":\"t\",\"customer\":\"c\"}",
        "{\"v\":1,\"seq\":1,\"prev\":\"%s\",\"at\":1,\"by\":\"x\",\"fact\":\"account_set\",\"customer\":\"c\",\"team\":"
        "\"t\"}",
        "{\"v\":1,\"seq\":1,\"prev\":\"%s\",\"at\":-0,\"by\":\"x\",\"fact\":\"account_set\",\"team\":\"t\","
        "\"customer\":\"c\"}",
    };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        struct control_chain chain = {0};
        struct control_fact fact;
        struct sg_fault f = {0};
        char text[512];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        int n = snprintf(text, sizeof text, forms[i], zeros);
#pragma GCC diagnostic pop
        cr_assert_neq(control_decode(&chain, text, (size_t)n, &fact, &f), SG_OK, "accepted %zu", i);
        cr_assert_eq(chain.seq, 0);
        cr_assert_null(strstr(f.text, "CANARY"));
    }
}

Test(control, the_first_version_is_read_for_ever)
{
    struct control_view v = {0};
    struct sg_fault f = {0};
    char text[CONTROL_BYTES_MAX];
    FILE *file = fopen(TEST_DATA_DIR "/control.v1", "rb");
    cr_assert_not_null(file);
    size_t length = fread(text, 1, sizeof text, file);
    fclose(file);
    cr_assert_eq(control_view_fold(&v, text, length, &f), SG_OK, "%s", f.text);
    cr_assert_str_eq(control_view_account(&v, "t")->customer.s, "c");
    control_view_destroy(&v);
}

/* Replaces the first `from` in a good record that creates a key and expects this error. */
static void refused(enum control_kind kind, const char *from, const char *to, enum sg_error expected)
{
    char text[CONTROL_BYTES_MAX + 1], changed[2 * CONTROL_BYTES_MAX];
    struct control_chain writer = {0}, chain = {0};
    struct control_fact fact = fact_of(kind, kind == CONTROL_KEY_REVOKED ? NULL : "t1",
                                       kind == CONTROL_ACCOUNT_SET ? "cus_1" : NULL, 'a'),
                        back;
    size_t length;
    struct sg_fault f = {0};
    cr_assert_eq(control_encode(&writer, &fact, text, &length), SG_OK);
    text[length] = '\0';
    const char *at = strstr(text, from);
    cr_assert_not_null(at, "%s", from);
    int n = snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    cr_assert_eq(control_decode(&chain, changed, (size_t)n, &back, &f), expected, "accepted %s", to);
    cr_assert_eq(chain.seq, 0);
    cr_assert_null(strstr(f.text, "CANARY"));
}

Test(control, what_encoding_would_not_write_is_refused)
{
    refused(CONTROL_KEY_CREATED, "\"v\":1", "\"v\":\"CANARY\"", SG_ERR_MALFORMED);
    refused(CONTROL_KEY_CREATED, "\"v\":1", "\"V\":1", SG_ERR_MALFORMED);
    refused(CONTROL_KEY_CREATED, "\"seq\":1", "\"seq\":-1", SG_ERR_MISMATCH);
    refused(CONTROL_KEY_CREATED, "\"seq\":1", "\"seq\":2", SG_ERR_MISMATCH);
    refused(CONTROL_KEY_CREATED, "\"prev\":\"0", "\"prev\":\"1", SG_ERR_MISMATCH);
    refused(CONTROL_KEY_CREATED, "\"prev\"", "\"CANARY\"", SG_ERR_MISMATCH);
    refused(CONTROL_KEY_CREATED, "\"at\":1763884800000", "\"at\":9999999999999999", SG_ERR_MALFORMED);
    refused(CONTROL_KEY_CREATED, "\"root\"", "\"CANARY.\"", SG_ERR_MALFORMED);
    refused(CONTROL_KEY_CREATED, "\"root\"", "7", SG_ERR_MALFORMED);
    refused(CONTROL_KEY_CREATED, "\"fact\":\"key_created\"", "\"fact\":7", SG_ERR_MALFORMED);
    refused(CONTROL_KEY_CREATED, "\"key\":\"a", "\"key\":\"A", SG_ERR_MALFORMED);
    refused(CONTROL_KEY_CREATED, "\"key\":\"a", "\"key\":\"aa", SG_ERR_MALFORMED);
    refused(CONTROL_KEY_CREATED, "\"key\":", "\"CANARY\":", SG_ERR_MALFORMED);
    refused(CONTROL_KEY_CREATED, "\"team\":\"t1\"", "\"team\":7", SG_ERR_MALFORMED);
    refused(CONTROL_KEY_CREATED, "\"billing\"", "\"BILLING\"", SG_ERR_MALFORMED);
    refused(CONTROL_KEY_CREATED, "\"billing\"", "7", SG_ERR_MALFORMED);
    refused(CONTROL_ACCOUNT_SET, "\"cus_1\"", "\"\"", SG_ERR_MALFORMED);
    static char longer[CONTROL_BYTES_MAX + 1];
    struct control_chain chain = {0};
    struct control_fact back;
    cr_assert_eq(control_decode(&chain, longer, sizeof longer, &back, NULL), SG_ERR_LIMIT);
}

Test(control, a_key_that_was_never_made_may_be_revoked_and_nothing_follows)
{
    struct control_view v = {0};
    struct control_chain writer = {0};
    say(&v, &writer, fact_of(CONTROL_KEY_REVOKED, NULL, NULL, 'a'));
    cr_assert_null(control_view_key(&v, fact_of(CONTROL_KEY_REVOKED, NULL, NULL, 'a').key_hex));
    say(&v, &writer, fact_of(CONTROL_KEY_CREATED, "t1", NULL, 'b'));
    cr_assert_null(control_view_account(&v, "t1"));
    cr_assert_null(control_view_customer(&v, "cus_1"));
    control_view_destroy(&v);
}
