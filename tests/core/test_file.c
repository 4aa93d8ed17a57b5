/*
 * test_file.c - file operations with system calls that fail, are short or are interrupted.
 *
 * After any failure of sim_file_replace the file has its old or its complete new content, and no
 * temporary file remains.
 */
#include "simile_test.h"

#include "simile/file.h"
#include "simile/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* The injected fault: one call fails, or that and all later ones; transfers are short. */
static struct {
    int left; /* calls up to the one that fails; 0: none fails */
    int error_number;
    bool permanent, failed, short_transfers, no_progress;
    size_t n_calls;
} fault;

static bool fails(void)
{
    fault.n_calls++;
    if (!(fault.permanent && fault.failed)) {
        if (fault.left == 0 || --fault.left != 0)
            return false;
        fault.failed = true;
    }
    errno = fault.error_number;
    return true;
}

static size_t limit_length(size_t n)
{
    if (fault.no_progress)
        return 0;
    return fault.short_transfers && n > 3 ? 3 : n;
}

static int bad_open(const char *path, int flags, mode_t mode)
{
    return fails() ? -1 : sim_file_posix.open(path, flags, mode);
}

static ssize_t bad_pread(int fd, void *p, size_t n, off_t at)
{
    return fails() ? -1 : pread(fd, p, limit_length(n), at);
}

static ssize_t bad_write(int fd, const void *p, size_t n)
{
    return fails() ? -1 : write(fd, p, limit_length(n));
}

static ssize_t bad_pwrite(int fd, const void *p, size_t n, off_t at)
{
    return fails() ? -1 : pwrite(fd, p, limit_length(n), at);
}

static int bad_fsync(int fd)
{
    return fails() ? -1 : fsync(fd);
}

static int bad_close(int fd)
{
    bool failed = fails();
    int error = errno;
    (void)close(fd); /* Linux closes the descriptor even if close fails */
    errno = error;
    return failed ? -1 : 0;
}

static int bad_rename(const char *a, const char *b)
{
    return fails() ? -1 : rename(a, b);
}

static int bad_link(const char *a, const char *b)
{
    return fails() ? -1 : link(a, b);
}

static const sim_file_calls bad = {.open = bad_open,
                                   .pread = bad_pread,
                                   .write = bad_write,
                                   .pwrite = bad_pwrite,
                                   .fsync = bad_fsync,
                                   .close = bad_close,
                                   .rename = bad_rename,
                                   .unlink = unlink,
                                   .link = bad_link};

static char directory[] = "/tmp/simile-test-XXXXXX", path[64], other[64];

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(directory))
        return -1;
    (void)snprintf(path, sizeof path, "%s/file", directory);
    (void)snprintf(other, sizeof other, "%s/other", directory);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    (void)unlink(path);
    return rmdir(directory); /* fails if a temporary file remains */
}

static void inject_fault(int k, int error_number, bool short_transfers)
{
    memset(&fault, 0, sizeof fault);
    fault.left = k;
    fault.error_number = error_number;
    fault.short_transfers = short_transfers;
    sim_file_use(&bad);
}

static bool has_content(const char *expected)
{
    char *text = NULL;
    size_t n = 0;
    sim_file_use(NULL);
    ASSERT_OK(sim_file_load(path, 100, &text, &n));
    bool same = strcmp(text, expected) == 0 && n == strlen(expected);
    sim_free(text);
    return same;
}

static void assert_no_temporary(void)
{
    sim_names names = {0};
    ASSERT_OK(sim_directory_list(directory, &names));
    assert_int_equal(names.n, 1);
    sim_names_clear(&names);
}

static const sim_piece old = {"old contents", 12};
static const sim_piece pieces[] = {{"new ", 4}, {"contents", 8}};

