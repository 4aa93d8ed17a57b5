/*
 * eval.h - evaluation of an encoder: embeddings and kNN, in parallel over ranks.
 *
 * Module: eval
 * Images are divided over ranks in units of 32; results have the same bits on any number of ranks.
 */
#ifndef SIMILE_EVAL_H
#define SIMILE_EVAL_H

#include "simile/checkpoint.h"
#include "simile/comm.h"
#include "simile/data.h"
#include "simile/encoder.h"
#include "simile/json.h"
#include "simile/model.h"
#include "simile/observe.h"
#include "simile/train.h"

/* Backbone and projector with the preprocessing of evaluation. */
typedef struct {
    sim_net *backbone; /* owned */
    /* Owned; the classifier if it was requested; NULL: neither was, or there is none. */
    sim_net *projector;
    sim_patches cut; /* of an image; its features are the mean over patches */
    sim_preprocessing preprocessing;
} sim_embedder;

/*
 * The preprocessing of a checkpoint. Versions before 0.2.0 did not store it: it is then that of
 * the training set, which is one of the `given` data sets (NULL entries are skipped) or the
 * file that the job names. Local.
 * Errors: SIM_E_DATA if none of these has the fingerprint of the checkpoint.
 */
SIM_MUST_USE sim_status sim_preprocessing_open(const sim_checkpoint *k,
                                               const sim_job *job,
                                               const sim_dataset *const *given,
                                               size_t n_given, sim_preprocessing *out);

/* Which networks an embedder opens, as bits. */
enum {
    SIM_EMBED_BACKBONE = 0,
    SIM_EMBED_PROJECTOR = 1, /* also the projector, if there is one */
    SIM_EMBED_MOMENTUM = 2,  /* of the momentum encoder */
    SIM_EMBED_CLASSIFIER = 4 /* the classifier in the place of the projector */
};

/* Creates the networks of the checkpoint's job and loads their weights. Local.
 *   nets  SIM_EMBED_...
 * Errors: as sim_model_open. */
SIM_MUST_USE sim_status sim_embedder_open(const sim_checkpoint *k, const sim_job *job,
                                          const sim_preprocessing *p, unsigned nets,
                                          sim_embedder *out);
void sim_embedder_close(sim_embedder *e);

/*
 * The same as sim_embed for images in memory.
 *   images       [n_images], at most SIM_EMBED_IMAGES, of any size; channels as the model
 *   features     [n_images][dim], overwritten
 *   projections  [n_images][projector dim], overwritten; NULL: not computed
 * Local.
 */
enum { SIM_EMBED_IMAGES = 256 };
SIM_MUST_USE sim_status sim_embed_images(const sim_embedder *e, size_t n_images,
                                         const sim_image *images, float *features,
                                         float *projections);

/*
 * Features [this rank's images][dim] of a data set (units of 32 images, sim_tree_part over
 * ceil(n / 32)); also projections if the embedder has a projector and `projections` is not
 * NULL.  The caller frees the arrays.  Images are prefetched; memory other than the result does
 * not depend on n.  Collective; the status is equal on all ranks.
 * The caller has checked the data set by sim_preprocessing_check.
 */
SIM_MUST_USE sim_status sim_embed(const sim_comm *c, const sim_embedder *e,
                                  const sim_dataset *d, int loader_threads,
                                  float **features, float **projections);
/* Which images are embedded, and how. */
typedef struct {
    size_t n_images;            /* evenly spaced (sim_sample_image); 0: all */
    const sim_augment *augment; /* NULL: without augmentation */
    uint32_t seed, view;        /* that view of epoch 0 of a training with this seed */
} sim_embed_choice;
/* Image of row i of a sample of n_images of n. */
static inline size_t sim_sample_image(size_t n, size_t n_images, size_t i)
{
    return i * n / n_images;
}
/* sim_embed of the chosen images; rows of sim_embed_local of their number. */
SIM_MUST_USE sim_status sim_embed_chosen(const sim_comm *c, const sim_embedder *e,
                                         const sim_dataset *d,
                                         const sim_embed_choice *choice,
                                         int loader_threads, float **features,
                                         float **projections);
