/*
 * predict.h - the predictions of CPC: W_k c of a context against the features k rows below.
 *
 * Each image has a grid of contexts c and of targets z. Step k = 1 to S has its own linear map
 * W_k and predicts the target at (y + k + skip, x) from the context at (y, x); the negatives are
 * other targets of the global batch. The loss is the mean over steps of the mean over positions
 * and images.
 */
#ifndef SIMILE_METHOD_PREDICT_H
#define SIMILE_METHOD_PREDICT_H

#include "simile/method.h"

enum { MAX_STEPS = 12 };

typedef struct {
    const sim_comm *comm;
    sim_batch_shape images; /* one view */
    size_t grid, d, steps, skip;
    size_t n_negatives; /* drawn per anchor; 0: all other targets of the step */
    uint32_t seed;
    sim_gather gather; /* unless negatives are drawn */
} predict_spec;

typedef struct predict predict;

/*
 * Fills the negatives of this rank's anchors at step k (counted from 0):
 *
 *   out  [local images][rows][grid][n_negatives], the rows that have a target; flat indices
 *        into [batch][grid][grid]
 */
typedef void predict_draw(void *ctx, size_t k, int32_t *out);

/*
 * Draws negatives uniformly from all targets of the batch except the anchor's own. A pure
 * function of the position of the image in its epoch, which starts at `samples`, of the step and
 * of the anchor.
 */
void sim_predict_draw_others(const predict_spec *spec, uint32_t epoch, int64_t samples,
                             size_t k, int32_t *out);

/* Borrows spec->comm until it is destroyed. Errors: SIM_E_CONFIG if the targets of a step are
 * below the grid. */
SIM_MUST_USE sim_status sim_predict_create(const predict_spec *spec, predict **out);
void sim_predict_destroy(predict **p);
/* Adds the memory of an object to the rows of a plan. */
SIM_MUST_USE sim_status sim_predict_plan(const predict_spec *spec, sim_partition p,
                                         sim_plan_row rows[32], size_t *n_rows);
/* Errors: SIM_E_CONFIG; the message names the key. */
SIM_MUST_USE sim_status sim_predict_check(const predict_spec *spec);

/* Number of rows of an image that contain anchors of step k (counted from 0). */
size_t sim_predict_rows(const predict_spec *spec, size_t k);
/* The network of W_(k+1): linear without bias, "0.weight" [out][in] as in PyTorch. */
sim_net *sim_predict_net(const predict *p, size_t k);
size_t sim_predict_parameters(const predict *p);

typedef struct {
    double temperature;
    bool decoupled; /* the denominator excludes the positive */
    predict_draw *draw;
    void *draw_ctx;
} predict_options;

/*
 * Loss and gradients of all steps.
 *
 *   c, z    [local images][grid][grid][d], contexts and targets, not normalized
 *   dc, dz  their gradients, overwritten
 *   grads   [nodes][stride], gradients of W_1 to W_S, one after the other
 *
 * Collective.
 */
void sim_predict_run(predict *p, const predict_options *options, const float *c,
                     const float *z, float *dc, float *dz, float *grads, size_t stride,
                     sim_loss_report *report);

#endif
