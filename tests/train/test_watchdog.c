/*
 * test_watchdog.c - who is named, and who is left alone, when ranks stand still.
 *
 * The ranks are played in one process, tick by tick of a time that is ours, so nothing
 * depends on how fast this machine is; one test has the real thread.  What the system says
 * of a stopped process is in tests/e2e/test_guard.sh.
 *
 * simile-test: labels tsan
 */
#include "simile_test.h"

#include "watchdog.h"

#include "simile/heartbeat.h"
#include "simile/thread.h"

#include <sys/wait.h>
#include <unistd.h>

enum { RANKS = 3, TEXT = 4096, TICKS = 40 }; /* so many ticks are the limit */

static const double hang_s = 40, tick_s = 1;
static char folder[64];

typedef struct {
    char host[16], said[TEXT];
    sim_heartbeat beats;
    sim_watchdog *dog;
    bool stopped, sure; /* as by SIGSTOP; it would have ended the job */
} played;

static played ranks[RANKS];

static sim_heartbeat beats_of(void *ctx)
{
    return ((const played *)ctx)->beats;
}

static void note(char said[TEXT], sim_hang event, const char *text)
{
    static const char *const names[] = {
        [SIM_HANG_FEARED] = "FEARED", [SIM_HANG_OVER] = "OVER", [SIM_HANG_SURE] = "SURE"};
    size_t used = strlen(said);
    (void)snprintf(said + used, TEXT - used, "%s %s\n", names[event], text);
}

static void tell(void *ctx, sim_hang event, const char *text)
{
    played *r = ctx;
    note(r->said, event, text);
    r->sure = event == SIM_HANG_SURE;
}

static int begin(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/simile-watchdog-XXXXXX");
    assert_non_null(mkdtemp(folder));
    for (int i = 0; i < RANKS; i++) {
        played *r = &ranks[i];
        *r = (played){.beats = {.step = 7, .phase = "forward"}};
        (void)snprintf(r->host, sizeof r->host, "node%d", i);
        const sim_watchdog_options options = {.folder = folder,
                                              .host = r->host,
                                              .rank = i,
                                              .size = RANKS,
                                              .hang_s = hang_s,
                                              .tell = tell,
                                              .ctx = r,
                                              .beats = beats_of};
        ASSERT_OK(sim_watchdog_create(&options, &r->dog));
    }
    return 0;
}

static int end(void **state)
{
    (void)state;
    for (int i = 0; i < RANKS; i++)
        sim_watchdog_stop(&ranks[i].dog);
    return rmdir(folder); /* they took their records with them */
}

/* ---- what ranks do ---- */

static void beat(int rank)
{
    ranks[rank].beats.beats++;
}

/* Comes to an exchange, and leaves it. */
static void enter(int rank)
{
    ranks[rank].beats.phase = "gradient sum";
    ranks[rank].beats.exchanges++;
    beat(rank);
}

/* So many ticks pass, or as many as it takes for one to be sure, which ends the job.  Their
 * number. */
static int pass(int ticks)
{
    for (int i = 0; i < ticks; i++)
        for (int r = 0; r < RANKS; r++) {
            if (!ranks[r].stopped)
                (void)sim_watchdog_look(ranks[r].dog, tick_s);
            if (ranks[r].sure)
                return i + 1;
        }
    return ticks;
}

/* ---- what they say ---- */

static void expect_text(const char *said, const char *text)
{
    if (!said || !strstr(said, text))
        fail_msg("\"%s\" lacks \"%s\"", said ? said : "", text);
}

static const char *sure_of(int rank)
{
    const char *sure = strstr(ranks[rank].said, "SURE ");
    expect_text(ranks[rank].said, "SURE ");
    return sure;
}

static void expect_silence(void)
{
    for (int r = 0; r < RANKS; r++)
        if (ranks[r].said[0])
            fail_msg("rank %d said: %s", r, ranks[r].said);
}

/* ---- the tests ---- */

