/*
 * test_watchdog.c - which ranks are named when no rank makes progress.
 *
 * The ranks are simulated in one process, tick by tick of a simulated time, so that nothing
 * depends on the speed of the machine; one test uses the real thread.  Stopped processes are
 * tested in tests/e2e/test_guard.sh.
 *
 * simile-test: labels tsan
 */
#include "simile_test.h"

#include "watchdog.h"

#include "simile/heartbeat.h"
#include "simile/thread.h"

#include <sys/wait.h>
#include <unistd.h>

enum { RANKS = 3, TEXT = 4096, TICKS = 40 }; /* TICKS: of hang_s */

static const double hang_s = 40, tick_s = 1;
static char directory[64];

typedef struct {
    char host[16], reported[TEXT];
    sim_heartbeat beats;
    sim_watchdog *watchdog;
    bool stopped; /* as by SIGSTOP */
    bool certain; /* reported a certain hang, which ends the job */
} simulated_rank;

static simulated_rank ranks[RANKS];

static sim_heartbeat get_beats(void *ctx)
{
    return ((const simulated_rank *)ctx)->beats;
}

static void note(char reported[TEXT], sim_hang event, const char *text)
{
    static const char *const names[] = {[SIM_HANG_SUSPECTED] = "SUSPECTED",
                                        [SIM_HANG_OVER] = "OVER",
                                        [SIM_HANG_CERTAIN] = "CERTAIN"};
    size_t used = strlen(reported);
    (void)snprintf(reported + used, TEXT - used, "%s %s\n", names[event], text);
}

static void record_event(void *ctx, sim_hang event, const char *text)
{
    simulated_rank *r = ctx;
    note(r->reported, event, text);
    r->certain = event == SIM_HANG_CERTAIN;
}

static int begin(void **state)
{
    (void)state;
    (void)snprintf(directory, sizeof directory, "/tmp/simile-watchdog-XXXXXX");
    assert_non_null(mkdtemp(directory));
    for (int i = 0; i < RANKS; i++) {
        simulated_rank *r = &ranks[i];
        *r = (simulated_rank){.beats = {.step = 7, .phase = "forward"}};
        (void)snprintf(r->host, sizeof r->host, "node%d", i);
        const sim_watchdog_options options = {.directory = directory,
                                              .host = r->host,
                                              .rank = i,
                                              .size = RANKS,
                                              .hang_s = hang_s,
                                              .report = record_event,
                                              .ctx = r,
                                              .beats = get_beats};
        ASSERT_OK(sim_watchdog_create(&options, &r->watchdog));
    }
    return 0;
}

static int end(void **state)
{
    (void)state;
    for (int i = 0; i < RANKS; i++)
        sim_watchdog_stop(&ranks[i].watchdog);
    return rmdir(directory); /* fails unless it is empty */
}

/* ---- what ranks do ---- */

static void beat(int rank)
{
    ranks[rank].beats.beats++;
}

/* Completes an exchange. */
static void exchange(int rank)
{
    ranks[rank].beats.phase = "gradient sum";
    ranks[rank].beats.exchanges++;
    beat(rank);
}

/* Simulates `ticks` ticks, or fewer if a rank ends the job.  Returns their number. */
static int pass(int ticks)
{
    for (int i = 0; i < ticks; i++)
        for (int r = 0; r < RANKS; r++) {
            if (!ranks[r].stopped)
                (void)sim_watchdog_tick(ranks[r].watchdog, tick_s);
            if (ranks[r].certain)
                return i + 1;
        }
    return ticks;
}

/* ---- what they report ---- */

static void expect_text(const char *reported, const char *text)
{
    if (!reported || !strstr(reported, text))
        fail_msg("\"%s\" does not contain \"%s\"", reported ? reported : "", text);
}

static const char *certain_report(int rank)
{
    const char *report = strstr(ranks[rank].reported, "CERTAIN ");
    expect_text(ranks[rank].reported, "CERTAIN ");
    return report;
}

static void expect_no_report(void)
{
    for (int r = 0; r < RANKS; r++)
        if (ranks[r].reported[0])
            fail_msg("rank %d reported: %s", r, ranks[r].reported);
}

/* ---- the tests ---- */

static void a_stopped_rank_is_named(void **state)
{
    (void)state;
    exchange(0);
    exchange(2);
    ranks[1].stopped = true;
    assert_in_range(pass(3 * TICKS), TICKS, TICKS + 2);
    expect_text(ranks[0].reported, "SUSPECTED no rank made progress for 20 s");
    const char *report = certain_report(0);
    expect_text(report, "rank 1 on node1 (pid ");
    expect_text(report, "is behind: no heartbeat for ");
    expect_text(report, "last in step 7, forward; ");
    expect_text(report, "the other 2 ranks wait in step 7, gradient sum");
    assert_null(strstr(report, "rank 2"));
    assert_null(strstr(ranks[2].reported, "SUSPECTED")); /* one rank reports for all */
}

