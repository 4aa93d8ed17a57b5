/*
 * linear.c - linear evaluation: a linear classifier on frozen features.
 *
 * In: features of this rank's images of the training and the test set.  Out: accuracy, per class
 * and in total.  The strength of the L2 penalty is chosen on a fifth of the training images, then
 * all of them are fitted.
 * Called by `simile evaluate linear`.
 * Kornblith et al. 2019, arXiv 1805.08974: logistic regression by L-BFGS, L2 from a logarithmic
 * grid.
 */
#include "class_counts.h"
#include "logistic.h"

#include "simile/eval.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <math.h>
#include <string.h>

enum { BATCH = 512, NO_OUTPUT = -1 };

/* Values of l2, relative to the mean variance of the features; the strongest first. */
static const double grid[] = {1, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7};
enum { GRID = sizeof grid / sizeof grid[0], DEFAULT_OF_GRID = 3 };

/* Classes with training images are the outputs of the classifier. */
typedef struct {
    size_t n_classes, n_outputs;
    int32_t *output_of_class; /* [n_classes]; NO_OUTPUT: no training images */
    int32_t *class_of_output; /* [n_outputs] */
} class_map;

static sim_status map_classes(const sim_labelled_features *train, size_t n_classes,
                              class_map *map)
{
    sim_status st = SIM_OK;

    *map = (class_map){.n_classes = n_classes};
    SIM_TRY(sim_alloc(&map->output_of_class, n_classes, "eval/linear"));
    SIM_TRY(sim_alloc(&map->class_of_output, n_classes, "eval/linear"));
    for (size_t c = 0; c < n_classes; c++)
        map->output_of_class[c] = NO_OUTPUT;
    for (size_t i = 0; i < train->n; i++)
        map->output_of_class[train->labels[i]] = 0;
    for (size_t c = 0; c < n_classes; c++)
        if (map->output_of_class[c] != NO_OUTPUT) {
            map->class_of_output[map->n_outputs] = (int32_t)c;
            map->output_of_class[c] = (int32_t)map->n_outputs++;
        }
    SIM_CHECK(
        map->n_outputs > 1, SIM_E_DATA,
        "the training images are all of one class; a linear classifier needs images "
        "of at least two classes");
done:
    return st;
}

static void unmap_classes(class_map *map)
{
    SIM_FREE(map->output_of_class);
    SIM_FREE(map->class_of_output);
}

/* ---- the strength of the penalty ---- */

/* The value of l2 with the best accuracy on the held-out images; of equal ones the strongest.
 * Each fit begins with the weights of the one before. */
static double choose_l2(sim_logistic *m, bool quiet, double *held_out)
{
    const double variance = sim_logistic_variance(m), scale = variance > 0 ? variance : 1;
    double best = grid[DEFAULT_OF_GRID] * scale;
    int64_t most = -1, n = 0, n_correct = 0;

    for (size_t g = 0; g < GRID; g++) {
        sim_lbfgs_result result;
        sim_logistic_fit(m, grid[g] * scale, SIM_FIT_WITHOUT_HELD_OUT, &result);
        sim_logistic_held_out(m, &n, &n_correct);
        if (n == 0)
            break;
        if (!quiet)
            sim_log("linear    l2 %.3g: top-1 %.2f %% of %lld held-out images, %lld "
                    "iterations",
                    grid[g] * scale, 100 * (double)n_correct / (double)n, (long long)n,
                    (long long)result.iterations);
        if (n_correct > most) {
            most = n_correct;
            best = grid[g] * scale;
        }
    }
    if (n == 0)
        sim_log_warn("no class has two training images, so l2 is not chosen on held-out "
                     "images but set to %.3g",
                     best);
    *held_out = n ? (double)most / (double)n : -1;
    return best;
}

static void fit_all(sim_logistic *m, const sim_linear_options *options,
                    sim_linear_result *r)
{
    sim_lbfgs_result result;

    r->held_out_top1 = -1;
    r->l2 =
        options->l2 > 0 ? options->l2 : choose_l2(m, options->quiet, &r->held_out_top1);
    sim_logistic_fit(m, r->l2, SIM_FIT_ALL, &result);
    r->loss = result.value;
    r->iterations = result.iterations;
    if (!result.converged && !options->quiet)
        sim_log_warn("the linear classifier has not converged after %lld iterations at "
                     "l2 %.3g; its accuracy may be too low",
                     (long long)result.iterations, r->l2);
}

/* ---- the test images ---- */

