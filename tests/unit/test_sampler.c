/* The sampler on a tree of files, on a real group of cgroup v2, and on a real TAP in a network namespace of its own. */
#include "collector/sampler.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/tree_fixture.h"

static char root[64];

static void make_root(void)
{
    snprintf(root, sizeof root, P_tmpdir "/sandglass-sampler-XXXXXX");
    cr_assert(mkdtemp(root));
}

static void remove_root(void)
{
    remove_tree(root);
}

TestSuite(sampler, .timeout = 60);

static void put_file(const char *group, const char *name, const char *content)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s/%s", root, group, name);
    FILE *f = fopen(path, "w");
    cr_assert(f, "%s", path);
    fputs(content, f);
    cr_assert_eq(fclose(f), 0);
}

static void make_group(const char *group)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, group);
    cr_assert_eq(mkdir(path, 0700), 0);
}

static struct sampler *new_sampler(const char *cgroup_root, bool links)
{
    struct sampler *s;
    struct sg_fault f = {0};
    cr_assert_eq(sampler_new(&s, cgroup_root, links, &f), SG_OK, "%s", f.text);
    return s;
}

static void add(struct sampler *s, uint64_t handle, const char *cgroup, const char *tap)
{
    struct sg_fault f = {0};
    cr_assert_eq(sampler_add(s, handle, cgroup, tap, &f), SG_OK, "%s", f.text);
}

/* What a sweep said, by handle. */
struct seen {
    struct sample sample[64];
    size_t count;
};

static void see(void *arg, const struct sample *sample)
{
    struct seen *seen = arg;
    cr_assert_lt(seen->count, 64u);
    seen->sample[seen->count++] = *sample;
}

static struct sample swept(struct sampler *s, uint64_t handle)
{
    struct seen seen = {0};
    sampler_sweep(s, see, &seen);
    for (size_t i = 0; i < seen.count; i++)
        if (seen.sample[i].handle == handle) return seen.sample[i];
    return (struct sample){.handle = handle};
}

/* ---- a tree of files ---- */

Test(sampler, every_file_gives_its_metric, .init = make_root, .fini = remove_root)
{
    make_group("a");
    put_file("a", "cpu.stat", "usage_usec 1234567\nuser_usec 1\nsystem_usec 2\n");
    put_file("a", "memory.current", "4096\n");
    put_file("a", "memory.peak", "8192\n");
    put_file("a", "io.stat",
             "8:0 rbytes=100 wbytes=20 rios=1 wios=1 dbytes=7 dios=0\n"
             "8:16 rbytes=1000 wbytes=200 rios=1 wios=1 dbytes=0 dios=0\n");
    put_file("a", "cgroup.events", "populated 1\nfrozen 0\n");
    struct sampler *s = new_sampler(root, false);
    add(s, 7, "a", NULL);
    struct sample x = swept(s, 7);
    cr_assert_eq(x.has, SAMPLE_CPU | SAMPLE_MEM | SAMPLE_MEM_PEAK | SAMPLE_IO | SAMPLE_LIFE);
    cr_assert_eq(x.cpu_us, 1234567u);
    cr_assert_eq(x.mem_bytes, 4096u);
    cr_assert_eq(x.mem_peak_bytes, 8192u);
    cr_assert_eq(x.io_read_bytes, 1100u);
    cr_assert_eq(x.io_write_bytes, 220u);
    cr_assert(x.populated);
    struct sample one;
    cr_assert(sampler_read(s, 7, &one));
    cr_assert_arr_eq(&one, &x, sizeof one);
    cr_assert_not(sampler_read(s, 8, &one));
    sampler_free(s);
}

Test(sampler, what_is_missing_or_not_understood_is_unavailable_and_not_zero, .init = make_root, .fini = remove_root)
{
    make_group("a");
    struct sampler *s = new_sampler(root, false);
    add(s, 1, "a", NULL);
    add(s, 2, "not-there-yet", NULL);
    add(s, 3, NULL, NULL);
    struct seen seen = {0};
    sampler_sweep(s, see, &seen);
    cr_assert_eq(seen.count, 0u);

    put_file("a", "memory.current", "12\n");
    cr_assert_eq(swept(s, 1).has, SAMPLE_MEM, "a file that appears is found");
    make_group("not-there-yet");
    put_file("not-there-yet", "io.stat", "");
    struct sample x = swept(s, 2);
    cr_assert_eq(x.has, SAMPLE_IO, "no device yet is a measured zero");
    cr_assert_eq(x.io_read_bytes, 0u);

    static const char *const bad[] = {
        "", "\n", "x\n", "-1\n", "1.5\n", "12 34\n", "9007199254740992\n", "99999999999999999999999\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_file("a", "memory.current", bad[i]);
        cr_assert_eq(swept(s, 1).has, 0u, "case %zu", i);
    }
    put_file("a", "memory.current", "9007199254740991\n");
    cr_assert_eq(swept(s, 1).mem_bytes, 9007199254740991u);
    static const char *const bad_io[] = {"8:0 rbytes=x wbytes=1\n", "8:0 rbytes=1 wbytes=\n",
                                         "8:0 rbytes=9007199254740991 wbytes=0\n8:16 rbytes=1 wbytes=0\n"};
    for (size_t i = 0; i < sizeof bad_io / sizeof *bad_io; i++) {
        put_file("a", "io.stat", bad_io[i]);
        cr_assert_not(swept(s, 1).has & SAMPLE_IO, "case %zu", i);
    }
    put_file("a", "cpu.stat", "user_usec 5\nxusage_usec 7\n");
    cr_assert_not(swept(s, 1).has & SAMPLE_CPU);
    put_file("a", "cgroup.events", "populated 2\n");
    cr_assert_not(swept(s, 1).has & SAMPLE_LIFE);
    sampler_free(s);
}

