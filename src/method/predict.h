/*
 * predict.h - what CPC compares: W_k c of a context with the features k rows below.
 *
 * A grid of contexts c and of targets z per image; step k = 1 .. S has its own linear map W_k
 * and predicts the target at (y + k + skip, x) from the context at (y, x), against the other
 * targets of the global batch.  The loss is the mean over steps of the mean over positions
 * and images.
 */
#ifndef SIMILE_METHOD_PREDICT_H
#define SIMILE_METHOD_PREDICT_H

#include "simile/method.h"

enum { MOST_STEPS = 12 };

typedef struct {
    const sim_comm *comm;
    sim_batch_shape images; /* views 1 */
    size_t grid, d, steps, skip;
    size_t n_negatives; /* drawn for an anchor; 0: all targets of the step */
    uint32_t seed;
} predict_spec;

typedef struct predict predict;

/*
 * Fills the targets that step k (from 0) draws for this rank's anchors, [image][row][x][m],
 * rows being those that have a target: flat indices into the batch's [image][grid][grid].
 */
typedef void predict_draw(void *ctx, size_t k, int32_t *out);

/*
 * Such draws for images that stand from `samples` on in their epoch: uniform over all of the
 * batch but the anchor's own target, a matter of the image's place, the step and the anchor.
 */
void sim_predict_draw_others(const predict_spec *spec, uint32_t epoch, int64_t samples,
                             size_t k, int32_t *out);

/* Fails: SIM_E_CONFIG when a step's targets lie below the grid.  Keeps: comm. */
SIM_MUST_USE sim_status sim_predict_create(const predict_spec *spec, predict **out);
void sim_predict_destroy(predict **p);
/* Adds what create takes to the rows of a plan. */
SIM_MUST_USE sim_status sim_predict_plan(const predict_spec *spec, sim_plan_row rows[32],
                                         size_t *n_rows);
/* Fails: SIM_E_CONFIG naming the key. */
SIM_MUST_USE sim_status sim_predict_check(const predict_spec *spec);

/* Rows of an image that step k (from 0) has anchors in. */
size_t sim_predict_rows(const predict_spec *spec, size_t k);
/* W_1 ... W_S, "0.weight" ... : linear without bias, torch's order [out][in]. */
sim_net *sim_predict_net(const predict *p, size_t k);
size_t sim_predict_parameters(const predict *p);
void sim_predict_updated(predict *p);

typedef struct {
    double temperature;
    bool decoupled; /* leave the positive out of the denominator */
    predict_draw *draw;
    void *draw_ctx;
} predict_options;

/*
 *   c, z    [images][grid][grid][d] contexts and targets of this rank, of any length
 *   dc, dz  their gradients, overwritten
 *   grads   [nodes][stride] of the nets, one after the other
 * Collective.
 */
void sim_predict_run(predict *p, const predict_options *options, const float *c,
                     const float *z, float *dc, float *dz, float *grads, size_t stride,
                     sim_loss_report *report);

#endif
