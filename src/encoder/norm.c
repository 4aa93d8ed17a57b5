/*
 * norm.c - batch normalization over groups of the global batch, independent of the number of ranks.
 *
 * A leaf is min(block, group) slots of one view (joint: of all views).  Moments and sums of
 * leaves are in double.  The reducer combines them over each group, whose blocks may be on
 * several ranks; everything else is local.  Ioffe and Szegedy 2015, arXiv 1502.03167.
 */
#include "build.h"
#include "tape.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

static const double running_momentum = 0.1;

/* Coefficients of the forward pass, [leaf][c] each, saved for backward in the tape:
 * y = act(x * scale + shift + residual). */
typedef struct {
    float *scale, *shift, *mean, *invstd;
} norm_state;

static size_t state_floats(const node *n, size_t leaves)
{
    return 4 * leaves * n->c;
}

static norm_state state_of(const sim_tape *t, int i)
{
    size_t floats = t->sums.shape.leaves * t->net->nodes[i].c;
    float *at = sim_tape_state(t, i);
    return (norm_state){at, at + floats, at + 2 * floats, at + 3 * floats};
}

/* ---- the passes ---- */

/* The rows of each leaf of node n; images are ordered [block][view][slot].  The result borrows
 * t->sums.start, which is overwritten. */
static sim_norm_leaves leaves_of(sim_tape *t, const node *n)
{
    const leaf_shape *s = &t->sums.shape;
    size_t rows = t->shape.slots / s->leaves_per_block * n->h * n->w, at = 0;

    for (size_t b = 0; b < s->blocks; b++)
        for (size_t v = 0; v < s->sets; v++)
            for (size_t j = 0; j < s->leaves_per_block; j++)
                for (size_t p = 0; p < s->pieces; p++)
                    t->sums.start[at++] =
                        ((b * t->shape.views + v + p) * s->leaves_per_block + j) * rows;
    return (sim_norm_leaves){.n_leaves = s->leaves,
                             .n_pieces = s->pieces,
                             .rows = rows,
                             .c = n->c,
                             .start = t->sums.start};
}

/* Index of leaf j of a block and set. */
static size_t leaf_at(const leaf_shape *s, size_t b, size_t set, size_t j)
{
    return (b * s->sets + set) * s->leaves_per_block + j;
}

/*
 * Reduces sums [leaf][2][c] over each group into groups [group][2][set][c].  The leaves of all
 * sets form one vector [2][set][c], so that all views share one exchange.
 */
static void reduce_leaves(sim_tape *t, size_t c, sim_merge_fn *merge)
{
    const batch_sums *r = &t->sums;
    const leaf_shape *s = &r->shape;

    for (size_t b = 0; b < s->blocks; b++)
        for (size_t j = 0; j < s->leaves_per_block; j++)
            for (size_t set = 0; set < s->sets; set++)
                for (size_t half = 0; half < 2; half++) {
                    size_t to =
                        ((b * s->leaves_per_block + j) * 2 + half) * s->sets + set;
                    size_t from = leaf_at(s, b, set, j) * 2 + half;
                    memcpy(r->to_reduce + to * c, r->sums + from * c,
                           c * sizeof *r->sums);
                }
    t->reducer.reduce(t->reducer.ctx, t->shape.n_blocks, s->leaves_per_block,
                      s->one_group ? 0 : s->leaves_per_group, 2 * s->sets * c, merge,
                      r->to_reduce, r->groups);
}

/* The group of leaf j of local block b. */
static size_t group_of(const sim_tape *t, size_t b, size_t j)
{
    const leaf_shape *s = &t->sums.shape;
    return ((t->shape.blocks.lo + b) * s->leaves_per_block + j) / s->leaves_per_group;
}

static const double *group_moment(const sim_tape *t, size_t group, size_t moment,
                                  size_t set, size_t c)
{
    return t->sums.groups + ((group * 2 + moment) * t->sums.shape.sets + set) * c;
}

/* The update of torch.nn.BatchNorm2d, with means over the groups.  samples: per channel and
 * group. */
