/*
 * test_conv.c - convolutions of every algorithm against plain loops in double.
 */
#include "simile_test.h"

#include "isas.h"
#include "private.h"

#include "simile/hash.h"
#include "simile/kernel.h"
#include "simile/memory.h"
#include "simile/random.h"
#include "simile/thread.h"

#include <math.h>

static const sim_conv shapes[] = {
    {.c = 3, .k = 16, .size = 3, .stride = 1, .pad = 1, .h = 9, .w = 7},
    {.c = 1, .k = 8, .size = 3, .stride = 1, .pad = 1, .h = 12, .w = 12},
    {.c = 3, .k = 24, .size = 7, .stride = 2, .pad = 3, .h = 17, .w = 14},
    {.c = 16, .k = 16, .size = 3, .stride = 1, .pad = 1, .h = 8, .w = 8},
    {.c = 24, .k = 40, .size = 3, .stride = 1, .pad = 1, .h = 7, .w = 9},
    {.c = 64, .k = 64, .size = 3, .stride = 1, .pad = 1, .h = 4, .w = 4},
    {.c = 40, .k = 72, .size = 3, .stride = 1, .pad = 1, .h = 3, .w = 5},
    {.c = 16, .k = 32, .size = 3, .stride = 2, .pad = 1, .h = 9, .w = 8},
    {.c = 8, .k = 48, .size = 3, .stride = 2, .pad = 1, .h = 7, .w = 7},
    {.c = 72, .k = 60, .size = 3, .stride = 2, .pad = 1, .h = 5, .w = 4},
    {.c = 33, .k = 65, .size = 1, .stride = 1, .pad = 0, .h = 5, .w = 3},
    {.c = 16, .k = 24, .size = 1, .stride = 2, .pad = 0, .h = 7, .w = 8},
    {.c = 70, .k = 10, .size = 1, .stride = 1, .pad = 0, .h = 1, .w = 1},
    {.c = 8, .k = 8, .size = 3, .stride = 1, .pad = 1, .h = 2, .w = 1},
};
enum { N_SHAPES = sizeof shapes / sizeof shapes[0], IMAGES = 6 };

typedef struct {
    sim_conv v;
    size_t n_x, n_y, n_w; /* floats of an input, of an output, of the filters */
    float *x, *y, *w, *dx, *dw;
} problem;

static float *random_floats(size_t n, uint32_t sample)
{
    float *p = NULL;
    sim_random r = {.seed = 7, .purpose = SIM_RANDOM_TEST, .sample = sample};
    ASSERT_OK(sim_alloc(&p, n, "test/conv"));
    for (size_t i = 0; i < n; i++)
        p[i] = sim_random_between(&r, -1, 1);
    return p;
}

static problem problem_create(sim_conv v, size_t images)
{
    problem p = {.v = v};
    ASSERT_OK(sim_conv_shape(&p.v));
    p.n_x = p.v.h * p.v.w * p.v.c;
    p.n_y = p.v.oh * p.v.ow * p.v.k;
    p.n_w = p.v.k * p.v.c * p.v.size * p.v.size;
    p.x = random_floats(images * p.n_x, 1);
    p.y = random_floats(images * p.n_y, 2);
    p.w = random_floats(p.n_w, 3);
    ASSERT_OK(sim_alloc(&p.dx, images * p.n_x, "test/conv"));
    ASSERT_OK(sim_alloc(&p.dw, 64 * p.n_w, "test/conv"));
    return p;
}

static void problem_destroy(problem *p)
{
    sim_free(p->x);
    sim_free(p->y);
    sim_free(p->w);
    sim_free(p->dx);
    sim_free(p->dw);
}

typedef enum { FORWARD, BACKWARD_DATA, BACKWARD_WEIGHTS } conv_pass;