static void a_failed_call_leaves_the_old_or_the_new_content(void **state)
{
    (void)state;
    static const int errors[] = {ENOSPC, EDQUOT, EACCES, EIO};
    for (size_t e = 0; e < 4; e++)
        for (int short_transfers = 0; short_transfers < 2; short_transfers++) {
            bool reached = true;
            int k = 1;
            for (; reached; k++) {
                ASSERT_OK(sim_file_replace(path, &old, 1));
                inject_fault(k, errors[e], short_transfers);
                fault.permanent = errors[e] != EIO;
                sim_status st = sim_file_replace(path, pieces, 2);
                sim_file_use(NULL);
                reached = fault.failed;
                bool is_old = has_content("old contents"),
                     is_new = has_content("new contents");
                if (is_old == is_new || (st == SIM_OK && !is_new))
                    fail_msg("call %d, errno %d: %s", k, errors[e], sim_error_message());
                assert_no_temporary();
            }
            assert_true(
                k > 9); /* open, writes, fsync, close, rename, fsync of the directory */
        }
}

static void a_failed_fsync_is_not_retried(void **state)
{
    (void)state;
    int refused = 0;
    for (int k = 1; k <= 9; k++) { /* retried, except for fsync and close */
        ASSERT_OK(sim_file_replace(path, &old, 1));
        inject_fault(k, EIO, false);
        refused += sim_file_replace(path, pieces, 2) != SIM_OK;
    }
    sim_file_use(NULL);
    assert_int_equal(refused, 3);
}

static void interrupted_calls_are_retried(void **state)
{
    (void)state;
    for (int k = 1; k <= 16; k++) {
        ASSERT_OK(sim_file_replace(path, &old, 1));
        inject_fault(k, EINTR, true);
        ASSERT_OK(sim_file_replace(path, pieces, 2));
        assert_true(has_content("new contents"));
        assert_no_temporary();
    }
}

/* Runs one of the other operations on a file that contains "new contents". */
static sim_status run_operation(int which)
{
    sim_status st = SIM_OK;
    int fd = -1;
    uint64_t n = 0;
    char bytes[12], *text = NULL;
    size_t size = 0;
    switch (which) {
    case 0:
        SIM_TRY(sim_file_load(path, 100, &text, &size));
        assert_string_equal(text, "new contents");
        break;
    case 1:
        SIM_TRY(sim_file_open_read(path, &fd, &n));
        SIM_TRY(sim_file_read_at(fd, path, 4, bytes, 8));
        assert_memory_equal(bytes, "contents", 8);
        break;
    case 2:
        SIM_TRY(sim_file_open_update(path, &fd));
        SIM_TRY(sim_file_write_at(fd, path, 4, "CONTENTS", 8));
        SIM_TRY(sim_file_sync(fd, path));
        break;
    case 3:
        SIM_TRY(sim_file_open_append(path, &fd));
        SIM_TRY(sim_file_append(fd, path, ", a line\n"));
        break;
    case 4:
        SIM_TRY(sim_file_rename(path, path));
        break;
    case 5:
        SIM_TRY(sim_directory_sync(directory));
        break;
    default:
        SIM_TRY(sim_file_create_new(other, "text"));
        break;
    }
    SIM_TRY(sim_file_close(&fd, path));
done:
    if (fd >= 0)
        (void)close(fd);
    sim_free(text);
    return st;
}

enum { N_OPERATIONS = 7 };

static void every_operation_reports_its_failed_call(void **state)
{
    (void)state;
    static const char *const after[N_OPERATIONS] = {
        [2] = "new CONTENTS", [3] = "new contents, a line\n"};
    for (int which = 0; which < N_OPERATIONS; which++)
        for (int k = 1;; k++) {
            ASSERT_OK(sim_file_replace(path, pieces, 2));
            inject_fault(k, ENOSPC, true);
            sim_status st = run_operation(which);
            sim_file_use(NULL);
            if (!fault.failed) {
                ASSERT_OK(st);
                assert_true(has_content(after[which] ? after[which] : "new contents"));
                break;
            }
            /* A failed close of a file that was only read may be ignored. */
            bool silent = st == SIM_OK && (which == 0 || which == 5);
            if (!silent && st != SIM_E_IO)
                fail_msg("operation %d, call %d: status %d", which, k, (int)st);
            if (which == 6) /* an incomplete file is removed */
                assert_false(sim_path_exists(other));
        }
    ASSERT_OK(sim_file_remove(other));
    ASSERT_OK(sim_file_remove(other)); /* an absent file is accepted */
}