Test(sampler, a_root_that_comes_later_is_found, .init = make_root, .fini = remove_root)
{
    char later[128];
    snprintf(later, sizeof later, "%s/slice", root);
    struct sampler *s = new_sampler(later, false);
    add(s, 1, "a", NULL);
    cr_assert_eq(swept(s, 1).has, 0u);
    make_group("slice");
    make_group("slice/a");
    put_file("slice/a", "memory.current", "5\n");
    cr_assert_eq(swept(s, 1).has, SAMPLE_MEM);
    sampler_free(s);
}

Test(sampler, a_path_never_leaves_its_root, .init = make_root, .fini = remove_root)
{
    char inner[128], path[256];
    snprintf(inner, sizeof inner, "%s/inner", root);
    cr_assert_eq(mkdir(inner, 0700), 0);
    make_group("outside");
    put_file("outside", "memory.current", "5\n");
    snprintf(path, sizeof path, "%s/link", inner);
    cr_assert_eq(symlink("../outside", path), 0);
    struct sampler *s = new_sampler(inner, false);
    struct sg_fault f = {0};
    cr_assert_eq(sampler_add(s, 1, "../outside", NULL, &f), SG_ERR_MALFORMED);
    cr_assert_eq(sampler_add(s, 1, "a/..", NULL, &f), SG_ERR_MALFORMED);
    cr_assert_eq(sampler_add(s, 1, "a", "an-interface-name-too-long", &f), SG_ERR_MALFORMED);
    add(s, 1, "link", NULL);
    add(s, 2, "a..b", NULL); /* two dots in a name are a name */
    cr_assert_eq(swept(s, 1).has, 0u);
    sampler_free(s);
}

Test(sampler, many_come_and_go_and_each_keeps_its_own, .init = make_root, .fini = remove_root)
{
    enum { GROUPS = 50, ROUNDS = 4000 };
    for (unsigned i = 0; i < GROUPS; i++) {
        char group[16], content[16];
        snprintf(group, sizeof group, "g%u", i);
        snprintf(content, sizeof content, "%u\n", 1000 + i);
        make_group(group);
        put_file(group, "memory.current", content);
    }
    struct sampler *s = new_sampler(root, false);
    struct sg_fault f = {0};
    bool watched[GROUPS] = {false};
    size_t count = 0;
    uint32_t random = 12345;
    for (int round = 0; round < ROUNDS; round++) {
        random = random * 1664525u + 1013904223u;
        unsigned i = (random >> 8) % GROUPS;
        uint64_t handle = (uint64_t)i << 32 | 0x5a; /* handles that differ in high bits only */
        char group[16];
        snprintf(group, sizeof group, "g%u", i);
        if (watched[i]) {
            cr_assert_eq(sampler_add(s, handle, group, NULL, &f), SG_ERR_STATE);
            struct sample x;
            cr_assert(sampler_read(s, handle, &x));
            cr_assert_eq(x.mem_bytes, 1000 + i);
            sampler_remove(s, handle);
            count--;
        } else {
            sampler_remove(s, handle);
            add(s, handle, group, NULL);
            count++;
        }
        watched[i] = !watched[i];
        cr_assert_eq(sampler_count(s), count);
    }
    struct seen seen = {0};
    sampler_sweep(s, see, &seen);
    cr_assert_eq(seen.count, count);
    for (size_t i = 0; i < seen.count; i++) {
        cr_assert(watched[seen.sample[i].handle >> 32]);
        cr_assert_eq(seen.sample[i].mem_bytes, 1000 + (seen.sample[i].handle >> 32));
    }
    sampler_free(s);
}

