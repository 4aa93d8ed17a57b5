/*
 * test_metrics_mpi.c - the metrics of a log interval in checkpoints of this and other versions.
 *
 * Checkpoints are written with tensors that the test lists, as another version of the program
 * would, and loaded as a resumed run does.
 */
#include "simile_test.h"

#include "state.h"

#include <unistd.h>

static const sim_comm *comm;
static char directory[64];

typedef struct {
    const char *group, *name;
    size_t n; /* 0: a scalar */
    double values[8];
} stored;

typedef struct {
    stored *of;
    size_t n;
} stored_list;

static sim_status visit_stored(void *object, const sim_visitor *v)
{
    sim_status st = SIM_OK;
    stored_list *list = object;
    for (size_t i = 0; i < list->n; i++) {
        stored *s = &list->of[i];
        const sim_tensor t = {.name = s->name,
                              .type = SIM_F64,
                              .n_dims = s->n > 0,
                              .dims = {s->n},
                              .data = s->values};
        SIM_TRY(sim_visit(v, s->group, &t));
    }
done:
    return st;
}

/* Writes a checkpoint with these tensors, and loads the interval from it. */
static void save_and_load(const char *name, stored *of, size_t n, sim_interval *out)
{
    char path[128];
    sim_run run;
    sim_checkpoint *k = NULL;
    stored_list list = {of, n};
    const sim_state_source saved = {visit_stored, &list};
    const sim_state_source loaded[] = {{sim_metrics_visit, out},
                                       {sim_metrics_visit_array, out}};
    const sim_checkpoint_options options = {.keep = 1};
    const sim_checkpoint_head head = {
        .step = 3, .config = "", .identity = "", .history = "[]"};

    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    ASSERT_OK(sim_run_open(comm, path, &run));
    ASSERT_OK(sim_checkpoint_write(comm, &run, &options, &head, &saved, 1));
    ASSERT_OK(sim_checkpoint_newest(comm, path, &k));
    assert_non_null(k);
    sim_metrics_begin(out);
    ASSERT_OK(sim_checkpoint_load(k, loaded, 2));
    sim_checkpoint_close(&k);
    sim_run_close(comm, &run);
}

static double mean_of(const sim_interval *i, const char *name)
{
    sim_record r = {.kind = SIM_RECORD_INTERVAL};
    sim_interval_publish(i, &r);
    return sim_record_value(&r, name);
}

static void an_interval_of_version_0_1_0_is_read_from_its_array(void **state)
{
    sim_interval i;
    stored array[] = {{"train", "interval", 8, {4, 10, 2, 3, -1, 0.5, 80, 7}}};
    (void)state;

    save_and_load("array", array, 1, &i);
    assert_float_equal(i.steps, 4, 0);
    assert_float_equal(mean_of(&i, "loss"), 2.5, 0);
    assert_float_equal(mean_of(&i, "accuracy"), 0.5, 0);
    assert_float_equal(mean_of(&i, "positive"), 0.75, 0);
    assert_float_equal(mean_of(&i, "negative"), -0.25, 0);
    assert_float_equal(mean_of(&i, "embedding_std"), 0.125, 0);
    assert_float_equal(mean_of(&i, "gradient_norm"), 20, 0);
    assert_float_equal(mean_of(&i, "anchors_without_positive"), 7, 0);
}

static void an_unknown_metric_is_ignored_and_a_missing_one_starts_at_zero(void **state)
{
    sim_interval i;
    stored values[] = {{"train/metrics", "steps", 0, {2}},
                       {"train/metrics", "of_a_later_version", 0, {99}},
                       {"train/metrics", "gradient_norm", 0, {8}},
                       {"train/metrics", "loss", 0, {6}}};
    (void)state;

    save_and_load("names", values, 4, &i);
    assert_float_equal(i.steps, 2, 0);
    assert_float_equal(mean_of(&i, "loss"), 3, 0);
    assert_float_equal(mean_of(&i, "gradient_norm"), 4, 0);
    assert_float_equal(mean_of(&i, "accuracy"), 0, 0);
    assert_float_equal(mean_of(&i, "anchors_without_positive"), 0, 0);
}

static void what_is_saved_is_loaded(void **state)
{
    sim_interval saved, i;
    sim_run run;
    sim_checkpoint *k = NULL;
    char path[128];
    const sim_checkpoint_options options = {.keep = 1};
    const sim_checkpoint_head head = {
        .step = 3, .config = "", .identity = "", .history = "[]"};
    const sim_state_source source = {sim_metrics_visit, &saved};
    const sim_state_source loaded[] = {{sim_metrics_visit, &i},
                                       {sim_metrics_visit_array, &i}};
    const sim_step_values step = {
        .report = {.loss = 1.0 / 3, .accuracy = 0.25, .anchors_without_positive = 3},
        .gradient_norm = 1e-9,
        .lr = 0.1,
        .updated = true};
    (void)state;

    sim_metrics_begin(&saved);
    sim_metrics_add(&saved, &step);
    sim_metrics_add(&saved, &step);
    (void)snprintf(path, sizeof path, "%s/same", directory);
    ASSERT_OK(sim_run_open(comm, path, &run));
    ASSERT_OK(sim_checkpoint_write(comm, &run, &options, &head, &source, 1));
    ASSERT_OK(sim_checkpoint_newest(comm, path, &k));
    sim_metrics_begin(&i);
    ASSERT_OK(sim_checkpoint_load(k, loaded, 2));
    assert_float_equal(i.steps, 2, 0);
    assert_float_equal(mean_of(&i, "loss"), 1.0 / 3, 0);
    assert_float_equal(mean_of(&i, "gradient_norm"), 1e-9, 0);
    assert_float_equal(mean_of(&i, "accuracy"), 0.25, 0);
    assert_float_equal(mean_of(&i, "anchors_without_positive"), 6, 0);
    sim_checkpoint_close(&k);
    sim_run_close(comm, &run);
}

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(directory, sizeof directory, "/tmp/simile-metrics-XXXXXX");
    if (comm->rank == 0 && !mkdtemp(directory))
        return -1;
    sim_comm_broadcast(comm, 0, directory, sizeof directory);
    return 0;
}

static int tear_down(void **state)
{
    char command[128];
    (void)state;
    sim_comm_barrier(comm);
    if (comm->rank != 0)
        return 0;
    (void)snprintf(command, sizeof command, "rm -rf %s", directory);
    return system(command);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_interval_of_version_0_1_0_is_read_from_its_array),
        cmocka_unit_test(an_unknown_metric_is_ignored_and_a_missing_one_starts_at_zero),
        cmocka_unit_test(what_is_saved_is_loaded),
    };
    if (sim_comm_begin(&argc, &argv, &comm) != SIM_OK)
        return 1;
    int failed = cmocka_run_group_tests(tests, set_up, tear_down);
    sim_comm_end();
    return failed != 0;
}