/* Loops over all (output, tap, input) triples and adds to the tensor that the pass computes. */
static void plain_pass(const problem *p, size_t images, conv_pass pass, double *out)
{
    const sim_conv *v = &p->v;
    for (size_t n = 0; n < images; n++)
        for (size_t oy = 0; oy < v->oh; oy++)
            for (size_t ox = 0; ox < v->ow; ox++)
                for (size_t r = 0; r < v->size; r++)
                    for (size_t s = 0; s < v->size; s++) {
                        long y = (long)(oy * v->stride + r) - (long)v->pad;
                        long x = (long)(ox * v->stride + s) - (long)v->pad;
                        if (y < 0 || x < 0 || y >= (long)v->h || x >= (long)v->w)
                            continue;
                        size_t in = n * p->n_x + ((size_t)y * v->w + (size_t)x) * v->c;
                        size_t at = n * p->n_y + (oy * v->ow + ox) * v->k;
                        for (size_t k = 0; k < v->k; k++)
                            for (size_t c = 0; c < v->c; c++) {
                                size_t f = ((k * v->c + c) * v->size + r) * v->size + s;
                                if (pass == FORWARD)
                                    out[at + k] += (double)p->x[in + c] * (double)p->w[f];
                                else if (pass == BACKWARD_DATA)
                                    out[in + c] += (double)p->y[at + k] * (double)p->w[f];
                                else
                                    out[f] += (double)p->x[in + c] * (double)p->y[at + k];
                            }
                    }
}

/* The largest error is within the bound of the algorithm, relative to the largest value. */
static void assert_close(const problem *p, const char *what, const float *actual,
                         const double *expected, size_t n)
{
    double max_error = 0, largest = 0;
    double bound = strcmp(sim_conv_path(&p->v), "winograd") == 0 ? 1e-4 : 1e-5;
    for (size_t i = 0; i < n; i++) {
        max_error = fmax(max_error, fabs((double)actual[i] - expected[i]));
        largest = fmax(largest, fabs(expected[i]));
    }
    if (!(max_error <= bound * largest))
        fail_msg("%s %s c %zu k %zu size %zu stride %zu h %zu w %zu: %g of %g", what,
                 sim_kernels_name(), p->v.c, p->v.k, p->v.size, p->v.stride, p->v.h,
                 p->v.w, max_error, largest);
}

/* Packed filters. */
typedef struct {
    float *forward, *backward;
} packed;

static packed pack_filters(const sim_conv *v, const float *w)
{
    packed f = {0};

    ASSERT_OK(sim_alloc(&f.forward, sim_conv_forward_floats(v), "test"));
    ASSERT_OK(sim_alloc(&f.backward, sim_conv_backward_floats(v), "test"));
    sim_conv_pack_forward(v, w, f.forward);
    sim_conv_pack_backward(v, w, f.backward);
    return f;
}

static void packed_destroy(packed *f)
{
    sim_free(f->forward);
    sim_free(f->backward);
}

static void check_shape(sim_conv v)
{
    problem p = problem_create(v, IMAGES);
    float *y = random_floats(IMAGES * p.n_y, 4);
    size_t n = IMAGES * (p.n_x > p.n_y ? p.n_x : p.n_y);
    double *expected = calloc(n > p.n_w ? n : p.n_w, sizeof *expected);
    const sim_leaf_layout layout = {.n_leaves = 3, .range = {0, 3}, .images_per_leaf = 2};

    packed f = pack_filters(&p.v, p.w);
    sim_conv_forward(&p.v, f.forward, IMAGES, &(sim_conv_input){.x = p.x}, y);
    plain_pass(&p, IMAGES, FORWARD, expected);
    assert_close(&p, "forward", y, expected, IMAGES * p.n_y);
    memset(expected, 0, n * sizeof *expected);
    sim_conv_backward_data(&p.v, f.backward, IMAGES, p.y, p.dx);
    plain_pass(&p, IMAGES, BACKWARD_DATA, expected);
    assert_close(&p, "backward-data", p.dx, expected, IMAGES * p.n_x);
    memset(expected, 0, (n > p.n_w ? n : p.n_w) * sizeof *expected);
    sim_conv_backward_weights(&p.v, &layout, &(sim_conv_input){.x = p.x}, p.y, p.dw,
                              p.n_w);
    plain_pass(&p, IMAGES, BACKWARD_WEIGHTS, expected);
    assert_close(&p, "backward-weights", p.dw, expected, p.n_w);
    free(expected);
    sim_free(y);
    packed_destroy(&f);
    problem_destroy(&p);
}

static void every_pass_matches_plain_loops(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_ISAS; i++) {
        if (sim_kernels_pick(isas[i]) != SIM_OK)
            continue;
        for (size_t s = 0; s < N_SHAPES; s++)
            check_shape(shapes[s]);
    }
}

