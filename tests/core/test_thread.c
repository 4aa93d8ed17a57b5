/*
 * test_thread.c - the parallel loop, scratch, denormals, and the loader's tools.
 *
 * simile-test: labels tsan
 */
#include "simile_test.h"

#include "simile/memory.h"
#include "simile/thread.h"

#include <sched.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N = 257, THREADS = 4 };

static void inner_item(size_t i, void *ctx)
{
    int *seen = ctx;
    seen[i] += 1 + 100 * sim_thread_index();
}

static void outer_item(size_t i, void *ctx)
{
    int(*seen)[8] = ctx;
    sim_for(8, inner_item, seen[i]);
    for (int k = 0; k < 8; k++) /* all by the thread that has the item */
        seen[i][k] -= 100 * sim_thread_index();
}

static void a_loop_in_a_loop_runs_serially(void **state)
{
    (void)state;
    static int seen[N][8];
    sim_threads_set(THREADS);
    sim_for(N, outer_item, seen);
    for (size_t i = 0; i < N; i++)
        for (int k = 0; k < 8; k++)
            assert_int_equal(seen[i][k], 1);
    assert_int_equal(sim_thread_index(), 0);
}

static void note_index(size_t i, void *ctx)
{
    ((int *)ctx)[i] = sim_thread_index();
}

static void indices_are_below_the_number_of_threads(void **state)
{
    (void)state;
    static int index[N];
    for (int threads = 1; threads <= THREADS; threads++) {
        sim_threads_set(threads);
        assert_int_equal(sim_threads(), threads);
        sim_for(N, note_index, index);
        for (size_t i = 0; i < N; i++)
            assert_in_range(index[i], 0, threads - 1);
    }
    sim_for(0, note_index, NULL);
}

typedef struct {
    atomic_int here;
    int index[2];
} meeting;

/* Waits for the other item, five seconds at most. */
static void meet(size_t i, void *ctx)
{
    meeting *m = ctx;
    m->index[i] = sim_thread_index();
    atomic_fetch_add(&m->here, 1);
    for (int k = 0; k < 5000 && atomic_load(&m->here) < 2; k++)
        (void)usleep(1000);
}

static void items_at_the_same_time_have_different_indices(void **state)
{
    (void)state;
    meeting m = {.here = 0};
    sim_threads_set(2);
    sim_for(2, meet, &m);
    assert_int_equal(atomic_load(&m.here), 2);
    assert_int_equal(m.index[0] + m.index[1], 1);
}

/* A product that is a denormal where nobody flushes. */
static float tiny(void)
{
    volatile float a = 1e-30f, b = 1e-10f;
    return a * b;
}

static void note_tiny(size_t i, void *ctx)
{
    ((float *)ctx)[i] = tiny();
}

static void *thread_tiny(void *arg)
{
    *(float *)arg = tiny();
    return NULL;
}

static void denormals_are_zero_wherever_numbers_are_made(void **state)
{
    (void)state;
    static float got[N];
    float there = 1;
    sim_thread t;
    for (int threads = 1; threads <= THREADS; threads++) {
        sim_threads_set(threads);
        for (size_t i = 0; i < N; i++)
            got[i] = 1;
        sim_for(N, note_tiny, got);
        for (size_t i = 0; i < N; i++)
            assert_true(got[i] == 0);
    }
    ASSERT_OK(sim_thread_start(&t, thread_tiny, &there));
    sim_thread_join(&t);
    assert_true(there == 0);
}

static void use_scratch(size_t i, void *ctx)
{
    size_t n = 100 + i * 37 % 5000;
    unsigned char *p = sim_scratch(n);
    bool good = (uintptr_t)p % 64 == 0;
    memset(p, (int)(i % 251), n);
    for (int k = 0; k < 100; k++) /* others write theirs meanwhile */
        for (size_t j = 0; j < n; j += 64)
            good &= p[j] == i % 251;
    ((bool *)ctx)[i] = good;
}

static void scratch_belongs_to_its_thread(void **state)
{
    (void)state;
    static bool good[N];
    sim_threads_set(THREADS);
    sim_for(N, use_scratch, good);
    for (size_t i = 0; i < N; i++)
        assert_true(good[i]);
    const void *p = sim_scratch(1000);
    assert_ptr_equal(sim_scratch(10), p);
    assert_non_null(sim_scratch(0));
}

static void reserved_scratch_is_there_in_every_thread(void **state)
{
    (void)state;
    enum { ROOM = 3 << 20 };
    static bool good[N];
    size_t before = sim_memory_bytes();
    sim_scratch_reserve(ROOM);
    size_t held = sim_memory_bytes();
    assert_true(held - before > (size_t)(sim_threads() - 1) * ROOM);
    sim_for(N, use_scratch, good);
    (void)sim_scratch(ROOM);
    sim_scratch_reserve(ROOM);
    assert_int_equal(sim_memory_bytes(), held);
}

