/*
 * simile-test: timeout 240
 * test_checkpoint.c - a saved checkpoint is read back; a corrupted one is never loaded.
 */
#include "simile_test.h"

#include "simile/checkpoint.h"
#include "simile/file.h"
#include "simile/memory.h"
#include "simile/random.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static const sim_comm alone = {.rank = 0, .size = 1, .host = "testhost"};
static const sim_checkpoint_options keep_all = {.keep = 1000};

typedef struct {
    float weights[300], other[40];
    int64_t count;
} example_state;

static sim_status visit_example(void *object, const sim_visitor *v)
{
    example_state *s = object;
    sim_status st = SIM_OK;
    const sim_tensor matrix = {.name = "conv1.weight",
                               .type = SIM_F32,
                               .n_dims = 2,
                               .dims = {30, 10},
                               .data = s->weights};
    SIM_TRY(sim_visit(v, "weights/encoder", &matrix));
    SIM_TRY(sim_visit_f32(v, "optimizer/momentum/encoder", "conv1.weight", 40, s->other));
    SIM_TRY(sim_visit_count(v, "weights/encoder", "bn1.num_batches_tracked",
                            SIM_MAX_COUNT, &s->count));
done:
    return st;
}

static char directory[64];
static sim_run run;

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(directory, sizeof directory, "/tmp/simile-test-XXXXXX");
    if (!mkdtemp(directory))
        return -1;
    return sim_run_open(&alone, directory, &run) == SIM_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    char command[128];
    (void)state;
    sim_run_close(&alone, &run);
    (void)snprintf(command, sizeof command, "rm -rf %s", directory);
    return system(command);
}

static example_state state_at(int64_t step)
{
    example_state s = {.count = step};
    sim_random r = {.purpose = SIM_RANDOM_TEST, .sample = (uint32_t)step};
    for (size_t i = 0; i < 300; i++)
        s.weights[i] = sim_random_normal(&r);
    for (size_t i = 0; i < 40; i++)
        s.other[i] = sim_random_normal(&r);
    return s;
}

static sim_status save(int64_t step, const sim_checkpoint_options *options)
{
    example_state s = state_at(step);
    const sim_state_source source = {visit_example, &s};
    const sim_checkpoint_head head = {.step = step,
                                      .epoch = 2,
                                      .samples = 64,
                                      .config = "run: x\n",
                                      .identity = "seed: 0\n",
                                      .history = "[]",
                                      .fingerprint = "0123456789abcdef0123456789abcdef"};
    return sim_checkpoint_write(&alone, &run, options, &head, &source, 1);
}

/* The newest good checkpoint is step `want` and has the values of that step. */
static void assert_newest(int64_t want)
{
    sim_checkpoint *k = NULL;
    example_state s = {0}, expected = state_at(want);
    const sim_state_source source = {visit_example, &s};
    ASSERT_OK(sim_checkpoint_newest(&alone, directory, &k));
    assert_non_null(k);
    assert_int_equal(sim_checkpoint_head_of(k)->step, want);
    ASSERT_OK(sim_checkpoint_load(k, &source, 1));
    assert_memory_equal(&s, &expected, sizeof s);
    sim_checkpoint_close(&k);
}

static void path_of(int64_t step, char out[128])
{
    (void)snprintf(out, 128, "%s/checkpoints/step-%09lld.h5", directory, (long long)step);
}

static void a_saved_checkpoint_is_read_back(void **state)
{
    (void)state;
    ASSERT_OK(save(5, &keep_all));
    assert_newest(5);
    ASSERT_OK(save(5, &keep_all)); /* the existing file is kept */
    ASSERT_OK(save(7, &keep_all));
    assert_newest(7);
}

/* The names in checkpoints/ are those of `want`, separated by spaces. */
static void assert_names(const char *want)
{
    sim_names names = {0};
    char checkpoints[128], list[1024] = "";

    (void)snprintf(checkpoints, sizeof checkpoints, "%s/checkpoints", directory);
    ASSERT_OK(sim_directory_list(checkpoints, &names));
    for (size_t i = 0; i < names.n; i++) {
        const size_t used = strlen(list);
        (void)snprintf(list + used, sizeof list - used, "%s%s", used ? " " : "",
                       names.names[i]);
    }
    assert_string_equal(list, want);
    sim_names_clear(&names);
}

