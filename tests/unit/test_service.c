#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/service.h"

Test(service, ignores_sigpipe)
{
    int end[2];
    service_setup(64);
    cr_assert_eq(pipe(end), 0);
    close(end[0]);
    cr_assert_eq(write(end[1], "x", 1), -1);
    close(end[1]);
}

Test(service, a_limit_on_file_sizes_is_an_error_and_no_signal)
{
    FILE *file = tmpfile();
    struct rlimit limit = {.rlim_cur = 1, .rlim_max = RLIM_INFINITY};
    service_setup(64);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    cr_assert_eq(pwrite(fileno(file), "x", 1, 1), -1);
    cr_assert_eq(errno, EFBIG);
    fclose(file);
}

Test(service, has_no_watchdog_without_a_service_manager)
{
    unsetenv("WATCHDOG_USEC");
    unsetenv("NOTIFY_SOCKET");
    cr_assert_eq(service_watchdog_ms(), 0);
    service_ready();
    service_alive();
}

Test(service, tells_the_service_manager)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    char folder[] = P_tmpdir "/test_service.XXXXXX", text[64];
    cr_assert_not_null(mkdtemp(folder));
    snprintf(at.sun_path, sizeof at.sun_path, "%s/notify", folder);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    setenv("NOTIFY_SOCKET", at.sun_path, 1);
    setenv("WATCHDOG_USEC", "20000000", 1);
    unsetenv("WATCHDOG_PID");
    cr_assert_eq(service_watchdog_ms(), 10000);
    service_ready();
    ssize_t got = recv(fd, text, sizeof text - 1, 0);
    cr_assert_gt(got, 0);
    text[got] = '\0';
    cr_assert_str_eq(text, "READY=1");
    close(fd);
    unlink(at.sun_path);
    rmdir(folder);
}
