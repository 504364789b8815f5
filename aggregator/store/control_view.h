/* The facts of the control topic, folded: API keys and accounts (proto/control.md). Pure: records in, answers out.
 *
 * The shell that reads the topic (aggregator/store/txlog.h, the reader) calls control_view_fold() for each record in
 * order. After an error the view is broken: it keeps the facts it has and takes no more; its owner turns red. Bounded:
 * KEYS_MAX keys, ACCOUNTS_MAX accounts; beyond them a fold fails with LIMIT. Not thread-safe: its owner locks. */
#ifndef STORE_CONTROL_VIEW_H
#define STORE_CONTROL_VIEW_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/control.h"

enum { CONTROL_KEYS_MAX = 1 << 20, CONTROL_ACCOUNTS_MAX = 1 << 20 };

/* A key that was created, by its hash. */
struct control_key {
    char hex[CONTROL_HEX_BYTES];
    struct id team;
    enum role role;
    struct wall_ms created;
    bool revoked;
};

/* A team's account at Stripe. */
struct control_account {
    struct id team, customer;
};

/* Zeroed is empty. Owns its arrays. */
struct control_view {
    struct control_chain chain;
    bool broken;
    struct control_key *key;
    size_t key_count, key_capacity;
    struct control_account *account;
    size_t account_count, account_capacity;
    struct control_account *owner; /* every customer that was ever set, with its team */
    size_t owner_count, owner_capacity;
    uint32_t *key_slot, *account_slot, *owner_slot; /* hash tables of index + 1; NULL while empty */
    size_t key_slots, account_slots, owner_slots;
};

/* Frees what v owns and zeroes it. */
void control_view_destroy(struct control_view *v);
/* Folds the next record. Errors as control_decode, LIMIT, NOMEM; then v->broken is set. */
SG_MUST_USE enum sg_error control_view_fold(struct control_view *v, const char *text, size_t length,
                                            struct sg_fault *f);
/* The key with this hash, also a revoked one; NULL when there is none. Valid until the next fold. */
const struct control_key *control_view_key(const struct control_view *v, const char *hex);
/* The team's account; NULL when it has none. Valid until the next fold. */
const struct control_account *control_view_account(const struct control_view *v, const char *team);
/* The team that owns a customer, for good, and that customer (the team's account may name another by now); NULL when
 * none does. Valid until the next fold. */
const struct control_account *control_view_customer(const struct control_view *v, const char *customer);

#endif