static void old_checkpoints_are_deleted_except_step_0(void **state)
{
    (void)state;
    const sim_checkpoint_options few = {.keep = 2, .keep_every = 20};
    for (int64_t step = 0; step <= 60; step += 10)
        ASSERT_OK(save(step, &few));
    assert_names("latest step-000000000.h5 step-000000020.h5 step-000000040.h5 "
                 "step-000000050.h5 step-000000060.h5");
}

static void the_best_and_the_last_healthy_checkpoint_are_kept(void **state)
{
    (void)state;
    for (int64_t step = 10; step <= 90; step += 10) {
        /* The best is that of step 30; the run collapsed between the checkpoints 50 and 60. */
        const sim_checkpoint_options one = {.keep = 1,
                                            .best_step = step < 30 ? step : 30,
                                            .healthy_step = step < 55 ? step : 55};
        ASSERT_OK(save(step, &one));
    }
    assert_names("best latest step-000000030.h5 step-000000050.h5 step-000000090.h5");
    char path[160], name[64] = "";
    (void)snprintf(path, sizeof path, "%s/checkpoints/best", directory);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%63s", name), 1);
    assert_int_equal(fclose(f), 0);
    assert_string_equal(name, "step-000000030.h5");
    /* A new best one replaces the old one; none is protected any longer. */
    const sim_checkpoint_options better = {.keep = 1, .best_step = 100};
    ASSERT_OK(save(100, &better));
    assert_names("best latest step-000000100.h5");
}

