/*
 * private.h - what the files of this room share.
 */
#ifndef SIMILE_H5_PRIVATE_H
#define SIMILE_H5_PRIVATE_H

#include "simile/h5.h"

#include <hdf5.h>

/* The memory that an image lives in. */
typedef struct {
    void *data;
    size_t n_bytes;
} h5_buffer;

struct sim_h5 {
    hid_t file;
    char *name;
    char *path;     /* on disk; NULL for images */
    void *reserved; /* image under construction: the mapping it lives in */
    size_t reserved_bytes;
    h5_buffer image; /* what HDF5 was handed: `reserved`, or the reader's */
};

/* Switches off HDF5's printing and plugins; once. */
void sim_h5_quiet(void);
/* HDF5's own reason for the last failure. */
const char *sim_h5_reason(void);
hid_t sim_h5_memory_type(sim_type type);

/* How to open a file in `buffer`, and nowhere else; it must outlive the file. */
SIM_MUST_USE sim_status sim_h5_image_access(h5_buffer *buffer, hid_t *out);
/* A name that no other image has: HDF5 takes two of one name for the same file, and
 * refuses one under the name of a file that exists. */
void sim_h5_image_name(char out[64]);

/* Opens a data set after checking that it is a plain one. */
SIM_MUST_USE sim_status sim_h5_open_set(const sim_h5 *f, const char *name, hid_t *out);
/* Checks a type of the file and gives ours. */
SIM_MUST_USE sim_status sim_h5_type_of(const sim_h5 *f, const char *name, hid_t type,
                                       sim_type *out, bool *exact);

/* For data sets to be made; the caller closes.  The second is without times, so that the
 * same content is the same bytes; the third makes the groups on the way. */
hid_t sim_h5_space_of(int n_dims, const size_t *dims);
hid_t sim_h5_set_plist(void);
hid_t sim_h5_create_set(sim_h5 *f, const char *name, hid_t type, hid_t space,
                        hid_t create);

#endif
