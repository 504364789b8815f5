/* sandglass price check: reads a price book as the API would, and shows what it understood. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "aggregator/api/price.h"
#include "aggregator/ctl/ctl.h"
#include "common/rfc3339.h"

enum { NANO_PER_USD = 1000 * 1000 * 1000 };

int ctl_price_check(const struct ctl_call *c)
{
    struct price_book book;
    struct sg_fault f = {0};
    if (price_book_load(c->arg[0], &book, &f)) return ctl_fail(&f);
    printf("%-16s %-24s %18s %18s\n", "version", "from", "USD/vCPU-hour", "USD/GiB-hour");
    for (size_t i = 0; i < book.count; i++) {
        const struct price_version *v = &book.version[i];
        char from[RFC3339_BYTES];
        rfc3339_format(v->from, from);
        printf("%-16s %-24s %8" PRIu64 ".%09" PRIu64 " %8" PRIu64 ".%09" PRIu64 "\n", v->name, from,
               v->vcpu_hour_nano_usd / NANO_PER_USD, v->vcpu_hour_nano_usd % NANO_PER_USD,
               v->gib_hour_nano_usd / NANO_PER_USD, v->gib_hour_nano_usd % NANO_PER_USD);
    }
    return CTL_DONE;
}