/* Bytes that sim_embed allocates in addition to the result, scratch and evaluators, without
 * projections; dim: of features. */
size_t sim_embed_bytes(const sim_patches *cut, size_t dim, int loader_threads);
/* The local range of n images. */
sim_range sim_embed_local(sim_partition p, size_t n);

/* Images of all ranks: the features of the local ones, the labels of all. */
typedef struct {
    size_t n;
    const float *features; /* [local images of sim_embed_local][dim] */
    const int32_t *labels; /* [n] classes, 0 to n_classes - 1 */
} sim_labelled_features;

/* ---- nearest neighbours ---- */

/* A row of a bank, and its cosine with a query. */
typedef struct {
    float similarity;
    uint32_t index;
} sim_neighbour;

/* Rows of a bank and of queries, sharded as by sim_embed_local; borrowed. */
typedef struct {
    size_t dim, n_bank, n_queries; /* rows of all ranks */
    const float *bank, *queries;   /* [local rows][dim] */
} sim_feature_sets;

/*
 * The k most similar rows of a bank for each query: similarity descending, then bank index ascending.
 * No rank holds the bank.
 *   k    at most n_bank
 *   out  [local queries][k]; the caller frees it
 * The same bits on any number of ranks.  Collective.
 */
SIM_MUST_USE sim_status sim_neighbours(const sim_comm *c, const sim_feature_sets *sets,
                                       size_t k, sim_neighbour **out);

/*
 * A picture of 12 evenly spaced rows, one below the other: the image, then its 8 nearest neighbours among all
 * n >= 2 rows.
 *   features    [n][dim]
 *   thumbnails  [n][t->bytes]
 *   png         the file of *out; the caller frees it
 * Local.
 */
SIM_MUST_USE sim_status sim_neighbours_draw(size_t n, size_t dim, const float *features,
                                            const sim_thumbnails *t,
                                            const uint8_t *thumbnails, uint8_t **png,
                                            sim_picture *out);

/* Row `first` of the queries and row `second` of the bank. */
typedef struct {
    uint32_t first, second;
    float similarity;
} sim_similar_pair;

/*
 * All pairs of a query and a row of the bank whose cosine is at least `threshold`; with `within`, of queries
 * that are the bank, pairs with first < second.  Rank 0 receives them in *out by similarity descending, then by
 * indices; the caller frees it.  *n_pairs is their number on all ranks.  The same bits on any number of ranks.
 * Collective.
 *   most  Errors: SIM_E_DATA if there are more pairs
 */
SIM_MUST_USE sim_status sim_similar_pairs(const sim_comm *c, const sim_feature_sets *sets,
                                          bool within, double threshold, size_t most,
                                          sim_similar_pair **out, size_t *n_pairs);

typedef struct {
    int64_t k;          /* neighbours; at most the number of training images is used */
    double temperature; /* T in the weights exp(similarity / T) */
} sim_knn_options;

typedef struct {
    double top1, top5; /* fractions of the test images */
    int64_t k, n_train, n_test, dim, classes;
} sim_knn_result;

/*
 * Weighted kNN: bank rows and queries are sharded; bank shards stream past in global order in
 * tiles of constant size, so that no rank holds the bank.  Neighbours: similarity descending, then
 * bank index ascending; class weights added in double in that order; ties go to the lower class.
 * One search serves all n_options >= 1 options; out [n_options].
 * Collective.
 * Source: Wu et al. 2018, arXiv 1805.01978.
 */
SIM_MUST_USE sim_status sim_knn(const sim_comm *c, const sim_knn_options *options,
                                size_t n_options, size_t dim, size_t n_classes,
                                const sim_labelled_features *train,
                                const sim_labelled_features *test, sim_knn_result *out);

/* Bytes that sim_knn allocates on the rank, in addition to its operands. */
size_t sim_knn_bytes(sim_partition p, const sim_knn_options *options, size_t n_options,
                     size_t dim, size_t n_train, size_t n_test);