/* Hash of the results of all passes; `split` images are in a call of their own. */
static sim_hash hash_of_passes(sim_conv v, size_t split)
{
    problem p = problem_create(v, IMAGES);
    sim_hasher *h = NULL;
    float *y = random_floats(IMAGES * p.n_y, 4);
    const sim_leaf_layout layout = {.n_leaves = 5, .range = {0, 3}, .images_per_leaf = 2};

    ASSERT_OK(sim_hasher_create(&h));
    packed f = pack_filters(&p.v, p.w);
    sim_conv_forward(&p.v, f.forward, split, &(sim_conv_input){.x = p.x}, y);
    sim_conv_forward(&p.v, f.forward, IMAGES - split,
                     &(sim_conv_input){.x = p.x + split * p.n_x}, y + split * p.n_y);
    sim_conv_backward_data(&p.v, f.backward, split, p.y, p.dx);
    sim_conv_backward_data(&p.v, f.backward, IMAGES - split, p.y + split * p.n_y,
                           p.dx + split * p.n_x);
    sim_conv_backward_weights(&p.v, &layout, &(sim_conv_input){.x = p.x}, p.y, p.dw,
                              p.n_w);
    sim_hasher_add(h, y, IMAGES * p.n_y * sizeof *y);
    sim_hasher_add(h, p.dx, IMAGES * p.n_x * sizeof *p.dx);
    sim_hasher_add(h, p.dw, 2 * p.n_w * sizeof *p.dw);
    sim_hash value = sim_hasher_value(h);
    sim_hasher_destroy(&h);
    packed_destroy(&f);
    sim_free(y);
    problem_destroy(&p);
    return value;
}

static void threads_and_splits_and_vector_widths_do_not_change_the_bits(void **state)
{
    (void)state;
    for (size_t s = 0; s < N_SHAPES; s++) {
        const sim_hash *fast = NULL;
        sim_hash one[N_ISAS];
        for (size_t i = 0; i < N_ISAS; i++) {
            if (sim_kernels_pick(isas[i]) != SIM_OK)
                continue;
            sim_threads_set(1);
            one[i] = hash_of_passes(shapes[s], 0);
            for (int threads = 2; threads <= 3; threads++) {
                sim_threads_set(threads);
                assert_true(sim_hash_equal(
                    one[i], hash_of_passes(shapes[s], (size_t)threads - 1)));
            }
            if (strcmp(isas[i], "portable") == 0)
                continue;
            assert_true(!fast || sim_hash_equal(one[i], *fast));
            fast = &one[i];
        }
    }
    sim_threads_set(0);
}

/* Of the results of all passes of all shapes: recorded ("--record") on x86-64. */
static const struct {
    const char *arithmetic, *digest;
} recorded[] = {
    {"portable-2", "989ed737653fe05404416798baf16d76"},
    {"fast-1", "551114418feee92f350a53f405489c45"},
};
enum { N_RECORDED = sizeof recorded / sizeof recorded[0] };

static void digest_passes(char digest[33])
{
    sim_hasher *h = NULL;
    ASSERT_OK(sim_hasher_create(&h));
    for (size_t s = 0; s < N_SHAPES; s++) {
        const sim_hash of_shape = hash_of_passes(shapes[s], 0);
        sim_hasher_add(h, &of_shape, sizeof of_shape);
    }
    sim_hash_hex(sim_hasher_value(h), digest);
    sim_hasher_destroy(&h);
}

static void passes_have_the_recorded_bits_on_any_machine(void **state)
{
    (void)state;
    char digest[33];
    for (size_t i = 0; i < N_ISAS; i++) {
        size_t at = 0;
        if (sim_kernels_pick(isas[i]) != SIM_OK)
            continue;
        while (at < N_RECORDED &&
               strcmp(recorded[at].arithmetic, sim_kernels_arithmetic()) != 0)
            at++;
        if (at == N_RECORDED)
            fail_msg("there are no bits of arithmetic %s", sim_kernels_arithmetic());
        digest_passes(digest);
        if (strcmp(digest, recorded[at].digest) != 0)
            fail_msg("kernels %s: digest %s, expected %s", isas[i], digest,
                     recorded[at].digest);
    }
}

