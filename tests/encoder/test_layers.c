/*
 * test_layers.c - every row of layers.def: gradients of its sample by finite differences.
 */
#include "derivative.h"

#include "build.h"

typedef struct {
    size_t h, w, c, blocks, views, slots;
    int64_t group;
    int joint;
} layer_case;

static const layer_case cases[] = {{6, 5, 3, 2, 2, 2, 0, SIM_BN_VIEWS_SEPARATE},
                                   {7, 7, 1, 3, 1, 2, 2, SIM_BN_VIEWS_SEPARATE},
                                   {4, 9, 8, 2, 2, 4, 2, SIM_BN_VIEWS_JOINT}};

/* A convolution, the layer's sample, and with `followed` a convolution that reads it, for
 * which backward recomputes the sample's value unless it is stored. */
static sim_net *build_sample(const layer *l, const layer_case *k, bool followed,
                             uint32_t seed)
{
    const sim_batchnorm_options bn = {.group = k->group, .views = k->joint};
    sim_random r = {.seed = seed, .purpose = SIM_RANDOM_INIT};
    const initial_draws draws = {
        .draws = {.seed = seed, .purpose = SIM_RANDOM_INIT, .epoch = 79}, .gain = 1};
    sim_net *net = NULL;
    int at = NET_INPUT;

    ASSERT_OK(sim_net_begin(k->h, k->w, k->c, &bn, &net));
    ASSERT_OK(sim_net_add_conv(net, "first", at, 16, 3, 1, &at));
    ASSERT_OK(l->sample(net, at, &at));
    if (followed)
        ASSERT_OK(sim_net_add_conv(net, "last", at, 8, 1, 1, &at));
    ASSERT_OK(sim_net_count(net));
    ASSERT_OK(sim_net_allocate(net, &draws));
    for (size_t i = 0; i < sim_net_tensors(net); i++) {
        const sim_net_tensor *t = sim_net_tensor_at(net, i);
        for (size_t j = 0; j < t->count; j++)
            net->weights[t->offset + j] +=
                (t->bn_or_bias ? 0.2f : 0.12f) * sim_random_normal(&r);
    }
    return net;
}

static void check_case(const layer *l, const layer_case *k, bool followed, uint32_t seed)
{
    const sim_batch_shape shape = {.n_blocks = k->blocks,
                                   .blocks = {0, k->blocks},
                                   .views = k->views,
                                   .slots = k->slots};
    char what[96];
    pass p;

    (void)snprintf(what, sizeof what, "%s on %zu x %zu x %zu%s", l->name, k->h, k->w,
                   k->c, followed ? ", followed by a convolution" : "");
    pass_create(build_sample(l, k, followed, seed), &shape, seed, &p);
    check_gradients(&p, what, seed, 5e-5);
    pass_destroy(&p);
}

static void every_layer_has_a_sample(void **state)
{
    (void)state;
    assert_true(sim_layer_n_rows > 0);
    for (size_t i = 0; i < sim_layer_n_rows; i++)
        if (!sim_layer_rows[i]->sample)
            fail_msg("layers.def: %s has no sample", sim_layer_rows[i]->name);
}

static void gradients_of_every_layer_match_finite_differences(void **state)
{
    (void)state;
    for (size_t i = 0; i < sim_layer_n_rows; i++) {
        if (!sim_layer_rows[i]->sample)
            continue; /* every_layer_has_a_sample reports it */
        for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++)
            for (uint32_t seed = 1; seed <= 3; seed++) {
                check_case(sim_layer_rows[i], &cases[k], false, seed);
                check_case(sim_layer_rows[i], &cases[k], true, seed);
            }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_layer_has_a_sample),
        cmocka_unit_test(gradients_of_every_layer_match_finite_differences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