static void every_operation_retries_interrupted_calls_and_transient_errors(void **state)
{
    (void)state;
    for (int which = 0; which < N_OPERATIONS; which++)
        for (int k = 1; k <= 8; k++) {
            ASSERT_OK(sim_file_replace(path, pieces, 2));
            inject_fault(k, EINTR, true);
            ASSERT_OK(run_operation(which));
            sim_file_use(NULL);
            ASSERT_OK(sim_file_remove(other));
        }
    inject_fault(2, EAGAIN, true);
    ASSERT_OK(run_operation(3));
    inject_fault(1, ESTALE, true);
    ASSERT_OK(run_operation(4));
    sim_file_use(NULL);
}

static void a_permanent_error_is_reported_after_a_few_attempts(void **state)
{
    (void)state;
    ASSERT_OK(sim_file_replace(path, pieces, 2));
    inject_fault(2, EIO, false);
    fault.permanent = true;
    ASSERT_REFUSED(run_operation(1), SIM_E_IO, "cannot be read");
    assert_in_range(fault.n_calls, 3, 10);
    inject_fault(0, 0, false);
    fault.no_progress = true; /* writes of zero bytes without an error */
    ASSERT_REFUSED(run_operation(2), SIM_E_IO, "cannot be written");
    ASSERT_REFUSED(run_operation(3), SIM_E_IO, "cannot be written");
    sim_file_use(NULL);
}

static void symbolic_links_are_not_followed_when_writing(void **state)
{
    (void)state;
    char host[64] = "", temporary[256];
    const sim_piece piece = {"data", 4};
    (void)gethostname(host, sizeof host - 1);
    (void)snprintf(temporary, sizeof temporary, "%s.tmp.%s.%ld", path, host,
                   sim_process_id());
    assert_int_equal(symlink(other, temporary), 0);
    ASSERT_OK(sim_file_replace(path, &piece, 1));
    assert_false(sim_path_exists(other));
    assert_true(has_content("data"));
    assert_int_equal(symlink(other, temporary), 0);
    assert_int_equal(rename(temporary, other), 0);
    int fd = -1; /* nor is a link at the path of a file that is written in place */
    ASSERT_REFUSED(sim_file_open_append(other, &fd), SIM_E_IO, other);
    ASSERT_REFUSED(sim_file_open_update(other, &fd), SIM_E_IO, other);
    ASSERT_OK(sim_file_remove(other));
}

static void only_regular_files_are_written_in_place(void **state)
{
    (void)state;
    int fd = -1;
    assert_int_equal(mkfifo(other, 0600), 0);
    for (int has_reader = 0; has_reader < 2; has_reader++) {
        int reader = has_reader ? open(other, O_RDONLY | O_NONBLOCK) : -1;
        ASSERT_REFUSED(sim_file_open_append(other, &fd), SIM_E_CREATE,
                       "not a regular file");
        ASSERT_REFUSED(sim_file_open_update(other, &fd), SIM_E_CREATE,
                       "not a regular file");
        (void)close(reader);
    }
    ASSERT_OK(sim_file_remove(other));
    ASSERT_REFUSED(sim_file_open_append("/dev/null", &fd), SIM_E_CREATE, "/dev/null");
    ASSERT_REFUSED(sim_file_open_update("/dev/null", &fd), SIM_E_CREATE, "/dev/null");
    assert_int_equal(fd, -1);
}