static void the_next_rank_reports_when_the_first_is_stopped(void **state)
{
    (void)state;
    exchange(1);
    exchange(2);
    ranks[0].stopped = true;
    assert_in_range(pass(3 * TICKS), TICKS, TICKS + 2);
    expect_text(certain_report(1), "rank 0 on node0");
}

/* The reporting rank ends the job; if it cannot, the others do so later. */
static void a_rank_that_cannot_end_the_job_is_not_waited_for(void **state)
{
    (void)state;
    for (int r = 0; r < RANKS; r++)
        exchange(r);
    for (int i = 0; i < 3 * TICKS && !ranks[1].certain; i++)
        for (int r = 0; r < RANKS; r++)
            if (!ranks[r].certain)
                (void)sim_watchdog_tick(ranks[r].watchdog, tick_s);
    assert_true(ranks[0].certain);
    expect_text(certain_report(1), "no rank made progress for 50 s"); /* 10 s later */
}

static void a_running_rank_that_is_behind_is_named_with_its_phase(void **state)
{
    (void)state;
    exchange(0);
    exchange(1);
    ranks[2].beats.phase = "waiting for data";
    (void)pass(3 * TICKS);
    const char *report = certain_report(0);
    expect_text(report, "rank 2 on node2 (pid ");
    expect_text(report,
                "is behind: step 7, waiting for data; the other 2 ranks wait in ");
}

static void no_rank_is_named_when_all_wait_in_one_exchange(void **state)
{
    (void)state;
    for (int r = 0; r < RANKS; r++)
        exchange(r);
    (void)pass(3 * TICKS);
    expect_text(certain_report(0),
                "all ranks wait for each other in step 7, gradient sum");
    assert_null(strstr(ranks[0].reported, "behind"));
}

static void a_slow_rank_is_waited_for(void **state)
{
    (void)state;
    exchange(0);
    exchange(2);
    for (int i = 0; i < 30; i++) {
        (void)pass(TICKS / 10);
        beat(1);
    }
    expect_no_report();
}

static void progress_after_a_suspected_hang_is_reported(void **state)
{
    (void)state;
    for (int r = 0; r < RANKS; r++)
        exchange(r);
    (void)pass(8 * TICKS / 10);
    for (int i = 0; i < 10; i++) {
        for (int r = 0; r < RANKS; r++)
            beat(r);
        (void)pass(TICKS / 20);
    }
    const char *suspected = strstr(ranks[0].reported, "SUSPECTED");
    assert_non_null(suspected);
    expect_text(suspected, "OVER ");
    for (int r = 0; r < RANKS; r++)
        assert_false(ranks[r].certain);
}

/* No progress for 0.7 of the limit, and in the middle no rank runs for hours. */
static void a_job_that_was_suspended_as_a_whole_continues(void **state)
{
    (void)state;
    for (int r = 0; r < RANKS; r++)
        exchange(r);
    (void)pass(45 * TICKS / 100); /* they now read the heartbeats of others */
    for (int r = 0; r < RANKS; r++)
        (void)sim_watchdog_tick(ranks[r].watchdog, 10000);
    (void)pass(25 * TICKS / 100);
    for (int r = 0; r < RANKS; r++)
        assert_false(ranks[r].certain);
}

/* ---- the counting thread ---- */

/* Passes the time on both threads of rank r, the reporting one unless it is blocked, until the
 * counting thread ends the job.  Returns the number of ticks. */
static int count(int r, int ticks, bool is_blocked, const char **text)
{
    for (int i = 0; i < ticks; i++) {
        if (!is_blocked)
            (void)sim_watchdog_tick(ranks[r].watchdog, tick_s);
        if (!sim_watchdog_count(ranks[r].watchdog, tick_s, text))
            return i + 1;
    }
    return ticks;
}

/* Neither the main thread nor the reporting one returns from a write to the disk. */
static void a_blocked_reporting_thread_does_not_keep_the_job_alive(void **state)
{
    (void)state;
    const char *text = NULL;
    ranks[0].beats.phase = "checkpoint";
    assert_in_range(count(0, 3 * TICKS, true, &text), TICKS, TICKS + 2);
    expect_text(text, "rank 0 on node0 is in step 7, checkpoint");
    expect_text(text, directory);
    assert_in_range(count(1, 3 * TICKS, true, &text), TICKS + 9, TICKS + 12);
    expect_no_report();
}

static void a_disk_that_fails_late_ends_the_job_too(void **state)
{
    (void)state;
    const char *text = NULL;
    exchange(1); /* rank 0 is behind, but rank 1 still makes progress */
    for (int i = 0; i < 2 * TICKS; i++) {
        beat(1);
        (void)sim_watchdog_tick(ranks[1].watchdog, tick_s);
        assert_int_equal(count(0, 1, false, &text), 1);
        assert_null(text);
    }
    assert_in_range(count(0, 3 * TICKS, true, &text), TICKS / 2, TICKS / 2 + 2);
    expect_text(text, directory);
}

