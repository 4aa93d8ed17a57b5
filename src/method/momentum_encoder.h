/*
 * momentum_encoder.h - the momentum encoder: backbone and projector whose weights are a moving
 * average of the online encoder's.
 *
 * It has no backward pass.  Its running statistics are those of its own forward passes, or a
 * moving average too.
 */
#ifndef SIMILE_METHOD_MOMENTUM_ENCODER_H
#define SIMILE_METHOD_MOMENTUM_ENCODER_H

#include "online_encoder.h"

enum { MOMENTUM_NETS = SIM_PROJECTOR + 1 }; /* backbone and projector */

typedef struct {
    bool averages_statistics;
    sim_batch_shape shape;
    sim_reducer reducer;
    sim_model model;
    sim_tape *tape[MOMENTUM_NETS];
    float *out[MOMENTUM_NETS]; /* [images][dim] of each network, by block */
    char *statistics;          /* copy of the running statistics of all networks */
} momentum_encoder;

/*
 * Networks of the same shapes and initial weights as those of an online encoder with this env
 * and spec, without its predictor.
 * averages_statistics: running statistics are a moving average, as the weights are, and
 * forward passes do not change them; otherwise they are those of its own forward passes.
 */
SIM_MUST_USE sim_status sim_momentum_encoder_create(const sim_method_env *env,
                                                    const sim_model_spec *spec,
                                                    size_t views,
                                                    bool averages_statistics,
                                                    momentum_encoder **out);
void sim_momentum_encoder_destroy(momentum_encoder **m);
/* Appends the memory that sim_momentum_encoder_create takes. */
SIM_MUST_USE sim_status sim_momentum_encoder_plan(const sim_method_env *env,
                                                  const sim_model_spec *spec,
                                                  size_t views, sim_plan_row rows[32],
                                                  size_t *n_rows);
/* Bytes of its weights and statistics in a checkpoint. */
size_t sim_momentum_encoder_saved_bytes(const sim_method_env *env,
                                        const sim_model_spec *spec);

/* Copies weights and running statistics of the online encoder. */
void sim_momentum_encoder_copy(momentum_encoder *m, const online_encoder *online);
/* weights = factor * weights + (1 - factor) * online weights. */
void sim_momentum_encoder_update(momentum_encoder *m, const online_encoder *online,
                                 double factor);
/* x [local block][view][slot][h][w][c]; fills out[].  Call it after
 * sim_momentum_encoder_update.  Collective. */
void sim_momentum_encoder_forward(momentum_encoder *m, const float *x);

size_t sim_momentum_encoder_nets(const momentum_encoder *m, sim_net *nets[SIM_MAX_NETS],
                                 const char *groups[SIM_MAX_NETS]);
/* Visits weights and statistics under /momentum. */
SIM_MUST_USE sim_status sim_momentum_encoder_visit(momentum_encoder *m,
                                                   const sim_visitor *v);
#endif