static void update_running(sim_tape *t, const node *n, double samples)
{
    float *mean = t->net->running + n->running, *variance = mean + n->c;
    double groups = (double)t->sums.shape.groups, unbiased = samples / (samples - 1);
    double leaves = (double)t->sums.shape.leaves_per_group;

    for (size_t s = 0; s < t->sums.shape.sets; s++) {
        for (size_t i = 0; i < n->c; i++) {
            double m = 0, v = 0;
            for (size_t g = 0; g < t->sums.shape.groups; g++) {
                m += group_moment(t, g, 0, s, n->c)[i];
                v += group_moment(t, g, 1, s, n->c)[i] / leaves;
            }
            mean[i] = (float)((1 - running_momentum) * (double)mean[i] +
                              running_momentum * m / groups);
            variance[i] = (float)((1 - running_momentum) * (double)variance[i] +
                                  running_momentum * unbiased * v / groups);
        }
        t->net->batches[n->counter]++;
    }
}

/* Coefficients of a leaf from its group's mean and variance, which is v / divisor. */
static void set_forward(const sim_tape *t, const node *n, const norm_state *s,
                        size_t leaf, const double *mean, const double *v, double divisor)
{
    const float *gamma = n->affine ? t->net->weights + n->weight : NULL;
    const float *beta = n->affine ? t->net->weights + n->bias : NULL;
    for (size_t i = 0; i < n->c; i++) {
        size_t at = leaf * n->c + i;
        double invstd = 1 / sqrt(v[i] / divisor + bn_epsilon);
        double scale = (gamma ? (double)gamma[i] : 1) * invstd;
        s->invstd[at] = (float)invstd;
        s->mean[at] = (float)mean[i];
        s->scale[at] = (float)scale;
        s->shift[at] = (float)((beta ? (double)beta[i] : 0) - mean[i] * scale);
    }
}

/* Values per channel in a group. */
static double samples_of(const sim_tape *t, const sim_norm_leaves *leaves)
{
    return (double)t->sums.shape.leaves_per_group *
           (double)(leaves->rows * leaves->n_pieces);
}

bool sim_tape_wants_moments(const sim_tape *t, int i)
{
    const node *next = &t->net->nodes[i] + 1;
    return !t->evaluation && i + 1 < t->net->n_nodes &&
           next->layer == &sim_layer_batchnorm && next->in == i;
}

/* True if the node before norm i is a convolution, which took the moments. */
static bool has_moments(const sim_tape *t, int i)
{
    return i > 0 && t->net->nodes[i - 1].conv.k > 0 && sim_tape_wants_moments(t, i - 1);
}

/* ---- micro-batches: the moments of all groups are needed to update the running statistics ---- */

/* Moments of the rank's groups, [group][2][set][c]. */
static double *kept_moments(const sim_tape *t, const node *n)
{
    const leaf_shape *s = &t->sums.shape;
    sim_range groups = sim_leaves_groups(s, t->rank.blocks);
    return t->moments + (groups.hi - groups.lo) * s->sets * n->running;
}

static void keep_moments(sim_tape *t, const node *n)
{
    const leaf_shape *s = &t->sums.shape;
    size_t width = 2 * s->sets * n->c;
    sim_range all = sim_leaves_groups(s, t->rank.blocks);
    sim_range own = sim_leaves_groups(s, t->shape.blocks);

    memcpy(kept_moments(t, n) + (own.lo - all.lo) * width,
           t->sums.groups + own.lo * width,
           (own.hi - own.lo) * width * sizeof *t->moments);
}

/* Gathers the moments of all ranks: each group is a leaf. */
static void norm_finish_forward(sim_tape *t, int i)
{
    node *n = &t->net->nodes[i];
    const leaf_shape *s = &t->sums.shape;
    const sim_norm_leaves leaves = leaves_of(t, n);

    t->all_ranks.reduce(t->all_ranks.ctx, s->groups / s->leaves_per_block,
                        s->leaves_per_block, 1, 2 * s->sets * n->c, sim_merge_moments,
                        kept_moments(t, n), t->sums.groups);
    update_running(t, n, samples_of(t, &leaves));
}

