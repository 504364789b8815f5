/* The price book: what a vCPU-hour and a GiB-hour cost, by version and effective date; and the cost of usage. Pure
 * (jansson for the text).
 *
 * Prices are data (domain.md, section 2):
 * {"currency":"USD","versions":[{"version":"2025-01","from":"1970-01-01T00:00:00Z",
 * "vcpu_hour":"0.025","gib_hour":"0.015"}, ...]}: rates are decimal strings in USD with at most nine places, `from` is
 * on a full hour, ascending; the first version starts at 1970, so that every hour has exactly one price.
 *
 * Usage of an hour is added to the version in force at that hour's start; the cost is computed once, at the end, from
 * the integer sums: cents = (vcpu_ms * vcpu_hour + mem_mib_ms * gib_hour / 1024) / 3,600,000 * 100, rounded once, half
 * to even, to six places. */
#ifndef API_PRICE_H
#define API_PRICE_H

#include <stddef.h>
#include <stdint.h>

#include "sandglass/amount.h"
#include "sandglass/error.h"
#include "sandglass/time.h"

enum { PRICE_VERSIONS_MAX = 64, PRICE_VERSION_BYTES_MAX = 33 };

/* One version. Rates in 10^-9 USD. */
struct price_version {
    char name[PRICE_VERSION_BYTES_MAX]; /* an identifier */
    struct wall_ms from;
    uint64_t vcpu_hour_nano_usd, gib_hour_nano_usd;
};

/* Ascending by from; count >= 1 once parsed. */
struct price_book {
    struct price_version version[PRICE_VERSIONS_MAX];
    size_t count;
};

/* Money: 10^-6 cent, the unit of answers. */
struct micro_cents {
    int64_t v;
};

/* Usage by price version; zeroed is nothing. A cost of one question is one of these. */
struct price_sums {
    unsigned __int128 vcpu_ms[PRICE_VERSIONS_MAX], mem_mib_ms[PRICE_VERSIONS_MAX];
    size_t newest; /* index of the newest version that anything was added to */
};

/* Parses a price book. MALFORMED names the version's position and the rule, never the text. */
SG_MUST_USE enum sg_error price_book_parse(const char *text, size_t length, struct price_book *out, struct sg_fault *f);
/* The same from a file. Also IO, NOT_FOUND, LIMIT. */
SG_MUST_USE enum sg_error price_book_load(const char *path, struct price_book *out, struct sg_fault *f);
/* Index of the version in force at t. */
size_t price_version_at(const struct price_book *b, struct wall_ms t);
/* Adds usage of the hour that starts at hour. */
void price_add(const struct price_book *b, struct price_sums *s, struct wall_ms hour, struct amount vcpu_ms,
               struct amount mem_mib_ms);
/* The cost of what was added. OVERFLOW when it does not fit 63 bits (92 billion USD). */
SG_MUST_USE enum sg_error price_cost(const struct price_book *b, const struct price_sums *s, struct micro_cents *out);
/* Name of the newest version that took part; of the newest in force at `now` when nothing was added. */
const char *price_version_name(const struct price_book *b, const struct price_sums *s, struct wall_ms now);

#endif
