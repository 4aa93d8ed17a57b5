/*
 * logistic.c - multinomial logistic regression by L-BFGS, divided over ranks and threads.
 *
 * Minimizes  1/n sum_i CE(W f_i + b, y_i) + l2/2 |W|^2.  Images are divided over ranks in leaves
 * of LEAF; sums over images use the tree of tree.h, and every rank holds all weights and takes the
 * same steps, so the result has the same bits on any number of ranks.  Features are centred, which
 * does not change the minimum because b is not penalized.
 */
#include "logistic.h"

#include "simile/eval.h"
#include "simile/kernel.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <math.h>
#include <string.h>

/* Images per leaf; of each class one image in HELD_OUT is held out. */
enum { LEAF = 512, HELD_OUT = 5 };
enum { TRIAL_ITERATIONS = 200, FINAL_ITERATIONS = 1000 };
enum { NO_OUTPUT = -1 }; /* target of the rows beyond the last image */

/* Rows and weights have a column more than the features: a constant 1, which multiplies b. */
struct sim_logistic {
    const sim_comm *comm;
    size_t n_images, dim, n_outputs;
    size_t n_leaves;
    sim_range leaves; /* of this rank */
    size_t n_local;   /* images of this rank */
    size_t n_rows;    /* the same rounded up to leaves */
    sim_conv layer;   /* the weights as a 1 x 1 convolution */
    double l2;
    sim_logistic_images images;
    int64_t n_fitted; /* images, of all ranks */

    float *x;                         /* [n_rows][dim + 1]; 0 beyond the last image */
    int32_t *targets;                 /* [n_rows] */
    bool *held_out;                   /* [n_rows] */
    float *logits;                    /* [n_rows][n_outputs], then their gradient */
    float *panel;                     /* the weights, packed */
    float *nodes;                     /* as sim_comm_sum_leaves */
    double *sums;                     /* [leaves][dim] */
    double *mean, *variance;          /* [dim] */
    float *weights, *inverse_hessian; /* [n_outputs][dim + 1] */
    sim_lbfgs *solver;
};

enum { BUFFERS = 11 };

static size_t count_weights(const sim_logistic *m)
{
    return m->n_outputs * (m->dim + 1);
}

static size_t count_leaves(const sim_logistic *m)
{
    return m->leaves.hi - m->leaves.lo;
}

static void list_buffers(sim_logistic *m, sim_buffer list[BUFFERS])
{
    const size_t n_nodes = sim_comm_sum_leaves_capacity(sim_comm_partition(m->comm),
                                                        m->n_leaves, count_weights(m));

    list[0] = SIM_BUFFER(m->x, m->n_rows * (m->dim + 1));
    list[1] = SIM_BUFFER(m->targets, m->n_rows);
    list[2] = SIM_BUFFER(m->held_out, m->n_rows);
    list[3] = SIM_BUFFER(m->logits, m->n_rows * m->n_outputs);
    list[4] = SIM_BUFFER(m->panel, sim_panel_floats(m->dim + 1, m->n_outputs));
    list[5] = SIM_BUFFER(m->nodes, n_nodes);
    list[6] = SIM_BUFFER(m->sums, count_leaves(m) * m->dim);
    list[7] = SIM_BUFFER(m->mean, m->dim);
    list[8] = SIM_BUFFER(m->variance, m->dim);
    list[9] = SIM_BUFFER(m->weights, count_weights(m));
    list[10] = SIM_BUFFER(m->inverse_hessian, count_weights(m));
}

/* Images [lo, hi) of the leaves of a rank. */
static sim_range images_of_leaves(sim_partition p, size_t n_leaves, size_t n_images)
{
    const sim_range leaves = sim_partition_range(p, n_leaves);
    const size_t lo = leaves.lo * LEAF, hi = leaves.hi * LEAF;

    return (sim_range){lo < n_images ? lo : n_images, hi < n_images ? hi : n_images};
}

static sim_status logistic_of_sizes(const sim_comm *c, size_t n_images, size_t dim,
                                    size_t n_outputs, sim_logistic *out)
{
    const size_t n_leaves = (n_images + LEAF - 1) / LEAF;
    const sim_partition p = sim_comm_partition(c);
    const sim_range images = images_of_leaves(p, n_leaves, n_images);

    *out = (sim_logistic){
        .comm = c,
        .n_images = n_images,
        .dim = dim,
        .n_outputs = n_outputs,
        .n_leaves = n_leaves,
        .leaves = sim_partition_range(p, n_leaves),
        .n_local = images.hi - images.lo,
        .layer = {.c = dim + 1, .k = n_outputs, .size = 1, .stride = 1, .h = 1, .w = 1}};
    out->n_rows = count_leaves(out) * LEAF;
    return sim_conv_shape(&out->layer);
}

