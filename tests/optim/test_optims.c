/*
 * test_optims.c - every optimizer of optims.def, LARS dialect, schedule shape and scaling rule
 * against a plain loop in double, written from the published definition.
 *
 * simile-test: labels tsan
 * A name without a reference here fails the test.
 */
#include "simile_test.h"

#include "simile/optim.h"
#include "simile/random.h"
#include "simile/thread.h"

#include <math.h>

enum { TENSORS = 3, COUNT = 5000, STEPS = 12, SEEDS = 3 };

/* A large tensor, a bias, and a weight that starts at 0 (a norm of 0). */
static const size_t counts[TENSORS] = {COUNT, 7, 33};

static const char *choices_of(const sim_option_table *table, const char *key)
{
    for (size_t i = 0; i < table->n_rows; i++)
        if (strcmp(table->rows[i].name, key) == 0)
            return table->rows[i].choices;
    fail_msg("%s.%s is not in the table", table->section, key);
    return "";
}

static const char *choice(const char *choices, int i, char name[32])
{
    assert_true(sim_choices_text(choices, i, name, 32));
    return name;
}

/* ---- references ---- */

typedef struct {
    size_t n;
    bool bn_or_bias;
    double w[COUNT], first[COUNT], second[COUNT];
} reference_tensor;

typedef struct {
    const sim_optimizer_options *options;
    const char *dialect;
    double lr;
    int step; /* from 0 */
} reference_step;

static double decay_of(const reference_step *s, const reference_tensor *t)
{
    return t->bn_or_bias && !s->options->decay_bn_bias ? 0 : s->options->weight_decay;
}

/* torch.optim.SGD: the first momentum is the gradient itself. */
static void sgd_reference(const reference_step *s, const float *g, reference_tensor *t)
{
    const sim_optimizer_options *o = s->options;
    for (size_t i = 0; i < t->n; i++) {
        double d = (double)g[i] + decay_of(s, t) * t->w[i];
        t->first[i] = s->step == 0 ? d : o->momentum * t->first[i] + d;
        t->w[i] -= s->lr * (o->nesterov ? d + o->momentum * t->first[i] : t->first[i]);
    }
}

/* torch.optim.AdamW; arXiv 1711.05101, algorithm 2. */
static void adamw_reference(const reference_step *s, const float *g, reference_tensor *t)
{
    const sim_optimizer_options *o = s->options;
    double c1 = 1 - pow(o->beta1, s->step + 1), c2 = 1 - pow(o->beta2, s->step + 1);
    for (size_t i = 0; i < t->n; i++) {
        double x = (double)g[i];
        t->w[i] -= s->lr * decay_of(s, t) * t->w[i];
        t->first[i] = o->beta1 * t->first[i] + (1 - o->beta1) * x;
        t->second[i] = o->beta2 * t->second[i] + (1 - o->beta2) * x * x;
        t->w[i] -= s->lr * (t->first[i] / c1) / (sqrt(t->second[i] / c2) + o->eps);
    }
}

static bool is_dialect(const reference_step *s, const char *dialect)
{
    return strcmp(s->dialect, dialect) == 0;
}

/* Decay and trust ratio of a tensor; arXiv 1708.03888, equation 6, by dialect. A tensor that is not
 * adapted has 1. */
static double trust_ratio(const reference_step *s, const float *g,
                          const reference_tensor *t, double *decay)
{
    double w = 0, plain = 0, decayed = 0;
    bool adapted = !t->bn_or_bias || s->options->decay_bn_bias || is_dialect(s, "larc");

    if (is_dialect(s, "lightly")) /* lightly/utils/lars.py: "if weight_decay != 0" */
        adapted = decay_of(s, t) != 0;
    *decay = adapted ? s->options->weight_decay : 0;
    for (size_t i = 0; i < t->n; i++) {
        double x = (double)g[i], y = x + *decay * t->w[i];
        w += t->w[i] * t->w[i];
        plain += x * x;
        decayed += y * y;
    }
    w = sqrt(w);
    plain = sqrt(plain);
    if (!adapted)
        return 1;
    if (is_dialect(s, "simclr") || is_dialect(s, "mocov3"))
        return w > 0 && decayed > 0 ? s->options->trust * w / sqrt(decayed) : 1;
    if (!is_dialect(s, "bolts") && !is_dialect(s, "larc") && !is_dialect(s, "lightly"))
        fail_msg("optimizer.dialect: %s has no reference in this test", s->dialect);
    if (w > 0 && plain > 0)
        return s->options->trust * w / (plain + *decay * w + 1e-8);
    *decay = 0;
    return 1;
}

