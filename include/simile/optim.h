/*
 * optim.h - optimizers, schedules and the exponential moving average of weights.
 *
 * Module: optim
 * Norms are summed in double, in fixed chunks of 4096 elements that are reduced by a tree. The update
 * is the same on every rank.
 */
#ifndef SIMILE_OPTIM_H
#define SIMILE_OPTIM_H

#include "simile/option.h"
#include "simile/status.h"
#include "simile/tensor.h"

/* Section `optimizer` of a job. */
typedef struct {
    int name; /* index of optims.def */
    double lr, momentum, weight_decay, trust;
    double encoder_lr_factor; /* on the learning rate of the group "encoder" */
    bool nesterov, decay_bn_bias;
    bool clip_lr;             /* of lars */
    int scale;                /* none|linear|sqrt */
    int dialect;              /* simclr|mocov3|bolts|larc|lightly */
    double beta1, beta2, eps; /* of adamw */
} sim_optimizer_options;
extern const sim_option_table sim_optimizer_table;

/* Section `schedule`. */
typedef struct {
    int64_t epochs, steps; /* length of the run; steps 0: by epochs */
    double warmup_epochs;
    int64_t warmup_steps;   /* 0: by warmup_epochs */
    double warmup_start_lr; /* 0: learning rate / steps of warm-up */
    int shape;              /* cosine|constant|steps */
    double min_lr, gamma;
    /* Of shape steps: in epochs, or in steps of a run by steps; none: 60 % and 80 % of the run. */
    sim_option_numbers milestones;
} sim_schedule_options;
extern const sim_option_table sim_schedule_table;

/* A trainable tensor; the optimizer updates `weights` in place. */
typedef struct {
    const char *group; /* "encoder", "projector" */
    const char *name;
    float *weights;
    size_t count;
    int n_dims;
    size_t dims[SIM_MAX_DIMS];
    size_t offset; /* of its gradient in `grads` of sim_optimizer_step */
    bool bn_or_bias;
} sim_parameter;

typedef struct sim_optimizer sim_optimizer;

/* Copies options and the list of parameters; borrows the weights until destroy. */
SIM_MUST_USE sim_status sim_optimizer_create(const sim_optimizer_options *options,
                                             const sim_parameter *parameters, size_t n,
                                             sim_optimizer **out);
void sim_optimizer_destroy(sim_optimizer **o);

/* Updates the weights with learning rate `lr`. SGD and AdamW as in PyTorch, LARS according to its
 * dialect; the formulas are in src/optim/opt_*.c.
 *   grads  one array for all parameters, at their offsets */
void sim_optimizer_step(sim_optimizer *o, double lr, const float *grads);

/* Visits the momentum as /optimizer/momentum/<group>/<name> and the second moment, if any, as
 * /optimizer/second/<group>/<name>. */
SIM_MUST_USE sim_status sim_optimizer_visit(sim_optimizer *o, const sim_visitor *v);
int64_t sim_optimizer_updates(const sim_optimizer *o);   /* done */
const char *sim_optimizer_about(const sim_optimizer *o); /* "sgd, momentum 0.9 ..." */
/* Bytes of state that sim_optimizer_create allocates for n_floats weights. */
size_t sim_optimizer_bytes(const sim_optimizer_options *options, size_t n_floats);

/* Whether each element changes by about the learning rate, independently of the magnitude of its
 * gradient. False for SGD and for LARS, which does not adapt biases and scalars. */
bool sim_optimizer_adaptive(const sim_optimizer_options *options);

/* Base learning rate: options.lr scaled by the batch size (linear: batch/256, sqrt: sqrt(batch)). */
double sim_learning_rate(const sim_optimizer_options *o, size_t batch);

/*
 * Learning rate for update t (from 0) of S = total with the base learning rate `base`, with W =
 * warmup. While t < W it rises linearly from warmup_start_lr at t = 0 to `base` at t = W - 1; without
 * warmup_start_lr it is base (t+1)/W. Then by shape: cosine, min_lr + (base - min_lr)
 * (1 + cos(pi (t-W)/(S-W))) / 2; steps, `base` times gamma for each milestone passed, at least
 * min_lr. t and S may be fractional after a change of the batch size.
 */
double sim_schedule_learning_rate(const sim_schedule_options *s, double base, double t,
                                  double warmup, double total);
/* Refuses options that contradict each other or the base learning rate. */
SIM_MUST_USE sim_status sim_schedule_check(const sim_schedule_options *s, double base);

/*
 * Exponential moving average of weights: average = m average + (1 - m) online, elementwise. It is
 * computed as average + (1 - m)(online - average) in double and rounded to float once, so the
 * result is the same on every instruction set, and equal weights stay equal.
 *
 *   m        in [0, 1]
 *   online   [n]
 *   average  [n], updated; must not overlap online
 */
void sim_momentum_update(size_t n, double m, const float *online, float *average);

/* m of a step: last - (last - first)(1 + cos(pi progress)) / 2, which changes from `first` to `last`.
 * progress: completed fraction of the run, clamped to [0, 1]. */
double sim_momentum_factor(double first, double last, double progress);

/* Euclidean norm of x [n], summed in a fixed order; *bad is set to true if it is not finite. */
double sim_norm_l2(const float *x, size_t n, bool *bad);

#endif
