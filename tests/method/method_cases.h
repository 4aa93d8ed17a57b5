/*
 * method_cases.h - small instances of every method, in every variant of its options.
 *
 * The variants follow from the option table of the row, so a new row and a new key need no edit
 * here: the defaults; each bool inverted; each other choice of each enum; and the combinations
 * of `combinations`, where the table has all their keys.  Methods that take small views also have the
 * combinations of `small_combinations` with them.
 */
#ifndef SIMILE_TEST_METHOD_CASES_H
#define SIMILE_TEST_METHOD_CASES_H

#include "simile_test.h"

#include "simile/memory.h"
#include "simile/method.h"
#include "simile/random.h"

/* ---- batch and networks of all cases ---- */

/* 6 blocks: 3 ranks own as many leaves each, 4 ranks do not, and neither are powers of two. */
enum { SIDE = 12, CHANNELS = 3 };
static const sim_small_views case_small = {.n = 3, .h = 8, .w = 7};
enum { CLASSES = 5 };
enum { BLOCK = 2, BLOCKS = 6, BATCH = BLOCK * BLOCKS, STEPS = 2, LAST = STEPS - 1 };

/* silu: outputs are smooth, as finite differences require. */
static const sim_encoder_options case_encoder = {.width = 0.0625,
                                                 .activation = SIM_NET_SILU,
                                                 .projector_layers = 2,
                                                 .projector_dim = 6,
                                                 .projector_bn = true};
static const sim_batchnorm_options case_batchnorm = {.group = 0};

static inline sim_method_env case_env(const sim_comm *comm)
{
    return (sim_method_env){.comm = comm,
                            .partition = sim_comm_partition(comm),
                            .encoder = &case_encoder,
                            .batchnorm = &case_batchnorm,
                            .h = SIDE,
                            .w = SIDE,
                            .c = CHANNELS,
                            .n_classes = CLASSES,
                            .batch = BATCH,
                            .block = BLOCK,
                            .seed = 5};
}

/* ---- cases ---- */

typedef struct {
    const sim_method_row *row;
    char name[160]; /* "mocov2 symmetric=true" */
    bool defaults;  /* all keys have their default */
    sim_small_views small;
    sim_option_storage options;
} method_case;

typedef void method_case_fn(const method_case *c);

static inline const sim_option *find_key(const sim_method_row *row, const char *key,
                                         size_t length)
{
    for (size_t i = 0; i < row->table->n_rows; i++)
        if (strlen(row->table->rows[i].name) == length &&
            strncmp(row->table->rows[i].name, key, length) == 0)
            return &row->table->rows[i];
    return NULL;
}

/* False if the key does not have such a value: two methods may have a key of the same name. */
static inline bool set_value(const sim_option *o, const char *value, void *options)
{
    void *to = (char *)options + o->offset;
    char *end = NULL;
    if (o->type == SIM_OPTION_INT) {
        *(int64_t *)to = strtoll(value, &end, 10);
        return !*end || (o->choices && strcmp(value, o->choices) == 0); /* a word: 0 */
    }
    if (o->type == SIM_OPTION_REAL) {
        *(double *)to = strtod(value, &end);
        return !*end;
    }
    if (o->type == SIM_OPTION_BOOL)
        *(bool *)to = strcmp(value, "true") == 0;
    else if (o->type == SIM_OPTION_ENUM)
        return (*(int *)to = sim_choices_find(o->choices, value)) >= 0;
    return true;
}

/* Sets "key=value"; false if the row has no such key or value. */
static inline bool set_option(method_case *c, const char *text)
{
    size_t length = strcspn(text, "="), used = strlen(c->name);
    const sim_option *o = find_key(c->row, text, length);
    if (!o || !set_value(o, text + length + 1, &c->options))
        return false;
    (void)snprintf(c->name + used, sizeof c->name - used, " %s", text);
    c->defaults = false;
    return true;
}

/* The defaults, except for keys whose default is large. */
static inline method_case default_case(const sim_method_row *row)
{
    static const char *const small[] = {"queue_size=300", "predictor_hidden=12", "grid=4",
                                        "steps=2"};
    method_case c = {.row = row};
    for (size_t i = 0; i < row->table->n_rows; i++)
        assert_true(
            set_value(&row->table->rows[i], row->table->rows[i].fallback, &c.options));
    for (size_t i = 0; i < sizeof small / sizeof small[0]; i++)
        (void)set_option(&c, small[i]);
    (void)snprintf(c.name, sizeof c.name, "%s", row->name);
    c.defaults = true;
    return c;
}

static inline bool case_accepted(const method_case *c)
{
    const sim_comm alone = {.rank = 0, .size = 1};
    sim_method_env env = case_env(&alone);
    env.small = c->small;
    bool accepted = sim_method_check(c->row, &env, &c->options) == SIM_OK;
    sim_error_clear();
    return accepted;
}