/* With clip_lr as in apex's LARC and solo-learn: trust ratios of adapted tensors over lr, at most 1. No
 * computed ratio is 1. */
static double lars_trust(const reference_step *s, const float *g,
                         const reference_tensor *t, double *decay)
{
    double trust = trust_ratio(s, g, t, decay);
    return s->options->clip_lr && trust != 1 ? fmin(trust / s->lr, 1) : trust;
}

/* simclr: the learning rate is inside the momentum; the other dialects: outside. */
static void lars_reference(const reference_step *s, const float *g, reference_tensor *t)
{
    double mu = s->options->momentum, decay = 0, trust = lars_trust(s, g, t, &decay);
    double inside = is_dialect(s, "simclr") ? s->lr : 1,
           outside = is_dialect(s, "simclr") ? 1 : s->lr;

    for (size_t i = 0; i < t->n; i++) {
        double d = inside * trust * ((double)g[i] + decay * t->w[i]);
        t->first[i] = mu * t->first[i] + d;
        t->w[i] -= outside * (s->options->nesterov ? d + mu * t->first[i] : t->first[i]);
    }
}

typedef void step_reference(const reference_step *s, const float *g, reference_tensor *t);
static const struct {
    const char *name;
    step_reference *step;
    bool elementwise; /* a tensor may be split without a change of results */
    bool is_lars;     /* has dialects and clip_lr */
} references[] = {{"sgd", sgd_reference, true, false},
                  {"lars", lars_reference, false, true},
                  {"adamw", adamw_reference, true, false}};
enum { N_REFERENCES = sizeof references / sizeof references[0] };

static size_t reference_of(const char *name)
{
    for (size_t i = 0; i < N_REFERENCES; i++)
        if (strcmp(references[i].name, name) == 0)
            return i;
    fail_msg("optimizer.name: %s has no reference in this test", name);
    return 0;
}

/* ---- optimizers ---- */

static float number(uint32_t seed, uint32_t sample, size_t draw)
{
    sim_random r = {.seed = seed,
                    .purpose = SIM_RANDOM_TEST,
                    .sample = sample,
                    .draw = (uint32_t)draw};
    return sim_random_normal(&r);
}

static float weights[TENSORS][COUNT], gradients[STEPS][TENSORS][COUNT];
static reference_tensor expected[TENSORS];

enum { NESTEROV = 1, DECAY_BN_BIAS = 2, OPTIONS_OF_ALL = 4 };
enum { CLIP_LR = 4, NO_DECAY = 8, OPTIONS_OF_LARS = 16 };

static sim_optimizer_options options_of(int name, int dialect, int flags)
{
    return (sim_optimizer_options){.name = name,
                                   .dialect = dialect,
                                   .momentum = 0.9,
                                   .encoder_lr_factor = 0.5,
                                   .weight_decay = flags & NO_DECAY ? 0 : 0.02,
                                   .trust = 0.05,
                                   .beta1 = 0.9,
                                   .beta2 = 0.99,
                                   .eps = 1e-8,
                                   .nesterov = flags & NESTEROV,
                                   .decay_bn_bias = flags & DECAY_BN_BIAS,
                                   .clip_lr = flags & CLIP_LR};
}

static void draw_weights(uint32_t seed)
{
    for (uint32_t t = 0; t < TENSORS; t++) {
        expected[t] = (reference_tensor){.n = counts[t], .bn_or_bias = t == 1};
        for (size_t i = 0; i < COUNT; i++) {
            weights[t][i] = t == 2 ? 0 : number(seed, t, i);
            expected[t].w[i] = (double)weights[t][i];
        }
    }
}

static void draw_gradients(uint32_t seed)
{
    for (uint32_t s = 0; s < STEPS; s++)
        for (uint32_t t = 0; t < TENSORS; t++)
            for (size_t i = 0; i < COUNT; i++)
                gradients[s][t][i] = number(seed, 100 + s * TENSORS + t, i);
}

/* The tensors; with `split` each in two parts of unequal length. */
static size_t list_parameters(bool split, sim_parameter list[2 * TENSORS])
{
    size_t n = 0;
    for (size_t t = 0; t < TENSORS; t++) {
        size_t end = split ? counts[t] / 3 : counts[t];
        for (size_t lo = 0; lo < counts[t]; lo = end, end = counts[t])
            list[n++] = (sim_parameter){.group = t == 0 ? "encoder" : "projector",
                                        .name = "w",
                                        .weights = weights[t] + lo,
                                        .count = end - lo,
                                        .n_dims = 1,
                                        .dims = {end - lo},
                                        .offset = t * COUNT + lo,
                                        .bn_or_bias = t == 1};
    }
    return n;
}