static void record(void)
{
    char digest[33];
    for (size_t i = 0; i < N_ISAS; i++)
        if (sim_kernels_pick(isas[i]) == SIM_OK) {
            digest_passes(digest);
            (void)printf("    {\"%s\", \"%s\"},\n", sim_kernels_arithmetic(), digest);
        }
}

static void nodes_of_two_ranks_reduce_to_the_sum_of_one_rank(void **state)
{
    (void)state;
    for (size_t s = 0; s < N_SHAPES; s++) {
        problem p = problem_create(shapes[s], IMAGES);
        const sim_leaf_layout all = {
            .n_leaves = 3, .range = {0, 3}, .images_per_leaf = 2};
        sim_range nodes[2 * SIM_TREE_MAX_NODES];
        sim_conv_backward_weights(&p.v, &all, &(sim_conv_input){.x = p.x}, p.y, p.dw,
                                  p.n_w);
        float *parts = p.dw + p.n_w;
        size_t n = 0;
        for (size_t lo = 0; lo < 3; lo += 2) {
            sim_leaf_layout layout = all;
            layout.range = (sim_range){lo, lo == 0 ? 2 : 3};
            sim_conv_backward_weights(&p.v, &layout,
                                      &(sim_conv_input){.x = p.x + 2 * lo * p.n_x},
                                      p.y + 2 * lo * p.n_y, parts + n * p.n_w, p.n_w);
            n += sim_tree_nodes(3, layout.range, nodes + n);
        }
        const float *sum = sim_tree_reduce_floats(3, p.n_w, nodes, n, parts, p.n_w);
        assert_memory_equal(sum, p.dw, p.n_w * sizeof *sum);
        problem_destroy(&p);
    }
}

/* One element of dW by its definition, over all images. */
static double plain_weight(const problem *p, size_t images, size_t k, size_t c, size_t t)
{
    const sim_conv *v = &p->v;
    double sum = 0;
    for (size_t n = 0; n < images; n++)
        for (size_t o = 0; o < v->oh * v->ow; o++) {
            size_t y = o / v->ow + t / 3, x = o % v->ow + t % 3;
            if (y >= 1 && x >= 1 && y <= v->h && x <= v->w)
                sum += (double)p->x[n * p->n_x + ((y - 1) * v->w + x - 1) * v->c + c] *
                       (double)p->y[n * p->n_y + o * v->k + k];
        }
    return sum;
}

/* Wide layers divide dW into patches; a leaf of more than 128 tiles takes several rounds. */
static void wide_weight_gradients_in_rounds_match_plain_sums(void **state)
{
    (void)state;
    enum { WIDE_IMAGES = 70, SAMPLES = 500 };
    const sim_conv v = {
        .c = 250, .k = 262, .size = 3, .stride = 1, .pad = 1, .h = 5, .w = 4};
    const sim_leaf_layout layout = {
        .n_leaves = 2, .range = {0, 2}, .images_per_leaf = WIDE_IMAGES};
    problem p = problem_create(v, 2 * WIDE_IMAGES);
    float *first = p.dw + p.n_w;
    size_t runs = 0;

    for (size_t i = 0; i < N_ISAS; i++) {
        sim_random r = {.seed = 8, .purpose = SIM_RANDOM_TEST};
        double max_error = 0, largest = 0;
        if (strcmp(isas[i], "portable") == 0 || sim_kernels_pick(isas[i]) != SIM_OK)
            continue;
        sim_threads_set(1 + (int)runs);
        sim_conv_backward_weights(&p.v, &layout, &(sim_conv_input){.x = p.x}, p.y, p.dw,
                                  p.n_w);
        for (size_t s = 0; s < SAMPLES; s++) {
            size_t k = sim_random_below(&r, 262), c = sim_random_below(&r, 250),
                   t = sim_random_below(&r, 9);
            double expected = plain_weight(&p, 2 * WIDE_IMAGES, k, c, t);
            max_error =
                fmax(max_error, fabs(expected - (double)p.dw[(k * v.c + c) * 9 + t]));
            largest = fmax(largest, fabs(expected));
        }
        if (!(max_error <= 1e-4 * largest))
            fail_msg("%s: %g of %g", isas[i], max_error, largest);
        if (runs++ == 0)
            memcpy(first, p.dw, p.n_w * sizeof *first);
        assert_memory_equal(first, p.dw, p.n_w * sizeof *first);
    }
    sim_threads_set(0);
    problem_destroy(&p);
}

