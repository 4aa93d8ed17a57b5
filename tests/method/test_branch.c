/*
 * test_branch.c - gradients that enter a branch at its predictor and at its projector.
 *
 * What a branch without a predictor computes is the reference for its lower nets: the same
 * seed draws the same weights.
 */
#include "simile_test.h"

#include "branch.h"

#include "simile/kernel.h"
#include "simile/memory.h"
#include "simile/random.h"

#include <math.h>

enum { BATCH = 8, BLOCK = 4, SIDE = 8, DIM = 6, VIEWS = 2, IMAGES = VIEWS * BATCH };

static const sim_comm alone = {.rank = 0, .size = 1};
static const sim_encoder_options encoder = {.width = 0.0625,
                                            .activation = 1,
                                            .projector_layers = 2,
                                            .projector_dim = DIM,
                                            .projector_bn = true};
static const sim_batchnorm_options batchnorm = {.group = 0};

static float number(uint32_t sample, uint32_t draw)
{
    sim_random r = {
        .seed = 1, .purpose = SIM_RANDOM_TEST, .sample = sample, .draw = draw};
    return sim_random_normal(&r);
}

static void fill(uint32_t sample, size_t n, float scale, float *out)
{
    for (uint32_t i = 0; i < n; i++)
        out[i] = scale * number(sample, i);
}

typedef struct {
    branch *b;
    float *grads; /* the sum over the batch */
    size_t n;
} fixture;

/* The branch after a forward pass; the same images each time. */
static fixture begin(size_t predictor)
{
    static float x[IMAGES * SIDE * SIDE * 3];
    const sim_method_env env = {.comm = &alone,
                                .encoder = &encoder,
                                .batchnorm = &batchnorm,
                                .h = SIDE,
                                .w = SIDE,
                                .c = 3,
                                .batch = BATCH,
                                .block = BLOCK,
                                .seed = 5};
    const branch_spec spec = {.views = VIEWS, .predictor = predictor};
    fixture f = {0};

    ASSERT_OK(branch_create(&env, &spec, &f.b));
    f.n = branch_parameters(f.b);
    ASSERT_OK(sim_alloc(&f.grads, sim_comm_sum_leaves_room(&alone, BATCH / BLOCK, f.n),
                        "test"));
    fill(1, sizeof x / sizeof *x, 1, x);
    branch_updated(f.b);
    branch_forward(f.b, x);
    return f;
}

/* Gradients of all nets, with `top` times draws at the last net's output. */
static void backward(fixture *f, float top, const float *at_projector)
{
    fill(2, IMAGES * DIM, top, f->b->dout[f->b->n_nets - 1]);
    branch_backward(f->b, at_projector, f->grads, f->n);
    sim_comm_sum_leaves(&alone, BATCH / BLOCK, f->n, f->grads);
}

static void end(fixture *f)
{
    branch_destroy(&f->b);
    sim_free(f->grads);
}

static void a_gradient_at_the_projector_passes_by_the_predictor(void **state)
{
    (void)state;
    static float at_projector[IMAGES * DIM];
    fixture with = begin(20), without = begin(0);

    fill(2, IMAGES * DIM, 1, at_projector);
    backward(&with, 0, at_projector);
    backward(&without, 1, NULL);
    assert_true(with.n > without.n);
    for (size_t i = 0; i < without.n; i++)
        assert_true(with.grads[i] == without.grads[i]); /* of zeros both signs */
    for (size_t i = without.n; i < with.n; i++)
        assert_true(with.grads[i] == 0);
    end(&with);
    end(&without);
}

static void gradients_from_both_ends_add_up(void **state)
{
    (void)state;
    static float at_projector[IMAGES * DIM], nothing[IMAGES * DIM];
    fixture one = begin(20), other = begin(20), both = begin(20);
    double error = 0, most = 0;

    fill(3, IMAGES * DIM, 1, at_projector);
    backward(&one, 1, nothing);
    backward(&other, 0, at_projector);
    backward(&both, 1, at_projector);
    for (size_t i = 0; i < both.n; i++) {
        double sum = (double)one.grads[i] + (double)other.grads[i];
        error = fmax(error, fabs(sum - (double)both.grads[i]));
        most = fmax(most, fabs(sum));
    }
    assert_true(most > 0 && error <= 1e-5 * most);
    end(&one);
    end(&other);
    end(&both);
}

static int pick_kernels(void **state)
{
    (void)state;
    return sim_kernels_pick("auto") == SIM_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gradient_at_the_projector_passes_by_the_predictor),
        cmocka_unit_test(gradients_from_both_ends_add_up),
    };
    return cmocka_run_group_tests(tests, pick_kernels, NULL) != 0;
}