static void a_path_that_is_too_long_is_refused(void **state)
{
    (void)state;
    static char name[5000];
    memset(name, 'x', sizeof name - 1);
    ASSERT_REFUSED(sim_file_replace(name, &old, 1), SIM_E_IO, "too long");
    ASSERT_REFUSED(sim_directory_create(name), SIM_E_CREATE, "directory path");
    ASSERT_REFUSED(sim_directory_create(""), SIM_E_CREATE, "directory path");
}

static void only_regular_files_are_read(void **state)
{
    (void)state;
    int fd = -1;
    uint64_t n = 0;
    char *text = NULL, byte;
    size_t size = 0;
    ASSERT_OK(sim_file_replace(path, pieces, 2));
    ASSERT_REFUSED(sim_file_open_read("/nowhere/at/all", &fd, &n), SIM_E_INPUT,
                   "/nowhere");
    ASSERT_REFUSED(sim_file_open_read(directory, &fd, &n), SIM_E_INPUT,
                   "not a regular file");
    assert_int_equal(mkfifo(other, 0600), 0);
    ASSERT_REFUSED(sim_file_open_read(other, &fd, &n), SIM_E_INPUT, "not a regular file");
    ASSERT_OK(sim_file_remove(other));
    ASSERT_REFUSED(sim_file_load(path, 11, &text, &size), SIM_E_DATA, "at most");
    char *whole = NULL;
    ASSERT_OK(sim_file_load(path, 12, &whole, &size));
    for (size_t limit = 0; limit <= 13; limit++) { /* the end of a file that is longer */
        ASSERT_OK(sim_file_load_end(path, limit, &text, &size));
        assert_int_equal(size, limit < 12 ? limit : 12);
        assert_memory_equal(text, whole + 12 - size, size);
        assert_int_equal(text[size], 0);
        SIM_FREE(text);
    }
    SIM_FREE(whole);
    ASSERT_REFUSED(sim_file_open_update(other, &fd), SIM_E_INPUT, "other");
    ASSERT_OK(sim_file_open_read(path, &fd, &n));
    assert_int_equal(n, 12);
    ASSERT_REFUSED(sim_file_read_at(fd, path, n, &byte, 1), SIM_E_IO, "ends at byte");
    ASSERT_OK(sim_file_close(&fd, path));
    assert_int_equal(fd, -1);
    ASSERT_OK(sim_file_close(&fd, path));
    ASSERT_REFUSED(sim_file_create_new(path, "x"), SIM_E_CREATE, "already exists");
}

static int no_links(const char *a, const char *b)
{
    (void)a;
    (void)b;
    errno = EPERM;
    return -1;
}

static int lost_reply(const char *a, const char *b)
{
    if (link(a, b) == 0)
        errno = EEXIST;
    return -1;
}

static void a_lock_file_needs_neither_links_nor_reliable_replies(void **state)
{
    (void)state;
    sim_file_calls calls = sim_file_posix;
    calls.link = no_links;
    sim_file_use(&calls);
    ASSERT_OK(sim_file_create_new(other, "holder"));
    ASSERT_REFUSED(sim_file_create_new(other, "second"), SIM_E_CREATE, "already exists");
    ASSERT_OK(sim_file_remove(other));
    calls.link = lost_reply; /* NFS: the request succeeded, was repeated and failed */
    ASSERT_OK(sim_file_create_new(other, "holder"));
    ASSERT_REFUSED(sim_file_create_new(other, "second"), SIM_E_CREATE, "already exists");
    sim_file_use(NULL);
    ASSERT_OK(sim_file_remove(other));
}

static void creation_in_a_missing_directory_has_its_own_code(void **state)
{
    (void)state;
    int fd = -1;
    char missing[128];
    (void)snprintf(missing, sizeof missing, "%s/missing/file", directory);
    ASSERT_REFUSED(sim_file_replace(missing, pieces, 2), SIM_E_CREATE, "No such file");
    ASSERT_REFUSED(sim_file_open_append(missing, &fd), SIM_E_CREATE, "No such file");
    ASSERT_REFUSED(sim_file_create_new(missing, "x"), SIM_E_CREATE, "No such file");
}