/* ---- passes beside a batch norm ---- */

enum { NORM_IMAGES = 24, NORM_LEAVES = 12, LEAF_IMAGES = NORM_IMAGES / NORM_LEAVES };

/* The norm of a convolution's input, and the leaves of its input and output. */
typedef struct {
    sim_conv_input in;
    float *scale, *shift, *mean, *normalized, *g;
    uint32_t leaf[NORM_IMAGES];
    size_t x_start[NORM_LEAVES], y_start[NORM_LEAVES];
    sim_norm_leaves x_leaves, y_leaves;
} norm_problem;

/* Leaves in an order other than that of the images. */
static norm_problem norm_problem_create(const problem *p, sim_activation act)
{
    const sim_conv *v = &p->v;
    size_t of_x = v->h * v->w, of_y = v->oh * v->ow;
    norm_problem n = {.scale = random_floats(NORM_LEAVES * v->c, 11),
                      .shift = random_floats(NORM_LEAVES * v->c, 12),
                      .mean = random_floats(NORM_LEAVES * v->c, 13),
                      .normalized = random_floats(NORM_IMAGES * p->n_x, 14),
                      .g = random_floats(NORM_IMAGES * p->n_x, 15)};
    for (size_t i = 0; i < NORM_LEAVES; i++) {
        size_t first = (NORM_LEAVES - 1 - i) * LEAF_IMAGES;
        n.x_start[i] = first * of_x;
        n.y_start[i] = first * of_y;
        for (size_t j = 0; j < LEAF_IMAGES; j++)
            n.leaf[first + j] = (uint32_t)i;
    }
    n.x_leaves = (sim_norm_leaves){
        .n_leaves = NORM_LEAVES, .n_pieces = 1, .rows = LEAF_IMAGES * of_x, .c = v->c};
    n.y_leaves = (sim_norm_leaves){
        .n_leaves = NORM_LEAVES, .n_pieces = 1, .rows = LEAF_IMAGES * of_y, .c = v->k};
    n.in = (sim_conv_input){.x = p->x, .scale = n.scale, .shift = n.shift, .act = act};
    return n;
}

static void norm_problem_destroy(norm_problem *n)
{
    sim_free(n->scale);
    sim_free(n->shift);
    sim_free(n->mean);
    sim_free(n->normalized);
    sim_free(n->g);
}

/* The passes through the norm have the bits of the same passes on its stored output. */
static void compare_with_separate_passes(const problem *p, norm_problem *n,
                                         const packed *f)
{
    const sim_conv *v = &p->v;
    const sim_conv_input stored = {.x = n->normalized};
    const sim_leaf_layout layout = {.n_leaves = NORM_LEAVES,
                                    .range = {0, NORM_LEAVES},
                                    .images_per_leaf = LEAF_IMAGES};
    float *y = random_floats(2 * NORM_IMAGES * p->n_y, 4),
          *fused_y = y + NORM_IMAGES * p->n_y;
    double *sums = calloc(4 * NORM_LEAVES * (v->c + v->k), sizeof *sums);
    double *fused_sums = sums + 2 * NORM_LEAVES * (v->c + v->k);

    n->x_leaves.start = n->x_start;
    n->y_leaves.start = n->y_start;
    n->in.leaf = n->leaf;
    sim_norm_apply(&n->x_leaves, p->x, n->scale, n->shift, NULL, n->in.act,
                   n->normalized);
    sim_conv_forward(v, f->forward, NORM_IMAGES, &stored, y);
    sim_norm_moments(&n->y_leaves, y, sums);
    sim_conv_forward_moments(v, f->forward, NORM_IMAGES, &n->in, fused_y, &n->y_leaves,
                             fused_sums);
    assert_memory_equal(y, fused_y, NORM_IMAGES * p->n_y * sizeof *y);
    assert_memory_equal(sums, fused_sums, 2 * NORM_LEAVES * v->k * sizeof *sums);

    sim_conv_backward_weights(v, &layout, &stored, p->y, p->dw, p->n_w);
    sim_conv_backward_weights(v, &layout, &n->in, p->y, p->dw + p->n_w, p->n_w);
    assert_memory_equal(p->dw, p->dw + p->n_w, p->n_w * sizeof *p->dw);

    sim_conv_backward_data(v, f->backward, NORM_IMAGES, p->y, p->dx);
    sim_norm_backward_sums(&n->x_leaves, p->x, n->scale, n->shift, n->mean, NULL,
                           n->in.act, p->dx, p->dx, sums);
    sim_conv_backward_data_sums(v, f->backward, NORM_IMAGES, p->y, &n->x_leaves, p->x,
                                n->scale, n->shift, n->mean, n->in.act, n->g, fused_sums);
    assert_memory_equal(p->dx, n->g, NORM_IMAGES * p->n_x * sizeof *n->g);
    assert_memory_equal(sums, fused_sums, 2 * NORM_LEAVES * v->c * sizeof *sums);
    free(sums);
    sim_free(y);
}

