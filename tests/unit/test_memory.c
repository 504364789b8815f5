#include "aggregator/rollup/memory.h"

#include <criterion/criterion.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"

static void no_pointer(void)
{
    (void)memory_checked(NULL);
}

static void no_result(void)
{
    memory_sufficed(SG_ERR_OVERFLOW);
    memory_sufficed(SG_ERR_NOMEM);
}

/* What a process that lacks memory writes before it ends, into text; its exit status. */
static int run_out_of_memory(void (*lack)(void), char *text, size_t size)
{
    int ends[2], status = -1;
    cr_assert_eq(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        log_to(ends[1]);
        lack();
        _exit(EXIT_SUCCESS);
    }
    close(ends[1]);
    ssize_t length = read(ends[0], text, size - 1);
    text[length > 0 ? length : 0] = '\0';
    close(ends[0]);
    cr_assert_eq(waitpid(child, &status, 0), child);
    return status;
}

Test(memory, want_of_it_ends_the_process_with_a_word_and_no_signal)
{
    static void (*const lacks[])(void) = {no_pointer, no_result};
    for (size_t i = 0; i < sizeof lacks / sizeof *lacks; i++) {
        char text[512];
        int status = run_out_of_memory(lacks[i], text, sizeof text);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FAILURE, "status %d", status);
        cr_assert(strstr(text, "event=stopped error=NOMEM reason=\"no memory for the rollup\"\n"), "%s", text);
    }
}
