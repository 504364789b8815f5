/* The operating system behind struct spool_io. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "collector/spool.h"

static ssize_t real_pwritev(void *arg, int fd, const struct iovec *iov, int count, off_t offset)
{
    (void)arg;
    return pwritev(fd, iov, count, offset);
}

static ssize_t real_pread(void *arg, int fd, void *bytes, size_t length, off_t offset)
{
    (void)arg;
    return pread(fd, bytes, length, offset);
}

static int real_fdatasync(void *arg, int fd)
{
    (void)arg;
    return fdatasync(fd);
}

static int real_fsync(void *arg, int fd)
{
    (void)arg;
    return fsync(fd);
}

static int real_fallocate(void *arg, int fd, off_t offset, off_t length)
{
    (void)arg;
    return posix_fallocate(fd, offset, length);
}

static int real_ftruncate(void *arg, int fd, off_t length)
{
    (void)arg;
    return ftruncate(fd, length);
}

static int real_rename(void *arg, int directory_fd, const char *from, const char *to)
{
    (void)arg;
    return renameat(directory_fd, from, directory_fd, to);
}

static int real_unlink(void *arg, int directory_fd, const char *name)
{
    (void)arg;
    return unlinkat(directory_fd, name, 0);
}

const struct spool_io spool_io_real = {
    .pwritev = real_pwritev,
    .pread = real_pread,
    .fdatasync = real_fdatasync,
    .fsync = real_fsync,
    .fallocate = real_fallocate,
    .ftruncate = real_ftruncate,
    .rename = real_rename,
    .unlink = real_unlink,
};
