/*
 * online.h - an evaluation during training: a row of online.def.
 */
#ifndef SIMILE_EVAL_ONLINE_H
#define SIMILE_EVAL_ONLINE_H

#include "simile/eval.h"

/* What is evaluated after a step.  Features are computed at the first request and shared by the
 * evaluations of the step. */
typedef struct {
    const sim_comm *comm;
    const sim_evaluate_options *options;
    sim_evaluation_inputs in; /* with the networks in training */
    size_t n_train;        /* images of the training set that `train` has; 0: none yet */
    float *train, *test;   /* features, or NULL; owned */
    int32_t *train_labels; /* [n_train], owned */
    uint8_t *png;          /* of `picture`, which an evaluation has drawn; owned */
    sim_picture picture;
} online_step;

/* Features and labels of n_train images of the training set, evenly spaced (0: all), and of the test
 * set; borrowed until the next call.  Collective; the status is equal on all ranks. */
SIM_MUST_USE sim_status sim_online_eval_features(online_step *s, size_t n_train,
                                                 sim_labelled_features *train,
                                                 sim_labelled_features *test);

/* Features of the test set alone; the same conditions. */
SIM_MUST_USE sim_status sim_online_eval_test_features(online_step *s, const float **test);

/* Sizes for a memory plan. */
typedef struct {
    const sim_evaluate_options *options;
    sim_partition partition;
    size_t dim, n_train, n_test, n_classes;
    size_t embedding; /* bytes while images are embedded, in addition to the features */
} online_sizes;

/* Labels that an evaluation needs: of both sets, of the test set, or none. */
typedef enum { ONLINE_BOTH_LABELS, ONLINE_TEST_LABELS, ONLINE_NO_LABELS } online_labels;

static inline size_t larger_of(size_t a, size_t b)
{
    return a > b ? a : b;
}

typedef struct {
    const char *name; /* protocol of its records */
    const char *key;  /* of `evaluate`, that sets every how many epochs */
    online_labels labels;
    bool draws;      /* a picture */
    bool classifier; /* only if the method has a classifier and data.test is set */
    int64_t (*every_epochs)(const sim_evaluate_options *o); /* 0: off */
    /* Transient peak on a rank, without the features that evaluations share. */
    size_t (*bytes)(const online_sizes *s);
    /* Adds the results as scalars, and writes them as text to record->text.  Collective; the status is
     * equal on all ranks. */
    sim_status (*run)(online_step *s, sim_record *record);
} sim_online_eval_row;

#define SIM_ONLINE(name) extern const sim_online_eval_row sim_online_##name;
#include "online.def"
#undef SIM_ONLINE

#endif
