/*
 * logistic.h - multinomial logistic regression on features that are sharded over ranks.
 */
#ifndef SIMILE_EVAL_LOGISTIC_H
#define SIMILE_EVAL_LOGISTIC_H

#include "lbfgs.h"

#include "simile/comm.h"

/* The training images.  Outputs are the classes that are fitted. */
typedef struct {
    size_t n_images, dim, n_classes, n_outputs;
    const float *features;          /* [local images of sim_embed_local][dim] */
    const int32_t *labels;          /* [n_images] classes */
    const int32_t *output_of_class; /* [n_classes]; every class with images has one */
} sim_logistic_data;

typedef struct sim_logistic sim_logistic;

/* Copies the features and holds out a fifth of each class.  The data are equal on all ranks but for
 * the features.  Collective. */
SIM_MUST_USE sim_status sim_logistic_create(const sim_comm *c, const sim_logistic_data *d,
                                            sim_logistic **out);
void sim_logistic_destroy(sim_logistic **m);
/* Bytes that sim_logistic_create and a fit allocate on this rank. */
size_t sim_logistic_bytes(const sim_comm *c, size_t n_images, size_t dim,
                          size_t n_outputs);

/* Mean over the features of their variance. */
double sim_logistic_variance(const sim_logistic *m);

/* Fits from the weights of the previous fit; at first they are 0.  Collective. */
typedef enum { SIM_FIT_WITHOUT_HELD_OUT, SIM_FIT_ALL } sim_logistic_images;
void sim_logistic_fit(sim_logistic *m, double l2, sim_logistic_images images,
                      sim_lbfgs_result *out);

/* Number of held-out images, and how many of them are classified correctly.  Collective. */
void sim_logistic_held_out(sim_logistic *m, int64_t *n, int64_t *n_correct);

/* logits [n][outputs] of features [n][dim]; work: [n][dim + 1].  Local. */
void sim_logistic_predict(const sim_logistic *m, size_t n, const float *features,
                          float *work, float *logits);

/* Number of outputs ranked above `target`; of equal logits, the lower output ranks first. */
size_t sim_logistic_rank(size_t n_outputs, const float *logits, size_t target);

#endif
