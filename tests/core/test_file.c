/*
 * test_file.c - files behind a table of calls that fail, fall short or are interrupted.
 *
 * The rule of sim_file_replace: after any failure the old or the whole new file is there,
 * and no temporary.
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

/* What goes wrong: the k-th call, or that and all after it, or one kind of call. */
static struct {
    int left; /* calls until one fails; 0: none */
    int error_number;
    bool for_good, failed, short_transfers, no_progress;
    size_t n_calls;
} plan;

static bool fails(void)
{
    plan.n_calls++;
    if (!(plan.for_good && plan.failed)) {
        if (plan.left == 0 || --plan.left != 0)
            return false;
        plan.failed = true;
    }
    errno = plan.error_number;
    return true;
}

static size_t cut(size_t n)
{
    if (plan.no_progress)
        return 0;
    return plan.short_transfers && n > 3 ? 3 : n;
}

static int bad_open(const char *path, int flags, mode_t mode)
{
    return fails() ? -1 : sim_file_posix.open(path, flags, mode);
}

static ssize_t bad_pread(int fd, void *p, size_t n, off_t at)
{
    return fails() ? -1 : pread(fd, p, cut(n), at);
}

static ssize_t bad_write(int fd, const void *p, size_t n)
{
    return fails() ? -1 : write(fd, p, cut(n));
}

static ssize_t bad_pwrite(int fd, const void *p, size_t n, off_t at)
{
    return fails() ? -1 : pwrite(fd, p, cut(n), at);
}

static int bad_fsync(int fd)
{
    return fails() ? -1 : fsync(fd);
}