Test(sampler, without_descriptors_metrics_are_unavailable_until_there_are_some, .init = make_root, .fini = remove_root)
{
    make_group("a");
    put_file("a", "memory.current", "5\n");
    struct sampler *s = new_sampler(root, false);
    add(s, 1, "a", NULL);
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    struct rlimit none = {.rlim_cur = 3, .rlim_max = limit.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    struct sample x = swept(s, 1);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    cr_assert_eq(x.has, 0u);
    cr_assert_eq(swept(s, 1).has, SAMPLE_MEM);
    sampler_free(s);
}

/* ---- a real group of cgroup v2 ---- */

/* Where cgroup v2 is mounted: where it is, or where this test mounts it, in a mount namespace of its own. */
static void find_cgroup2(char out[static 256])
{
    FILE *mounts = fopen("/proc/self/mounts", "r");
    cr_assert(mounts);
    char line[1024], type[64];
    while (fgets(line, sizeof line, mounts)) {
        if (sscanf(line, "%*s %255s %63s", out, type) == 2 && strcmp(type, "cgroup2") == 0) {
            fclose(mounts);
            return;
        }
    }
    fclose(mounts);
    snprintf(out, 256, "%s", P_tmpdir "/sandglass-cgroup2-XXXXXX");
    cr_assert(mkdtemp(out));
    cr_assert_eq(unshare(CLONE_NEWNS), 0, "no cgroup v2 is mounted, and this user may not mount one");
    cr_assert_eq(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    cr_assert_eq(mount("none", out, "cgroup2", 0, NULL), 0, "no cgroup v2 on this machine: %s", strerror(errno));
}

/* A process in the group that computes until it is killed. */
static pid_t start_burner(const char *group)
{
    char path[512];
    snprintf(path, sizeof path, "%s/cgroup.procs", group);
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        FILE *f = fopen(path, "w");
        if (!f || fprintf(f, "%d\n", (int)getpid()) < 0 || fclose(f)) _exit(1);
        for (volatile uint64_t x = 0;; x++) continue;
    }
    return pid;
}

static void stop(pid_t pid)
{
    int status;
    cr_assert_eq(kill(pid, SIGKILL), 0);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFSIGNALED(status), "the process could not enter the group: this test needs root");
}

/* Sweeps until the sample has what is asked for, or ten seconds are over. */
static struct sample await(struct sampler *s, bool populated, uint64_t cpu_us_above)
{
    struct sample x = {0};
    for (int i = 0; i < 1000; i++) {
        x = swept(s, 1);
        if ((x.has & SAMPLE_LIFE) && x.populated == populated && (x.has & SAMPLE_CPU) && x.cpu_us > cpu_us_above)
            return x;
        poll(NULL, 0, 10);
    }
    cr_assert_fail("has=%x populated=%d cpu_us=%llu", x.has, x.populated, (unsigned long long)x.cpu_us);
    return x;
}

Test(sampler, a_real_group_counts_lives_dies_goes_and_comes_back)
{
    char mounted[256], name[64], group[384];
    find_cgroup2(mounted);
    snprintf(name, sizeof name, "sandglass-test-%d", (int)getpid());
    snprintf(group, sizeof group, "%s/%s", mounted, name);
    cr_assert_eq(mkdir(group, 0755), 0, "%s: %s: this test needs root", group, strerror(errno));
    struct sampler *s = new_sampler(mounted, false);
    add(s, 1, name, NULL);
    struct sample x = swept(s, 1);
    cr_assert(x.has & SAMPLE_LIFE);
    cr_assert_not(x.populated);

    pid_t pid = start_burner(group);
    uint64_t early = await(s, true, 20000).cpu_us;
    uint64_t later = await(s, true, early + 50000).cpu_us;
    cr_assert_gt(later, early);
    stop(pid);
    await(s, false, later - 1);

    cr_assert_eq(rmdir(group), 0);
    cr_assert_eq(swept(s, 1).has, 0u, "a removed group is unavailable");
    cr_assert_eq(swept(s, 1).has, 0u);
    cr_assert_eq(mkdir(group, 0755), 0);
    x = swept(s, 1);
    cr_assert((x.has & SAMPLE_CPU) && (x.has & SAMPLE_LIFE));
    cr_assert_lt(x.cpu_us, later, "a new group counts from zero");
    cr_assert_eq(rmdir(group), 0);
    sampler_free(s);
}

/* ---- a real TAP ---- */

static int make_tap(const char *name)
{
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    cr_assert_geq(fd, 0, "/dev/net/tun: %s", strerror(errno));
    struct ifreq r = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
    cr_assert_eq(ioctl(fd, TUNSETIFF, &r), 0, "TUNSETIFF: %s", strerror(errno));
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    r.ifr_flags = IFF_UP | IFF_NOARP;
    cr_assert_eq(ioctl(control, SIOCSIFFLAGS, &r), 0);
    close(control);
    return fd;
}