static sim_leaf_layout layout_of(const sim_logistic *m)
{
    return (sim_leaf_layout){m->n_leaves, m->leaves, LEAF};
}

size_t sim_logistic_bytes(const sim_comm *c, size_t n_images, size_t dim,
                          size_t n_outputs)
{
    sim_logistic m;
    sim_workspace_size work = {0, 0};
    sim_buffer list[BUFFERS];

    SIM_IGNORE(logistic_of_sizes(c, n_images, dim, n_outputs, &m));
    const sim_leaf_layout layout = layout_of(&m);
    sim_conv_workspace(&m.layer, &layout, &work);
    list_buffers(&m, list);
    return sim_buffers_bytes(list, BUFFERS) + sim_lbfgs_bytes(count_weights(&m)) +
           work.shared;
}

/* ---- the images of this rank ---- */

/* Moves features from the ranks that computed them to those that own the leaves. */
static void move_features(sim_logistic *m, const float *features, size_t *first)
{
    const size_t size = (size_t)m->comm->size;

    for (size_t r = 0; r < size; r++)
        first[r + 1] = sim_embed_local((sim_partition){size, r}, m->n_images).hi;
    for (size_t r = 0; r < size; r++) {
        const sim_range images =
            images_of_leaves((sim_partition){size, r}, m->n_leaves, m->n_images);
        if (images.lo < images.hi)
            sim_comm_fetch_rows(m->comm, (int)r, first, images, m->dim * sizeof(float),
                                features, m->x);
    }
}

/* Widens the rows from dim to dim + 1 in place, the last one first, and appends the 1. */
static void append_ones(sim_logistic *m)
{
    for (size_t i = m->n_local; i-- > 0;) {
        float *row = m->x + i * (m->dim + 1);
        memmove(row, m->x + i * m->dim, m->dim * sizeof *row);
        row[m->dim] = 1;
    }
}

/* Holds out the second image of each class and every HELD_OUT-th one after it.
 * seen: [n_classes], zeroed. */
static void assign_targets(sim_logistic *m, const sim_logistic_data *d, size_t *seen)
{
    const size_t lo = m->leaves.lo * LEAF;

    for (size_t i = 0; i < m->n_rows; i++)
        m->targets[i] = NO_OUTPUT;
    for (size_t i = 0; i < m->n_images; i++) {
        const bool held_out = seen[d->labels[i]]++ % HELD_OUT == 1;
        if (i < lo || i >= lo + m->n_local)
            continue;
        m->targets[i - lo] = d->output_of_class[d->labels[i]];
        m->held_out[i - lo] = held_out;
    }
}

/* The images of a local leaf. */
static sim_range images_of_leaf(const sim_logistic *m, size_t leaf)
{
    const size_t lo = leaf * LEAF, hi = lo + LEAF;
    return (sim_range){lo, hi < m->n_local ? hi : m->n_local};
}

static void sum_leaf(size_t leaf, void *ctx)
{
    const sim_logistic *m = ctx;
    const sim_range images = images_of_leaf(m, leaf);

    memset(m->sums + leaf * m->dim, 0, m->dim * sizeof *m->sums);
    for (size_t i = images.lo; i < images.hi; i++)
        for (size_t j = 0; j < m->dim; j++)
            m->sums[leaf * m->dim + j] += (double)m->x[i * (m->dim + 1) + j];
}

static void sum_squares_of_leaf(size_t leaf, void *ctx)
{
    const sim_logistic *m = ctx;
    const sim_range images = images_of_leaf(m, leaf);

    memset(m->sums + leaf * m->dim, 0, m->dim * sizeof *m->sums);
    for (size_t i = images.lo; i < images.hi; i++)
        for (size_t j = 0; j < m->dim; j++) {
            const double x = (double)m->x[i * (m->dim + 1) + j];
            m->sums[leaf * m->dim + j] += x * x;
        }
}

static void centre_row(const sim_logistic *m, const float *features, float *x)
{
    for (size_t j = 0; j < m->dim; j++)
        x[j] = (float)((double)features[j] - m->mean[j]);
}

static void centre_leaf(size_t leaf, void *ctx)
{
    const sim_logistic *m = ctx;
    const sim_range images = images_of_leaf(m, leaf);

    for (size_t i = images.lo; i < images.hi; i++)
        centre_row(m, m->x + i * (m->dim + 1), m->x + i * (m->dim + 1));
}

