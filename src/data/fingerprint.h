/*
 * fingerprint.h - the fingerprint of a data set, for its reader and its writer.
 */
#ifndef SIMILE_DATA_FINGERPRINT_H
#define SIMILE_DATA_FINGERPRINT_H

#include "simile/data.h"

/* Newest format_version of a data set, and of its fingerprint.  Version 2 is written where it suffices,
 * for samples of 8 bits without groups, so that a data set keeps its fingerprint. */
enum { DATASET_VERSION = 3 };

typedef struct {
    bool encoded;
    size_t n, h, w, c;            /* images; encoded: 0, 0, 3 */
    sim_type type;                /* of the samples */
    const double *mean, *std;     /* [c] */
    sim_value_range range;        /* zeros: none */
    const sim_value_range *scale; /* [c]; of types other than SIM_U8 */
    sim_hash classes;             /* of the text of /class_names; zeros without it */
    sim_hash groups;              /* sim_fingerprint_groups; zeros without groups */
    const uint64_t *digests;      /* [n][2] */
    const int32_t *labels;        /* [n] or NULL */
} fingerprint_parts;

/* The lowest version that describes such a data set. */
int64_t sim_fingerprint_version(const fingerprint_parts *p);
/*
 * The hash of the groups of the images.
 *
 *   groups   [n]
 *   names    [n_names][width], each padded with zeros; NULL if there are none
 *
 * Errors: SIM_E_IO if memory is exhausted.
 */
SIM_MUST_USE sim_status sim_fingerprint_groups(const int32_t *groups, size_t n,
                                               const char *names, size_t n_names,
                                               size_t width, sim_hash *out);
/* Errors: SIM_E_IO if memory is exhausted. */
SIM_MUST_USE sim_status sim_fingerprint(const fingerprint_parts *p, int64_t version,
                                        char out[33]);

#endif
