/* Stands in for the sampler until it is there: nothing is measured, which the contract allows. */
#include "collector/sampler.h"

enum sg_error sampler_new(struct sampler **out, const char *cgroup_root, bool links, struct sg_fault *f)
{
    (void)cgroup_root, (void)links, (void)f;
    *out = NULL;
    return SG_OK;
}
void sampler_free(struct sampler *s)
{
    (void)s;
}
enum sg_error sampler_add(struct sampler *s, uint64_t handle, const char *cgroup, const char *tap, struct sg_fault *f)
{
    (void)s, (void)handle, (void)cgroup, (void)tap, (void)f;
    return SG_OK;
}
void sampler_remove(struct sampler *s, uint64_t handle)
{
    (void)s, (void)handle;
}
void sampler_sweep(struct sampler *s, sampler_each *each, void *arg)
{
    (void)s, (void)each, (void)arg;
}
