/*
 * test_observe.c - records, streams and the metrics of an interval.
 */
#include "simile_test.h"

#include "simile/observe.h"

#include <math.h>

/* ---- scalars in log lines ---- */

static void a_scalar_is_formatted_with_label_unit_and_digits(void **state)
{
    (void)state;
    static const struct {
        sim_scalar scalar;
        const char *text;
    } cases[] = {
        {{.about = {"a", "acc", NULL, SIM_FORMAT_FIXED, 3, SIM_LOG_MEAN, false},
          .value = 0.51249},
         "acc 0.512"},
        {{.about = {"s", NULL, "images/s", SIM_FORMAT_FIXED, 0, SIM_LOG_MEAN, false},
          .value = 511.7},
         "512 images/s"},
        {{.about = {"lr", "lr", NULL, SIM_FORMAT_GENERAL, 4, SIM_LOG_MEAN, false},
          .value = 1.23456e-5},
         "lr 1.235e-05"},
        {{.about = {"n", NULL, "anchors", SIM_FORMAT_INT, 0, SIM_LOG_NOTE, false},
          .value = 4503599627370497},
         "4503599627370497 anchors"},
        {{.about = {"q", "queue", NULL, SIM_FORMAT_INT, 0, SIM_LOG_NOTE, false},
          .value = 32,
          .total = 96},
         "queue 32/96"},
    };
    char text[64];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sim_scalar_text(&cases[i].scalar, text, sizeof text);
        assert_string_equal(text, cases[i].text);
    }
}

/* ---- the stream ---- */

static char calls[256];

typedef struct {
    int64_t last_step;
    const char *name;
} recorder;

static void note(const char *what, const char *name)
{
    size_t used = strlen(calls);
    (void)snprintf(calls + used, sizeof calls - used, "%s %s;", what, name);
}

static sim_status begin_a(void *state, const sim_observed_run *run)
{
    recorder *r = state;
    assert_int_equal(r->last_step, 0); /* states are filled with zeros */
    r->name = "a";
    r->last_step = run->step;
    note("begin", r->name);
    return SIM_OK;
}

static sim_status publish_any(void *state, const sim_record *record)
{
    recorder *r = state;
    r->last_step = record->step;
    note("publish", r->name ? r->name : "b");
    return SIM_OK;
}

static sim_status publish_failing(void *state, const sim_record *record)
{
    sim_status st = SIM_OK;
    (void)state;
    SIM_FAIL(SIM_E_IO, "step %lld", (long long)record->step);
done:
    return st;
}

static sim_status sync_a(void *state)
{
    note("sync", ((recorder *)state)->name);
    return SIM_OK;
}

static sim_status end_a(void *state)
{
    note("end", ((recorder *)state)->name);
    return SIM_OK;
}

static void clear_any(void *state)
{
    note("clear", ((recorder *)state)->name ? ((recorder *)state)->name : "b");
}

static const sim_observer observer_a = {.name = "a",
                                        .state_bytes = sizeof(recorder),
                                        .begin = begin_a,
                                        .publish = publish_any,
                                        .sync = sync_a,
                                        .end = end_a,
                                        .clear = clear_any};
static const sim_observer observer_b = {.name = "b",
                                        .state_bytes = sizeof(recorder),
                                        .publish = publish_any,
                                        .clear = clear_any};
static const sim_observer failing = {.name = "failing", .publish = publish_failing};

static void every_observer_receives_every_record_in_order(void **state)
{
    const sim_observer *const list[] = {&observer_a, &observer_b};
    const sim_observed_run run = {.path = "run", .abandoned = "", .step = 4};
    const sim_record record = {.kind = SIM_RECORD_EVALUATION, .step = 5};
    sim_stream *s = NULL;
    (void)state;

    calls[0] = '\0';
    ASSERT_OK(sim_stream_create(list, 2, &s));
    ASSERT_OK(sim_stream_begin(s, &run));
    ASSERT_OK(sim_stream_publish(s, &record));
    ASSERT_OK(sim_stream_sync(s));
    ASSERT_OK(sim_stream_end(s));
    sim_stream_destroy(&s);
    assert_null(s);
    assert_string_equal(calls,
                        "begin a;publish a;publish b;sync a;end a;clear a;clear b;");
}

