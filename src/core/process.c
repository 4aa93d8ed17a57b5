/*
 * process.c - state of other processes, and the output of a program.
 */
#include "simile/file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

long sim_process_id(void)
{
    return (long)getpid();
}

bool sim_process_query(long pid, sim_process *out)
{
    char path[64], text[1024] = "";

    *out = (sim_process){.state = '\0'};
    (void)snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    size_t n = fread(text, 1, sizeof text - 1, f);
    (void)fclose(f);
    text[n] = '\0';
    /* Field 2, the name in parentheses, may contain any bytes. Field 22 is the start time, the
     * 20th field after it. */
    const char *p = strrchr(text, ')');
    if (!p || p[1] != ' ')
        return false;
    out->state = p[2];
    for (int field = 0; p && field < 20; field++)
        p = strchr(p + 1, ' ');
    if (p)
        (void)snprintf(out->start_ticks, sizeof out->start_ticks, "%.*s",
                       (int)strcspn(p + 1, " "), p + 1);
    return true;
}

void sim_process_namespace(char *out, size_t out_bytes)
{
    ssize_t n = readlink("/proc/self/ns/pid", out, out_bytes - 1);
    out[n > 0 ? n : 0] = '\0';
}

/* Starts a program with empty standard input; its output goes to `fd`. */
static int spawn_program(const char *const *argv, int fd, pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY,
                                           0);
    (void)posix_spawn_file_actions_adddup2(&actions, fd, STDOUT_FILENO);
    (void)posix_spawn_file_actions_adddup2(&actions, fd, STDERR_FILENO);
    int error = posix_spawnp(pid, argv[0], &actions, NULL, (char *const *)argv, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    return error;
}

/* Reads until the end of file and drops what exceeds out_bytes; false if nothing arrives for
 * `wait_ms`. */
static bool read_output(int fd, int wait_ms, char *out, size_t out_bytes)
{
    char excess[256];
    size_t used = 0;
    out[0] = '\0';
    for (;;) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        int n_ready = poll(&ready, 1, wait_ms);
        if (n_ready < 0 && errno == EINTR)
            continue;
        if (n_ready <= 0)
            return false;
        bool fits = used + 1 < out_bytes;
        ssize_t n = read(fd, fits ? out + used : excess,
                         fits ? out_bytes - 1 - used : sizeof excess);
        if (n <= 0)
            return true;
        used += fits ? (size_t)n : 0;
        out[used] = '\0';
    }
}

sim_status sim_process_output(const char *const *argv, int wait_ms, char *out,
                              size_t out_bytes, int *code)
{
    sim_status st = SIM_OK;
    int ends[2] = {-1, -1}, status = 0;
    pid_t pid = -1;

    SIM_CHECK(pipe2(ends, O_CLOEXEC) == 0, SIM_E_IO, "%s: cannot create a pipe: %s",
              argv[0], strerror(errno));
    int error = spawn_program(argv, ends[1], &pid);
    SIM_CHECK(error == 0, SIM_E_INSTALL, "%s cannot be started: %s", argv[0],
              strerror(error));
    (void)close(ends[1]);
    ends[1] = -1;
    bool finished = read_output(ends[0], wait_ms, out, out_bytes);
    if (!finished)
        (void)kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    SIM_CHECK(finished, SIM_E_IO, "%s printed nothing for %d ms and was killed", argv[0],
              wait_ms);
    *code = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
done:
    for (int i = 0; i < 2; i++)
        if (ends[i] >= 0)
            (void)close(ends[i]);
    return st;
}
