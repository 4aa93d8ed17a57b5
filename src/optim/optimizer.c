/*
 * optimizer.c - the table of optimizers, their options and their state.
 */
#include "optim_row.h"

#include "simile/memory.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define SIM_OPTIM(name) extern const sim_optim_row sim_optim_##name;
#include "optims.def"
#undef SIM_OPTIM

static const sim_optim_row *const rows[] = {
#define SIM_OPTIM(name) &sim_optim_##name,
#include "optims.def"
#undef SIM_OPTIM
};

#define SIM_OPTIM(name) "|" #name
static const char names[] =
#include "optims.def"
    ;
#undef SIM_OPTIM

/* Values of optimizer.scale, in the order of the names. */
enum { LR_SCALE_NONE, LR_SCALE_LINEAR, LR_SCALE_SQRT };
#define LR_SCALES "none|linear|sqrt"

#define ROW(key, type_, field, lo, hi, fallback_, choices_, help_)                       \
    {                                                                                    \
        .name = key, .type = type_, .offset = offsetof(sim_optimizer_options, field),    \
        .min = lo, .max = hi, .fallback = fallback_, .choices = choices_, .unit = "",    \
        .help = help_, .kind = SIM_IDENTITY                                              \
    }

static const sim_option option_rows[] = {
    ROW("name", SIM_OPTION_ENUM, name, 0, 0, "sgd", names + 1, "optimizer"),
    ROW("lr", SIM_OPTION_REAL, lr, 0, 1e4, "0.1", NULL, "learning rate, before scaling"),
    ROW("encoder_lr_factor", SIM_OPTION_REAL, encoder_lr_factor, 0, 1e4, "1", NULL,
        "factor on the learning rate of the encoder, for fine-tuning; heads keep lr"),
    ROW("momentum", SIM_OPTION_REAL, momentum, 0, 0.99999, "0.9", NULL,
        "momentum factor (sgd, lars)"),
    ROW("nesterov", SIM_OPTION_BOOL, nesterov, 0, 0, "false", NULL,
        "use Nesterov momentum"),
    ROW("weight_decay", SIM_OPTION_REAL, weight_decay, 0, 10, "1e-4", NULL,
        "weight decay coefficient"),
    ROW("decay_bn_bias", SIM_OPTION_BOOL, decay_bn_bias, 0, 0, "false", NULL,
        "decay (and, with lars, adapt) batch-norm weights and biases too"),
    ROW("scale", SIM_OPTION_ENUM, scale, 0, 0, "none", LR_SCALES,
        "scale the learning rate: linear by batch/256, sqrt by sqrt(batch)"),
    ROW("dialect", SIM_OPTION_ENUM, dialect, 0, 0, "simclr", OPTIM_DIALECTS,
        "form of the LARS update"),
    ROW("trust", SIM_OPTION_REAL, trust, 0, 10, "0.001", NULL, "LARS trust coefficient"),
    ROW("clip_lr", SIM_OPTION_BOOL, clip_lr, 0, 0, "false", NULL,
        "LARS: use min(trust ratio / learning rate, 1) as the trust ratio"),
    ROW("beta1", SIM_OPTION_REAL, beta1, 0, 0.99999, "0.9", NULL,
        "AdamW: decay rate of the first moment"),
    ROW("beta2", SIM_OPTION_REAL, beta2, 0, 0.9999999, "0.999", NULL,
        "AdamW: decay rate of the second moment"),
    /* Without eps, a weight whose gradient was always 0 would become 0 / 0. */
    ROW("eps", SIM_OPTION_REAL, eps, 1e-30, 1, "1e-8", NULL,
        "AdamW: added to the denominator"),
};

const sim_option_table sim_optimizer_table = {
    .section = "optimizer",
    .rows = option_rows,
    .n_rows = sizeof option_rows / sizeof option_rows[0],
    .struct_bytes = sizeof(sim_optimizer_options)};

struct sim_optimizer {
    sim_optimizer_options options;
    const sim_optim_row *row;
    sim_parameter *list;
    size_t n;
    size_t total;  /* floats per array of state */
    float *arrays; /* [row's n_arrays][total], by the parameters' order */
    int64_t updates;
    char about[160];
};

