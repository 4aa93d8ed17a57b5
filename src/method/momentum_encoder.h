/*
 * momentum_encoder.h - the momentum copy of a branch: nets that follow the trained ones slowly.
 *
 * Only goes forward.  Its weights are a moving average of the branch's; its running
 * statistics are its own passes', or an average too.
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
    float *out[MOMENTUM_NETS]; /* [images][dim] of each net, by block */
    char *kept;                /* statistics of all nets, on their way */
} momentum_encoder;

/*
 * Nets equal to those of a branch of the same env and spec, without its predictor.
 * averages_statistics: running statistics follow the branch's as weights do, and passes
 * leave no trace in them; otherwise they are those of the copy's own passes.
 */
SIM_MUST_USE sim_status sim_momentum_encoder_create(const sim_method_env *env,
                                                    const sim_model_spec *spec,
                                                    size_t views,
                                                    bool averages_statistics,
                                                    momentum_encoder **out);
void sim_momentum_encoder_destroy(momentum_encoder **t);
/* Adds what create takes to the rows of a plan. */
SIM_MUST_USE sim_status sim_momentum_encoder_plan(const sim_method_env *env,
                                                  const sim_model_spec *spec,
                                                  size_t views, sim_plan_row rows[32],
                                                  size_t *n_rows);
/* Bytes of its weights and statistics in a checkpoint. */
size_t sim_momentum_encoder_saved_bytes(const sim_method_env *env,
                                        const sim_model_spec *spec);

/* Weights and statistics become the branch's. */
void sim_momentum_encoder_copy(momentum_encoder *t, const online_encoder *b);
/* weights = m weights + (1 - m) the branch's. */
void sim_momentum_encoder_update(momentum_encoder *t, const online_encoder *b, double m);
/* x [local block][view][slot] images; fills out[].  After sim_momentum_encoder_update. */
void sim_momentum_encoder_forward(momentum_encoder *t, const float *x);

size_t sim_momentum_encoder_nets(const momentum_encoder *t, sim_net *nets[SIM_MAX_NETS],
                                 const char *groups[SIM_MAX_NETS]);
/* Visits weights and statistics under /momentum. */
SIM_MUST_USE sim_status sim_momentum_encoder_visit(momentum_encoder *t,
                                                   const sim_visitor *v);
#endif