static void write_bytes(const char *path, const char *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* Loads the good file of step 2, corrupts it in many ways, and expects step 1 each time. */
static void a_corrupted_file_is_skipped_for_an_older_one(void **state)
{
    (void)state;
    char path[128], *good = NULL, *corrupted = NULL;
    size_t n = 0;
    ASSERT_OK(save(1, &keep_all));
    ASSERT_OK(save(2, &keep_all));
    path_of(2, path);
    ASSERT_OK(sim_file_load(path, 1 << 24, &good, &n));
    corrupted = malloc(n + 1);
    for (size_t cut = 0; cut < n; cut += 512) {
        write_bytes(path, good, cut);
        assert_newest(1);
    }
    for (uint32_t seed = 0; seed < 500; seed++) {
        sim_random r = {.purpose = SIM_RANDOM_TEST, .sample = seed};
        size_t at = sim_random_below(&r, (uint32_t)n), bit = sim_random_below(&r, 8);
        memcpy(corrupted, good, n);
        corrupted[at] = (char)(corrupted[at] ^ (1 << bit));
        write_bytes(path, corrupted, n);
        assert_newest(1);
    }
    memcpy(corrupted, good, n);
    corrupted[n] = 0;
    write_bytes(path, corrupted, n + 1); /* one extra byte */
    assert_newest(1);
    write_bytes(path, "not a checkpoint at all, but long enough to hold a trailer of 64",
                64);
    assert_newest(1);
    write_bytes(path, good, n);
    assert_newest(2);
    path_of(9, path); /* a good file under another step's name */
    write_bytes(path, good, n);
    assert_newest(2);
    free(corrupted);
    sim_free(good);
}

static void a_run_with_only_corrupted_files_is_refused(void **state)
{
    (void)state;
    char path[128];
    sim_checkpoint *k = NULL;
    path_of(3, path);
    ASSERT_OK(sim_checkpoint_newest(&alone, directory, &k));
    assert_null(k); /* the directory is empty */
    write_bytes(path, "", 0);
    ASSERT_REFUSED(sim_checkpoint_newest(&alone, directory, &k), SIM_E_DATA,
                   "none of its 1");
    ASSERT_REFUSED(sim_checkpoint_open(&alone, path, &k), SIM_E_DATA, "no checkpoint");
    ASSERT_REFUSED(sim_checkpoint_open(&alone, "/nowhere.h5", &k), SIM_E_INPUT,
                   "/nowhere.h5");
}

static void a_nan_is_refused(void **state)
{
    (void)state;
    sim_checkpoint *k = NULL;
    example_state s = state_at(4);
    s.weights[17] = (float)NAN;
    const sim_state_source source = {visit_example, &s};
    const sim_checkpoint_head head = {
        .step = 4, .config = "", .identity = "", .history = "[]", .fingerprint = "0"};
    ASSERT_OK(sim_checkpoint_write(&alone, &run, &keep_all, &head, &source, 1));
    ASSERT_OK(sim_checkpoint_newest(&alone, directory, &k));
    ASSERT_REFUSED(sim_checkpoint_load(k, &source, 1), SIM_E_DATA, "not finite");
    sim_checkpoint_close(&k);
}

/* ---- faults ---- */

static int calls_left, error_number;

static bool must_fail(void)
{
    if (--calls_left != 0)
        return false;
    errno = error_number;
    return true;
}

static ssize_t failing_write(int fd, const void *p, size_t n)
{
    return must_fail() ? -1 : write(fd, p, n > 1500 ? 1500 : n);
}

static int failing_fsync(int fd)
{
    return must_fail() ? -1 : fsync(fd);
}

static int failing_rename(const char *a, const char *b)
{
    return must_fail() ? -1 : rename(a, b);
}

static void a_full_disk_at_any_call_loses_at_most_the_new_checkpoint(void **state)
{
    (void)state;
    sim_file_calls bad = sim_file_posix;
    bad.write = failing_write;
    bad.fsync = failing_fsync;
    bad.rename = failing_rename;
    error_number = ENOSPC;
    ASSERT_OK(save(1, &keep_all));
    for (int k = 1; k <= 50; k++) {
        char path[128];
        sim_checkpoint *newest = NULL;
        path_of(2, path);
        (void)unlink(path);
        calls_left = k;
        sim_file_use(&bad);
        sim_status st = save(2, &keep_all);
        sim_file_use(NULL);
        ASSERT_OK(sim_checkpoint_newest(&alone, directory, &newest));
        int64_t step = sim_checkpoint_head_of(newest)->step;
        sim_checkpoint_close(&newest);
        assert_true(step == 1 || step == 2);
        if (st == SIM_OK)
            assert_int_equal(step, 2);
        assert_newest(step);
    }
}

/* A child writes step after step and is killed at a random time. */
static void a_kill_at_any_time_leaves_a_good_checkpoint(void **state)
{
    (void)state;
    ASSERT_OK(save(1, &keep_all));
    for (uint32_t seed = 0; seed < 25; seed++) {
        sim_random r = {.purpose = SIM_RANDOM_TEST, .sample = seed};
        pid_t child = fork();
        if (child == 0) {
            for (int64_t step = 2;; step++)
                if (save(1 + step % 50, &keep_all) != SIM_OK)
                    _exit(1);
        }
        (void)usleep(1000 + sim_random_below(&r, 30000));
        (void)kill(child, SIGKILL);
        (void)waitpid(child, NULL, 0);
        sim_checkpoint *k = NULL;
        ASSERT_OK(sim_checkpoint_newest(&alone, directory, &k));
        int64_t step = sim_checkpoint_head_of(k)->step;
        sim_checkpoint_close(&k);
        assert_newest(step);
    }
}

static void a_run_has_one_writer(void **state)
{
    (void)state;
    sim_run second = {0};
    ASSERT_REFUSED(sim_run_open(&alone, directory, &second), SIM_E_CREATE,
                   "is held by pid");
    sim_run_close(&alone, &run);
    ASSERT_OK(sim_run_open(&alone, directory, &second)); /* the lock was released */
    sim_run_close(&alone, &second);
    pid_t child = fork();
    if (child == 0) { /* a holder that ends without releasing the lock */
        sim_run dead = {0};
        _exit(sim_run_open(&alone, directory, &dead) == SIM_OK ? 0 : 1);
    }
    siginfo_t info;
    (void)waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT); /* dead, not yet reaped */
    assert_int_equal(info.si_status, 0);
    ASSERT_OK(sim_run_open(&alone, directory, &run));
    (void)waitpid(child, NULL, 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_saved_checkpoint_is_read_back),
        TEST(old_checkpoints_are_deleted_except_step_0),
        TEST(the_best_and_the_last_healthy_checkpoint_are_kept),
        TEST(a_corrupted_file_is_skipped_for_an_older_one),
        TEST(a_run_with_only_corrupted_files_is_refused),
        TEST(a_nan_is_refused),
        TEST(a_full_disk_at_any_call_loses_at_most_the_new_checkpoint),
        TEST(a_kill_at_any_time_leaves_a_good_checkpoint),
        TEST(a_run_has_one_writer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
