/*
 * eval.h - what an encoder is worth: embeddings and kNN, in parallel over ranks.
 *
 * Module: eval
 * Images belong to ranks in units of 32; results have the same bits on any number.
 */
#ifndef SIMILE_EVAL_H
#define SIMILE_EVAL_H

#include "simile/checkpoint.h"
#include "simile/comm.h"
#include "simile/data.h"
#include "simile/encoder.h"
#include "simile/model.h"
#include "simile/train.h"

/* An encoder ready to embed: backbone and projector with their evaluation pipeline. */
typedef struct {
    sim_net *backbone,
        *projector;         /* owned; projector NULL: not wanted, or there is none */
    sim_patches cut;        /* of an image; its features are the patches' mean */
    double mean[3], std[3]; /* of the training set */
    size_t size;            /* of an image; 0: as stored */
} sim_embedder;

/* Builds the nets of the checkpoint's job for images of `about` and loads their weights.
 * Collective. */
SIM_MUST_USE sim_status sim_embedder_open(const sim_checkpoint *k, const sim_job *job,
                                          const sim_dataset_info *about, bool projector,
                                          sim_embedder *out);
void sim_embedder_close(sim_embedder *e);

/*
 * Features [this rank's images][dim] of a data set (units of 32 images, sim_tree_part over
 * ceil(n / 32)); projections too when the embedder has a projector and `projections` is
 * not NULL.  Arrays are the caller's to release.  Loads ahead, memory flat but for the
 * result.  Collective (failures are agreed).
 */
SIM_MUST_USE sim_status sim_embed(const sim_comm *c, const sim_embedder *e,
                                  const sim_dataset *d, int loader_threads,
                                  float **features, float **projections);
/* Bytes that sim_embed takes besides the result, scratch and evaluators, without
 * projections; dim: of features. */
size_t sim_embed_bytes(const sim_patches *cut, size_t dim, int loader_threads);
/* The rank's images of n. */
sim_range sim_embed_local(sim_partition p, size_t n);

typedef struct {
    int64_t k;          /* clipped to the bank */
    double temperature; /* weights exp(similarity / T) */
} sim_knn_options;

/* Images of a bank, or to classify: features of this rank's, labels of all. */
typedef struct {
    size_t n;
    const float *features; /* [mine(n)][dim] */
    const int32_t *labels; /* [n] */
} sim_knn_set;

typedef struct {
    double top1, top5; /* fractions of the test images */
    int64_t k, n_train, n_test, dim, classes;
} sim_knn_result;

/*
 * Weighted kNN (Wu et al. 2018, arXiv 1805.01978; protocol in DESIGN.md section 6): bank
 * rows and queries are sharded; bank shards stream past in global order in tiles of
 * constant size, so that no rank holds the bank.  Neighbours: similarity descending,
 * then bank index ascending; class weights added in double in that order; ties go to the
 * lower class.
 * Collective.
 */
SIM_MUST_USE sim_status sim_knn(const sim_comm *c, const sim_knn_options *options,
                                size_t dim, size_t n_classes, const sim_knn_set *train,
                                const sim_knn_set *test, sim_knn_result *out);

/* Bytes that sim_knn allocates on the rank, in addition to its operands. */
size_t sim_knn_bytes(sim_partition p, const sim_knn_options *options, size_t dim,
                     size_t n_train, size_t n_test);

/* Both sets embedded, then sim_knn; both have labels and images of one shape.
 * Collective. */
SIM_MUST_USE sim_status sim_knn_of(const sim_comm *c, const sim_knn_options *options,
                                   const sim_embedder *e, const sim_dataset *train,
                                   const sim_dataset *test, int loader_threads,
                                   sim_knn_result *out);
/* Fails: SIM_E_DATA naming both when their images differ in shape.  Local. */
SIM_MUST_USE sim_status sim_knn_same_shape(const sim_dataset *a, const sim_dataset *b);

/* ---- kNN while a run trains ---- */

/* Section `evaluate` of a job. */
typedef struct {
    int64_t knn_every_epochs; /* 0: off */
    sim_knn_options knn;
} sim_evaluate_options;
extern const sim_option_table sim_evaluate_table;

/*
 * Opens what the job's kNN needs; what was opened is the caller's, also on failure.
 * Local.  Fails: SIM_E_CONFIG naming the key when data.test is not given or a set has no
 * labels; as sim_dataset_open and sim_knn_same_shape.
 */
SIM_MUST_USE sim_status sim_knn_inputs(const sim_job *job, sim_dataset **train,
                                       sim_dataset **test);

typedef struct sim_knn_watch sim_knn_watch;

/* *out stays NULL when the options say off.  Local.
 * Fails: as sim_knn_inputs. */
SIM_MUST_USE sim_status sim_knn_watch_create(const sim_job *job,
                                             const sim_evaluate_options *options,
                                             sim_knn_watch **out);
void sim_knn_watch_destroy(sim_knn_watch **w);
/* Bytes on a rank before anything is made: what the watch holds after its first
 * evaluation, and what an evaluation takes besides.  0 when off.  *workspace is raised to
 * the kernels' workspace that an evaluation needs. */
SIM_MUST_USE sim_status sim_knn_watch_plan(const sim_job *job,
                                           const sim_evaluate_options *options,
                                           const sim_dataset_info *train,
                                           const sim_dataset_info *test, size_t ranks,
                                           size_t rank, size_t *held, size_t *moment,
                                           sim_workspace_size *workspace);
/* The test set of a watch; NULL when w is. */
const sim_dataset *sim_knn_watch_test(const sim_knn_watch *w);
/* Evaluates at the ends of epochs and publishes the accuracy. */
sim_train_callback sim_knn_watch_callback(sim_knn_watch *w);

#endif