static void check_norm_passes(sim_conv v, sim_activation act)
{
    problem p = problem_create(v, NORM_IMAGES);
    norm_problem n = norm_problem_create(&p, act);

    packed f = pack_filters(&p.v, p.w);
    for (int threads = 1; threads <= 3; threads++) {
        sim_threads_set(threads);
        if (sim_conv_reads_norm(&p.v))
            compare_with_separate_passes(&p, &n, &f);
    }
    sim_threads_set(0);
    packed_destroy(&f);
    norm_problem_destroy(&n);
    problem_destroy(&p);
}

static void passes_beside_a_norm_have_the_bits_of_separate_passes(void **state)
{
    (void)state;
    static const sim_conv larger[] = {
        {.c = 16, .k = 16, .size = 3, .stride = 1, .pad = 1, .h = 32, .w = 32},
        {.c = 24, .k = 40, .size = 3, .stride = 1, .pad = 1, .h = 16, .w = 16},
        {.c = 20, .k = 36, .size = 1, .stride = 1, .pad = 0, .h = 33, .w = 32},
    };
    for (size_t i = 0; i < N_ISAS; i++) {
        if (strcmp(isas[i], "portable") == 0 || sim_kernels_pick(isas[i]) != SIM_OK)
            continue;
        for (size_t s = 0; s < N_SHAPES; s++) {
            check_norm_passes(shapes[s], SIM_ACT_RELU);
            check_norm_passes(shapes[s], SIM_ACT_NONE);
        }
        for (size_t s = 0; s < sizeof larger / sizeof larger[0]; s++)
            check_norm_passes(larger[s], SIM_ACT_RELU);
    }
}

/* ---- workspace ---- */

typedef struct {
    problem *p;
    packed filters;
    float *y;
    size_t images, scratch;
} pass_run;

static void read_scratch_bytes(void *ctx, const sim_memory_row *row)
{
    if (strcmp(row->tag, "core/scratch") == 0)
        *(size_t *)ctx = row->bytes;
}

static size_t scratch_held(void)
{
    size_t bytes = 0;
    sim_memory_report(read_scratch_bytes, &bytes);
    return bytes;
}

/* Runs all passes in a new thread, so that `scratch` is what they allocate. */
static void *run_passes(void *ctx)
{
    pass_run *r = ctx;
    const problem *p = r->p;
    const sim_leaf_layout layout = {
        .n_leaves = r->images, .range = {0, r->images}, .images_per_leaf = 1};
    size_t before = scratch_held();

    sim_conv_forward(&p->v, r->filters.forward, r->images, &(sim_conv_input){.x = p->x},
                     r->y);
    sim_conv_backward_data(&p->v, r->filters.backward, r->images, p->y, p->dx);
    sim_conv_backward_weights(&p->v, &layout, &(sim_conv_input){.x = p->x}, p->y, p->dw,
                              p->n_w);
    r->scratch = scratch_held() - before;
    return NULL;
}

/* Maximum of the scratch of all passes, over calls with 1 to `images` images. */
static size_t max_scratch(problem *p, size_t images)
{
    pass_run r = {.p = p, .y = random_floats(images * p->n_y, 4)};
    size_t largest = 0;
    sim_thread t;

    r.filters = pack_filters(&p->v, p->w);
    for (r.images = 1; r.images <= images; r.images++) {
        ASSERT_OK(sim_thread_start(&t, run_passes, &r));
        sim_thread_join(&t);
        largest = r.scratch > largest ? r.scratch : largest;
    }
    packed_destroy(&r.filters);
    sim_free(r.y);
    return largest;
}

