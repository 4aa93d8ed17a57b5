/*
 * private.h - declarations shared by the files of this module.
 */
#ifndef SIMILE_H5_PRIVATE_H
#define SIMILE_H5_PRIVATE_H

#include "simile/h5.h"

#include <hdf5.h>

/* The memory of a file image. */
typedef struct {
    void *data;
    size_t n_bytes;
} h5_buffer;

/* The first failed write of a file whose driver does not report it to HDF5. */
typedef struct {
    sim_status status;
    char message[256];
} h5_failure;

struct sim_h5 {
    hid_t file;
    char *name;
    char *path;     /* on disk; NULL for images */
    void *reserved; /* buffer of an image under construction, owned; otherwise NULL */
    size_t reserved_bytes;
    h5_buffer image;    /* the buffer given to HDF5: `reserved`, or that of the reader */
    h5_failure failure; /* of a frame */
};

/* Disables error printing and plugins on the first call. Precedes every other call of HDF5. */
void sim_h5_quiet(void);
/* The innermost HDF5 message of the last failure. Borrowed until the next call. */
const char *sim_h5_reason(void);
/* The errno in a message of HDF5 about a failed system call; 0 if the message is about the content
 * of the file. */
int sim_h5_system_error(const char *message);
hid_t sim_h5_memory_type(sim_type type);
hid_t sim_h5_file_type(sim_type type);

/* Creates an access property list for a file in `buffer`, which must outlive the file. The caller
 * closes *out. */
SIM_MUST_USE sim_status sim_h5_image_access(h5_buffer *buffer, hid_t *out);
/* Creates a unique name: HDF5 treats images with equal names as the same file, and refuses the name
 * of an existing file. */
void sim_h5_image_name(char out[64]);

/*
 * Calls `name` for every member of a group, in byte order of their names; an error ends the
 * iteration and is returned.  The time is linear: asking HDF5 for the i-th name takes time i.
 * Errors: SIM_E_DATA if the group cannot be read.
 */
SIM_MUST_USE sim_status sim_h5_each_name(const sim_h5 *f, const char *group,
                                         sim_status (*name)(void *ctx, const char *name),
                                         void *ctx);

/* Opens a data set after checking links, layout, storage and filters. */
SIM_MUST_USE sim_status sim_h5_open_set(const sim_h5 *f, const char *name, hid_t *out);
/* The smallest sim_type that holds every value of `type`; *exact if they are equal. */
SIM_MUST_USE sim_status sim_h5_type_of(const sim_h5 *f, const char *name, hid_t type,
                                       sim_type *out, bool *exact);

/* Dataspace, creation property list and creation of a data set; the caller closes the results. Times
 * are not stored, so equal content yields equal bytes. Parent groups are created. */
hid_t sim_h5_space_of(int n_dims, const size_t *dims);
hid_t sim_h5_set_plist(void);
hid_t sim_h5_create_set(sim_h5 *f, const char *name, hid_t type, hid_t space,
                        hid_t create);

#endif