/* out [width]: the sum of the leaves' sums [leaves][width] over all ranks. */
static void sum_over_leaves(const sim_logistic *m, size_t width, double *out)
{
    const sim_reduce_shape shape = {.n_units = m->n_leaves,
                                    .leaves_per_unit = 1,
                                    .width = width,
                                    .merge = sim_merge_sum};
    sim_comm_reduce_doubles(m->comm, &shape, m->sums, out);
}

/* Subtracts the mean of each feature and computes the variances. */
static void centre(sim_logistic *m)
{
    sim_for(count_leaves(m), sum_leaf, m);
    sum_over_leaves(m, m->dim, m->mean);
    for (size_t j = 0; j < m->dim; j++)
        m->mean[j] /= (double)m->n_images;
    sim_for(count_leaves(m), centre_leaf, m);
    sim_for(count_leaves(m), sum_squares_of_leaf, m);
    sum_over_leaves(m, m->dim, m->variance);
    for (size_t j = 0; j < m->dim; j++)
        m->variance[j] /= (double)m->n_images;
}

double sim_logistic_variance(const sim_logistic *m)
{
    double sum = 0;
    for (size_t j = 0; j < m->dim; j++)
        sum += m->variance[j];
    return sum / (double)m->dim;
}

/* ---- creation ---- */

static sim_status create_local(const sim_comm *c, const sim_logistic_data *d,
                               sim_logistic **out)
{
    sim_status st = SIM_OK;
    sim_buffer list[BUFFERS];
    sim_logistic *m = NULL;

    SIM_TRY(sim_new(&m, "eval/logistic"));
    SIM_TRY(logistic_of_sizes(c, d->n_images, d->dim, d->n_outputs, m));
    list_buffers(m, list);
    SIM_TRY(sim_buffers_create(list, BUFFERS, "eval/logistic"));
    SIM_TRY(sim_lbfgs_create(count_weights(m), &m->solver));
    *out = m;
    m = NULL;
done:
    sim_logistic_destroy(&m);
    return st;
}

sim_status sim_logistic_create(const sim_comm *c, const sim_logistic_data *d,
                               sim_logistic **out)
{
    sim_status st = SIM_OK;
    sim_logistic *m = NULL;
    size_t *first = NULL, *seen = NULL;

    st = create_local(c, d, &m);
    if (st == SIM_OK)
        st = sim_alloc(&first, (size_t)c->size + 1, "eval/logistic");
    if (st == SIM_OK)
        st = sim_alloc(&seen, d->n_classes, "eval/logistic");
    SIM_TRY(sim_comm_agree(c, st));
    move_features(m, d->features, first);
    append_ones(m);
    assign_targets(m, d, seen);
    centre(m);
    *out = m;
    m = NULL;
done:
    sim_free(first);
    sim_free(seen);
    sim_logistic_destroy(&m);
    return st;
}

void sim_logistic_destroy(sim_logistic **m)
{
    sim_buffer list[BUFFERS];

    if (!*m)
        return;
    list_buffers(*m, list);
    sim_buffers_destroy(list, BUFFERS);
    sim_lbfgs_destroy(&(*m)->solver);
    SIM_FREE(*m);
}

/* ---- the objective ---- */

static bool is_fitted(const sim_logistic *m, size_t i)
{
    return m->targets[i] != NO_OUTPUT && (m->images == SIM_FIT_ALL || !m->held_out[i]);
}

static void compute_logits(const sim_logistic *m, const float *weights, size_t n_rows,
                           const float *x, float *logits)
{
    const size_t width = m->dim + 1;

    sim_panel_pack(width, m->n_outputs, weights, width, true, m->panel);
    sim_product_for(n_rows, m->n_outputs, width, x, width, m->panel, logits,
                    m->n_outputs);
}

/* Returns the cross-entropy of a row and replaces its logits by the gradient times `factor`. */
static double cross_entropy(size_t n_outputs, int32_t target, float factor, float *z)
{
    const float most = sim_row_max(n_outputs, z), at = z[target];
    const float sum = sim_row_exp_sum(n_outputs, z, 1, most);

    sim_row_shares(n_outputs, z, 1, most, factor / sum, NULL, z);
    z[target] -= factor;
    return sim_ln((double)sum) + (double)most - (double)at;
}

static void leaf_loss(size_t leaf, void *ctx)
{
    const sim_logistic *m = ctx;
    const float factor = (float)(1 / (double)m->n_fitted);
    double loss = 0;

    for (size_t i = leaf * LEAF; i < (leaf + 1) * LEAF; i++) {
        float *z = m->logits + i * m->n_outputs;
        if (is_fitted(m, i))
            loss += cross_entropy(m->n_outputs, m->targets[i], factor, z);
        else
            memset(z, 0, m->n_outputs * sizeof *z);
    }
    m->sums[leaf] = loss;
}