enum { MAX_COMBINED = 3 };
static const char *const combinations[][MAX_COMBINED] = {
    {"views=3", "learn_temperature=true"},
    {"views=3", "multi_view=in"},
    {"weights=dclw", "weight_grad=flow"},
    {"weights=dclw", "weight_grad=flow", "weight_batch=4"}, /* two blocks */
    {"base_temperature=0.07", "learn_temperature=true"},
    {"base_temperature=0.07", "learn_temperature=true", "positives=in"},
    {"symmetric=true", "shuffle=false", "learn_temperature=true"},
    {"momentum_schedule=cosine", "momentum_final=0.5"},
    {"queue.warm=prefill", "queue_size=12"}, /* filled by the first step */
    {"negatives=5", "learn_temperature=true"},
    {"negatives=cross", "learn_temperature=true"},
    {"negatives=cross", "denominator=decoupled", "reduction=sum_directions"},
    {"steps=1", "skip=1"},
    {"label_smoothing=0.2", "classes=7"},
};

static const char *const small_combinations[][MAX_COMBINED] = {
    {NULL}, /* the defaults */
    {"views=3", "learn_temperature=true"},
    {"multi_view=in", "denominator=decoupled"},
    {"symmetric=true"},
    {"symmetric=true", "shuffle=false", "learn_temperature=true"},
    {"queue.warm=prefill", "queue_size=12"},
    {"columns=true", "learn_temperature=true"},
};

/* Small views in addition; false if that is refused. */
static inline bool add_small_views(method_case *c)
{
    size_t used = strlen(c->name);
    c->small = case_small;
    (void)snprintf(c->name + used, sizeof c->name - used, ", %zu small views",
                   case_small.n);
    return case_accepted(c);
}

static inline void run_small_views(const sim_method_row *row, method_case_fn *fn)
{
    for (size_t i = 0; i < sizeof small_combinations / sizeof small_combinations[0];
         i++) {
        method_case c = default_case(row);
        bool all = true;
        for (size_t k = 0; k < MAX_COMBINED && small_combinations[i][k]; k++)
            all &= set_option(&c, small_combinations[i][k]);
        if (all && add_small_views(&c))
            fn(&c);
    }
}

static inline void run_combinations(const sim_method_row *row, method_case_fn *fn)
{
    for (size_t i = 0; i < sizeof combinations / sizeof combinations[0]; i++) {
        method_case c = default_case(row);
        bool all = true;
        for (size_t k = 0; k < MAX_COMBINED && combinations[i][k]; k++)
            all &= set_option(&c, combinations[i][k]);
        if (all && case_accepted(&c))
            fn(&c);
    }
}

static inline void run_choices(const sim_method_row *row, const sim_option *o,
                               method_case_fn *fn)
{
    bool is_bool = o->type == SIM_OPTION_BOOL;
    const char *choices = is_bool ? "false|true" : o->choices;
    char value[64], text[128];
    if (!is_bool && o->type != SIM_OPTION_ENUM)
        return;
    for (int i = 0; i < (int)sim_choices_count(choices); i++) {
        method_case c = default_case(row);
        if (i == sim_choices_find(choices, o->fallback))
            continue;
        assert_true(sim_choices_text(choices, i, value, sizeof value));
        (void)snprintf(text, sizeof text, "%s=%s", o->name, value);
        assert_true(set_option(&c, text));
        if (case_accepted(&c))
            fn(&c);
    }
}

/* Calls fn for all variants of all methods. */
static inline void for_each_case(method_case_fn *fn)
{
    for (size_t i = 0; i < sim_methods_count(); i++) {
        const sim_method_row *row = sim_methods_at(i);
        const method_case c = default_case(row);
        fn(&c);
        for (size_t k = 0; k < row->table->n_rows; k++)
            run_choices(row, &row->table->rows[k], fn);
        run_combinations(row, fn);
        run_small_views(row, fn);
    }
}

/* ---- steps of a case ---- */

typedef struct {
    const sim_comm *comm;
    sim_method method;
    sim_parameter *parameters;
    size_t n_parameters;
    float *x, *grads;
    uint32_t order[BATCH];
    int32_t labels[BATCH];
    sim_loss_report report; /* of the last step */
} trainer;

static inline trainer trainer_create_in(const sim_method_env *env, const method_case *c)
{
    trainer t = {.comm = env->comm};
    sim_method_env of_case = *env;

    of_case.small = c->small;
    ASSERT_OK(sim_method_create(c->row, &of_case, &c->options, &t.method));
    ASSERT_OK(sim_method_parameters(&t.method, &t.parameters, &t.n_parameters));
    ASSERT_OK(sim_alloc(&t.x, t.method.x_floats, "test/images"));
    ASSERT_OK(sim_alloc(&t.grads, sim_method_gradient_capacity(&t.method, env->partition),
                        "test/gradients"));
    for (uint32_t i = 0; i < BATCH; i++) {
        t.order[i] = i * 5 % BATCH; /* 5 and BATCH have no common factor */
        t.labels[i] = (int32_t)(i % CLASSES);
    }
    if (c->row->started)
        c->row->started(t.method.self);
    sim_method_updated(&t.method);
    return t;
}