/* ---- accuracy of a classifier ---- */

/* Largest number of classes whose confusion matrix is counted. */
enum { SIM_CONFUSION_CLASSES = 1000 };

typedef struct {
    double top1, top5; /* fractions of the test images */
    int64_t n_test, classes, n_top1, n_top5;
    int64_t *images,
        *correct;       /* [classes] test images, those classified correctly; owned */
    int64_t *confusion; /* [true class][predicted class]; NULL for more classes; owned */
} sim_class_counts;
void sim_class_counts_clear(sim_class_counts *r);

/* ---- linear classifier ---- */

typedef struct {
    double l2;  /* 0: chosen on held-out training images */
    bool quiet; /* does not log the values that are tried */
} sim_linear_options;

typedef struct {
    sim_class_counts counts;
    double l2, loss;      /* of the fit to all training images; loss: with the penalty */
    double held_out_top1; /* at this l2; -1 if it was given, or nothing was held out */
    int64_t n_train, dim, iterations;
} sim_linear_result;
void sim_linear_result_clear(sim_linear_result *r);

/*
 * Fits a linear classifier W f + b to the features f of the training set, by minimizing
 *   1/n sum_i CE(W f_i + b, y_i) + l2/2 |W|^2,
 * and classifies the test set.  scikit-learn's LogisticRegression has the same minimum at
 * C = 1 / (n l2).  Each value of a grid of l2 is fitted to four fifths of every class and the rest
 * is classified; then all images are fitted at the best value.  Equal logits go to the lower class;
 * classes without training images are never predicted.  The same bits on any number of ranks.
 * Collective.
 * Errors: SIM_E_DATA (training images of one class only, features that are not finite).
 */
SIM_MUST_USE sim_status sim_linear(const sim_comm *c, const sim_linear_options *options,
                                   size_t dim, size_t n_classes,
                                   const sim_labelled_features *train,
                                   const sim_labelled_features *test,
                                   sim_linear_result *out);
/* Bytes that sim_linear allocates on this rank, in addition to its operands. */
size_t sim_linear_bytes(const sim_comm *c, size_t dim, size_t n_classes, size_t n_train);

/* ---- quality without labels ---- */

enum { SIM_SIMILARITY_BINS = 40 }; /* of [-1, 1] */
/* Cosine similarities of pairs. */
typedef struct {
    double mean, std;
    int64_t n, histogram[SIM_SIMILARITY_BINS];
} sim_similarities;

typedef struct {
    double rankme, uniformity, alignment;  /* alignment: 0 without views */
    sim_similarities negatives, positives; /* positives.n is 0 without views */
    int64_t n_images, dim;
} sim_quality_result;

/*
 * Measures of features [local images of sim_embed_local][dim] of n images.  z are the rows divided
 * by their lengths.
 *   rankme      exp of the entropy of the singular values of the rows, divided by their sum, plus
 *               1e-7 (Garrido et al. 2023, arXiv 2210.02885): the effective rank, up to dim
 *   uniformity  log mean exp(-2 |z_i - z_j|^2) over pairs of images (Wang and Isola 2020, arXiv
 *               2005.10242)
 *   alignment   mean |z_i - z_i'|^2 over two views of each image (the same)
 *   view1, view2  features of two augmented views, or NULL
 * The same bits on any number of ranks.  Collective.
 * Errors: SIM_E_DATA if features are not finite.
 */
SIM_MUST_USE sim_status sim_quality(const sim_comm *c, size_t n, size_t dim,
                                    const float *features, const float *view1,
                                    const float *view2, sim_quality_result *out);

/* ---- maps ---- */

/*
 * Coordinates [n][2] of n rows of features [n][dim]: scores of the first two principal components, whose
 * entries of largest magnitude are positive; t-SNE with this perplexity (at most (n - 1) / 3), exact and
 * without random numbers, which takes n^2 doubles and time in proportion to n^2.  The same bits on any number
 * of threads.  Local.
 * Sources: van der Maaten and Hinton 2008, JMLR 9; Kobak and Berens 2019, Nature Communications 10:5416
 * (start, learning rate).
 */
