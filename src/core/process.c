/*
 * process.c - state of other processes; runs programs.
 */
#include "simile/file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
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

bool sim_process_exists(long pid)
{
    return pid > 0 && (kill((pid_t)pid, 0) == 0 || errno == EPERM);
}

/* The first line of a file of the system; "" if there is none. */
static void read_line_of(const char *path, char out[64])
{
    FILE *f = fopen(path, "re");

    out[0] = '\0';
    if (!f)
        return;
    if (!fgets(out, 64, f))
        out[0] = '\0';
    out[strcspn(out, "\n")] = '\0';
    (void)fclose(f);
}

void sim_process_machine(char boot[64], char machine[64])
{
    read_line_of("/proc/sys/kernel/random/boot_id", boot);
    read_line_of("/etc/machine-id", machine);
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

sim_status sim_process_program(char out[PATH_MAX])
{
    sim_status st = SIM_OK;
    const ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 1);

    SIM_CHECK(n > 0, SIM_E_IO, "/proc/self/exe: the path of the program is unknown: %s",
              strerror(errno));
    out[n] = '\0';
done:
    return st;
}

/* ---- a program in the foreground ---- */

static volatile sig_atomic_t last_signal;
static volatile pid_t child; /* 0: none */
static bool is_first_sent_as_usr1;

/* May run between any two instructions: uses only async-signal-safe functions. */
static void pass_on(int number)
{
    const bool is_first = last_signal == 0;

    last_signal = number;
    if (child > 0)
        (void)kill(child, is_first && is_first_sent_as_usr1 ? SIGUSR1 : number);
}

static void stop_signals(sigset_t *out)
{
    (void)sigemptyset(out);
    (void)sigaddset(out, SIGUSR1);
    (void)sigaddset(out, SIGTERM);
    (void)sigaddset(out, SIGINT);
}

void sim_process_watch_signals(bool first_as_usr1)
{
    static const int numbers[] = {SIGUSR1, SIGTERM, SIGINT};
    struct sigaction action;

    memset(&action, 0, sizeof action);
    action.sa_handler = pass_on;
    action.sa_flags = SA_RESTART;
    stop_signals(&action.sa_mask);
    is_first_sent_as_usr1 = first_as_usr1;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        (void)sigaction(numbers[i], &action, NULL);
}

int sim_process_last_signal(void)
{
    return (int)last_signal;
}

/* Replaces the child process by the program; returns errno if that fails. */
static int become_program(const char *const *argv, int output, pid_t parent,
                          const sigset_t *mask)
{
    (void)setpgid(
        0, 0); /* Ctrl-C on a terminal reaches the program only through its parent */
    (void)prctl(PR_SET_PDEATHSIG, SIGUSR1);
    if (getppid() != parent)
        return ESRCH;
    const int empty = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (empty < 0 || dup2(empty, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 ||
        dup2(output, STDERR_FILENO) < 0)
        return errno;
    (void)signal(SIGPIPE, SIG_DFL);
    (void)signal(SIGXFSZ, SIG_DFL);
    (void)sigprocmask(SIG_SETMASK, mask, NULL);
    (void)execvp(argv[0], (char *const *)argv);
    return errno;
}

/* Waits until the program is running; returns the errno that the child sent, or 0. */
static int read_start_error(int fd)
{
    int error = 0;
    ssize_t n = 0;
    while ((n = read(fd, &error, sizeof error)) < 0 && errno == EINTR)
        ;
    return n == (ssize_t)sizeof error ? error : 0;
}

/* Starts the program, unless a signal has been received, with the signals blocked until `child` is
 * set. */
static pid_t start_program(const char *const *argv, int output, const int ends[2])
{
    sigset_t signals, before;
    const pid_t parent = getpid();
    pid_t pid = 0;

    stop_signals(&signals);
    (void)sigprocmask(SIG_BLOCK, &signals, &before);
    if (last_signal == 0)
        pid = fork();
    if (last_signal == 0 && pid == 0) {
        const int error = become_program(argv, output, parent, &before);
        const ssize_t n = write(ends[1], &error, sizeof error);
        _exit(n == (ssize_t)sizeof error ? 127 : 126);
    }
    child = pid > 0 ? pid : 0;
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    return pid;
}

static int wait_for_program(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    child = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

sim_status sim_process_run(const char *const *argv, const char *output, int *code)
{
    sim_status st = SIM_OK;
    int ends[2] = {-1, -1}, fd = -1;

    SIM_TRY(sim_file_open_append(output, &fd));
    SIM_CHECK(pipe2(ends, O_CLOEXEC) == 0, SIM_E_IO, "%s: cannot create a pipe: %s",
              argv[0], strerror(errno));
    const pid_t pid = start_program(argv, fd, ends);
    SIM_CHECK(pid >= 0, SIM_E_INSTALL, "%s cannot be started: %s", argv[0],
              strerror(errno));
    *code = -1;
    if (pid == 0)
        goto done;
    (void)close(ends[1]);
    ends[1] = -1;
    const int error = read_start_error(ends[0]);
    *code = wait_for_program(pid);
    SIM_CHECK(error == 0, SIM_E_INSTALL, "%s cannot be started: %s", argv[0],
              strerror(error));
done:
    for (int i = 0; i < 2; i++)
        if (ends[i] >= 0)
            (void)close(ends[i]);
    SIM_IGNORE(sim_file_close(&fd, output));
    return st;
}