static void use_batch_statistics(sim_tape *t, int i, const sim_norm_leaves *leaves,
                                 const float *x)
{
    node *n = &t->net->nodes[i];
    const leaf_shape *s = &t->sums.shape;
    const norm_state state = state_of(t, i);

    if (!has_moments(t, i))
        sim_norm_moments(leaves, x, t->sums.sums);
    reduce_leaves(t, n->c, sim_merge_moments);
    for (size_t b = 0; b < s->blocks; b++)
        for (size_t set = 0; set < s->sets; set++)
            for (size_t j = 0; j < s->leaves_per_block; j++) {
                size_t g = group_of(t, b, j);
                set_forward(
                    t, n, &state, leaf_at(s, b, set, j), group_moment(t, g, 0, set, n->c),
                    group_moment(t, g, 1, set, n->c), (double)s->leaves_per_group);
            }
    if (t->rank.micro_blocks)
        keep_moments(t, n);
    else
        update_running(t, n, samples_of(t, leaves));
}

static void use_running_statistics(sim_tape *t, int i)
{
    const node *n = &t->net->nodes[i];
    const float *mean = t->net->running + n->running;
    double *sums = t->sums.sums;
    const norm_state state = state_of(t, i);

    for (size_t c = 0; c < 2 * n->c; c++)
        sums[c] = (double)mean[c];
    for (size_t leaf = 0; leaf < t->sums.shape.leaves; leaf++)
        set_forward(t, n, &state, leaf, sums, sums + n->c, 1);
}

static void apply_norm(sim_tape *t, int i, const float *x, const float *residual,
                       float *y)
{
    const node *n = &t->net->nodes[i];
    const norm_state s = state_of(t, i);
    sim_norm_leaves leaves = leaves_of(t, n);
    sim_norm_apply(&leaves, x, s.scale, s.shift, residual, n->act, y);
}

static void norm_forward(sim_tape *t, int i, const float *x, const float *residual,
                         float *y)
{
    sim_norm_leaves leaves = leaves_of(t, &t->net->nodes[i]);

    if (t->evaluation)
        use_running_statistics(t, i);
    else
        use_batch_statistics(t, i, &leaves, x);
    if (!t->plan.inlined[i])
        apply_norm(t, i, x, residual, y);
}

sim_conv_input sim_tape_norm_input(const sim_tape *t, int i, const float *x)
{
    const norm_state s = state_of(t, i);
    return (sim_conv_input){.x = x,
                            .scale = s.scale,
                            .shift = s.shift,
                            .leaf = t->sums.leaf,
                            .act = t->net->nodes[i].act};
}

void sim_tape_conv_moments(sim_tape *t, int i, const float *panels,
                           const sim_conv_input *x, float *y)
{
    const sim_norm_leaves leaves = leaves_of(t, &t->net->nodes[i + 1]);
    sim_conv_forward_moments(&t->net->nodes[i].conv, panels, t->n_images, x, y, &leaves,
                             t->sums.sums);
}

void sim_tape_conv_sums(sim_tape *t, int i, const float *panels, const float *x,
                        const float *dy, float *g)
{
    const int norm = t->net->nodes[i].in;
    const node *n = &t->net->nodes[norm];
    const sim_norm_leaves leaves = leaves_of(t, n);
    const norm_state s = state_of(t, norm);
    sim_conv_backward_data_sums(&t->net->nodes[i].conv, panels, t->n_images, dy, &leaves,
                                x, s.scale, s.shift, s.mean, n->act, g, t->sums.sums);
}

/* Uses the coefficients of the forward pass. */
static void norm_recompute(sim_tape *t, int i, const float *x, const float *residual,
                           float *y)
{
    apply_norm(t, i, x, residual, y);
}

/* Gradients of gamma and beta: the leaves of a block are added in double, blocks by the tree. */
static void weight_gradients(sim_tape *t, int i, float *grads, size_t node_stride)
{
    const node *n = &t->net->nodes[i];
    const leaf_shape *s = &t->sums.shape;
    size_t c = n->c;
    const norm_state state = state_of(t, i);
    double *of_block = t->sums.to_reduce; /* its contents are no longer used */

    memset(of_block, 0, s->blocks * 2 * c * sizeof *of_block);
    for (size_t b = 0; b < s->blocks; b++)
        for (size_t leaf = leaf_at(s, b, 0, 0); leaf < leaf_at(s, b + 1, 0, 0); leaf++) {
            const double *sum = t->sums.sums + leaf * 2 * c;
            const float *invstd = state.invstd + leaf * c;
            for (size_t k = 0; k < c; k++) {
                of_block[b * 2 * c + k] += sum[c + k] * (double)invstd[k];
                of_block[b * 2 * c + c + k] += sum[k];
            }
        }
    /* gamma and beta are adjacent in the weights. */
    SIM_ASSERT(n->bias == n->weight + c);
    sim_batch_sums_reduce(&t->sums, &t->shape, 2 * c, of_block, grads + n->weight,
                          node_stride);
}