SIM_MUST_USE sim_status sim_map_pca(size_t n, size_t dim, const float *features,
                                    double *out);
SIM_MUST_USE sim_status sim_map_tsne(size_t n, size_t dim, const float *features,
                                     double perplexity, double *out);

/* Clusters, 0 to k - 1, of n rows by k-means (Lloyd), which starts from row 0 and each time the row that is
 * farthest from the centres so far.  out [n].  Local. */
SIM_MUST_USE sim_status sim_map_clusters(size_t n, size_t dim, const float *features,
                                         size_t k, int32_t *out);

/* ---- sets of labelled images ---- */

/*
 * Features and labels in an HDF5 file: /features [n][dim] of any floating-point type, optionally
 * /labels [n], integers from 0, and /classes, their names.  Local.
 */
typedef struct sim_feature_file sim_feature_file;
SIM_MUST_USE sim_status sim_feature_file_open(const char *path, sim_feature_file **out);
void sim_feature_file_close(sim_feature_file **f);
size_t sim_feature_file_dim(const sim_feature_file *f);
/* out [rows][dim].  Errors: SIM_E_DATA, also for values that are not finite. */
SIM_MUST_USE sim_status sim_feature_file_read(const sim_feature_file *f, sim_range rows,
                                              float *out);

/* Either images of a data set, or features of a file; borrowed. */
typedef struct {
    const char *path; /* for messages */
    size_t n, n_classes;
    const int32_t *labels; /* [n], or NULL */
    const sim_dataset *data;
    const sim_feature_file *file;
} sim_labelled_set;
sim_labelled_set sim_labelled_set_of(const sim_dataset *d);
sim_labelled_set sim_labelled_set_of_file(const sim_feature_file *f);
/* Name of a class, or NULL. */
const char *sim_labelled_set_class(const sim_labelled_set *s, size_t k);

/* ---- classes ---- */

/* The labels of a test set in the class numbers of a training set. */
typedef struct {
    int32_t *labels; /* [test images], owned */
    int32_t
        *class_of_test; /* [classes of the test set] the same for its classes, owned */
    size_t n_classes;   /* of the training set, then those that only the test set has */
} sim_class_match;
/*
 * Matches the classes of two sets with labels: by name if both have names, otherwise by
 * number. Warns of classes that the training set lacks, of different numbers of classes without
 * names, of sets whose images are of one class or have one class in common, and of images that
 * are in both sets. Local.
 * Errors: SIM_E_DATA (no class in common).
 */
SIM_MUST_USE sim_status sim_classes_match(const sim_labelled_set *train,
                                          const sim_labelled_set *test,
                                          sim_class_match *out);
void sim_class_match_clear(sim_class_match *m);
/* Name of class k < m->n_classes; of a class without a name the number, written to `number`. */
enum { SIM_CLASS_NUMBER_BYTES = 24 };
const char *sim_class_match_name(const sim_class_match *m, const sim_labelled_set *train,
                                 const sim_labelled_set *test, size_t k,
                                 char number[SIM_CLASS_NUMBER_BYTES]);

/* ---- the table of evaluations ---- */

/* Section `evaluate` of a job: evaluations during training, every so many epochs (0: off), and the
 * defaults of `simile evaluate`. */
typedef struct {
    int64_t knn_every_epochs, linear_every_epochs, quality_every_epochs,
        classifier_every_epochs, neighbours_every_epochs;
    sim_knn_options knn;
    int64_t knn_images; /* of the training set during training; 0: all */
    sim_linear_options linear;
    int64_t quality_images;
} sim_evaluate_options;
extern const sim_option_table sim_evaluate_table;