static void a_program_prints_its_output_or_is_killed(void **state)
{
    (void)state;
    char out[8];
    int code = 0;
    const char *const printing[] = {"sh", "-c", "echo 123456789; echo more; exit 3",
                                    NULL};
    const char *const sleeping[] = {"sleep", "30", NULL};
    const char *const absent[] = {"no-such-program-here", NULL};
    ASSERT_OK(sim_process_output(printing, 100000, out, sizeof out, &code));
    assert_string_equal(out, "1234567");
    assert_int_equal(code, 3);
    ASSERT_REFUSED(sim_process_output(sleeping, 50, out, sizeof out, &code), SIM_E_IO,
                   "50 ms");
    ASSERT_REFUSED(sim_process_output(absent, 50, out, sizeof out, &code), SIM_E_INSTALL,
                   "cannot be started");
}

static void a_program_in_the_foreground_appends_its_output(void **state)
{
    (void)state;
    const char *const first[] = {"sh", "-c", "echo out; echo error >&2; exit 3", NULL};
    const char *const killed[] = {"sh", "-c", "cat; echo $PPID; kill -9 $$", NULL};
    const char *const absent[] = {"no-such-program-here", NULL};
    char output[128], expected[64], *text = NULL;
    size_t n = 0;
    int code = 0;

    (void)snprintf(output, sizeof output, "%s/output", directory);
    ASSERT_OK(sim_process_run(first, output, &code));
    assert_int_equal(code, 3);
    ASSERT_OK(sim_process_run(killed, output, &code)); /* its standard input is empty */
    assert_int_equal(code, 128 + 9);
    ASSERT_REFUSED(sim_process_run(absent, output, &code), SIM_E_INSTALL,
                   "cannot be started");
    ASSERT_OK(sim_file_load(output, 1000, &text, &n));
    (void)snprintf(expected, sizeof expected, "out\nerror\n%ld\n", sim_process_id());
    assert_string_equal(text, expected);
    sim_free(text);
    ASSERT_OK(sim_file_remove(output));
}

static void a_signal_is_passed_on_and_no_program_is_started_after_it(void **state)
{
    (void)state;
    /* The program signals its parent, and ends when it receives that signal. */
    const char *const waiting[] = {
        "sh", "-c", "trap 'exit 7' USR1; kill -TERM $PPID; while :; do sleep 0.01; done",
        NULL};
    char output[128];
    int code = 0;

    (void)snprintf(output, sizeof output, "%s/output", directory);
    sim_process_watch_signals(true);
    assert_int_equal(sim_process_last_signal(), 0);
    ASSERT_OK(sim_process_run(waiting, output, &code));
    assert_int_equal(code, 7); /* TERM was passed on as USR1 */
    assert_int_equal(sim_process_last_signal(), SIGTERM);
    ASSERT_OK(sim_process_run(waiting, output, &code));
    assert_int_equal(code, -1);
    ASSERT_OK(sim_file_remove(output));
}

static void a_process_is_identified_by_its_start_time(void **state)
{
    (void)state;
    sim_process parent, child;
    char pid_namespace[64];
    assert_true(sim_process_query(sim_process_id(), &parent));
    assert_int_equal(parent.state, 'R');
    assert_in_range(strlen(parent.start_ticks), 1, 20);
    assert_int_equal(strspn(parent.start_ticks, "0123456789"),
                     strlen(parent.start_ticks));
    assert_false(sim_process_query(999999999, &child));
    sim_process_namespace(pid_namespace, sizeof pid_namespace);
    assert_int_equal(strncmp(pid_namespace, "pid:[", 5), 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_NAME,
                    "a) Z 1 (b"); /* a process name may contain any characters */
        (void)raise(SIGSTOP);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(sim_process_query(pid, &child));
    assert_int_equal(child.state, 'T');
    assert_true(strtoll(child.start_ticks, NULL, 10) >=
                strtoll(parent.start_ticks, NULL, 10));
    assert_int_equal(kill(pid, SIGKILL), 0);
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    assert_true(sim_process_query(pid, &child)); /* a zombie until it is reaped */
    assert_int_equal(child.state, 'Z');
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_false(sim_process_query(pid, &child));
}