/* The host sends count frames of length bytes over the link; the sandbox (the TAP's holder) takes them. */
static uint64_t send_to_sandbox(int tap_fd, const char *name, unsigned count, size_t length)
{
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(name), .sll_halen = ETH_ALEN};
    uint8_t frame[2048] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5}, got[2048];
    uint64_t bytes = 0;
    for (unsigned i = 0; i < count;) {
        cr_assert_eq(sendto(fd, frame, length, 0, (struct sockaddr *)&to, sizeof to), (ssize_t)length);
        struct pollfd p = {.fd = tap_fd, .events = POLLIN};
        cr_assert_eq(poll(&p, 1, 5000), 1);
        for (ssize_t n; (n = read(tap_fd, got, sizeof got)) > 0;) {
            bytes += (uint64_t)n;
            i += got[12] == 0x88 && got[13] == 0xb5;
        }
    }
    close(fd);
    return bytes;
}

static uint64_t send_from_sandbox(int tap_fd, unsigned count, size_t length)
{
    uint8_t frame[2048] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 2, 0x88, 0xb5};
    for (unsigned i = 0; i < count; i++) cr_assert_eq(write(tap_fd, frame, length), (ssize_t)length);
    return (uint64_t)count * length;
}

Test(sampler, a_tap_is_counted_as_the_sandbox_sees_it)
{
    cr_assert_eq(unshare(CLONE_NEWNET), 0, "a network namespace of its own: %s: this test needs root", strerror(errno));
    struct sampler *s = new_sampler(NULL, true);
    add(s, 1, NULL, "sgtap0");
    add(s, 2, NULL, "sgtap1");
    cr_assert_eq(swept(s, 1).has, 0u, "no such link yet");
    int tap = make_tap("sgtap0"), other = make_tap("sgtap1");
    /* no address, no IPv6 chatter can be excluded: what the kernel itself sends is counted where it is read */
    uint64_t to_sandbox = send_to_sandbox(tap, "sgtap0", 40, 1000);
    uint64_t from_sandbox = send_from_sandbox(tap, 30, 500);
    struct sample x = swept(s, 1);
    cr_assert_eq(x.has, SAMPLE_NET);
    cr_assert_geq(to_sandbox, 40000u);
    cr_assert_geq(x.net_rx_bytes, to_sandbox);
    cr_assert_lt(x.net_rx_bytes, to_sandbox + 2000, "a few router solicitations at most");
    cr_assert_eq(x.net_tx_bytes, from_sandbox);
    struct sample y = swept(s, 2);
    cr_assert_eq(y.has, SAMPLE_NET);
    cr_assert_eq(y.net_tx_bytes, 0u);
    struct sample one;
    cr_assert(sampler_read(s, 1, &one));
    cr_assert_eq(one.net_tx_bytes, from_sandbox);

    close(tap); /* the link goes; another one takes its name */
    cr_assert_eq(swept(s, 1).has, 0u);
    cr_assert(sampler_read(s, 1, &one));
    cr_assert_eq(one.has, 0u);
    cr_assert_eq(swept(s, 2).has, SAMPLE_NET);
    tap = make_tap("sgtap0");
    uint64_t again = send_from_sandbox(tap, 3, 100);
    x = swept(s, 1);
    cr_assert_eq(x.has, SAMPLE_NET);
    cr_assert_eq(x.net_tx_bytes, again);
    close(tap);
    close(other);
    sampler_free(s);
}

Test(sampler, hundreds_of_links_are_read_in_one_sweep)
{
    enum { TAPS = 300 };
    cr_assert_eq(unshare(CLONE_NEWNET), 0, "a network namespace of its own: %s: this test needs root", strerror(errno));
    struct sampler *s = new_sampler(NULL, true);
    int fd[TAPS];
    for (unsigned i = 0; i < TAPS; i++) {
        char name[IFNAMSIZ];
        snprintf(name, sizeof name, "sgt%u", i);
        fd[i] = make_tap(name);
        add(s, i, NULL, name);
        if (i % 10 == 0) (void)!send_from_sandbox(fd[i], 1 + i / 10, 100);
    }
    for (unsigned i = 0; i < TAPS; i += 10) {
        struct sample x;
        cr_assert(sampler_read(s, i, &x));
        cr_assert_eq(x.net_tx_bytes, (1 + i / 10) * 100u);
    }
    for (unsigned i = TAPS; i-- > 64;) sampler_remove(s, i);
    struct seen seen = {0};
    sampler_sweep(s, see, &seen);
    cr_assert_eq(seen.count, 64u);
    for (size_t i = 0; i < seen.count; i++) {
        uint64_t handle = seen.sample[i].handle;
        cr_assert_eq(seen.sample[i].net_tx_bytes, handle % 10 ? 0u : (1 + handle / 10) * 100u);
    }
    for (unsigned i = 0; i < TAPS; i++) close(fd[i]);
    sampler_free(s);
}
