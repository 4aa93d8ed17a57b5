/*
 * test_micro_batch.c - a batch that passes in micro-batches has the bits of one that passes at once:
 * outputs, gradients, running statistics; and a tape allocates the bytes that its plan states.
 */
#include "derivative.h"

#include "build.h"
#include "simile/hash.h"
#include "tape.h"

enum { BLOCKS = 7, SLOTS = 4, VIEWS = 2, PASSES = 2 };

/* ---- networks ---- */

static const sim_encoder_options small = {
    .stem = SIM_STEM_CIFAR, .width = 0.125, .activation = SIM_NET_RELU};

static sim_net *create_backbone(size_t arch, const sim_batchnorm_options *bn)
{
    sim_encoder_options e = small;
    const sim_net_spec spec = {
        .encoder = &e, .batchnorm = bn, .h = 5, .w = 6, .c = 3, .seed = 4};
    sim_net *net = NULL;
    e.arch = (int)arch;
    ASSERT_OK(sim_backbone_create(&spec, &net));
    return net;
}

/* The first without batch norm, so that its biases have gradients. */
static sim_net *create_head(size_t which, const sim_batchnorm_options *bn)
{
    const sim_head_spec spec = {.in = 20,
                                .hidden = 36,
                                .dim = 12,
                                .layers = 2,
                                .bn = which > 0,
                                .last_bn = which > 1,
                                .batchnorm = bn,
                                .seed = 4};
    sim_net *net = NULL;
    ASSERT_OK(sim_head_create(&spec, &net));
    return net;
}

static sim_net *create_context(size_t which, const sim_batchnorm_options *bn)
{
    const sim_context_spec spec = {.grid = 3, .dim = 10, .layers = 2, .seed = 4};
    sim_net *net = NULL;
    (void)which;
    (void)bn;
    ASSERT_OK(sim_context_create(&spec, &net));
    return net;
}

typedef sim_net *create_fn(size_t which, const sim_batchnorm_options *bn);

/* ---- what passes compute ---- */

typedef struct {
    sim_hash y, dx, gradients, running;
} pass_hashes;

static sim_status hash_tensor(void *ctx, const char *group, const sim_tensor *t)
{
    (void)group;
    sim_hasher_add(ctx, t->data, sim_tensor_count(t) * sim_type_bytes(t->type));
    return SIM_OK;
}

static sim_hash hash_running(sim_net *net)
{
    sim_hasher *h = NULL;
    ASSERT_OK(sim_hasher_create(&h));
    const sim_visitor v = {hash_tensor, h};
    ASSERT_OK(sim_net_visit_buffers(net, "", &v));
    sim_hash out = sim_hasher_value(h);
    sim_hasher_destroy(&h);
    return out;
}

static sim_hash hash_floats(size_t n, const float *x)
{
    return sim_hash_bytes(x, n * sizeof *x);
}

/* Two passes: the second one begins with the buffers of the first. */
static pass_hashes run_passes(sim_net *net, const sim_batch_shape *shape)
{
    pass p;
    pass_create(net, shape, 9, &p);
    for (int i = 0; i < PASSES; i++) {
        sim_net_forward(p.tape, p.x, p.y);
        sim_net_backward(p.tape, p.dy, p.dx, p.grads, p.n_w);
        for (size_t k = 0; k < p.n_w; k++)
            sim_net_weights(net)[k] -= 1e-3f * p.grads[k];
    }
    const pass_hashes out = {hash_floats(p.n_y, p.y), hash_floats(p.n_x, p.dx),
                             hash_floats(p.n_w, p.grads), hash_running(net)};
    pass_destroy(&p);
    return out;
}

/* ---- tests ---- */

static const struct {
    sim_batchnorm_options bn;
    size_t blocks; /* of a group, at least one */
} groupings[] = {{{.group = SLOTS}, 1},
                 {{.group = SLOTS / 2}, 1},
                 {{.group = SLOTS, .views = SIM_BN_VIEWS_JOINT}, 1},
                 {{.group = SLOTS / 2, .views = SIM_BN_VIEWS_JOINT}, 1},
                 {{.group = 2 * SLOTS}, 2}};
enum { GROUPINGS = sizeof groupings / sizeof groupings[0] };