static int bad_close(int fd)
{
    bool failed = fails();
    int error = errno;
    (void)close(fd); /* as Linux does, whatever it then says */
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

static char folder[] = "/tmp/simile-test-XXXXXX", path[64], other[64];

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    (void)snprintf(path, sizeof path, "%s/file", folder);
    (void)snprintf(other, sizeof other, "%s/other", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    (void)unlink(path);
    return rmdir(folder); /* fails when a temporary was left behind */
}

static void begin(int k, int error_number, bool shorts)
{
    memset(&plan, 0, sizeof plan);
    plan.left = k;
    plan.error_number = error_number;
    plan.short_transfers = shorts;
    sim_file_use(&bad);
}

static bool holds(const char *want)
{
    char *text = NULL;
    size_t n = 0;
    sim_file_use(NULL);
    ASSERT_OK(sim_file_load(path, 100, &text, &n));
    bool same = strcmp(text, want) == 0 && n == strlen(want);
    sim_free(text);
    return same;
}

static void assert_alone(void)
{
    sim_names names = {0};
    ASSERT_OK(sim_directory_list(folder, &names));
    assert_int_equal(names.n, 1);
    sim_names_clear(&names);
}

static const sim_piece old = {"old contents", 12};
static const sim_piece pieces[] = {{"new ", 4}, {"contents", 8}};

static void a_failed_call_leaves_the_old_or_the_new(void **state)
{
    (void)state;
    static const int errors[] = {ENOSPC, EDQUOT, EACCES, EIO};
    for (size_t e = 0; e < 4; e++)
        for (int shorts = 0; shorts < 2; shorts++) {
            bool reached = true;
            int k = 1;
            for (; reached; k++) {
                ASSERT_OK(sim_file_replace(path, &old, 1));
                begin(k, errors[e], shorts);
                plan.for_good = errors[e] != EIO;
                sim_status st = sim_file_replace(path, pieces, 2);
                sim_file_use(NULL);
                reached = plan.failed;
                bool is_old = holds("old contents"), is_new = holds("new contents");
                if (is_old == is_new || (st == SIM_OK && !is_new))
                    fail_msg("call %d, errno %d: %s", k, errors[e], sim_error_message());
                assert_alone();
            }
            assert_true(k > 9); /* open, writes, fsync, close, rename, folder's fsync */
        }
}

static void an_fsync_that_failed_is_not_asked_again(void **state)
{
    (void)state;
    int refused = 0;
    for (int k = 1; k <= 9; k++) { /* transient but for fsync and close */
        ASSERT_OK(sim_file_replace(path, &old, 1));
        begin(k, EIO, false);
        refused += sim_file_replace(path, pieces, 2) != SIM_OK;
    }
    sim_file_use(NULL);
    assert_int_equal(refused, 3);
}

static void an_interruption_anywhere_changes_nothing(void **state)
{
    (void)state;
    for (int k = 1; k <= 16; k++) {
        ASSERT_OK(sim_file_replace(path, &old, 1));
        begin(k, EINTR, true);
        ASSERT_OK(sim_file_replace(path, pieces, 2));
        assert_true(holds("new contents"));
        assert_alone();
    }
}

/* One of the other operations, on a path that holds "new contents". */
static sim_status operate(int which)
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
        SIM_TRY(sim_directory_sync(folder));
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

static void every_operation_tells_of_its_failed_call(void **state)
{
    (void)state;
    static const char *const after[N_OPERATIONS] = {
        [2] = "new CONTENTS", [3] = "new contents, a line\n"};
    for (int which = 0; which < N_OPERATIONS; which++)
        for (int k = 1;; k++) {
            ASSERT_OK(sim_file_replace(path, pieces, 2));
            begin(k, ENOSPC, true);
            sim_status st = operate(which);
            sim_file_use(NULL);
            if (!plan.failed) {
                ASSERT_OK(st);
                assert_true(holds(after[which] ? after[which] : "new contents"));
                break;
            }
            /* Closing a file that was only read may fail in silence. */
            bool silent = st == SIM_OK && (which == 0 || which == 5);
            if (!silent && st != SIM_E_IO)
                fail_msg("operation %d, call %d: status %d", which, k, (int)st);
            if (which == 6) /* what could not be written whole is gone */
                assert_false(sim_path_exists(other));
        }
    ASSERT_OK(sim_file_remove(other));
    ASSERT_OK(sim_file_remove(other)); /* absent is fine */
}

static void every_operation_survives_interruptions_and_a_hiccup(void **state)
{
    (void)state;
    for (int which = 0; which < N_OPERATIONS; which++)
        for (int k = 1; k <= 8; k++) {
            ASSERT_OK(sim_file_replace(path, pieces, 2));
            begin(k, EINTR, true);
            ASSERT_OK(operate(which));
            sim_file_use(NULL);
            ASSERT_OK(sim_file_remove(other));
        }
    begin(2, EAGAIN, true);
    ASSERT_OK(operate(3));
    begin(1, ESTALE, true);
    ASSERT_OK(operate(4));
    sim_file_use(NULL);
}

static void trouble_that_stays_is_told_after_a_few_tries(void **state)
{
    (void)state;
    ASSERT_OK(sim_file_replace(path, pieces, 2));
    begin(2, EIO, false);
    plan.for_good = true;
    ASSERT_REFUSED(operate(1), SIM_E_IO, "cannot be read");
    assert_in_range(plan.n_calls, 3, 10);
    begin(0, 0, false);
    plan.no_progress = true; /* a write of nothing, without a reason */
    ASSERT_REFUSED(operate(2), SIM_E_IO, "cannot be written");
    ASSERT_REFUSED(operate(3), SIM_E_IO, "cannot be written");
    sim_file_use(NULL);
}

static void a_link_planted_at_the_temporary_is_not_followed(void **state)
{
    (void)state;
    char host[64] = "", temporary[256];
    const sim_piece piece = {"mine", 4};
    (void)gethostname(host, sizeof host - 1);
    (void)snprintf(temporary, sizeof temporary, "%s.tmp.%s.%ld", path, host,
                   sim_process_id());
    assert_int_equal(symlink(other, temporary), 0);
    ASSERT_OK(sim_file_replace(path, &piece, 1));
    assert_false(sim_path_exists(other));
    assert_true(holds("mine"));
    assert_int_equal(symlink(other, temporary), 0);
    assert_int_equal(rename(temporary, other), 0);
    int fd = -1; /* nor one at the file itself, where we write in place */
    ASSERT_REFUSED(sim_file_open_append(other, &fd), SIM_E_IO, other);
    ASSERT_REFUSED(sim_file_open_update(other, &fd), SIM_E_IO, other);
    ASSERT_OK(sim_file_remove(other));
}

static void a_path_too_long_touches_nothing(void **state)
{
    (void)state;
    static char name[5000];
    memset(name, 'x', sizeof name - 1);
    ASSERT_REFUSED(sim_file_replace(name, &old, 1), SIM_E_IO, "too long");
    ASSERT_REFUSED(sim_directory_create(name), SIM_E_CREATE, "directory path");
    ASSERT_REFUSED(sim_directory_create(""), SIM_E_CREATE, "directory path");
}

static void what_is_no_file_is_refused(void **state)
{
    (void)state;
    int fd = -1;
    uint64_t n = 0;
    char *text = NULL, byte;
    size_t size = 0;
    ASSERT_OK(sim_file_replace(path, pieces, 2));
    ASSERT_REFUSED(sim_file_open_read("/nowhere/at/all", &fd, &n), SIM_E_INPUT,
                   "/nowhere");
    ASSERT_REFUSED(sim_file_open_read(folder, &fd, &n), SIM_E_INPUT,
                   "not a regular file");
    assert_int_equal(mkfifo(other, 0600), 0);
    ASSERT_REFUSED(sim_file_open_read(other, &fd, &n), SIM_E_INPUT, "not a regular file");
    ASSERT_OK(sim_file_remove(other));
    ASSERT_REFUSED(sim_file_load(path, 11, &text, &size), SIM_E_DATA, "at most");
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

static void a_lock_needs_no_links_and_no_replies(void **state)
{
    (void)state;
    sim_file_calls calls = sim_file_posix;
    calls.link = no_links;
    sim_file_use(&calls);
    ASSERT_OK(sim_file_create_new(other, "holder"));
    ASSERT_REFUSED(sim_file_create_new(other, "second"), SIM_E_CREATE, "already exists");
    ASSERT_OK(sim_file_remove(other));
    calls.link = lost_reply; /* NFS: done, asked again, and refused */
    ASSERT_OK(sim_file_create_new(other, "holder"));
    ASSERT_REFUSED(sim_file_create_new(other, "second"), SIM_E_CREATE, "already exists");
    sim_file_use(NULL);
    ASSERT_OK(sim_file_remove(other));
}

static void what_is_made_in_a_lost_folder_is_told_apart(void **state)
{
    (void)state;
    int fd = -1;
    char lost[128];
    (void)snprintf(lost, sizeof lost, "%s/lost/file", folder);
    ASSERT_REFUSED(sim_file_replace(lost, pieces, 2), SIM_E_CREATE, "No such file");
    ASSERT_REFUSED(sim_file_open_append(lost, &fd), SIM_E_CREATE, "No such file");
    ASSERT_REFUSED(sim_file_create_new(lost, "x"), SIM_E_CREATE, "No such file");
}

static void another_program_answers_or_is_given_up(void **state)
{
    (void)state;
    char out[8];
    int code = 0;
    const char *const says[] = {"sh", "-c", "echo 123456789; echo more; exit 3", NULL};
    const char *const sleeps[] = {"sleep", "30", NULL};
    const char *const absent[] = {"no-such-program-here", NULL};
    ASSERT_OK(sim_process_output(says, 10000, out, sizeof out, &code));
    assert_string_equal(out, "1234567");
    assert_int_equal(code, 3);
    ASSERT_REFUSED(sim_process_output(sleeps, 50, out, sizeof out, &code), SIM_E_IO,
                   "50 ms");
    ASSERT_REFUSED(sim_process_output(absent, 50, out, sizeof out, &code), SIM_E_INSTALL,
                   "cannot be started");
}

static void a_process_is_known_by_when_it_began(void **state)
{
    (void)state;
    sim_process mine, child;
    char space[64];
    assert_true(sim_process_query(sim_process_id(), &mine));
    assert_int_equal(mine.state, 'R');
    assert_in_range(strlen(mine.start_ticks), 1, 20);
    assert_int_equal(strspn(mine.start_ticks, "0123456789"), strlen(mine.start_ticks));
    assert_false(sim_process_query(999999999, &child));
    sim_process_namespace(space, sizeof space);
    assert_int_equal(strncmp(space, "pid:[", 5), 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_NAME, "a) Z 1 (b"); /* as a name may be */
        (void)raise(SIGSTOP);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(sim_process_query(pid, &child));
    assert_int_equal(child.state, 'T');
    assert_true(strtoll(child.start_ticks, NULL, 10) >= strtoll(mine.start_ticks, NULL, 10));
    assert_int_equal(kill(pid, SIGKILL), 0);
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    assert_true(sim_process_query(pid, &child)); /* dead, and not reaped */
    assert_int_equal(child.state, 'Z');
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_false(sim_process_query(pid, &child));
}

static void folders_are_made_with_parents_and_listed_in_order(void **state)
{
    (void)state;
    static const char *const wanted[] = {"B", "a", "a.b", "c"};
    char deep[128], part[128];
    sim_names names = {0};
    uint64_t room = 0;
    (void)snprintf(deep, sizeof deep, "%s/a//b/c/", folder);
    ASSERT_OK(sim_directory_create(deep));
    ASSERT_OK(sim_directory_create(deep)); /* being there is fine */
    assert_true(sim_path_is_directory(deep) && !sim_path_is_directory(path));
    (void)snprintf(part, sizeof part, "%s/x", path);
    ASSERT_REFUSED(sim_directory_create(part), SIM_E_CREATE, path);
    (void)snprintf(part, sizeof part, "%s/a/b", folder);
    for (size_t i = 0; i < 3; i++) {
        static const char *const made[] = {"a.b", "a", "B"};
        (void)snprintf(part, sizeof part, "%s/a/b/%s", folder, made[i]);
        ASSERT_OK(sim_directory_create(part));
    }
    (void)snprintf(part, sizeof part, "%s/a/b", folder);
    for (uint64_t k = 1; k <= 5; k++) {
        sim_memory_fail_at(k);
        ASSERT_REFUSED(sim_directory_list(part, &names), SIM_E_IO, "out of memory");
    }
    ASSERT_OK(sim_directory_list(part, &names));
    assert_int_equal(names.n, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(names.names[i], wanted[i]);
        (void)snprintf(part, sizeof part, "%s/a/b/%s", folder, names.names[i]);
        assert_int_equal(rmdir(part), 0);
    }
    sim_names_clear(&names);
    (void)snprintf(part, sizeof part, "%s/a/b", folder);
    assert_int_equal(rmdir(part), 0);
    (void)snprintf(part, sizeof part, "%s/a", folder);
    assert_int_equal(rmdir(part), 0);
    ASSERT_REFUSED(sim_directory_list(part, &names), SIM_E_INPUT, part);
    ASSERT_REFUSED(sim_directory_sync(part), SIM_E_INPUT, part);
    ASSERT_REFUSED(sim_path_free_bytes(part, &room), SIM_E_INPUT, part);
    ASSERT_OK(sim_path_free_bytes(folder, &room));
    assert_true(room > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_call_leaves_the_old_or_the_new),
        cmocka_unit_test(an_fsync_that_failed_is_not_asked_again),
        cmocka_unit_test(an_interruption_anywhere_changes_nothing),
        cmocka_unit_test(every_operation_tells_of_its_failed_call),
        cmocka_unit_test(every_operation_survives_interruptions_and_a_hiccup),
        cmocka_unit_test(trouble_that_stays_is_told_after_a_few_tries),
        cmocka_unit_test(a_link_planted_at_the_temporary_is_not_followed),
        cmocka_unit_test(a_path_too_long_touches_nothing),
        cmocka_unit_test(what_is_no_file_is_refused),
        cmocka_unit_test(a_lock_needs_no_links_and_no_replies),
        cmocka_unit_test(what_is_made_in_a_lost_folder_is_told_apart),
        cmocka_unit_test(another_program_answers_or_is_given_up),
        cmocka_unit_test(a_process_is_known_by_when_it_began),
        cmocka_unit_test(folders_are_made_with_parents_and_listed_in_order),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down) != 0;
}