static double rate_of(uint32_t step)
{
    return 0.1 * (1 - 0.05 * step); /* varies, so that dialects differ */
}

static void run_optimizer(const sim_optimizer_options *o, bool split)
{
    sim_parameter list[2 * TENSORS];
    sim_optimizer *optimizer = NULL;
    size_t n = list_parameters(split, list);

    ASSERT_OK(sim_optimizer_create(o, list, n, &optimizer));
    for (uint32_t s = 0; s < STEPS; s++)
        sim_optimizer_step(optimizer, rate_of(s), gradients[s][0]);
    sim_optimizer_destroy(&optimizer);
}

static void run_reference(const sim_optimizer_options *o, size_t reference,
                          const char *dialect)
{
    for (uint32_t s = 0; s < STEPS; s++) {
        for (size_t t = 0; t < TENSORS; t++) {
            const double factor =
                t == 0 ? o->encoder_lr_factor : 1; /* as list_parameters */
            const reference_step step = {o, dialect, factor * rate_of(s), (int)s};
            references[reference].step(&step, gradients[s][t], &expected[t]);
        }
    }
}

/* Largest error of a tensor over its largest weight. */
static double error_of(size_t t)
{
    double worst = 0, largest = 0;
    for (size_t i = 0; i < counts[t]; i++) {
        double e = fabs((double)weights[t][i] - expected[t].w[i]);
        worst = e <= worst ? worst : e; /* NaN is the worst */
        largest = fmax(largest, fabs(expected[t].w[i]));
    }
    return worst / largest;
}

static void compare(int row, const char *name, int dialect, const char *dialect_name)
{
    int n_flags =
        references[reference_of(name)].is_lars ? OPTIONS_OF_LARS : OPTIONS_OF_ALL;

    for (uint32_t seed = 1; seed <= SEEDS; seed++) {
        draw_gradients(seed);
        for (int flags = 0; flags < n_flags; flags++) {
            const sim_optimizer_options o = options_of(row, dialect, flags);
            draw_weights(seed);
            run_optimizer(&o, false);
            run_reference(&o, reference_of(name), dialect_name);
            for (size_t t = 0; t < TENSORS; t++)
                if (!(error_of(t) <= 1e-5))
                    fail_msg("%s %s, flags %d, tensor %zu, seed %u: error %g", name,
                             dialect_name, flags, t, seed, error_of(t));
        }
    }
}

static void every_optimizer_matches_its_published_definition(void **state)
{
    const char *names = choices_of(&sim_optimizer_table, "name");
    const char *dialects = choices_of(&sim_optimizer_table, "dialect");
    char name[32], dialect[32];
    (void)state;
    sim_threads_set(3);
    for (int row = 0; row < (int)sim_choices_count(names); row++) {
        size_t r = reference_of(choice(names, row, name));
        int n = references[r].is_lars ? (int)sim_choices_count(dialects) : 1;
        for (int k = 0; k < n; k++)
            compare(row, name, k, choice(dialects, k, dialect));
    }
    sim_threads_set(1);
}

static void an_elementwise_optimizer_gives_the_same_bits_for_split_tensors(void **state)
{
    static float whole[TENSORS][COUNT];
    const char *names = choices_of(&sim_optimizer_table, "name");
    char name[32];
    (void)state;
    draw_gradients(7);
    for (int row = 0; row < (int)sim_choices_count(names); row++) {
        const sim_optimizer_options o = options_of(row, 0, NESTEROV);
        bool elementwise = references[reference_of(choice(names, row, name))].elementwise;
        draw_weights(7);
        run_optimizer(&o, false);
        memcpy(whole, weights, sizeof whole);
        draw_weights(7);
        run_optimizer(&o, true);
        if ((memcmp(whole, weights, sizeof whole) == 0) != elementwise)
            fail_msg("%s: split tensors, same bits expected: %d", name, elementwise);
    }
}

/* ---- learning rates ---- */

/* With the defaults of all other options, of base 0.3. */
static double rate_reference(const char *shape, double t, double warmup, double total)
{
    if (t < warmup)
        return 0.3 * fmin(1, (t + 1) / warmup);
    if (strcmp(shape, "constant") == 0)
        return 0.3;
    if (strcmp(shape, "steps") == 0)
        return t >= 0.8 * total ? 0.003 : t >= 0.6 * total ? 0.03 : 0.3;
    if (strcmp(shape, "cosine") != 0)
        fail_msg("schedule.shape: %s has no reference in this test", shape);
    return 0.3 * (1 + cos(acos(-1.0) * (t - warmup) / (total - warmup))) / 2;
}

