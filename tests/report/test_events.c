/*
 * test_events.c - event files of TensorBoard: what remains of files that are cut or damaged.
 * tests/e2e/test_tensorboard.py reads complete files with an independent reader.
 */
#include "simile_test.h"

#include "simile/file.h"
#include "simile/memory.h"
#include "simile/report.h"

#include <stdlib.h>
#include <unistd.h>

enum { EVENTS = 6 };

/* Events of steps 4 to 9, after the version and the start at step 3; ends[i] is the length up to event i. */
static sim_events example(size_t ends[EVENTS], size_t *begin)
{
    sim_events e = {0};
    sim_histogram h = {
        .name = "h", .lo = -1, .hi = 1, .n_bins = 4, .counts = {0, 3, 2, 0}};

    ASSERT_OK(sim_events_begin(&e, 100, 3));
    *begin = e.n_bytes;
    for (int i = 0; i < EVENTS; i++) {
        const sim_event_value values[] = {{.tag = "train/loss", .scalar = i},
                                          {.tag = "quality/h", .histogram = &h}};
        ASSERT_OK(sim_events_add(&e, 101 + i, 4 + i, values, i % 2 ? 2 : 1));
        ends[i] = e.n_bytes;
    }
    return e;
}

static uint64_t measure(const uint8_t *bytes, size_t n, int64_t last_step)
{
    char path[] = "/tmp/test_events.XXXXXX";
    uint64_t intact = 0;
    int fd = mkstemp(path);

    assert_true(fd >= 0 && write(fd, bytes, n) == (ssize_t)n);
    (void)close(fd);
    ASSERT_OK(sim_events_measure(path, last_step, &intact));
    (void)unlink(path);
    return intact;
}

static void later_steps_are_found(void **state)
{
    (void)state;
    size_t ends[EVENTS], begin = 0;
    sim_events e = example(ends, &begin);

    assert_int_equal(measure(e.bytes, e.n_bytes, 100), e.n_bytes);
    assert_int_equal(measure(e.bytes, e.n_bytes, 3), begin);
    for (int i = 0; i < EVENTS; i++)
        assert_int_equal(measure(e.bytes, e.n_bytes, 4 + i), ends[i]);
    assert_int_equal(measure(e.bytes, e.n_bytes, 0), measure(e.bytes, e.n_bytes, 2));
    assert_true(measure(e.bytes, e.n_bytes, 0) < begin); /* START at step 3 is later */
    sim_free(e.bytes);
}

/* The end of the last event that is complete in the first n bytes. */
static size_t complete(const size_t ends[EVENTS], size_t begin, size_t n, size_t below)
{
    size_t most = n >= begin ? begin : below;
    for (int i = 0; i < EVENTS; i++)
        most = n >= ends[i] ? ends[i] : most;
    return most;
}

static void a_file_that_is_cut_keeps_its_complete_events(void **state)
{
    (void)state;
    size_t ends[EVENTS], begin = 0;
    sim_events e = example(ends, &begin);
    const size_t version = (size_t)measure(e.bytes, e.n_bytes, 0);

    for (size_t n = version; n <= e.n_bytes; n++)
        assert_int_equal(measure(e.bytes, n, 100), complete(ends, begin, n, version));
    for (size_t n = 0; n < version; n++)
        assert_int_equal(measure(e.bytes, n, 100), 0);
    sim_free(e.bytes);
}

static void any_flipped_bit_is_found(void **state)
{
    (void)state;
    size_t ends[EVENTS], begin = 0;
    sim_events e = example(ends, &begin);
    const size_t version = (size_t)measure(e.bytes, e.n_bytes, 0);

    for (size_t bit = 0; bit < e.n_bytes * 8; bit++) {
        const size_t at = bit / 8;
        e.bytes[at] ^= (uint8_t)(1u << bit % 8);
        const size_t want = at < version ? 0 : complete(ends, begin, at, version);
        assert_int_equal(measure(e.bytes, e.n_bytes, 100), want);
        e.bytes[at] ^= (uint8_t)(1u << bit % 8);
    }
    sim_free(e.bytes);
}

static void a_pipe_is_refused(void **state)
{
    (void)state;
    uint64_t intact = 0;
    assert_int_equal(sim_events_measure("/dev/null", 1, &intact), SIM_E_INPUT);
    assert_int_equal(sim_events_measure("/nonexistent", 1, &intact), SIM_E_INPUT);
    sim_error_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(later_steps_are_found),
        cmocka_unit_test(a_file_that_is_cut_keeps_its_complete_events),
        cmocka_unit_test(any_flipped_bit_is_found),
        cmocka_unit_test(a_pipe_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
