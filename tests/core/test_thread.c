/*
 * test_thread.c - the parallel loop, scratch memory, denormals, POSIX threads.
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

static void inner_iteration(size_t i, void *ctx)
{
    int *counts = ctx;
    counts[i] += 1 + 100 * sim_thread_index();
}

static void outer_iteration(size_t i, void *ctx)
{
    int(*counts)[8] = ctx;
    sim_for(8, inner_iteration, counts[i]);
    for (int k = 0; k < 8; k++) /* all iterations ran in the calling thread */
        counts[i][k] -= 100 * sim_thread_index();
}

static void a_nested_loop_runs_serially(void **state)
{
    (void)state;
    static int counts[N][8];
    sim_threads_set(THREADS);
    sim_for(N, outer_iteration, counts);
    for (size_t i = 0; i < N; i++)
        for (int k = 0; k < 8; k++)
            assert_int_equal(counts[i][k], 1);
    assert_int_equal(sim_thread_index(), 0);
}

static void store_index(size_t i, void *ctx)
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
        sim_for(N, store_index, index);
        for (size_t i = 0; i < N; i++)
            assert_in_range(index[i], 0, threads - 1);
    }
    sim_for(0, store_index, NULL);
}

typedef struct {
    atomic_int arrived;
    int index[2];
} rendezvous;

/* Waits for the other iteration, at most a minute. */
static void wait_for_other(size_t i, void *ctx)
{
    rendezvous *m = ctx;
    m->index[i] = sim_thread_index();
    atomic_fetch_add(&m->arrived, 1);
    for (int k = 0; k < 60000 && atomic_load(&m->arrived) < 2; k++)
        (void)usleep(1000);
}

static void concurrent_iterations_have_different_indices(void **state)
{
    (void)state;
    rendezvous m = {.arrived = 0};
    sim_threads_set(2);
    sim_for(2, wait_for_other, &m);
    assert_int_equal(atomic_load(&m.arrived), 2);
    assert_int_equal(m.index[0] + m.index[1], 1);
}

/* A product that is denormal unless flush-to-zero is enabled. */
static float denormal_product(void)
{
    volatile float a = 1e-30f, b = 1e-10f;
    return a * b;
}

static void store_product(size_t i, void *ctx)
{
    ((float *)ctx)[i] = denormal_product();
}

static void *thread_product(void *arg)
{
    *(float *)arg = denormal_product();
    return NULL;
}

static void denormals_are_zero_in_all_threads(void **state)
{
    (void)state;
    static float products[N];
    float result = 1;
    sim_thread t;
    for (int threads = 1; threads <= THREADS; threads++) {
        sim_threads_set(threads);
        for (size_t i = 0; i < N; i++)
            products[i] = 1;
        sim_for(N, store_product, products);
        for (size_t i = 0; i < N; i++)
            assert_true(products[i] == 0);
    }
    ASSERT_OK(sim_thread_start(&t, thread_product, &result));
    sim_thread_join(&t);
    assert_true(result == 0);
}

static void use_scratch(size_t i, void *ctx)
{
    size_t n = 100 + i * 37 % 5000;
    unsigned char *p = sim_scratch(n);
    bool good = (uintptr_t)p % 64 == 0;
    memset(p, (int)(i % 251), n);
    for (int k = 0; k < 100; k++) /* other threads write to their scratch concurrently */
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

static void reserved_scratch_is_allocated_in_every_thread(void **state)
{
    (void)state;
    enum { BYTES = 3 << 20 };
    static bool good[N];
    size_t before = sim_memory_bytes();
    sim_scratch_reserve(BYTES);
    size_t held = sim_memory_bytes();
    assert_true(held - before > (size_t)(sim_threads() - 1) * BYTES);
    sim_for(N, use_scratch, good);
    (void)sim_scratch(BYTES);
    sim_scratch_reserve(BYTES);
    assert_int_equal(sim_memory_bytes(), held);
}

static void *thread_scratch(void *arg)
{
    *(void **)arg = sim_scratch(1 << 20);
    return NULL;
}

static void a_finished_thread_frees_its_scratch(void **state)
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

static void *respond(void *arg)
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

static void threads_signal_each_other(void **state)
{
    (void)state;
    ping_pong g = {.turn = 0};
    sim_thread t;
    sim_mutex_init(&g.lock);
    sim_signal_init(&g.changed);
    ASSERT_OK(sim_thread_start(&t, respond, &g));
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

/* Threads inherit the mode of their creator; a new process has not enabled flushing yet. */
static int count_denormals(void)
{
    static float products[N];
    int n = 0;
    sim_threads_set(THREADS);
    sim_for(N, store_product, products);
    for (size_t i = 0; i < N; i++)
        n += products[i] != 0;
    return n > 0 ? 98 : 0;
}

static void a_fresh_process_flushes_in_its_first_loop(void **state)
{
    (void)state;
    int wait_status = 0;
    pid_t child = fork();
    if (child == 0) {
        (void)execl("/proc/self/exe", "test_thread", "flush", (char *)NULL);
        _exit(99);
    }
    assert_int_equal(waitpid(child, &wait_status, 0), child);
    assert_true(WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0);
}

/* sim_threads() of a new process on one core, with or without OMP_NUM_THREADS. */
static int threads_on_one_core(const char *omp_num_threads)
{
    int wait_status = 0;
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
        if (omp_num_threads)
            (void)setenv("OMP_NUM_THREADS", omp_num_threads, 1);
        else
            (void)unsetenv("OMP_NUM_THREADS");
        (void)execl("/proc/self/exe", "test_thread", "count", (char *)NULL);
        _exit(99);
    }
    assert_int_equal(waitpid(child, &wait_status, 0), child);
    return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -1;
}

static void the_default_is_omp_num_threads_or_the_number_of_allowed_cores(void **state)
{
    (void)state;
    assert_int_equal(threads_on_one_core("3"), 3);
    assert_int_equal(threads_on_one_core(NULL), 1);
    assert_true(sim_cores_allowed() >= 1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_nested_loop_runs_serially),
        cmocka_unit_test(indices_are_below_the_number_of_threads),
        cmocka_unit_test(concurrent_iterations_have_different_indices),
        cmocka_unit_test(denormals_are_zero_in_all_threads),
        cmocka_unit_test(a_fresh_process_flushes_in_its_first_loop),
        cmocka_unit_test(scratch_belongs_to_its_thread),
        cmocka_unit_test(reserved_scratch_is_allocated_in_every_thread),
        cmocka_unit_test(a_finished_thread_frees_its_scratch),
        cmocka_unit_test(threads_signal_each_other),
        cmocka_unit_test(the_default_is_omp_num_threads_or_the_number_of_allowed_cores),
    };
    if (argc == 2 && strcmp(argv[1], "count") == 0)
        return sim_threads();
    if (argc == 2 && strcmp(argv[1], "flush") == 0)
        return count_denormals();
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
