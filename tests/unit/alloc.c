#include "tests/unit/alloc.h"

#include <criterion/criterion.h>
#include <stdlib.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_reallocarray(void *p, size_t count, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_reallocarray(void *p, size_t count, size_t size);

static uint64_t left;
static bool failed;

void alloc_fail_at(uint64_t n)
{
    left = n;
    failed = false;
}

void *alloc_plain(size_t size)
{
    return __real_malloc(size);
}

bool alloc_failed(void)
{
    return failed;
}

static bool fails(void)
{
    if (left == 0 || --left) return false;
    failed = true;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return fails() ? NULL : __real_realloc(p, size);
}

void *__wrap_reallocarray(void *p, size_t count, size_t size)
{
    return fails() ? NULL : __real_reallocarray(p, count, size);
}

void alloc_at_every(const char *name, enum sg_error (*scenario)(void))
{
    for (uint64_t n = 1;; n++) {
        alloc_fail_at(n);
        enum sg_error e = scenario();
        bool was = alloc_failed();
        alloc_fail_at(0);
        if (!was) {
            cr_assert_eq(e, SG_OK, "%s: %s without a failure", name, sg_error_name(e));
            cr_assert_gt(n, 1, "%s allocates nothing", name);
            return;
        }
        cr_assert_neq(e, SG_OK, "%s: allocation %llu failed and nobody noticed", name, (unsigned long long)n);
    }
}