/* Returns l2/2 |W|^2 and adds its gradient. */
static double penalize(const sim_logistic *m, const float *weights, float *gradient)
{
    double squares = 0;

    for (size_t c = 0; c < m->n_outputs; c++) {
        const float *w = weights + c * (m->dim + 1);
        float *g = gradient + c * (m->dim + 1);
        squares += sim_dot(m->dim, w, w);
        for (size_t j = 0; j < m->dim; j++)
            g[j] += (float)m->l2 * w[j];
    }
    return m->l2 / 2 * squares;
}

/* A sim_lbfgs_function. */
static double objective(void *ctx, const float *weights, float *gradient)
{
    const sim_logistic *m = ctx;
    const sim_leaf_layout layout = layout_of(m);
    const sim_conv_input x = {.x = m->x};
    const size_t n = count_weights(m);
    double loss = 0;

    compute_logits(m, weights, m->n_rows, m->x, m->logits);
    sim_for(count_leaves(m), leaf_loss, ctx);
    sim_conv_backward_weights(&m->layer, &layout, &x, m->logits, m->nodes, n);
    sim_comm_sum_leaves(m->comm, m->n_leaves, n, m->nodes);
    memcpy(gradient, m->nodes, n * sizeof *gradient);
    sum_over_leaves(m, 1, &loss);
    return loss / (double)m->n_fitted + penalize(m, weights, gradient);
}

/* The diagonal of the Hessian at equal probabilities of all outputs. */
static void estimate_inverse_hessian(sim_logistic *m)
{
    const double share = 1 / (double)m->n_outputs, curvature = share * (1 - share);

    for (size_t c = 0; c < m->n_outputs; c++) {
        float *h = m->inverse_hessian + c * (m->dim + 1);
        for (size_t j = 0; j < m->dim; j++)
            h[j] = (float)(1 / (curvature * m->variance[j] + m->l2));
        h[m->dim] = (float)(1 / curvature);
    }
}

static int64_t count_fitted(const sim_logistic *m)
{
    int64_t n = 0;

    for (size_t i = 0; i < m->n_rows; i++)
        n += is_fitted(m, i);
    sim_comm_sum_i64(m->comm, &n, 1);
    return n;
}

void sim_logistic_fit(sim_logistic *m, double l2, sim_logistic_images images,
                      sim_lbfgs_result *out)
{
    const bool is_trial = images == SIM_FIT_WITHOUT_HELD_OUT;

    m->l2 = l2;
    m->images = images;
    m->n_fitted = count_fitted(m);
    estimate_inverse_hessian(m);
    sim_lbfgs_minimize(m->solver,
                       &(sim_lbfgs_problem){.n = count_weights(m),
                                            .function = objective,
                                            .ctx = m,
                                            .inverse_hessian = m->inverse_hessian,
                                            .tolerance = is_trial ? 1e-6 : 1e-7,
                                            .max_iterations = is_trial
                                                                  ? TRIAL_ITERATIONS
                                                                  : FINAL_ITERATIONS},
                       m->weights, out);
}

/* ---- predictions ---- */

size_t sim_logistic_rank(size_t n_outputs, const float *logits, size_t target)
{
    size_t above = 0;

    for (size_t c = 0; c < n_outputs; c++)
        above +=
            logits[c] > logits[target] || (logits[c] == logits[target] && c < target);
    return above;
}

void sim_logistic_held_out(sim_logistic *m, int64_t *n, int64_t *n_correct)
{
    int64_t counts[2] = {0, 0};

    compute_logits(m, m->weights, m->n_rows, m->x, m->logits);
    for (size_t i = 0; i < m->n_local; i++) {
        const float *z = m->logits + i * m->n_outputs;
        if (!m->held_out[i])
            continue;
        counts[0]++;
        counts[1] += sim_logistic_rank(m->n_outputs, z, (size_t)m->targets[i]) == 0;
    }
    sim_comm_sum_i64(m->comm, counts, 2);
    *n = counts[0];
    *n_correct = counts[1];
}

void sim_logistic_predict(const sim_logistic *m, size_t n, const float *features,
                          float *work, float *logits)
{
    for (size_t i = 0; i < n; i++) {
        float *x = work + i * (m->dim + 1);
        centre_row(m, features + i * m->dim, x);
        x[m->dim] = 1;
    }
    compute_logits(m, m->weights, n, work, logits);
}