static void a_blocked_disk_is_no_hang_while_the_rank_makes_progress(void **state)
{
    (void)state;
    const char *text = NULL;
    for (int i = 0; i < 3 * TICKS; i++) {
        beat(0);
        (void)count(0, 1, true, &text);
    }
    assert_null(text);
}

/* The report may block; its text is that of the reporting thread. */
static void the_job_ends_with_the_report_of_the_other_thread(void **state)
{
    (void)state;
    const char *text = NULL;
    exchange(0);
    exchange(2);
    ranks[1].stopped = true;
    (void)pass(3 * TICKS);
    assert_false(sim_watchdog_count(ranks[0].watchdog, tick_s, &text));
    expect_text(text, "rank 1 on node1 (pid ");
}

/* ---- the threads ---- */

typedef struct {
    sim_mutex lock;
    sim_signal changed;
    char reported[TEXT];
    bool certain, ended;
} listener;

static void notify_listener(void *ctx, sim_hang event, const char *text)
{
    listener *l = ctx;
    sim_mutex_lock(&l->lock);
    note(l->reported, event, text);
    l->certain = event == SIM_HANG_CERTAIN;
    sim_signal_all(&l->changed);
    sim_mutex_unlock(&l->lock);
}

static void note_end(void *ctx, const char *text)
{
    listener *l = ctx;
    sim_mutex_lock(&l->lock);
    l->ended = strstr(text, "no rank made progress") != NULL;
    sim_signal_all(&l->changed);
    sim_mutex_unlock(&l->lock);
}

static void the_threads_report_a_hang_and_end(void **state)
{
    (void)state;
    static listener l;
    sim_watchdog *w = NULL;
    const sim_watchdog_options options = {.directory = directory,
                                          .host = "alone",
                                          .size = 1,
                                          .hang_s = 0.2,
                                          .report = notify_listener,
                                          .end = note_end,
                                          .ctx = &l};
    sim_mutex_init(&l.lock);
    sim_signal_init(&l.changed);
    ASSERT_OK(sim_watchdog_create(&options, &w));
    ASSERT_OK(sim_watchdog_start(w));
    sim_mutex_lock(&l.lock);
    while (!l.certain || !l.ended)
        sim_signal_wait(&l.changed, &l.lock);
    sim_mutex_unlock(&l.lock);
    sim_watchdog_stop(&w);
    expect_text(l.reported, "SUSPECTED no rank made progress for 0 s");
    expect_text(l.reported,
                "CERTAIN no rank made progress for 0 s: this one rank is in ");
    sim_signal_destroy(&l.changed);
    sim_mutex_destroy(&l.lock);
}

static void stopping_does_not_wait_for_a_tick(void **state)
{
    (void)state;
    sim_watchdog *w = NULL;
    const sim_watchdog_options options = {.directory = directory,
                                          .host = "alone",
                                          .size = 1,
                                          .hang_s = 1e6,
                                          .report = notify_listener,
                                          .end = note_end};
    ASSERT_OK(sim_watchdog_create(&options, &w)); /* the period is 10 s */
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
    pid_t child = fork(); /* muting cannot be undone */
    if (child == 0) {
        sim_heartbeat_mute();
        sim_heartbeat_tick();
        _exit(sim_heartbeat_now().beats == after.beats ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void a_missing_directory_is_an_error(void **state)
{
    (void)state;
    sim_watchdog *w = NULL;
    const sim_watchdog_options options = {.directory = "/nowhere/heartbeat",
                                          .host = "node0",
                                          .size = 1,
                                          .hang_s = 1,
                                          .report = record_event};
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
        TEST(the_next_rank_reports_when_the_first_is_stopped),
        TEST(a_rank_that_cannot_end_the_job_is_not_waited_for),
        TEST(a_running_rank_that_is_behind_is_named_with_its_phase),
        TEST(no_rank_is_named_when_all_wait_in_one_exchange),
        TEST(a_slow_rank_is_waited_for),
        TEST(progress_after_a_suspected_hang_is_reported),
        TEST(a_job_that_was_suspended_as_a_whole_continues),
        TEST(a_blocked_reporting_thread_does_not_keep_the_job_alive),
        TEST(a_disk_that_fails_late_ends_the_job_too),
        TEST(a_blocked_disk_is_no_hang_while_the_rank_makes_progress),
        TEST(the_job_ends_with_the_report_of_the_other_thread),
        TEST(the_threads_report_a_hang_and_end),
        TEST(stopping_does_not_wait_for_a_tick),
        cmocka_unit_test(a_muted_thread_does_not_beat),
        cmocka_unit_test(a_missing_directory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
