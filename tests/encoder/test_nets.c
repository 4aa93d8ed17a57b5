/*
 * test_nets.c - every network of encoder.arch: size, gradients, state, and split batches.
 */
#include "derivative.h"

#include "simile/option.h"

static const sim_batchnorm_options global = {.group = 0};

/* Rows of nets.def, as the option table lists them. */
static size_t count_nets(const char **names)
{
    for (size_t i = 0; i < sim_encoder_table.n_rows; i++)
        if (strcmp(sim_encoder_table.rows[i].name, "arch") == 0) {
            *names = sim_encoder_table.rows[i].choices;
            return sim_choices_count(*names);
        }
    fail_msg("encoder.arch is not in the option table");
    return 0;
}

static sim_encoder_options options_of(size_t arch)
{
    return (sim_encoder_options){.arch = (int)arch,
                                 .stem = SIM_STEM_CIFAR,
                                 .width = 0.125,
                                 .activation = SIM_NET_SILU};
}

enum { HEIGHT = 12, WIDTH = 11 };

static sim_net_spec spec_of(const sim_encoder_options *e, const sim_batchnorm_options *bn,
                            uint32_t seed)
{
    return (sim_net_spec){
        .encoder = e, .batchnorm = bn, .h = HEIGHT, .w = WIDTH, .c = 3, .seed = seed};
}

static sim_net *create_net(size_t arch, const sim_batchnorm_options *bn, uint32_t seed)
{
    const sim_encoder_options e = options_of(arch);
    const sim_net_spec spec = spec_of(&e, bn, seed);
    sim_net *net = NULL;
    ASSERT_OK(sim_backbone_create(&spec, &net));
    return net;
}

static void has_parameters_and_the_stated_dimension(size_t arch, const char *name)
{
    const sim_encoder_options e = options_of(arch);
    sim_net *net = create_net(arch, &global, 1);
    size_t count = 0;

    for (size_t i = 0; i < sim_net_tensors(net); i++)
        count += sim_net_tensor_at(net, i)->count;
    if (count == 0 || count != sim_net_parameters(net))
        fail_msg("%s: tensors of %zu floats, %zu parameters", name, count,
                 sim_net_parameters(net));
    if (sim_net_dim(net) != sim_backbone_dim(&e))
        fail_msg("%s: dimension %zu, stated %zu", name, sim_net_dim(net),
                 sim_backbone_dim(&e));
    sim_net_destroy(&net);
}

/* torchvision's table of ResNets at 224 pixels, in 1e9 multiply-adds; with its classifier. */
static const struct {
    const char *name;
    double multiply_adds;
    size_t features;
} published[] = {
    {"resnet18", 1.814, 512}, {"resnet34", 3.664, 512}, {"resnet50", 4.089, 2048}};

static double count_multiply_adds(const sim_net *net)
{
    double sum = 0;
    for (size_t i = 0; i < sim_net_layers(net); i++) {
        const sim_net_layer l = sim_net_layer_at(net, i);
        if (strcmp(l.kind, "conv") == 0)
            sum += (double)(sim_net_tensor_at(net, l.first_tensor)->count * l.h * l.w);
    }
    return sum;
}

static void has_the_published_multiply_adds(size_t arch, const char *name)
{
    enum { CLASSES = 1000 };
    const sim_encoder_options e = {
        .arch = (int)arch, .stem = SIM_STEM_IMAGENET, .width = 1};
    const sim_net_spec spec = {
        .encoder = &e, .batchnorm = &global, .h = 224, .w = 224, .c = 3};
    sim_net *net = NULL;

    ASSERT_OK(sim_backbone_create(&spec, &net));
    const double sum = sim_net_multiply_adds(net), counted = count_multiply_adds(net);
    if (sum != counted)
        fail_msg("%s: %g multiply-adds, its layers have %g", name, sum, counted);
    for (size_t i = 0; i < sizeof published / sizeof published[0]; i++)
        if (strcmp(name, published[i].name) == 0) {
            const double classifier = (double)(published[i].features * CLASSES);
            assert_true(fabs((sum + classifier) / 1e9 - published[i].multiply_adds) <
                        5.1e-4); /* of its rounding */
        }
    sim_net_destroy(&net);
}

