/*
 * test_file.c - replacing a file: after any failure the old or the whole new one is there.
 */
#include "simile_test.h"

#include "simile/file.h"
#include "simile/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static int left; /* calls until one fails */
static int error_number;
static bool short_writes;

static bool fails(void)
{
    if (--left != 0)
        return false;
    errno = error_number;
    return true;
}

static int bad_open(const char *path, int flags, mode_t mode)
{
    return fails() ? -1 : sim_file_posix.open(path, flags, mode);
}

static ssize_t bad_write(int fd, const void *p, size_t n)
{
    if (fails())
        return -1;
    return sim_file_posix.write(fd, p, short_writes && n > 3 ? 3 : n);
}

static int bad_fsync(int fd)
{
    return fails() ? -1 : fsync(fd);
}

static int bad_close(int fd)
{
    bool failed = fails();
    int error = errno;
    (void)close(fd);
    errno = error;
    return failed ? -1 : 0;
}

static int bad_rename(const char *a, const char *b)
{
    return fails() ? -1 : rename(a, b);
}

static const sim_file_calls bad = {.open = bad_open,
                                   .pread = pread,
                                   .write = bad_write,
                                   .pwrite = pwrite,
                                   .fsync = bad_fsync,
                                   .close = bad_close,
                                   .rename = bad_rename,
                                   .unlink = unlink};

static char folder[] = "/tmp/simile-test-XXXXXX", path[64];

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    (void)snprintf(path, sizeof path, "%s/file", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    (void)unlink(path);
    return rmdir(folder); /* fails when a temporary was left behind */
}

static void assert_holds(const char *a, const char *b)
{
    char *text = NULL;
    size_t n = 0;
    ASSERT_OK(sim_file_load(path, 100, &text, &n));
    if (strcmp(text, a) != 0 && strcmp(text, b) != 0)
        fail_msg("the file holds \"%s\"", text);
    sim_free(text);
}

static void a_failed_call_leaves_the_old_or_the_new(void **state)
{
    (void)state;
    const sim_piece old = {"old contents", 12}, pieces[] = {{"new ", 4}, {"contents", 8}};
    static const int errors[] = {ENOSPC, EDQUOT, EACCES};
    for (size_t e = 0; e < 3; e++)
        for (int shorts = 0; shorts < 2; shorts++)
            for (int k = 1; k <= 14; k++) {
                sim_names names = {0};
                ASSERT_OK(sim_file_replace(path, &old, 1));
                left = k;
                error_number = errors[e];
                short_writes = shorts;
                sim_file_use(&bad);
                sim_status st = sim_file_replace(path, pieces, 2);
                sim_file_use(NULL);
                assert_holds("old contents", "new contents");
                if (st == SIM_OK)
                    assert_holds("new contents", "new contents");
                ASSERT_OK(sim_directory_list(folder, &names));
                assert_int_equal(names.n, 1);
                sim_names_clear(&names);
            }
}

static void interrupted_and_transient_calls_are_tried_again(void **state)
{
    (void)state;
    const sim_piece piece = {"fresh", 5};
    static const int errors[] = {EINTR, EIO};
    for (size_t e = 0; e < 2; e++) {
        left = 2; /* the first write */
        error_number = errors[e];
        short_writes = true;
        sim_file_use(&bad);
        ASSERT_OK(sim_file_replace(path, &piece, 1));
        sim_file_use(NULL);
        assert_holds("fresh", "fresh");
    }
}

static void a_link_planted_at_the_temporary_is_not_followed(void **state)
{
    (void)state;
    char host[64] = "", temporary[256], victim[64];
    const sim_piece piece = {"mine", 4};
    (void)gethostname(host, sizeof host - 1);
    (void)snprintf(temporary, sizeof temporary, "%s.tmp.%s.%ld", path, host,
                   (long)getpid());
    (void)snprintf(victim, sizeof victim, "%s/victim", folder);
    assert_int_equal(symlink(victim, temporary), 0);
    ASSERT_OK(sim_file_replace(path, &piece, 1));
    assert_false(sim_path_exists(victim));
    assert_holds("mine", "mine");
}

static void what_is_no_file_is_refused(void **state)
{
    (void)state;
    int fd = -1;
    uint64_t n = 0;
    char *text = NULL;
    size_t size = 0;
    ASSERT_REFUSED(sim_file_open_read("/nowhere/at/all", &fd, &n), SIM_E_INPUT,
                   "/nowhere");
    ASSERT_REFUSED(sim_file_open_read(folder, &fd, &n), SIM_E_INPUT,
                   "not a regular file");
    ASSERT_REFUSED(sim_file_load(path, 1, &text, &size), SIM_E_DATA, "at most");
    ASSERT_OK(sim_file_open_read(path, &fd, &n));
    char byte;
    ASSERT_REFUSED(sim_file_read_at(fd, path, n, &byte, 1), SIM_E_IO, "too early");
    ASSERT_OK(sim_file_close(&fd, path));
    ASSERT_REFUSED(sim_file_create_new(path, "x"), SIM_E_CREATE, "already there");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_call_leaves_the_old_or_the_new),
        cmocka_unit_test(interrupted_and_transient_calls_are_tried_again),
        cmocka_unit_test(a_link_planted_at_the_temporary_is_not_followed),
        cmocka_unit_test(what_is_no_file_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down) != 0;
}