static void *thread_scratch(void *arg)
{
    *(void **)arg = sim_scratch(1 << 20);
    return NULL;
}

static void a_thread_that_ends_gives_its_scratch_back(void **state)
{
    (void)state;
    sim_thread t;
    void *p = NULL;
    size_t before = sim_memory_bytes();
    ASSERT_OK(sim_thread_start(&t, thread_scratch, &p));
    sim_thread_join(&t);
    assert_non_null(p);
    assert_int_equal(sim_memory_bytes(), before);
    sim_memory_fail_at(1);
    ASSERT_REFUSED(sim_thread_start(&t, thread_scratch, &p), SIM_E_IO, "core/thread");
}

typedef struct {
    sim_mutex lock;
    sim_signal changed;
    int turn, rounds;
} ping_pong;

static void *answer(void *arg)
{
    ping_pong *g = arg;
    sim_mutex_lock(&g->lock);
    for (int i = 0; i < 100; i++) {
        while (g->turn != 1)
            sim_signal_wait(&g->changed, &g->lock);
        g->turn = 0;
        g->rounds++;
        sim_signal_all(&g->changed);
    }
    sim_mutex_unlock(&g->lock);
    return NULL;
}

static void threads_wake_each_other(void **state)
{
    (void)state;
    ping_pong g = {.turn = 0};
    sim_thread t;
    sim_mutex_init(&g.lock);
    sim_signal_init(&g.changed);
    ASSERT_OK(sim_thread_start(&t, answer, &g));
    sim_mutex_lock(&g.lock);
    for (int i = 0; i < 100; i++) {
        g.turn = 1;
        sim_signal_all(&g.changed);
        while (g.turn != 0)
            sim_signal_wait(&g.changed, &g.lock);
    }
    sim_mutex_unlock(&g.lock);
    sim_thread_join(&t);
    assert_int_equal(g.rounds, 100);
    sim_signal_destroy(&g.changed);
    sim_mutex_destroy(&g.lock);
}

/* Threads inherit their maker's mode, so ask a process that has flushed nothing yet. */
static int count_denormals(void)
{
    static float got[N];
    int n = 0;
    sim_threads_set(THREADS);
    sim_for(N, note_tiny, got);
    for (size_t i = 0; i < N; i++)
        n += got[i] != 0;
    return n > 0 ? 98 : 0;
}

static void a_fresh_process_flushes_in_its_first_loop(void **state)
{
    (void)state;
    int how = 0;
    pid_t child = fork();
    if (child == 0) {
        (void)execl("/proc/self/exe", "test_thread", "flush", (char *)NULL);
        _exit(99);
    }
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 0);
}

/* sim_threads() of a fresh process on one core, with OMP_NUM_THREADS or without. */
static int threads_on_one_core(const char *wanted)
{
    int how = 0;
    pid_t child = fork();
    if (child == 0) {
        cpu_set_t allowed, one;
        size_t core = 0;
        CPU_ZERO(&one);
        (void)sched_getaffinity(0, sizeof allowed, &allowed);
        while (core < CPU_SETSIZE - 1 && !CPU_ISSET(core, &allowed))
            core++;
        CPU_SET(core, &one);
        (void)sched_setaffinity(0, sizeof one, &one);
        if (wanted)
            (void)setenv("OMP_NUM_THREADS", wanted, 1);
        else
            (void)unsetenv("OMP_NUM_THREADS");
        (void)execl("/proc/self/exe", "test_thread", "count", (char *)NULL);
        _exit(99);
    }
    assert_int_equal(waitpid(child, &how, 0), child);
    return WIFEXITED(how) ? WEXITSTATUS(how) : -1;
}

static void the_default_is_what_openmp_is_told_or_the_cores_allowed(void **state)
{
    (void)state;
    assert_int_equal(threads_on_one_core("3"), 3);
    assert_int_equal(threads_on_one_core(NULL), 1);
    assert_true(sim_cores_allowed() >= 1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loop_in_a_loop_runs_serially),
        cmocka_unit_test(indices_are_below_the_number_of_threads),
        cmocka_unit_test(items_at_the_same_time_have_different_indices),
        cmocka_unit_test(denormals_are_zero_wherever_numbers_are_made),
        cmocka_unit_test(a_fresh_process_flushes_in_its_first_loop),
        cmocka_unit_test(scratch_belongs_to_its_thread),
        cmocka_unit_test(reserved_scratch_is_there_in_every_thread),
        cmocka_unit_test(a_thread_that_ends_gives_its_scratch_back),
        cmocka_unit_test(threads_wake_each_other),
        cmocka_unit_test(the_default_is_what_openmp_is_told_or_the_cores_allowed),
    };
    if (argc == 2 && strcmp(argv[1], "count") == 0)
        return sim_threads();
    if (argc == 2 && strcmp(argv[1], "flush") == 0)
        return count_denormals();
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