sim_status sim_optimizer_create(const sim_optimizer_options *options,
                                const sim_parameter *parameters, size_t n,
                                sim_optimizer **out)
{
    sim_status st = SIM_OK;
    sim_optimizer *o = NULL;

    SIM_TRY(sim_new(&o, "optim/optimizer"));
    o->options = *options;
    o->row = rows[options->name];
    SIM_TRY(sim_alloc(&o->list, n, "optim/optimizer"));
    memcpy(o->list, parameters, n * sizeof *parameters);
    o->n = n;
    for (size_t i = 0; i < n; i++)
        o->total += parameters[i].count;
    SIM_TRY(sim_alloc(&o->arrays, (size_t)o->row->n_arrays * o->total, "optim/state"));
    o->row->about(options, o->about, sizeof o->about);
    *out = o;
    o = NULL;
done:
    sim_optimizer_destroy(&o);
    return st;
}

void sim_optimizer_destroy(sim_optimizer **o)
{
    if (!*o)
        return;
    sim_free((*o)->list);
    sim_free((*o)->arrays);
    sim_free(*o);
    *o = NULL;
}

void sim_optimizer_step(sim_optimizer *o, double lr, const float *grads)
{
    const double encoder_lr = lr * o->options.encoder_lr_factor;
    size_t at = 0;
    for (size_t i = 0; i < o->n; i++) {
        const sim_parameter *p = &o->list[i];
        float *v = o->arrays + at;
        const tensor_update u = {.options = &o->options,
                                 .p = p,
                                 .g = grads + p->offset,
                                 .v = v,
                                 .second = o->row->n_arrays > 1 ? v + o->total : NULL,
                                 .lr = strcmp(p->group, "encoder") == 0 ? encoder_lr : lr,
                                 .updates = o->updates};
        o->row->update(&u);
        at += p->count;
    }
    o->updates++;
}

static sim_status visit_array(const sim_optimizer *o, const sim_visitor *visitor,
                              const char *array, double least, float *v)
{
    sim_status st = SIM_OK;
    char group[96];

    for (size_t i = 0; i < o->n; i++) {
        const sim_parameter *p = &o->list[i];
        sim_tensor t = {.name = p->name,
                        .type = SIM_F32,
                        .n_dims = p->n_dims,
                        .data = v,
                        .bounded = true,
                        .least = least,
                        .most = FLT_MAX};
        memcpy(t.dims, p->dims, sizeof t.dims);
        (void)snprintf(group, sizeof group, "optimizer/%s/%s", array, p->group);
        SIM_TRY(sim_visit(visitor, group, &t));
        v += p->count;
    }
done:
    return st;
}

sim_status sim_optimizer_visit(sim_optimizer *o, const sim_visitor *visitor)
{
    static const struct {
        const char *name;
        double least; /* second moments are means of squares */
    } arrays[OPTIM_MAX_ARRAYS] = {{"momentum", -FLT_MAX}, {"second", 0}};
    sim_status st = SIM_OK;

    SIM_TRY(sim_visit_count(visitor, "optimizer", "updates", SIM_MAX_COUNT, &o->updates));
    for (int k = 0; k < o->row->n_arrays && k < OPTIM_MAX_ARRAYS; k++)
        SIM_TRY(visit_array(o, visitor, arrays[k].name, arrays[k].least,
                            o->arrays + (size_t)k * o->total));
done:
    return st;
}

bool sim_optimizer_adaptive(const sim_optimizer_options *options)
{
    return rows[options->name]->adaptive;
}

size_t sim_optimizer_bytes(const sim_optimizer_options *options, size_t n_floats)
{
    return (size_t)rows[options->name]->n_arrays * n_floats * sizeof(float);
}

int64_t sim_optimizer_updates(const sim_optimizer *o)
{
    return o->updates;
}

const char *sim_optimizer_about(const sim_optimizer *o)
{
    return o->about;
}

double sim_learning_rate(const sim_optimizer_options *o, size_t batch)
{
    if (o->scale == LR_SCALE_LINEAR)
        return o->lr * (double)batch / 256;
    return o->scale == LR_SCALE_SQRT ? o->lr * sqrt((double)batch) : o->lr;
}