/* Two sets with labels whose classes are matched, and an encoder.  Borrowed; equal on all ranks. */
typedef struct {
    const sim_embedder *embedder; /* NULL if both sets are files */
    bool projections;             /* evaluate the outputs of embedder->projector */
    const sim_job *job;           /* of the run; NULL for files */
    sim_labelled_set train, test;
    const sim_class_match *match; /* as `train` not used by SIM_EVALUATES_IMAGES */
    int loader_threads;
} sim_evaluation_inputs;

/* Bytes that sim_quality allocates, in addition to its operands. */
size_t sim_quality_bytes(size_t n, size_t dim);

/* Floats per image of what is evaluated. */
size_t sim_evaluation_dim(const sim_evaluation_inputs *in);
/* Embeds images of a set, or reads their features; `choice` NULL: all images, not augmented.  A file
 * has no augmented views.  The caller frees *out [local rows of sim_embed_local][dim].  Collective;
 * the status is equal on all ranks. */
SIM_MUST_USE sim_status sim_evaluation_features(const sim_comm *c,
                                                const sim_evaluation_inputs *in,
                                                const sim_labelled_set *set,
                                                const sim_embed_choice *choice,
                                                float **out);

/* What an evaluation uses: a training and a test set, both with labels; or one set. */
typedef enum { SIM_EVALUATES_CLASSES, SIM_EVALUATES_IMAGES } sim_evaluation_needs;

/* A row of evaluations.def. */
typedef struct {
    const char *name;    /* of the command, and the protocol of its results */
    const char *summary; /* for --help */
    sim_evaluation_needs needs;
    bool classifier; /* needs the classifier of the run, as embedder->projector */
    /* Options of the command; their struct fits in a sim_option_storage. */
    sim_option_table options;
    /* Replaces the defaults of the options by those of the run's job; NULL: there are none. */
    void (*take_defaults)(const sim_evaluate_options *job, void *options);
    /*
     * Adds the result to an empty `result` and writes it as lines for a person to *text, which the
     * caller frees.  Collective; the status is equal on all ranks.
     */
    sim_status (*run)(const sim_comm *c, const void *options,
                      const sim_evaluation_inputs *in, sim_json *result, char **text);
} sim_evaluation;

size_t sim_evaluations_count(void);
const sim_evaluation *sim_evaluations_at(size_t i);
/* NULL if there is none of that name. */
const sim_evaluation *sim_evaluations_find(const char *name);

/* ---- evaluations during training ---- */

/*
 * The evaluations that a job requests during training: rows of online.def.  They do not change the
 * training, and their results equal those of `simile evaluate` on a checkpoint of the same step.
 */
typedef struct sim_online_eval sim_online_eval;

/*
 * Opens the test set and matches its classes.  *out stays NULL if all evaluations are off.  Local.
 * Errors: SIM_E_CONFIG naming the key if data.test is not set or a set has no labels; SIM_E_DATA if
 * the numbers of channels differ; those of sim_dataset_open.
 */
SIM_MUST_USE sim_status sim_online_eval_create(const sim_job *job,
                                               const sim_evaluate_options *options,
                                               sim_online_eval **out);
/* The checks of sim_online_eval_create on data sets that are open; test NULL: data.test is not set.
 * Local. */
SIM_MUST_USE sim_status sim_online_eval_check(const sim_job *job,
                                              const sim_evaluate_options *options,
                                              const sim_dataset *train,
                                              const sim_dataset *test);
void sim_online_eval_destroy(sim_online_eval **w);
/* Collective. Compares the test set with that of rank 0, as sim_job_compare_data. */
SIM_MUST_USE sim_status sim_online_eval_compare(const sim_comm *c,
                                                const sim_online_eval *w);
/* Bytes of a rank for the memory plan: held all the time, and the transient peak of an evaluation in
 * addition.  *workspace is raised to the workspace of the kernels that they need. */
SIM_MUST_USE sim_status sim_online_eval_plan(const sim_online_eval *w,
                                             sim_partition partition, size_t *held,
                                             size_t *peak, sim_workspace_size *workspace);
/* Evaluates at the ends of epochs and publishes the results. */
sim_train_callback sim_online_eval_callback(sim_online_eval *w);

#endif