static void a_failing_observer_fails_the_publication(void **state)
{
    const sim_observer *const list[] = {&failing, &observer_b};
    const sim_record record = {.step = 7};
    sim_stream *s = NULL;
    (void)state;

    calls[0] = '\0';
    ASSERT_OK(sim_stream_create(list, 2, &s));
    ASSERT_REFUSED(sim_stream_publish(s, &record), SIM_E_IO, "step 7");
    sim_stream_destroy(&s);
    assert_string_equal(calls, "clear b;");
}

static void a_rank_without_observers_has_no_stream(void **state)
{
    const sim_observed_run run = {.path = "run", .abandoned = ""};
    const sim_record record = {.step = 1};
    sim_stream *none = NULL;
    (void)state;
    ASSERT_OK(sim_stream_begin(none, &run));
    ASSERT_OK(sim_stream_publish(none, &record));
    ASSERT_OK(sim_stream_sync(none));
    ASSERT_OK(sim_stream_end(none));
    sim_stream_destroy(&none);
}

/* ---- metrics of an interval ---- */

static const sim_interval_metric metrics[] = {
    {.about = {.name = "loss"}, .reduce = SIM_REDUCE_MEAN},
    {.about = {.name = "lr"}, .reduce = SIM_REDUCE_LAST},
    {.about = {.name = "dropped", .format = SIM_FORMAT_INT}, .reduce = SIM_REDUCE_SUM},
};

static void add_step(sim_interval *i, double loss, double lr, double dropped)
{
    sim_interval_count(i);
    sim_interval_add(i, "loss", loss);
    sim_interval_add(i, "lr", lr);
    sim_interval_add(i, "dropped", dropped);
}

static void an_interval_reduces_by_mean_sum_and_last_value(void **state)
{
    sim_interval i;
    sim_record r = {.kind = SIM_RECORD_INTERVAL}, next = {.kind = SIM_RECORD_INTERVAL};
    (void)state;

    sim_interval_begin(&i, metrics, 3);
    add_step(&i, 4, 0.5, 2);
    add_step(&i, 1, 0.25, 3);
    sim_interval_publish(&i, &r);
    assert_int_equal(r.n_scalars, 3);
    assert_string_equal(r.scalars[2].about.name, "dropped");
    assert_float_equal(sim_record_value(&r, "loss"), 2.5, 0);
    assert_float_equal(sim_record_value(&r, "lr"), 0.25, 0);
    assert_float_equal(sim_record_value(&r, "dropped"), 5, 0);
    assert_true(isnan(sim_record_value(&r, "absent")));

    sim_interval_reset(&i);
    sim_interval_publish(&i, &next);
    assert_true(isnan(sim_record_value(&next, "loss"))); /* no step */
    assert_float_equal(sim_record_value(&next, "lr"), 0.25, 0);
    assert_float_equal(sim_record_value(&next, "dropped"), 0, 0);
}

static sim_status list_name(void *ctx, const char *group, const sim_tensor *t)
{
    char *names = ctx;
    size_t used = strlen(names);
    assert_true(t->optional && t->n_dims == 0 && t->type == SIM_F64);
    (void)snprintf(names + used, 128 - used, "%s/%s=%g;", group, t->name,
                   *(const double *)t->data);
    return SIM_OK;
}

static void sums_are_visited_by_name(void **state)
{
    sim_interval i;
    char names[128] = "";
    const sim_visitor v = {.visit = list_name, .ctx = names};
    (void)state;

    sim_interval_begin(&i, metrics, 3);
    add_step(&i, 4, 0.5, 2);
    ASSERT_OK(sim_interval_visit(&i, "g", &v));
    assert_string_equal(names, "g/steps=1;g/loss=4;g/dropped=2;");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_scalar_is_formatted_with_label_unit_and_digits),
        cmocka_unit_test(every_observer_receives_every_record_in_order),
        cmocka_unit_test(a_failing_observer_fails_the_publication),
        cmocka_unit_test(a_rank_without_observers_has_no_stream),
        cmocka_unit_test(an_interval_reduces_by_mean_sum_and_last_value),
        cmocka_unit_test(sums_are_visited_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
