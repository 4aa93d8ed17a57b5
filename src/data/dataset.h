/*
 * dataset.h - an open data set: one file, or a union of files.
 */
#ifndef SIMILE_DATA_DATASET_H
#define SIMILE_DATA_DATASET_H

#include "simile/data.h"

struct sim_dataset {
    char *path;
    sim_dataset_info about;
    int fd;
    uint64_t bytes_at, n_bytes; /* of /images or /bytes in the file */
    uint64_t *offsets;          /* encoded: [n + 1] into /bytes; otherwise NULL */
    int32_t *labels, *groups;   /* [n] or NULL */
    uint64_t *digests;          /* [n][2]: low, high */
    uint32_t *stored;           /* [n] images of the file; NULL: all of them, in order */
    sim_dataset *
        *parts; /* [n_parts] files of a union, without labels and digests; or NULL */
    size_t n_parts;
    const char *unlabelled; /* why a union of files with labels has none; or NULL */
    char *restriction;      /* of sim_dataset_keep_classes, for the log; or NULL */
    char *class_text;       /* storage of the class names */
    char **class_names;     /* [n_class_names] into class_text */
    size_t n_class_names;
    sim_hash group_hash; /* sim_fingerprint_groups */
    sim_hash class_hash; /* of the stored text of the class names */
    int64_t version;     /* of the format */
};

/* Replaces the names of the classes. */
SIM_MUST_USE sim_status sim_dataset_name_classes(sim_dataset *d, const char *const *names,
                                                 size_t n);
/* Counts the selected images of each file of a union. */
void sim_union_count(sim_dataset *d);
/* The file of a union that contains image *at, which becomes the image of that file. */
const sim_dataset *sim_union_part(const sim_dataset *d, size_t *at);
/* sim_dataset_read_names of all stored images. */
SIM_MUST_USE sim_status sim_union_read_names(const sim_dataset *d, size_t *width,
                                             char **text);

#endif
