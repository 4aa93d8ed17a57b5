/*
 * neighbours.h - the arguments of `simile neighbours`, the two sets that are compared, and the result.
 */
#ifndef SIMILE_CLI_NEIGHBOURS_H
#define SIMILE_CLI_NEIGHBOURS_H

#include "cli.h"

enum { MOST_IDS = 4096 };

typedef struct {
    const char *model; /* a run, checkpoint or safetensors file; or a file of features */
    const char *data, *query, *out; /* NULL: not given */
    size_t k;
    double threshold; /* of --duplicates; 0: not given */
    size_t most_pairs;
    bool projections, force;
    int loader_threads;
    char target[PATH_MAX]; /* `out` without symbolic links */
} neighbours_arguments;

/* Images or rows of features. */
typedef struct {
    size_t n;
    const sim_dataset *data; /* for pictures, names and classes; or NULL */
    const sim_feature_file *file;
    const uint32_t *ids;    /* [n] numbers of rows in `data` or `file`; NULL: 0, 1, ... */
    const sim_image *photo; /* of one query; or NULL */
    const char *photo_name;
    size_t name_width;
    const char *names; /* of the images of `data`, padded with zeros; or NULL */
    float *features;   /* [local rows][dim], owned */
} neighbours_set;

typedef struct {
    sim_checkpoint
        *checkpoint; /* this and the next two are empty with a file of features */
    sim_job *job;
    sim_embedder embedder;
    sim_dataset *data, *query_data;
    sim_feature_file *file, *query_file;
    sim_preprocessing preprocessing; /* of pictures */
    sim_image photo;
    uint32_t *ids;
    char *names, *query_names;
    size_t dim;
    neighbours_set bank, queries;
    bool is_same_set; /* the queries are rows of the bank */
} neighbours_inputs;

/* Opens everything and computes the features.  Collective; the status is equal on all ranks.  Close also
 * after a failure. */
SIM_MUST_USE sim_status sim_neighbours_open(const sim_comm *c, neighbours_arguments *a,
                                            neighbours_inputs *in);
void sim_neighbours_close(neighbours_inputs *in);

/* Row i of a set as a number in its file, its name and its class; "" if there is none. */
size_t sim_neighbours_id(const neighbours_set *s, size_t i);
const char *sim_neighbours_name(const neighbours_set *s, size_t i, size_t *length);
const char *sim_neighbours_class(const neighbours_set *s, size_t i, char number[24]);

/* Formats of the output: printed, or by the ending of --out. */
SIM_MUST_USE sim_status sim_neighbours_check_output(neighbours_arguments *a);

/* The result on rank 0.  found [queries][k], k_found of each query are valid. */
SIM_MUST_USE sim_status sim_neighbours_write(const neighbours_arguments *a,
                                             const neighbours_inputs *in,
                                             const sim_neighbour *found, size_t k);
SIM_MUST_USE sim_status sim_neighbours_write_pairs(const neighbours_arguments *a,
                                                   const neighbours_inputs *in,
                                                   const sim_similar_pair *pairs,
                                                   size_t n);

#endif
