/*
 * supervised.c - supervised: a linear classifier on the backbone, trained with labels.
 *
 * images -> backbone -> classifier -> logits -> cross-entropy over the global batch.
 * The supervised baseline; with --init fine-tuning, and with encoder.freeze the linear protocol with
 * augmentation.
 * Shapes: logits [local images][classes].
 * Papers: Goyal et al. 2017, arXiv 1706.02677 (training); He et al. 2020, arXiv 1911.05722, section
 * 4.1 (linear protocol); Szegedy et al. 2016, arXiv 1512.00567, section 7 (label smoothing).
 */
#include "arrays.h"
#include "common.h"

#include "simile/memory.h"

typedef struct {
    double label_smoothing;
    int64_t classes; /* 0: those of the data set */
    int initial;     /* sim_initial */
} supervised_options;

static const sim_option supervised_rows[] = {
    KEY_CHOICE(supervised_options, "init", initial, "uniform", "uniform|normal|zero",
               "initial weights of the classifier: uniform: weights and biases as "
               "torch.nn.Linear; normal: weights from N(0, 0.01) (MoCo); zero (SimCLR)"),
    KEY_REAL(supervised_options, "label_smoothing", label_smoothing, 0, 1, "0",
             "part of the target that is equal for all classes"),
    {.name = "classes",
     .type = SIM_OPTION_INT,
     .offset = offsetof(supervised_options, classes),
     .max = 1 << 20,
     .fallback = "auto",
     .choices = "auto",
     .unit = "classes",
     .help = "outputs of the classifier; auto: as many as data.train has classes",
     .kind = SIM_IDENTITY}};
static const sim_option_table supervised_table =
    KEY_TABLE(supervised_options, supervised_rows);

static const sim_method_default supervised_defaults[] = {
    {"augment.preset", "supervised"}};

/* ---- objects ---- */

/* Evaluation of features does not open the classifier. */
static sim_model_spec supervised_model(const void *options)
{
    (void)options;
    return (sim_model_spec){.projector = false};
}

static method_spec supervised_spec(const sim_method_env *env, const supervised_options *o)
{
    return (method_spec){
        .model = {.classes = o->classes ? (size_t)o->classes : env->n_classes,
                  .initial = (sim_initial)o->initial},
        .views = 1,
        .options = o,
        .options_bytes = sizeof *o,
        .cross_entropy = true};
}

static sim_status supervised_check(const sim_method_env *env, const void *options)
{
    sim_status st = SIM_OK;
    const supervised_options *o = options;
    const size_t n = o->classes ? (size_t)o->classes : env->n_classes;

    SIM_CHECK(n >= env->n_classes, SIM_E_CONFIG,
              "method.classes: %zu, but data.train has %zu classes", n, env->n_classes);
    SIM_CHECK(n >= 2, SIM_E_CONFIG,
              "data.train: %zu class, but a classifier requires at least 2", n);
done:
    return st;
}

static sim_status supervised_create(const sim_method_env *env, const void *options,
                                    void **self)
{
    const method_spec spec = supervised_spec(env, options);
    return sim_common_create(env, &spec, self);
}

static sim_status supervised_plan(const sim_method_env *env, const void *options,
                                  sim_plan_row rows[32], size_t *n_rows)
{
    const method_spec spec = supervised_spec(env, options);
    return sim_common_plan(env, &spec, rows, n_rows);
}

static size_t supervised_parts(const void *options, sim_part parts[SIM_MAX_PARTS])
{
    (void)options;
    parts[0] = (sim_part){.n_views = 1, .views = {0}};
    return 1;
}

/* ---- a step ---- */

static void supervised_loss(void *self, const sim_method_batch *batch,
                            sim_loss_report *report, float *grads)
{
    method_common *m = self;
    const supervised_options *o = m->options;
    (void)grads;

    const view_group *g = &m->online->group[0];
    sim_cross_entropy_run(m->cross_entropy, o->label_smoothing, batch->labels,
                          g->out[SIM_CLASSIFIER], g->dout[SIM_CLASSIFIER], report);
}

/* ---- description ---- */

static sim_embeddings supervised_embeddings(void *self)
{
    const method_common *m = self;
    return (sim_embeddings){.z = m->online->group[0].out[SIM_BACKBONE],
                            .views = 1,
                            .dim = sim_net_dim(m->online->model.net[SIM_BACKBONE]),
                            .any_length = true};
}

static const char *supervised_reduction(const void *options)
{
    (void)options;
    return "mean over images";
}

static sim_status supervised_about(void *self, char **text)
{
    const method_common *m = self;
    const supervised_options *o = m->options;

    return sim_text_format(
        "method/about", text, "cross-entropy of %zu classes, label smoothing %g, %s%s",
        sim_net_dim(m->online->model.net[SIM_CLASSIFIER]), o->label_smoothing,
        supervised_reduction(o), m->online->frozen ? "; the encoder is frozen" : "");
}