/* With silu and without a max pool the whole net is smooth. */
static void gradients_match_finite_differences(size_t arch, const char *name)
{
    const sim_batch_shape shape = {
        .n_blocks = 2, .blocks = {0, 2}, .views = 2, .slots = 2};
    for (uint32_t seed = 1; seed <= 2; seed++) {
        pass p;
        pass_create(create_net(arch, &global, seed), &shape, seed, &p);
        check_gradients(&p, name, seed, HUGE_VAL);
        pass_destroy(&p);
    }
}

typedef struct {
    unsigned char *bytes;
    size_t n, at;
    bool load;
} state_copy;

static sim_status copy_tensor(void *ctx, const char *group, const sim_tensor *t)
{
    state_copy *s = ctx;
    size_t n = sim_tensor_count(t) * sim_type_bytes(t->type);
    (void)group;
    assert_true(s->at + n <= s->n);
    if (s->load)
        memcpy(t->data, s->bytes + s->at, n);
    else
        memcpy(s->bytes + s->at, t->data, n);
    s->at += n;
    return SIM_OK;
}

static state_copy copy_state(sim_net *net)
{
    state_copy s = {.n = 16 * sim_net_parameters(net)};
    const sim_visitor v = {copy_tensor, &s};
    ASSERT_OK(sim_alloc(&s.bytes, s.n, "test"));
    ASSERT_OK(sim_net_visit(net, "", &v));
    return s;
}

/* A net that restores another's state computes the same bits in evaluation. */
static void state_restores_through_visitors(size_t arch, const char *name)
{
    const sim_batch_shape shape = {
        .n_blocks = 2, .blocks = {0, 2}, .views = 1, .slots = 2};
    sim_net *other = create_net(arch, &global, 8);
    size_t dim = sim_net_dim(other);
    float *y = NULL;
    pass p;

    pass_create(create_net(arch, &global, 7), &shape, 7, &p);
    sim_net_forward(p.tape, p.x, p.y); /* changes the running statistics */
    ASSERT_OK(sim_alloc(&y, 8 * dim, "test"));
    state_copy s = copy_state(p.net);
    const sim_visitor v = {copy_tensor, &s};
    size_t saved = s.at;
    s.at = 0;
    s.load = true;
    ASSERT_OK(sim_net_visit(other, "", &v));
    assert_int_equal(s.at, saved);
    sim_net *const both[] = {p.net, other};
    for (size_t i = 0; i < 2; i++) {
        sim_evaluator *e = NULL;
        ASSERT_OK(sim_evaluator_create(both[i], &e));
        sim_evaluator_run(e, 4, p.x, y + 4 * i * dim);
        sim_evaluator_destroy(&e);
    }
    if (memcmp(y, y + 4 * dim, 4 * dim * sizeof *y) != 0)
        fail_msg("%s: outputs differ after restoring the state", name);
    sim_free(s.bytes);
    sim_free(y);
    sim_net_destroy(&other);
    pass_destroy(&p);
}

/* Outputs, gradients and the statistics in the owner are those of a net that was created with the same
 * weights for the smaller images. */
static void shares_its_weights_with_a_net_for_another_size(size_t arch, const char *name)
{
    const sim_batch_shape shape = {
        .n_blocks = 2, .blocks = {0, 2}, .views = 2, .slots = 2};
    const sim_encoder_options e = options_of(arch);
    sim_net_spec spec = spec_of(&e, &global, 9);
    sim_net *owner = NULL, *nets[2] = {NULL, NULL};
    pass p[2];

    ASSERT_OK(sim_backbone_create(&spec, &owner));
    spec.h = HEIGHT - 4;
    spec.w = WIDTH - 4;
    ASSERT_OK(sim_backbone_share(&spec, owner, &nets[0]));
    ASSERT_OK(sim_backbone_create(&spec, &nets[1]));
    for (size_t i = 0; i < 2; i++) {
        pass_create(nets[i], &shape, 9, &p[i]);
        sim_net_forward(p[i].tape, p[i].x, p[i].y);
        sim_net_backward(p[i].tape, p[i].dy, p[i].dx, p[i].grads, p[i].n_w);
    }
    if (memcmp(p[0].y, p[1].y, p[0].n_y * sizeof(float)) != 0 ||
        memcmp(p[0].dx, p[1].dx, p[0].n_x * sizeof(float)) != 0 ||
        memcmp(p[0].grads, p[1].grads, p[0].n_w * sizeof(float)) != 0)
        fail_msg("%s: outputs or gradients differ", name);
    pass_destroy(&p[0]); /* the owner keeps the weights */
    state_copy shared = copy_state(owner), alone = copy_state(p[1].net);
    if (shared.at != alone.at || memcmp(shared.bytes, alone.bytes, shared.at) != 0)
        fail_msg("%s: weights or statistics differ", name);
    sim_free(shared.bytes);
    sim_free(alone.bytes);
    pass_destroy(&p[1]);
    sim_net_destroy(&owner);
}

