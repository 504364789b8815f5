/* The sampler: reads what the host counts for each sandbox: cgroup v2 files and TAP counters.
 *
 * Design and failures stand at the top of sampler.c. Descriptors of a sandbox's files are opened once and read with
 * pread; links are read together with netlink RTM_GETSTATS. A file that is missing, or that cannot be read, makes its
 * metric unavailable: never an error, never a zero. Not thread-safe. */
#ifndef COLLECTOR_SAMPLER_H
#define COLLECTOR_SAMPLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sandglass/error.h"

enum {
    SAMPLER_SANDBOXES_MAX = 65536,
    SAMPLER_FILES_PER_SANDBOX = 5, /* descriptors kept open */
    SAMPLER_CGROUP_BYTES_MAX = 200,
    SAMPLER_TAP_BYTES_MAX = 15,
};

/* Which members of a sample were measured. */
enum sample_has {
    SAMPLE_CPU = 1 << 0,      /* cpu_us */
    SAMPLE_MEM = 1 << 1,      /* mem_bytes */
    SAMPLE_MEM_PEAK = 1 << 2, /* mem_peak_bytes */
    SAMPLE_IO = 1 << 3,       /* io_read_bytes, io_write_bytes */
    SAMPLE_NET = 1 << 4,      /* net_rx_bytes, net_tx_bytes */
    SAMPLE_LIFE = 1 << 5,     /* populated */
};

/* Counters are cumulative as the kernel has them, at most COUNTER_MAX; a member without its bit is 0 and means nothing.
 */
struct sample {
    uint64_t handle;
    uint32_t has;   /* bits of enum sample_has */
    bool populated; /* the group holds a live process: proof of life */
    uint64_t cpu_us;
    uint64_t mem_bytes, mem_peak_bytes;
    uint64_t io_read_bytes, io_write_bytes;
    uint64_t net_rx_bytes, net_tx_bytes; /* as the sandbox sees them: its rx is what the host's TAP transmitted */
};

/* Called for every sandbox that has at least one member measured; may not call the sampler. */
typedef void sampler_each(void *arg, const struct sample *sample);

/* Opaque. */
struct sampler;

/* cgroup_root: where the paths of sandboxes start, absolute; NULL or "": groups are not read. It need not
 * exist yet. links: read TAPs (of the
 * network namespace that the calling thread is in). With neither every sample is empty. IO (no netlink), NOMEM. */
SG_MUST_USE enum sg_error sampler_new(struct sampler **out, const char *cgroup_root, bool links, struct sg_fault *f);
/* NULL is allowed. */
void sampler_free(struct sampler *s);
/* Watches a sandbox under the caller's handle (unique among those watched; STATE when it is not). cgroup: path below
 * the root, NULL or "": none; it may not leave the root. tap: interface name, NULL or "": none. What does not exist yet
 * is looked for again at every sweep. LIMIT, NOMEM, MALFORMED (a path with "..", too long). */
SG_MUST_USE enum sg_error sampler_add(struct sampler *s, uint64_t handle, const char *cgroup, const char *tap,
                                      struct sg_fault *f);
/* Nothing when the handle is not watched. */
void sampler_remove(struct sampler *s, uint64_t handle);
/* Sandboxes watched. */
size_t sampler_count(const struct sampler *s);
/* Reads all. */
void sampler_sweep(struct sampler *s, sampler_each *each, void *arg);
/* Reads one, as for a sandbox that is about to go; false when it is not watched. *out is filled on true. */
SG_MUST_USE bool sampler_read(struct sampler *s, uint64_t handle, struct sample *out);

#endif