/* ---- simile loss ---- */

static sim_status read_logits(const sim_arrays *a, const sim_comm *c,
                              sim_rows_shape *shape, float **logits, int32_t **labels)
{
    sim_status st = SIM_OK;
    size_t dims[SIM_MAX_DIMS], label_dims[SIM_MAX_DIMS];

    SIM_TRY(a->dims(a->ctx, "logits", 2, dims));
    SIM_TRY(a->dims(a->ctx, "labels", 1, label_dims));
    SIM_CHECK(label_dims[0] == dims[0], SIM_E_DATA,
              "/labels has %zu elements, but /logits has %zu rows", label_dims[0],
              dims[0]);
    SIM_CHECK(dims[0] > 0 && dims[1] > 0, SIM_E_DATA, "/logits is empty");
    *shape = (sim_rows_shape){.n = dims[0], .unit = ARRAY_UNIT, .views = 1, .d = dims[1]};
    const sim_range local = sim_rows_local(sim_comm_partition(c), shape);
    SIM_TRY(sim_alloc(logits, (local.hi - local.lo) * dims[1], "method/logits"));
    SIM_TRY(sim_alloc(labels, dims[0], "method/labels"));
    SIM_TRY(a->floats(a->ctx, "logits", local.lo, local.hi - local.lo, false, *logits));
    SIM_TRY(a->ints(a->ctx, "labels", 0, dims[0], *labels));
    for (size_t i = 0; i < dims[0]; i++)
        SIM_CHECK((*labels)[i] >= 0 && (size_t)(*labels)[i] < dims[1], SIM_E_DATA,
                  "the label of row %zu is %d, expected 0 to %zu", i, (*labels)[i],
                  dims[1] - 1);
done:
    return st;
}

static const char *supervised_holds_batch(const void *options)
{
    (void)options;
    return "which compares no rows with each other";
}

static sim_status put_gradient(const sim_comm *c, const sim_arrays *a,
                               const sim_rows_shape *s, float *gradient)
{
    const sim_range local = sim_rows_local(sim_comm_partition(c), s);
    const sim_tensor t = {.name = "dlogits",
                          .type = SIM_F32,
                          .n_dims = 2,
                          .dims = {s->n, s->d},
                          .data = gradient,
                          .sharded = true,
                          .row_lo = local.lo,
                          .row_hi = local.hi};
    return a->put(a->ctx, &t, s->unit);
}

static sim_status supervised_compute(const sim_comm *c, const void *options,
                                     const sim_arrays *a, double *loss)
{
    sim_status st = SIM_OK;
    const supervised_options *o = options;
    sim_cross_entropy *e = NULL;
    sim_rows_shape shape = {0};
    sim_loss_report report;
    float *logits = NULL, *gradient = NULL;
    int32_t *labels = NULL;

    st = read_logits(a, c, &shape, &logits, &labels);
    if (st == SIM_OK) {
        const sim_range local = sim_rows_local(sim_comm_partition(c), &shape);
        st = sim_alloc(&gradient, (local.hi - local.lo) * shape.d, "method/logits");
    }
    if (st == SIM_OK)
        st = sim_cross_entropy_create(c, &shape, &e);
    SIM_TRY(sim_comm_agree(c, st));
    sim_cross_entropy_run(e, o->label_smoothing, labels, logits, gradient, &report);
    SIM_TRY(put_gradient(c, a, &shape, gradient));
    *loss = report.loss;
done:
    sim_cross_entropy_destroy(&e);
    sim_free(logits);
    sim_free(gradient);
    sim_free(labels);
    return st;
}

const sim_method_row sim_method_supervised = {.name = "supervised",
                                              .paper = "arXiv 1706.02677",
                                              .table = &supervised_table,
                                              .needs_labels = true,
                                              .classifies = true,
                                              .defaults = supervised_defaults,
                                              .n_defaults = sizeof supervised_defaults /
                                                            sizeof supervised_defaults[0],
                                              .model = supervised_model,
                                              .check = supervised_check,
                                              .parts = supervised_parts,
                                              .plan = supervised_plan,
                                              .create = supervised_create,
                                              .forward = sim_common_forward,
                                              .loss = supervised_loss,
                                              .backward = sim_common_backward,
                                              .holds_batch = supervised_holds_batch,
                                              .reduction = supervised_reduction,
                                              .about = supervised_about,
                                              .compute = supervised_compute,
                                              .destroy = sim_common_destroy,
                                              .networks = sim_common_networks,
                                              .nets = sim_common_nets,
                                              .scalars = sim_common_scalars,
                                              .visit = sim_common_visit,
                                              .embeddings = supervised_embeddings};