static void a_stopped_rank_is_named(void **state)
{
    (void)state;
    enter(0);
    enter(2);
    ranks[1].stopped = true;
    assert_in_range(pass(3 * TICKS), TICKS, TICKS + 2);
    expect_text(ranks[0].said, "FEARED no rank got anything done for 20 s");
    const char *sure = sure_of(0);
    expect_text(sure, "rank 1 on node1 (pid ");
    expect_text(sure, "is behind: not heard from for ");
    expect_text(sure, "last seen in step 7, forward; ");
    expect_text(sure, "the other 2 ranks wait in step 7, gradient sum");
    assert_null(strstr(sure, "rank 2"));
    assert_null(strstr(ranks[2].said, "FEARED")); /* one speaks for all */
}

static void another_speaks_when_the_first_is_stopped(void **state)
{
    (void)state;
    enter(1);
    enter(2);
    ranks[0].stopped = true;
    assert_in_range(pass(3 * TICKS), TICKS, TICKS + 2);
    expect_text(sure_of(1), "rank 0 on node0");
}

/* The one that speaks ends the job at once; where it cannot, the others do so later. */
static void who_cannot_end_the_job_is_not_waited_for(void **state)
{
    (void)state;
    for (int r = 0; r < RANKS; r++)
        enter(r);
    for (int i = 0; i < 3 * TICKS && !ranks[1].sure; i++)
        for (int r = 0; r < RANKS; r++)
            if (!ranks[r].sure)
                (void)sim_watchdog_look(ranks[r].dog, tick_s);
    assert_true(ranks[0].sure);
    expect_text(sure_of(1), "no rank got anything done for 50 s"); /* 10 s later */
}

static void a_rank_that_lives_but_is_behind_is_named_with_its_phase(void **state)
{
    (void)state;
    enter(0);
    enter(1);
    ranks[2].beats.phase = "waiting for data";
    (void)pass(3 * TICKS);
    const char *sure = sure_of(0);
    expect_text(sure, "rank 2 on node2 (pid ");
    expect_text(sure, "is behind: step 7, waiting for data; the other 2 ranks wait in ");
}

static void nobody_is_named_when_all_wait_in_one_exchange(void **state)
{
    (void)state;
    for (int r = 0; r < RANKS; r++)
        enter(r);
    (void)pass(3 * TICKS);
    expect_text(sure_of(0), "all ranks wait for each other in step 7, gradient sum");
    assert_null(strstr(ranks[0].said, "behind"));
}

static void a_slow_rank_is_waited_for(void **state)
{
    (void)state;
    enter(0);
    enter(2);
    for (int i = 0; i < 30; i++) {
        (void)pass(TICKS / 10);
        beat(1);
    }
    expect_silence();
}

static void a_fear_that_was_wrong_is_taken_back(void **state)
{
    (void)state;
    for (int r = 0; r < RANKS; r++)
        enter(r);
    (void)pass(8 * TICKS / 10);
    for (int i = 0; i < 10; i++) {
        for (int r = 0; r < RANKS; r++)
            beat(r);
        (void)pass(TICKS / 20);
    }
    const char *feared = strstr(ranks[0].said, "FEARED");
    assert_non_null(feared);
    expect_text(feared, "OVER ");
    for (int r = 0; r < RANKS; r++)
        assert_false(ranks[r].sure);
}

/* Quiet for 0.7 of the limit, and in the middle of it nobody runs for hours. */
static void a_job_that_was_suspended_as_a_whole_goes_on(void **state)
{
    (void)state;
    for (int r = 0; r < RANKS; r++)
        enter(r);
    (void)pass(45 * TICKS / 100); /* by now they watch each other */
    for (int r = 0; r < RANKS; r++)
        (void)sim_watchdog_look(ranks[r].dog, 10000);
    (void)pass(25 * TICKS / 100);
    for (int r = 0; r < RANKS; r++)
        assert_false(ranks[r].sure);
}

/* ---- the thread ---- */