static void count_image(const class_map *map, const float *z, int32_t class,
                        sim_class_counts *counts)
{
    const int32_t output = map->output_of_class[class];
    const size_t n = map->n_outputs;
    size_t first = 0;

    for (size_t c = 1; c < n; c++)
        first = z[c] > z[first] ? c : first;
    sim_class_counts_add(counts, (size_t) class, (size_t)map->class_of_output[first],
                         output == NO_OUTPUT ? SIZE_MAX
                                             : sim_logistic_rank(n, z, (size_t)output));
}

/* Collective. */
static sim_status classify_test(const sim_comm *c, const sim_logistic *m,
                                const class_map *map, const sim_labelled_features *test,
                                sim_linear_result *r)
{
    sim_status st = SIM_OK;
    const sim_range local = sim_embed_local(sim_comm_partition(c), test->n);
    const size_t dim = (size_t)r->dim;
    float *work = NULL, *logits = NULL;

    st = sim_class_counts_create(map->n_classes, test->n, &r->counts);
    if (st == SIM_OK)
        st = sim_alloc(&work, BATCH * (dim + 1), "eval/linear");
    if (st == SIM_OK)
        st = sim_alloc(&logits, BATCH * map->n_outputs, "eval/linear");
    SIM_TRY(sim_comm_agree(c, st));
    for (size_t at = local.lo; at < local.hi; at += BATCH) {
        const size_t n = local.hi - at < BATCH ? local.hi - at : BATCH;
        sim_logistic_predict(m, n, test->features + (at - local.lo) * dim, work, logits);
        for (size_t i = 0; i < n; i++)
            count_image(map, logits + i * map->n_outputs, test->labels[at + i],
                        &r->counts);
    }
    sim_class_counts_sum(c, &r->counts);
done:
    sim_free(work);
    sim_free(logits);
    return st;
}

/* ---- public functions ---- */

/* Collective. */
static sim_status check_finite(const sim_comm *c, const char *set, size_t dim,
                               const sim_labelled_features *f)
{
    sim_status st = SIM_OK;
    const sim_range local = sim_embed_local(sim_comm_partition(c), f->n);
    int64_t first = (int64_t)f->n;

    for (size_t i = local.lo; i < local.hi && first == (int64_t)f->n; i++)
        for (size_t j = 0; j < dim; j++)
            if (!isfinite(f->features[(i - local.lo) * dim + j]))
                first = (int64_t)i;
    sim_comm_min_i64(c, &first, 1);
    SIM_CHECK(first == (int64_t)f->n, SIM_E_DATA,
              "the features of image %lld of the %s set are not finite numbers; the "
              "encoder has diverged, so evaluate an earlier checkpoint",
              (long long)first, set);
done:
    return st;
}

size_t sim_linear_bytes(const sim_comm *c, size_t dim, size_t n_classes, size_t n_train)
{
    return sim_logistic_bytes(c, n_train, dim, n_classes) +
           sim_class_counts_bytes(n_classes) +
           BATCH * (dim + 1 + n_classes) * sizeof(float);
}

sim_status sim_linear(const sim_comm *c, const sim_linear_options *options, size_t dim,
                      size_t n_classes, const sim_labelled_features *train,
                      const sim_labelled_features *test, sim_linear_result *out)
{
    sim_status st = SIM_OK;
    sim_logistic *m = NULL;
    class_map map = {0};
    sim_linear_result r = {.n_train = (int64_t)train->n, .dim = (int64_t)dim};

    SIM_TRY(sim_comm_agree(c, map_classes(train, n_classes, &map)));
    SIM_TRY(check_finite(c, "training", dim, train));
    SIM_TRY(check_finite(c, "test", dim, test));
    const sim_logistic_data data = {.n_images = train->n,
                                    .dim = dim,
                                    .n_classes = n_classes,
                                    .n_outputs = map.n_outputs,
                                    .features = train->features,
                                    .labels = train->labels,
                                    .output_of_class = map.output_of_class};
    SIM_TRY(sim_logistic_create(c, &data, &m));
    fit_all(m, options, &r);
    SIM_TRY(classify_test(c, m, &map, test, &r));
    *out = r;
    r = (sim_linear_result){0};
done:
    sim_linear_result_clear(&r);
    sim_logistic_destroy(&m);
    unmap_classes(&map);
    return st;
}

void sim_linear_result_clear(sim_linear_result *r)
{
    sim_class_counts_clear(&r->counts);
}
