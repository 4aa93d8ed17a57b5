/*
 * test_linear_mpi.c - the linear classifier on problems whose minimum is known, on 1 to 4 ranks.
 */
#include "simile_test.h"

#include "simile/eval.h"
#include "simile/memory.h"

#include <math.h>

static const sim_comm *comm;

enum { N = 1700, N_TEST = 70, DIM = 3, CLASSES = 3 };

/* Features of all images, and the labels; class 1 has no images. */
static float train_x[N][DIM], test_x[N_TEST][DIM];
static int32_t train_y[N], test_y[N_TEST];

/* Feature 0 is +1 or -1 with the class 0 or 2; the others are constant. */
static void fill(size_t n, float x[][DIM], int32_t *y)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = i % 2 ? 2 : 0;
        x[i][0] = i % 2 ? -1 : 1;
        x[i][1] = 0;
        x[i][2] = 7;
    }
}

static sim_labelled_features local_of(size_t n, float x[][DIM], const int32_t *y)
{
    const sim_range local = sim_embed_local(sim_comm_partition(comm), n);
    return (sim_labelled_features){
        .n = n, .features = x[0] + local.lo * DIM, .labels = y};
}

static sim_status run_linear(size_t n_train, double l2, sim_linear_result *out)
{
    const sim_labelled_features train = local_of(n_train, train_x, train_y),
                                test = local_of(N_TEST, test_x, test_y);
    return sim_linear(comm, &(sim_linear_options){.l2 = l2}, DIM, CLASSES, &train, &test,
                      out);
}

/* Minimum over w of log(1 + exp(-2 w)) + l2 w^2: both classes have the weights w and -w. */
static double minimum(double l2)
{
    double lo = 0, hi = 100;
    for (int i = 0; i < 200; i++) {
        const double w = (lo + hi) / 2;
        const double slope = -2 / (1 + exp(2 * w)) + 2 * l2 * w;
        *(slope < 0 ? &lo : &hi) = w;
    }
    return log1p(exp(-2 * lo)) + l2 * lo * lo;
}

static void two_points_have_the_known_minimum(void **state)
{
    (void)state;
    const double l2s[] = {3, 0.1, 1e-3};
    for (size_t i = 0; i < sizeof l2s / sizeof l2s[0]; i++) {
        sim_linear_result r;
        fill(N, train_x, train_y);
        fill(N_TEST, test_x, test_y);
        ASSERT_OK(run_linear(N, l2s[i], &r));
        assert_true(fabs(r.loss - minimum(l2s[i])) <= 1e-6);
        assert_true(r.counts.top1 > 1 - 1e-12 && r.held_out_top1 < 0);
        assert_int_equal(r.counts.images[0], N_TEST / 2);
        assert_int_equal(r.counts.images[1], 0);
        assert_int_equal(r.counts.correct[2], N_TEST / 2);
        assert_int_equal(r.counts.confusion[2 * CLASSES + 2], N_TEST / 2);
        assert_int_equal(r.counts.confusion[2 * CLASSES + 1], 0);
        sim_linear_result_clear(&r);
    }
}

static void a_test_image_of_a_class_without_training_images_is_wrong(void **state)
{
    (void)state;
    sim_linear_result r;
    fill(N, train_x, train_y);
    fill(N_TEST, test_x, test_y);
    test_y[3] = 1;
    ASSERT_OK(run_linear(N, 0.1, &r));
    assert_int_equal(r.counts.images[1], 1);
    assert_int_equal(r.counts.correct[1], 0);
    assert_int_equal(r.counts.confusion[1 * CLASSES + 2], 1);
    assert_true(fabs(r.counts.top1 - (N_TEST - 1.0) / N_TEST) < 1e-12);
    assert_true(fabs(r.counts.top5 - (N_TEST - 1.0) / N_TEST) < 1e-12);
    sim_linear_result_clear(&r);
}

static void features_that_are_not_finite_are_refused_on_all_ranks(void **state)
{
    (void)state;
    sim_linear_result r = {0};
    fill(N, train_x, train_y);
    fill(N_TEST, test_x, test_y);
    train_x[1234][2] = NAN;
    ASSERT_REFUSED(run_linear(N, 0.1, &r), SIM_E_DATA, "1234");
    train_x[1234][2] = 0;
    test_x[69][0] = INFINITY;
    ASSERT_REFUSED(run_linear(N, 0.1, &r), SIM_E_DATA, "69");
}

static void one_class_is_refused(void **state)
{
    (void)state;
    sim_linear_result r = {0};
    fill(N, train_x, train_y);
    for (size_t i = 0; i < N; i++)
        train_y[i] = 2;
    ASSERT_REFUSED(run_linear(N, 0.1, &r), SIM_E_DATA, "two classes");
}

/* Two images, one per class: nothing can be held out. */
static void without_held_out_images_a_penalty_is_set(void **state)
{
    (void)state;
    sim_linear_result r;
    fill(N, train_x, train_y);
    fill(N_TEST, test_x, test_y);
    ASSERT_OK(run_linear(2, 0, &r));
    assert_true(r.l2 > 0 && r.held_out_top1 < 0 && r.counts.top1 > 1 - 1e-12);
    sim_linear_result_clear(&r);
}

/* Features without any variance: all logits are equal, and the first class is predicted. */
static void constant_features_predict_the_first_class(void **state)
{
    (void)state;
    sim_linear_result r;
    fill(N, train_x, train_y);
    fill(N_TEST, test_x, test_y);
    for (size_t i = 0; i < N; i++)
        train_x[i][0] = 4;
    for (size_t i = 0; i < N_TEST; i++)
        test_x[i][0] = 4;
    ASSERT_OK(run_linear(N, 0, &r));
    assert_int_equal(r.counts.correct[0], N_TEST / 2);
    assert_int_equal(r.counts.correct[2], 0);
    assert_true(fabs(r.loss - log(2)) < 1e-6);
    sim_linear_result_clear(&r);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_points_have_the_known_minimum),
        cmocka_unit_test(a_test_image_of_a_class_without_training_images_is_wrong),
        cmocka_unit_test(features_that_are_not_finite_are_refused_on_all_ranks),
        cmocka_unit_test(one_class_is_refused),
        cmocka_unit_test(without_held_out_images_a_penalty_is_set),
        cmocka_unit_test(constant_features_predict_the_first_class),
    };
    if (sim_comm_begin(&argc, &argv, &comm) != SIM_OK)
        return 70;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sim_comm_end();
    return failed != 0;
}