static void check_scratch(sim_conv v, size_t images)
{
    problem p = problem_create(v, images);
    const sim_leaf_layout layout = {
        .n_leaves = images, .range = {0, images}, .images_per_leaf = 1};
    sim_workspace_size size = {0};
    size_t largest = max_scratch(&p, images);

    sim_conv_workspace(&p.v, &layout, &size);
    /* A pass may fit in what an earlier pass allocated with slack. */
    if (largest < size.thread || largest > sim_scratch_capacity(size.thread))
        fail_msg("c %zu k %zu size %zu: %zu bytes of scratch, expected %zu to %zu", v.c,
                 v.k, v.size, largest, size.thread, sim_scratch_capacity(size.thread));
    problem_destroy(&p);
}

/* The last call of an evaluation has fewer images than the others. */
static void scratch_of_calls_with_fewer_images_is_within_the_workspace(void **state)
{
    (void)state;
    /* The backward pass has more input channels than the forward pass. */
    static const sim_conv unequal = {
        .c = 16, .k = 256, .size = 3, .stride = 1, .pad = 1, .h = 8, .w = 8};
    static const sim_conv wide = {
        .c = 136, .k = 128, .size = 3, .stride = 1, .pad = 1, .h = 4, .w = 4};
    sim_threads_set(1);
    for (size_t i = 0; i < N_ISAS; i++) {
        if (strcmp(isas[i], "portable") == 0 || sim_kernels_pick(isas[i]) != SIM_OK)
            continue;
        for (size_t s = 0; s < N_SHAPES; s++)
            check_scratch(shapes[s], IMAGES);
    }
    if (strcmp(sim_kernels_name(), "portable") != 0) { /* where there are others */
        check_scratch(unequal, IMAGES);
        check_scratch(wide, 98); /* 98 tiles are two items, 96 tiles are one */
    }
    sim_threads_set(0);
}

static void a_filter_larger_than_the_image_is_refused(void **state)
{
    (void)state;
    sim_conv v = {.c = 1, .k = 1, .size = 7, .stride = 2, .pad = 0, .h = 5, .w = 9};
    ASSERT_REFUSED(sim_conv_shape(&v), SIM_E_CONFIG, "7 x 7");
}

static void an_unknown_instruction_set_is_refused(void **state)
{
    (void)state;
    ASSERT_REFUSED(sim_kernels_pick("v5"), SIM_E_CONFIG,
                   "\"v5\" is none of auto, portable");
}

static void the_start_up_check_refuses_large_differences_and_nan(void **state)
{
    (void)state;
    const sim_conv v = {.c = 1, .k = 1, .size = 3, .stride = 1, .pad = 1, .h = 2, .w = 2};
    const float expected[4] = {1, -2, 0, 0.5f};
    float actual[4] = {1.0001f, -2, 1e-5f, 0.5f};

    ASSERT_OK(sim_check_pass(&v, "forward", 4, expected, actual));
    actual[2] = 3e-4f;
    ASSERT_REFUSED(sim_check_pass(&v, "forward", 4, expected, actual), SIM_E_BUG,
                   "forward");
    actual[2] = NAN;
    ASSERT_REFUSED(sim_check_pass(&v, "forward", 4, expected, actual), SIM_E_BUG, "nan");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_start_up_check_refuses_large_differences_and_nan),
        cmocka_unit_test(every_pass_matches_plain_loops),
        cmocka_unit_test(threads_and_splits_and_vector_widths_do_not_change_the_bits),
        cmocka_unit_test(passes_have_the_recorded_bits_on_any_machine),
        cmocka_unit_test(nodes_of_two_ranks_reduce_to_the_sum_of_one_rank),
        cmocka_unit_test(passes_beside_a_norm_have_the_bits_of_separate_passes),
        cmocka_unit_test(wide_weight_gradients_in_rounds_match_plain_sums),
        cmocka_unit_test(scratch_of_calls_with_fewer_images_is_within_the_workspace),
        cmocka_unit_test(a_filter_larger_than_the_image_is_refused),
        cmocka_unit_test(an_unknown_instruction_set_is_refused),
    };
    if (argc > 1 && strcmp(argv[1], "--record") == 0) {
        record();
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