static void every_schedule_shape_matches_its_definition(void **state)
{
    static const double warmups[] = {0, 1, 10, 12.5};
    const char *shapes = choices_of(&sim_schedule_table, "shape");
    char shape[32];
    (void)state;
    for (int k = 0; k < (int)sim_choices_count(shapes); k++)
        for (size_t w = 0; w < sizeof warmups / sizeof warmups[0]; w++)
            for (double t = 0; t < 97; t++) {
                const sim_schedule_options s = {.shape = k, .epochs = 1, .gamma = 0.1};
                double got = sim_schedule_learning_rate(&s, 0.3, t, warmups[w], 97);
                double want = rate_reference(choice(shapes, k, shape), t, warmups[w], 97);
                if (!(fabs(got - want) <= 1e-12))
                    fail_msg("%s, warm-up %g, update %g: %.15g, expected %.15g", shape,
                             warmups[w], t, got, want);
            }
}

/* Option by option; test_schedule.py compares the rates with PyTorch's. */
static void contradictory_schedules_are_refused(void **state)
{
    static const struct {
        sim_schedule_options s;
        const char *key;
    } cases[] = {
        {{.shape = 2, .milestones = {2, {3, 4}}}, NULL},
        {{.warmup_start_lr = 0.3, .min_lr = 0.3}, NULL},
        {{.shape = 2, .milestones = {2, {4, 4}}}, "schedule.milestones"},
        {{.shape = 0, .milestones = {1, {4}}}, "schedule.milestones"},
        {{.warmup_start_lr = 0.31}, "schedule.warmup_start_lr"},
        {{.min_lr = 0.31}, "schedule.min_lr"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (cases[i].key)
            ASSERT_REFUSED(sim_schedule_check(&cases[i].s, 0.3), SIM_E_CONFIG,
                           cases[i].key);
        else
            ASSERT_OK(sim_schedule_check(&cases[i].s, 0.3));
}

/* A position in epochs is compared without rounding: at every step of the milestone's epoch. */
static void a_milestone_takes_effect_at_the_first_step_of_its_epoch(void **state)
{
    (void)state;
    for (int64_t epochs = 2; epochs <= 200; epochs += 9)
        for (int per_epoch = 1; per_epoch <= 781; per_epoch += 60)
            for (int64_t m = 1; m < epochs; m += 3) {
                const sim_schedule_options s = {.epochs = epochs,
                                                .shape = 2,
                                                .gamma = 0.5,
                                                .milestones = {1, {(double)m}}};
                double first = (double)(m * per_epoch),
                       total = (double)(epochs * per_epoch);
                assert_true(sim_schedule_learning_rate(&s, 1, first - 1, 0, total) == 1);
                assert_true(sim_schedule_learning_rate(&s, 1, first, 0, total) == 0.5);
            }
}

static double scale_reference(const char *scale, double batch)
{
    if (strcmp(scale, "linear") == 0)
        return batch / 256;
    if (strcmp(scale, "sqrt") == 0)
        return sqrt(batch);
    if (strcmp(scale, "none") != 0)
        fail_msg("optimizer.scale: %s has no reference in this test", scale);
    return 1;
}

static void every_scaling_rule_matches_its_definition(void **state)
{
    const char *scales = choices_of(&sim_optimizer_table, "scale");
    char scale[32];
    (void)state;
    for (int k = 0; k < (int)sim_choices_count(scales); k++)
        for (size_t batch = 1; batch <= 4096; batch *= 4) {
            const sim_optimizer_options o = {.lr = 0.3, .scale = k};
            double want = 0.3 * scale_reference(choice(scales, k, scale), (double)batch);
            if (!(fabs(sim_learning_rate(&o, batch) - want) <= 1e-14 * want))
                fail_msg("%s, batch %zu: %.15g, expected %.15g", scale, batch,
                         sim_learning_rate(&o, batch), want);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_optimizer_matches_its_published_definition),
        cmocka_unit_test(an_elementwise_optimizer_gives_the_same_bits_for_split_tensors),
        cmocka_unit_test(every_schedule_shape_matches_its_definition),
        cmocka_unit_test(contradictory_schedules_are_refused),
        cmocka_unit_test(a_milestone_takes_effect_at_the_first_step_of_its_epoch),
        cmocka_unit_test(every_scaling_rule_matches_its_definition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