/* A rank's part of a reduction whose groups are single leaves: ctx is its first block. */
static void keep_leaves(void *ctx, size_t n_units, size_t leaves_per_unit,
                        size_t leaves_per_group, size_t width, sim_merge_fn *merge,
                        double *leaves, double *out)
{
    size_t first = *(const size_t *)ctx;
    (void)n_units;
    (void)merge;
    assert_int_equal(leaves_per_unit, 1);
    assert_int_equal(leaves_per_group, 1);
    memcpy(out + first * width, leaves, 2 * width * sizeof *out); /* two blocks */
}

/* Two ranks of two blocks each, with batch norm groups of one block: the sum of their
 * nodes has the bits of one rank's gradient over four blocks. */
static void split_batches_give_the_same_gradients(size_t arch, const char *name)
{
    const sim_batchnorm_options bn = {.group = 2};
    const sim_batch_shape all = {.n_blocks = 4, .blocks = {0, 4}, .views = 2, .slots = 2};
    float *node = NULL;
    pass p;

    pass_create(create_net(arch, &bn, 5), &all, 5, &p);
    sim_net_forward(p.tape, p.x, p.y);
    sim_net_backward(p.tape, p.dy, NULL, p.grads, p.n_w);
    ASSERT_OK(sim_alloc(&node, 2 * p.n_w, "test"));
    for (size_t rank = 0; rank < 2; rank++) {
        size_t first = 2 * rank;
        const sim_batch_shape part = {
            .n_blocks = 4, .blocks = {first, first + 2}, .views = 2, .slots = 2};
        const sim_reducer local = {keep_leaves, &first};
        sim_tape *tape = NULL;
        ASSERT_OK(sim_tape_create(p.net, &part, &local, true, &tape));
        sim_net_forward(tape, p.x + rank * p.n_x / 2, p.y + rank * p.n_y / 2);
        sim_net_backward(tape, p.dy + rank * p.n_y / 2, NULL, node + rank * p.n_w, p.n_w);
        sim_tape_destroy(&tape);
    }
    for (size_t i = 0; i < p.n_w; i++)
        if (node[i] + node[p.n_w + i] != p.grads[i])
            fail_msg("%s: gradient %zu is %.9g split, %.9g whole", name, i,
                     (double)(node[i] + node[p.n_w + i]), (double)p.grads[i]);
    sim_free(node);
    pass_destroy(&p);
}

typedef void net_check(size_t arch, const char *name);

static void check_every_net(void **state)
{
    net_check *check = *(net_check *const *)*state;
    const char *names = NULL;
    size_t n = count_nets(&names);

    assert_true(n > 0);
    for (size_t i = 0; i < n; i++) {
        char name[64];
        assert_true(sim_choices_text(names, (int)i, name, sizeof name));
        check(i, name);
    }
}

int main(void)
{
    static net_check *const checks[] = {has_parameters_and_the_stated_dimension,
                                        has_the_published_multiply_adds,
                                        gradients_match_finite_differences,
                                        state_restores_through_visitors,
                                        shares_its_weights_with_a_net_for_another_size,
                                        split_batches_give_the_same_gradients};
    static const char *const names[] = {"has_parameters_and_the_stated_dimension",
                                        "has_the_published_multiply_adds",
                                        "gradients_match_finite_differences",
                                        "state_restores_through_visitors",
                                        "shares_its_weights_with_a_net_for_another_size",
                                        "split_batches_give_the_same_gradients"};
    struct CMUnitTest tests[sizeof checks / sizeof checks[0]];

    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++)
        tests[i] = (struct CMUnitTest){.name = names[i],
                                       .test_func = check_every_net,
                                       .initial_state = (void *)(uintptr_t)&checks[i]};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
