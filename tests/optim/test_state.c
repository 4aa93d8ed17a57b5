/*
 * test_state.c - properties of every optimizer of optims.def: its state can be saved and restored,
 * and results have the same bits on any number of threads.
 */
#include "simile_test.h"

#include "simile/optim.h"
#include "simile/random.h"
#include "simile/thread.h"

enum { COUNT = 9001, STEPS = 3 };

typedef struct {
    float w[2][COUNT], g[2][COUNT];
    sim_parameter list[2];
    sim_optimizer *optimizer;
} fixture;

static float number(uint32_t sample, uint32_t draw)
{
    sim_random r = {
        .seed = 1, .purpose = SIM_RANDOM_TEST, .sample = sample, .draw = draw};
    return sim_random_normal(&r);
}

static void fixture_open(fixture *f, int row)
{
    const sim_optimizer_options options = {.name = row,
                                           .momentum = 0.9,
                                           .encoder_lr_factor = 1,
                                           .weight_decay = 0.01,
                                           .trust = 0.02,
                                           .beta1 = 0.9,
                                           .beta2 = 0.999,
                                           .eps = 1e-8};
    for (uint32_t t = 0; t < 2; t++) {
        for (uint32_t i = 0; i < COUNT; i++)
            f->w[t][i] = number(t, i);
        f->list[t] = (sim_parameter){.group = "encoder",
                                     .name = t ? "bias" : "weight",
                                     .weights = f->w[t],
                                     .count = COUNT,
                                     .n_dims = 1,
                                     .dims = {COUNT},
                                     .offset = t * COUNT,
                                     .bn_or_bias = t != 0};
    }
    ASSERT_OK(sim_optimizer_create(&options, f->list, 2, &f->optimizer));
}

static void run_steps(fixture *f, uint32_t first, uint32_t n)
{
    for (uint32_t s = first; s < first + n; s++) {
        for (uint32_t i = 0; i < 2 * COUNT; i++)
            f->g[i / COUNT][i % COUNT] = number(10 + s, i);
        sim_optimizer_step(f->optimizer, 0.1 / (1 + s), f->g[0]);
    }
}

/* The visited tensors, concatenated. */
typedef struct {
    size_t used, floats;
    uint8_t bytes[16 * COUNT * sizeof(float)];
    bool restore;
} saved_state;

static sim_status save_or_restore(void *ctx, const char *group, const sim_tensor *t)
{
    saved_state *s = ctx;
    size_t n = sim_tensor_count(t) * sim_type_bytes(t->type);
    (void)group;
    assert_true(s->used + n <= sizeof s->bytes);
    if (s->restore)
        memcpy(t->data, s->bytes + s->used, n);
    else
        memcpy(s->bytes + s->used, t->data, n);
    s->used += n;
    s->floats += t->type == SIM_F32 ? sim_tensor_count(t) : 0;
    return SIM_OK;
}

static const char *row_names(void)
{
    for (size_t i = 0; i < sim_optimizer_table.n_rows; i++)
        if (strcmp(sim_optimizer_table.rows[i].name, "name") == 0)
            return sim_optimizer_table.rows[i].choices;
    return "";
}

/* Three steps, a restore into a new optimizer and three more steps equal six steps. */
static void a_restored_optimizer_continues_with_the_same_bits(void **unused)
{
    static fixture uninterrupted, stopped, resumed;
    static saved_state saved;
    const sim_visitor visitor = {.visit = save_or_restore, .ctx = &saved};
    (void)unused;
    for (int row = 0; row < (int)sim_choices_count(row_names()); row++) {
        fixture_open(&uninterrupted, row);
        fixture_open(&stopped, row);
        fixture_open(&resumed, row);
        run_steps(&uninterrupted, 0, 2 * STEPS);
        run_steps(&stopped, 0, STEPS);
        saved = (saved_state){0};
        ASSERT_OK(sim_optimizer_visit(stopped.optimizer, &visitor));
        const sim_optimizer_options options = {.name = row};
        assert_int_equal(saved.floats * sizeof(float),
                         sim_optimizer_bytes(&options, 2 * (size_t)COUNT));
        saved.used = 0;
        saved.restore = true;
        ASSERT_OK(sim_optimizer_visit(resumed.optimizer, &visitor));
        memcpy(resumed.w, stopped.w, sizeof resumed.w);
        run_steps(&resumed, STEPS, STEPS);
        assert_memory_not_equal(stopped.w, uninterrupted.w, sizeof uninterrupted.w);
        assert_memory_equal(resumed.w, uninterrupted.w, sizeof uninterrupted.w);
        sim_optimizer_destroy(&uninterrupted.optimizer);
        sim_optimizer_destroy(&stopped.optimizer);
        sim_optimizer_destroy(&resumed.optimizer);
    }
}

static void any_number_of_threads_gives_the_same_weights(void **unused)
{
    static fixture one, three;
    (void)unused;
    for (int row = 0; row < (int)sim_choices_count(row_names()); row++) {
        fixture_open(&one, row);
        fixture_open(&three, row);
        sim_threads_set(1);
        run_steps(&one, 0, STEPS);
        sim_threads_set(3);
        run_steps(&three, 0, STEPS);
        assert_memory_equal(one.w, three.w, sizeof one.w);
        sim_optimizer_destroy(&one.optimizer);
        sim_optimizer_destroy(&three.optimizer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_restored_optimizer_continues_with_the_same_bits),
        cmocka_unit_test(any_number_of_threads_gives_the_same_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