static void directories_are_created_with_parents_and_listed_in_order(void **state)
{
    (void)state;
    static const char *const expected_names[] = {"B", "a", "a.b", "c"};
    char deep[128], part[128];
    sim_names names = {0};
    uint64_t free_bytes = 0;
    (void)snprintf(deep, sizeof deep, "%s/a//b/c/", directory);
    ASSERT_OK(sim_directory_create(deep));
    ASSERT_OK(sim_directory_create(deep)); /* an existing directory is accepted */
    assert_true(sim_path_is_directory(deep) && !sim_path_is_directory(path));
    (void)snprintf(part, sizeof part, "%s/x", path);
    ASSERT_REFUSED(sim_directory_create(part), SIM_E_CREATE, path);
    (void)snprintf(part, sizeof part, "%s/a/b", directory);
    for (size_t i = 0; i < 3; i++) {
        static const char *const created[] = {"a.b", "a", "B"};
        (void)snprintf(part, sizeof part, "%s/a/b/%s", directory, created[i]);
        ASSERT_OK(sim_directory_create(part));
    }
    (void)snprintf(part, sizeof part, "%s/a/b", directory);
    for (uint64_t k = 1; k <= 5; k++) {
        sim_memory_fail_at(k);
        ASSERT_REFUSED(sim_directory_list(part, &names), SIM_E_IO, "out of memory");
    }
    ASSERT_OK(sim_directory_list(part, &names));
    assert_int_equal(names.n, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(names.names[i], expected_names[i]);
        (void)snprintf(part, sizeof part, "%s/a/b/%s", directory, names.names[i]);
        assert_int_equal(rmdir(part), 0);
    }
    sim_names_clear(&names);
    (void)snprintf(part, sizeof part, "%s/a/b", directory);
    assert_int_equal(rmdir(part), 0);
    (void)snprintf(part, sizeof part, "%s/a", directory);
    assert_int_equal(rmdir(part), 0);
    ASSERT_REFUSED(sim_directory_list(part, &names), SIM_E_INPUT, part);
    ASSERT_REFUSED(sim_directory_sync(part), SIM_E_INPUT, part);
    ASSERT_REFUSED(sim_path_free_bytes(part, &free_bytes), SIM_E_INPUT, part);
    ASSERT_OK(sim_path_free_bytes(directory, &free_bytes));
    assert_true(free_bytes > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_call_leaves_the_old_or_the_new_content),
        cmocka_unit_test(a_failed_fsync_is_not_retried),
        cmocka_unit_test(interrupted_calls_are_retried),
        cmocka_unit_test(every_operation_reports_its_failed_call),
        cmocka_unit_test(every_operation_retries_interrupted_calls_and_transient_errors),
        cmocka_unit_test(a_permanent_error_is_reported_after_a_few_attempts),
        cmocka_unit_test(symbolic_links_are_not_followed_when_writing),
        cmocka_unit_test(a_path_that_is_too_long_is_refused),
        cmocka_unit_test(only_regular_files_are_read),
        cmocka_unit_test(only_regular_files_are_written_in_place),
        cmocka_unit_test(a_lock_file_needs_neither_links_nor_reliable_replies),
        cmocka_unit_test(creation_in_a_missing_directory_has_its_own_code),
        cmocka_unit_test(a_program_in_the_foreground_appends_its_output),
        cmocka_unit_test(a_program_prints_its_output_or_is_killed),
        cmocka_unit_test(a_process_is_identified_by_its_start_time),
        cmocka_unit_test(directories_are_created_with_parents_and_listed_in_order),
        cmocka_unit_test(a_signal_is_passed_on_and_no_program_is_started_after_it),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down) != 0;
}