typedef struct {
    sim_mutex lock;
    sim_signal told;
    char said[TEXT];
    bool sure;
} listener;

static void hear(void *ctx, sim_hang event, const char *text)
{
    listener *l = ctx;
    sim_mutex_lock(&l->lock);
    note(l->said, event, text);
    l->sure = event == SIM_HANG_SURE;
    sim_signal_all(&l->told);
    sim_mutex_unlock(&l->lock);
}

static void its_thread_fears_is_sure_and_ends(void **state)
{
    (void)state;
    static listener l;
    sim_watchdog *w = NULL;
    const sim_watchdog_options options = {.folder = folder,
                                          .host = "alone",
                                          .size = 1,
                                          .hang_s = 0.2,
                                          .tell = hear,
                                          .ctx = &l};
    sim_mutex_init(&l.lock);
    sim_signal_init(&l.told);
    ASSERT_OK(sim_watchdog_create(&options, &w));
    ASSERT_OK(sim_watchdog_start(w));
    sim_mutex_lock(&l.lock);
    while (!l.sure)
        sim_signal_wait(&l.told, &l.lock);
    sim_mutex_unlock(&l.lock);
    sim_watchdog_stop(&w);
    expect_text(l.said, "FEARED no rank got anything done for 0 s");
    expect_text(l.said, "SURE no rank got anything done for 0 s: this one rank is in ");
    sim_signal_destroy(&l.told);
    sim_mutex_destroy(&l.lock);
}

static void its_thread_does_not_keep_who_stops_it(void **state)
{
    (void)state;
    sim_watchdog *w = NULL;
    const sim_watchdog_options options = {
        .folder = folder, .host = "alone", .size = 1, .hang_s = 1e6, .tell = hear};
    ASSERT_OK(sim_watchdog_create(&options, &w)); /* its ticks are 10 s apart */
    ASSERT_OK(sim_watchdog_start(w));
    sim_watchdog_stop(&w);
    assert_null(w);
}

static void a_muted_thread_does_not_beat(void **state)
{
    (void)state;
    int status = 0;
    sim_heartbeat before = sim_heartbeat_now();
    sim_heartbeat_tick();
    sim_heartbeat_exchange();
    sim_heartbeat after = sim_heartbeat_now();
    assert_int_equal(after.beats - before.beats, 2);
    assert_int_equal(after.exchanges - before.exchanges, 1);
    pid_t child = fork(); /* the mute is for the thread's life */
    if (child == 0) {
        sim_heartbeat_mute();
        sim_heartbeat_tick();
        _exit(sim_heartbeat_now().beats == after.beats ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void without_its_folder_it_does_not_start(void **state)
{
    (void)state;
    sim_watchdog *w = NULL;
    const sim_watchdog_options options = {.folder = "/nowhere/heartbeat",
                                          .host = "node0",
                                          .size = 1,
                                          .hang_s = 1,
                                          .tell = tell};
    ASSERT_REFUSED(sim_watchdog_create(&options, &w), SIM_E_CREATE,
                   "/nowhere/heartbeat/rank-0: cannot be opened");
    assert_null(w);
    sim_watchdog_stop(&w); /* accepts NULL */
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(a_stopped_rank_is_named),
        TEST(another_speaks_when_the_first_is_stopped),
        TEST(who_cannot_end_the_job_is_not_waited_for),
        TEST(a_rank_that_lives_but_is_behind_is_named_with_its_phase),
        TEST(nobody_is_named_when_all_wait_in_one_exchange),
        TEST(a_slow_rank_is_waited_for),
        TEST(a_fear_that_was_wrong_is_taken_back),
        TEST(a_job_that_was_suspended_as_a_whole_goes_on),
        TEST(its_thread_fears_is_sure_and_ends),
        TEST(its_thread_does_not_keep_who_stops_it),
        cmocka_unit_test(a_muted_thread_does_not_beat),
        cmocka_unit_test(without_its_folder_it_does_not_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
