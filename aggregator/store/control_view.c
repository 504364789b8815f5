/* Three hash tables over three arrays: keys by hash, accounts by team, owners by customer. Nothing is ever removed: a
 * revoked key stays known as revoked, a customer stays its first team's. */
#include "aggregator/store/control_view.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/array.h"

void control_view_destroy(struct control_view *v)
{
    free(v->key);
    free(v->account);
    free(v->key_slot);
    free(v->account_slot);
    free(v->owner);
    free(v->owner_slot);
    *v = (struct control_view){0};
}

/* The text by which entry i is found. */
typedef const char *text_of(const struct control_view *v, size_t i);

static const char *key_text(const struct control_view *v, size_t i)
{
    return v->key[i].hex;
}

static const char *team_text(const struct control_view *v, size_t i)
{
    return v->account[i].team.s;
}

static const char *owner_text(const struct control_view *v, size_t i)
{
    return v->owner[i].customer.s;
}

/* Where text stands, or the free slot where it would. */
static size_t slot_of(const struct control_view *v, const uint32_t *slot, size_t slots, text_of *of, const char *text)
{
    size_t i = XXH3_64bits(text, strlen(text)) & (slots - 1);
    while (slot[i] && strcmp(of(v, slot[i] - 1), text) != 0) i = (i + 1) & (slots - 1);
    return i;
}

/* Builds a table at most half full over count entries. */
static bool rehash(const struct control_view *v, uint32_t **slot, size_t *slots, text_of *of, size_t count)
{
    size_t wanted = *slots ? *slots : 64;
    while (wanted < (count + 1) * 2) wanted *= 2;
    if (wanted == *slots) return true;
    uint32_t *fresh = calloc(wanted, sizeof *fresh);
    if (!fresh) return false;
    for (size_t i = 0; i < count; i++) fresh[slot_of(v, fresh, wanted, of, of(v, i))] = (uint32_t)i + 1;
    free(*slot);
    *slot = fresh;
    *slots = wanted;
    return true;
}

static enum sg_error key_created(struct control_view *v, const struct control_fact *fact)
{
    if (control_view_key(v, fact->key_hex))
        return SG_OK; /* the first one stands: a key is never moved to another team */
    if (v->key_count == CONTROL_KEYS_MAX) return SG_ERR_LIMIT;
    if (!array_reserve(&v->key, &v->key_capacity, v->key_count, sizeof *v->key)) return SG_ERR_NOMEM;
    if (!rehash(v, &v->key_slot, &v->key_slots, key_text, v->key_count)) return SG_ERR_NOMEM;
    struct control_key *k = &v->key[v->key_count];
    *k = (struct control_key){.team = fact->team, .role = fact->role, .created = fact->at};
    memcpy(k->hex, fact->key_hex, sizeof k->hex);
    v->key_slot[slot_of(v, v->key_slot, v->key_slots, key_text, k->hex)] = (uint32_t)++v->key_count;
    return SG_OK;
}

/* A customer is its first team's for good, also when the team has moved on to another: old hours stay billed to it. */
static enum sg_error take_customer(struct control_view *v, const struct control_fact *fact)
{
    if (v->owner_count == CONTROL_ACCOUNTS_MAX) return SG_ERR_LIMIT;
    if (!array_reserve(&v->owner, &v->owner_capacity, v->owner_count, sizeof *v->owner)) return SG_ERR_NOMEM;
    if (!rehash(v, &v->owner_slot, &v->owner_slots, owner_text, v->owner_count)) return SG_ERR_NOMEM;
    v->owner[v->owner_count] = (struct control_account){fact->team, fact->customer};
    v->owner_slot[slot_of(v, v->owner_slot, v->owner_slots, owner_text, fact->customer.s)] = (uint32_t)++v->owner_count;
    return SG_OK;
}

static enum sg_error account_set(struct control_view *v, const struct control_fact *fact)
{
    const struct control_account *owner = control_view_customer(v, fact->customer.s),
                                 *old = control_view_account(v, fact->team.s);
    if (owner && strcmp(owner->team.s, fact->team.s) != 0) return SG_OK; /* another team's */
    if (!owner) {
        enum sg_error e = take_customer(v, fact);
        if (e != SG_OK) return e;
    }
    if (old) {
        v->account[old - v->account].customer = fact->customer;
        return SG_OK;
    }
    assert(v->account_count < v->owner_count); /* every account's first customer is an owner's: their limit is ours */
    if (!array_reserve(&v->account, &v->account_capacity, v->account_count, sizeof *v->account)) return SG_ERR_NOMEM;
    if (!rehash(v, &v->account_slot, &v->account_slots, team_text, v->account_count)) return SG_ERR_NOMEM;
    v->account[v->account_count] = (struct control_account){fact->team, fact->customer};
    v->account_slot[slot_of(v, v->account_slot, v->account_slots, team_text, fact->team.s)] =
        (uint32_t)++v->account_count;
    return SG_OK;
}

static enum sg_error apply(struct control_view *v, const struct control_fact *fact)
{
    if (fact->kind == CONTROL_KEY_CREATED) return key_created(v, fact);
    if (fact->kind == CONTROL_ACCOUNT_SET) return account_set(v, fact);
    const struct control_key *k = control_view_key(v, fact->key_hex);
    if (k) v->key[k - v->key].revoked = true;
    return SG_OK;
}

enum sg_error control_view_fold(struct control_view *v, const char *text, size_t length, struct sg_fault *f)
{
    struct control_fact fact;
    if (v->broken)
        return sg_fail(f, SG_ERR_STATE, "control record %llu: behind a broken one",
                       (unsigned long long)v->chain.seq + 1);
    enum sg_error e = control_decode(&v->chain, text, length, &fact, f);
    if (e == SG_OK && (e = apply(v, &fact)) != SG_OK)
        (void)sg_fail(f, e, "control record %llu: %s", (unsigned long long)fact.seq, sg_error_text(e));
    v->broken = e != SG_OK;
    return e;
}

const struct control_key *control_view_key(const struct control_view *v, const char *hex)
{
    if (!v->key_slot) return NULL;
    uint32_t i = v->key_slot[slot_of(v, v->key_slot, v->key_slots, key_text, hex)];
    return i ? &v->key[i - 1] : NULL;
}

const struct control_account *control_view_account(const struct control_view *v, const char *team)
{
    if (!v->account_slot) return NULL;
    uint32_t i = v->account_slot[slot_of(v, v->account_slot, v->account_slots, team_text, team)];
    return i ? &v->account[i - 1] : NULL;
}

const struct control_account *control_view_customer(const struct control_view *v, const char *customer)
{
    if (!v->owner_slot) return NULL;
    uint32_t i = v->owner_slot[slot_of(v, v->owner_slot, v->owner_slots, owner_text, customer)];
    return i ? &v->owner[i - 1] : NULL;
}