static void compare(const char *name, size_t which, size_t grouping, size_t micro_blocks,
                    const pass_hashes *got, const pass_hashes *want)
{
    const char *differs = !sim_hash_equal(got->y, want->y)                   ? "output"
                          : !sim_hash_equal(got->dx, want->dx)               ? "dx"
                          : !sim_hash_equal(got->gradients, want->gradients) ? "gradient"
                          : !sim_hash_equal(got->running, want->running)     ? "running"
                                                                             : NULL;
    if (differs)
        fail_msg("%s %zu, grouping %zu, micro-batches of %zu blocks: %s differs", name,
                 which, grouping, micro_blocks, differs);
}

/* With groups of two blocks the batch has an even number of them. */
static void check_grouping(create_fn *create, size_t which, const char *name, size_t g)
{
    const sim_batchnorm_options *bn = &groupings[g].bn;
    size_t unit = groupings[g].blocks, n = BLOCKS / unit * unit;
    sim_batch_shape shape = {
        .n_blocks = n, .blocks = {0, n}, .views = VIEWS, .slots = SLOTS};
    const pass_hashes want = run_passes(create(which, bn), &shape);

    for (shape.micro_blocks = unit; shape.micro_blocks <= n; shape.micro_blocks += unit) {
        const pass_hashes got = run_passes(create(which, bn), &shape);
        compare(name, which, g, shape.micro_blocks, &got, &want);
    }
}

/* One size of micro-batches for each network: they have the same layers. */
static void backbones_have_the_bits_of_one_pass(void **state)
{
    (void)state;
    const sim_batchnorm_options *bn = &groupings[0].bn;
    for (size_t i = 0; i < sim_backbones_count(); i++) {
        sim_batch_shape shape = {
            .n_blocks = BLOCKS, .blocks = {0, BLOCKS}, .views = VIEWS, .slots = SLOTS};
        const pass_hashes want = run_passes(create_backbone(i, bn), &shape);
        shape.micro_blocks = 3; /* the last one has one block */
        const pass_hashes got = run_passes(create_backbone(i, bn), &shape);
        compare("backbone", i, 0, shape.micro_blocks, &got, &want);
    }
}

static void batch_norm_groups_have_the_bits_of_one_pass(void **state)
{
    (void)state;
    for (size_t g = 0; g < GROUPINGS; g++)
        check_grouping(create_backbone, 0, "backbone", g);
}

static void heads_have_the_bits_of_one_pass(void **state)
{
    (void)state;
    for (size_t which = 0; which < 3; which++)
        for (size_t g = 0; g < GROUPINGS; g++)
            check_grouping(create_head, which, "head", g);
}

static void context_networks_have_the_bits_of_one_pass(void **state)
{
    (void)state;
    check_grouping(create_context, 0, "context", 0);
}

/* Of a rank that owns blocks 1 to 6: its nodes are several. */
static void a_tape_allocates_the_planned_bytes(void **state)
{
    (void)state;
    const sim_batchnorm_options bn = {.group = SLOTS};
    for (size_t micro = 0; micro <= 6; micro++)
        for (int backward = 0; backward <= 1; backward++) {
            const sim_batch_shape rank = {.n_blocks = BLOCKS,
                                          .blocks = {1, BLOCKS},
                                          .views = VIEWS,
                                          .slots = SLOTS,
                                          .micro_blocks = micro};
            sim_net *net = create_backbone(0, &bn);
            size_t before = sim_memory_bytes();
            sim_workspace_size workspace = {0};
            tape_bytes plan;
            sim_tape *tape = NULL;
            ASSERT_OK(sim_tape_create(net, &rank, &sim_reducer_local, backward, &tape));
            ASSERT_OK(sim_tape_plan(net, &rank, backward ? PASS_TRAIN : PASS_FORWARD,
                                    &plan, &workspace));
            assert_int_equal(sim_memory_bytes() - before, plan.activations + plan.panels +
                                                              plan.sums + plan.gradients +
                                                              plan.structure);
            assert_true((plan.gradients > 0) == (micro > 0 && backward));
            sim_tape_destroy(&tape);
            assert_int_equal(sim_memory_bytes(), before);
            sim_net_destroy(&net);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(backbones_have_the_bits_of_one_pass),
        cmocka_unit_test(batch_norm_groups_have_the_bits_of_one_pass),
        cmocka_unit_test(heads_have_the_bits_of_one_pass),
        cmocka_unit_test(context_networks_have_the_bits_of_one_pass),
        cmocka_unit_test(a_tape_allocates_the_planned_bytes),
    };
    if (sim_kernels_pick("auto") != SIM_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
