/* The operating system behind struct spool_io. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "collector/spool.h"

static int real_open_directory(void *arg, const char *path)
{
    (void)arg;
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int real_open(void *arg, int directory_fd, const char *name, int flags)
{
    (void)arg;
    return openat(directory_fd, name, flags | O_CLOEXEC, 0600);
}

static void real_close(void *arg, int fd)
{
    (void)arg;
    close(fd);
}

static int real_lock(void *arg, int fd)
{
    (void)arg;
    return flock(fd, LOCK_EX | LOCK_NB);
}

static int real_list(void *arg, int directory_fd, spool_take_name *take, void *taker)
{
    (void)arg;
    int fd = dup(directory_fd);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        int error = errno;
        if (fd >= 0) close(fd);
        errno = error;
        return -1;
    }
    errno = 0;
    for (struct dirent *d; (d = readdir(dir)) && take(taker, d->d_name); errno = 0) continue;
    int error = errno;
    closedir(dir);
    errno = error;
    return error ? -1 : 0;
}

static int real_size(void *arg, int fd, uint64_t *bytes)
{
    (void)arg;
    struct stat st;
    if (fstat(fd, &st)) return -1;
    *bytes = (uint64_t)st.st_size;
    return 0;
}

static void real_sequential(void *arg, int fd)
{
    (void)arg;
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
}

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
    .open_directory = real_open_directory,
    .open = real_open,
    .close = real_close,
    .lock = real_lock,
    .list = real_list,
    .size = real_size,
    .sequential = real_sequential,
    .pwritev = real_pwritev,
    .pread = real_pread,
    .fdatasync = real_fdatasync,
    .fsync = real_fsync,
    .fallocate = real_fallocate,
    .ftruncate = real_ftruncate,
    .rename = real_rename,
    .unlink = real_unlink,
};