/* Coefficients of a leaf in dx = a g + b x + d, which is
 * gamma / sigma (g - mean(g) - xhat mean(g xhat)) with xhat = (x - mean) / sigma.
 *   sum_g, sum_gx  [c] over the group: of g, and of g (x - mean) */
static void set_backward(sim_tape *t, int i, size_t leaf, const double *sum_g,
                         const double *sum_gx, double samples)
{
    const node *n = &t->net->nodes[i];
    const norm_state s = state_of(t, i);
    size_t floats = t->sums.shape.leaves * n->c; /* of one coefficient */
    float *a = t->sums.coefficients, *b = a + floats, *d = b + floats;

    for (size_t c = 0; c < n->c; c++) {
        size_t at = leaf * n->c + c;
        double scale = (double)s.scale[at], invstd = (double)s.invstd[at];
        double of_x = -scale * invstd * invstd * sum_gx[c] / samples;
        a[at] = (float)scale;
        b[at] = (float)of_x;
        d[at] = (float)(-scale * sum_g[c] / samples - of_x * (double)s.mean[at]);
    }
}

/* Reduces the sums of the leaves over their groups and sets the coefficients of dx. */
static void reduce_gradient_sums(sim_tape *t, int i, double samples)
{
    const leaf_shape *s = &t->sums.shape;
    size_t c = t->net->nodes[i].c;

    reduce_leaves(t, c, sim_merge_sum);
    for (size_t b = 0; b < s->blocks; b++)
        for (size_t set = 0; set < s->sets; set++)
            for (size_t j = 0; j < s->leaves_per_block; j++) {
                size_t g = group_of(t, b, j);
                set_backward(t, i, leaf_at(s, b, set, j), group_moment(t, g, 0, set, c),
                             group_moment(t, g, 1, set, c), samples);
            }
}

static void norm_backward(sim_tape *t, const backward_step *step, float *grads,
                          size_t node_stride)
{
    int i = step->node;
    const node *n = &t->net->nodes[i];
    const sim_norm_leaves leaves = leaves_of(t, n);
    const norm_state s = state_of(t, i);
    const float *x = sim_tape_read_at(t, step->x);
    float *g = sim_tape_write_at(t, step->g), *dx = sim_tape_write_at(t, step->dx);
    size_t floats = t->sums.shape.leaves * n->c, values = t->n_images * node_floats(n);
    const float *a = t->sums.coefficients, *b = a + floats, *d = b + floats;

    if (!t->plan.inlined[i])
        sim_norm_backward_sums(&leaves, x, s.scale, s.shift, s.mean,
                               sim_tape_read_at(t, step->residual), n->act,
                               sim_tape_read_at(t, step->dy), g, t->sums.sums);
    reduce_gradient_sums(t, i, samples_of(t, &leaves));
    if (n->affine)
        weight_gradients(t, i, grads, node_stride);
    sim_norm_backward(&leaves, x, g, a, b, d, dx);
    if (step->add_g != AT_NONE)
        sim_add(values, g, sim_tape_write_at(t, step->add_g));
    if (step->sum != AT_NONE)
        sim_add(values, dx, sim_tape_write_at(t, step->sum));
}

/* ---- the row of layers.def ---- */

sim_status sim_net_add_norm(sim_net *net, const char *name, int in, int residual,
                            sim_activation act, bool affine, int *out)
{
    sim_status st = SIM_OK;

    SIM_ASSERT(residual == NO_NODE || residual >= 0);
    SIM_TRY(sim_net_add_node(net, &sim_layer_batchnorm, name, in, out));
    node *n = &net->nodes[*out];
    n->residual = residual;
    n->act = act;
    n->affine = affine;
    n->has_running = true;
    n->stored = residual != NO_NODE; /* output of a residual block */
done:
    return st;
}