static inline trainer trainer_create(const sim_comm *comm, const method_case *c)
{
    const sim_method_env env = case_env(comm);
    return trainer_create_in(&env, c);
}

static inline void trainer_destroy(trainer *t)
{
    sim_method_destroy(&t->method);
    sim_free(t->parameters);
    sim_free(t->x);
    sim_free(t->grads);
}

/* A view is its image with noise. */
static inline void draw_view(uint32_t image, uint32_t view, size_t floats, float *x)
{
    sim_random base = {.purpose = SIM_RANDOM_TEST, .sample = image};
    sim_random noise = {.purpose = SIM_RANDOM_TEST, .sample = image, .epoch = 1 + view};
    for (size_t i = 0; i < floats; i++)
        x[i] = 0.5f * sim_random_between(&base, -1, 1) +
               0.2f * sim_random_between(&noise, -1, 1);
}

static inline sim_method_batch trainer_batch(trainer *t, uint32_t step)
{
    const sim_method *m = &t->method;
    float *x = t->x;
    for (size_t p = 0; p < m->n_parts; p++)
        for (size_t b = m->blocks.lo; b < m->blocks.hi; b++)
            for (size_t v = 0; v < m->parts[p].n_views; v++)
                for (size_t i = b * BLOCK; i < (b + 1) * BLOCK; i++) {
                    uint32_t slot = m->parts[p].shuffled ? t->order[i] : (uint32_t)i;
                    draw_view(step * BATCH + slot,
                              m->parts[p].views[v] +
                                  (m->parts[p].small ? SIM_MAX_VIEWS : 0),
                              m->parts[p].image_floats, x);
                    x += m->parts[p].image_floats;
                }
    sim_method_batch batch = {.order = sim_method_shuffles(m) ? t->order : NULL,
                              .labels = m->row->needs_labels ? t->labels : NULL,
                              .epoch = 1,
                              .samples = (int64_t)step * BATCH,
                              .progress = (double)step / STEPS};
    sim_method_set_input(m, t->x, &batch);
    return batch;
}

static inline bool trainer_idle(const trainer *t)
{
    return t->method.row->idle && t->method.row->idle(t->method.self);
}

/* Loss and summed gradient of a step; collective. */
static inline void trainer_gradient(trainer *t, uint32_t step)
{
    const sim_method_batch batch = trainer_batch(t, step);
    sim_method_times times = {0};

    sim_method_forward_backward(&t->method, &batch, t->grads, &t->report, &times);
    sim_method_sum_gradients(&t->method, t->comm, t->grads);
}

/* A step of gradient descent. */
static inline void trainer_update(trainer *t)
{
    for (size_t i = 0; i < t->n_parameters && !trainer_idle(t); i++)
        for (size_t k = 0; k < t->parameters[i].count; k++)
            t->parameters[i].weights[k] -= 0.1f * t->grads[t->parameters[i].offset + k];
    sim_method_clip_scalars(&t->method);
    sim_method_updated(&t->method);
}

/* ---- saved state ---- */

/* The bytes of all visited tensors of a rank, one after the other. */
typedef struct {
    char *bytes;
    size_t n, at;
    bool restore;
} saved_state;

static inline sim_status count_or_copy(void *ctx, const char *group, const sim_tensor *t)
{
    saved_state *s = ctx;
    size_t rows = t->sharded ? t->row_hi - t->row_lo : t->n_dims ? t->dims[0] : 1;
    size_t n = rows * (t->n_dims ? sim_tensor_row_bytes(t) : sim_type_bytes(t->type));
    (void)group;
    if (s->bytes) {
        assert_true(s->at + n <= s->n);
        memcpy(s->restore ? t->data : s->bytes + s->at,
               s->restore ? s->bytes + s->at : t->data, n);
    }
    s->at += n;
    return SIM_OK;
}

static inline void visit_state(const trainer *t, saved_state *s, bool restore)
{
    const sim_visitor v = {.visit = count_or_copy, .ctx = s};
    s->restore = restore;
    s->at = 0;
    ASSERT_OK(t->method.row->visit(t->method.self, &v));
}

static inline saved_state state_save(const trainer *t)
{
    saved_state s = {0};
    visit_state(t, &s, false);
    s.n = s.at;
    ASSERT_OK(sim_alloc(&s.bytes, s.n + 1, "test/state"));
    visit_state(t, &s, false);
    return s;
}

/* As a load of a checkpoint. */
static inline void state_restore(const trainer *t, saved_state *s)
{
    sim_method_updated(&t->method); /* pushes pending keys before they are replaced */
    visit_state(t, s, true);
    assert_true(s->at == s->n);
    sim_method_updated(&t->method);
}

static inline void state_destroy(saved_state *s)
{
    sim_free(s->bytes);
}

#endif