static void norm_list_tensors(sim_net *net, node *n)
{
    if (!n->affine)
        return;
    n->weight = sim_net_add_tensor(net, n, "weight", 1, &n->c, true);
    n->bias = sim_net_add_tensor(net, n, "bias", 1, &n->c, true);
}

/* Initial values: gamma 1 (0 if starts_at_zero), running variance 1; beta and mean stay 0. */
static void norm_initialise(sim_net *net, int i, const initial_draws *draws)
{
    const node *n = &net->nodes[i];
    (void)draws;
    for (size_t c = 0; c < n->c; c++) {
        net->running[n->running + n->c + c] = 1;
        if (n->affine)
            net->weights[n->weight + c] = n->starts_at_zero ? 0 : 1;
    }
}

static void norm_describe(const node *n, sim_net_layer *out)
{
    (void)n;
    out->eps = bn_epsilon;
}

static sim_status norm_check(const node *n, size_t images)
{
    sim_status st = SIM_OK;
    SIM_CHECK(images * n->h * n->w > 1, SIM_E_CONFIG,
              "batchnorm: %s%s has one value per channel and group, too few for a "
              "variance; increase batchnorm.group or the batch size",
              isdigit((unsigned char)n->name[0]) ? "a head's layer " : "", n->name);
done:
    return st;
}

static void norm_workspace(const node *n, const sim_batch_shape *s,
                           const sim_batchnorm_options *options, pass_kind passes,
                           sim_workspace_size *size)
{
    const leaf_shape shape = sim_leaves_of(options, s);
    const sim_norm_leaves leaves = {.n_leaves = shape.leaves,
                                    .n_pieces = shape.pieces,
                                    .rows =
                                        s->slots / shape.leaves_per_block * n->h * n->w,
                                    .c = n->c};
    if (passes != PASS_EVALUATE)
        sim_norm_workspace(&leaves, size);
}

static void norm_plan(planner *p, int i)
{
    const node *n = sim_plan_node(p, i);
    buffer_ref x_recomputed = AT_NONE, residual_recomputed = AT_NONE;
    buffer_ref x = sim_plan_recompute(p, n->in, &x_recomputed);
    buffer_ref residual = sim_plan_recompute(p, n->residual, &residual_recomputed);
    backward_step *s = sim_plan_push_step(p, i);

    s->x = x;
    s->residual = residual;
    s->dy = sim_plan_gradient(p, i);
    s->g = s->dy == AT_DY ? sim_plan_acquire(p, node_floats(n)) : s->dy;
    s->dx = n->residual == NO_NODE ? s->g : sim_plan_acquire(p, node_floats(n));
    if (n->residual != NO_NODE)
        s->add_g = sim_plan_accumulate(p, n->residual, s->g);
    s->sum = sim_plan_accumulate(p, n->in, s->dx);
    sim_plan_release(p, x_recomputed);
    sim_plan_release(p, residual_recomputed);
}

/* A small residual block. */
static sim_status norm_sample(sim_net *net, int in, int *out)
{
    sim_status st = SIM_OK;
    int at = in;

    SIM_TRY(sim_net_add_conv(net, "sample.conv1", in, net->nodes[in].c, 3, 1, &at));
    SIM_TRY(sim_net_add_norm(net, "sample.bn1", at, NO_NODE, SIM_ACT_SILU, true, &at));
    SIM_TRY(sim_net_add_conv(net, "sample.conv2", at, net->nodes[in].c, 1, 1, &at));
    SIM_TRY(sim_net_add_norm(net, "sample.bn2", at, in, SIM_ACT_SILU, true, out));
done:
    return st;
}

const layer sim_layer_batchnorm = {.name = "batchnorm",
                                   .list_tensors = norm_list_tensors,
                                   .initialise = norm_initialise,
                                   .describe = norm_describe,
                                   .check = norm_check,
                                   .state_floats = state_floats,
                                   .workspace = norm_workspace,
                                   .forward = norm_forward,
                                   .finish_forward = norm_finish_forward,
                                   .recompute = norm_recompute,
                                   .plan = norm_plan,
                                   .backward = norm_backward,
                                   .sample = norm_sample};
