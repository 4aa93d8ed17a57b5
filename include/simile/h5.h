/*
 * h5.h - the only room that speaks HDF5: hardened reading, images built in memory.
 *
 * Module: h5
 * One thread at a time.  HDF5's own error printing is off: its innermost message goes
 * into our story.  Plugins are off; external links, virtual and external storage,
 * unknown filters and variable-length types are refused.  Disk files are opened read
 * only and without HDF5's locks; writing to disk goes through file.h.
 */
#ifndef SIMILE_H5_H
#define SIMILE_H5_H

#include "simile/status.h"
#include "simile/tensor.h"

typedef struct sim_h5 sim_h5;

typedef struct {
    sim_type type; /* of the file, as the nearest of ours */
    bool exact;    /* file type is exactly `type`, little endian */
    int n_dims;
    size_t dims[SIM_MAX_DIMS];
} sim_h5_shape;

/* Opens a file for reading.  Fails: SIM_E_INPUT, SIM_E_ACCESS, SIM_E_DATA naming path. */
SIM_MUST_USE sim_status sim_h5_open_read(const char *path, sim_h5 **out);
/* Opens an image in memory (borrowed until close); `name` stands for the path. */
SIM_MUST_USE sim_status sim_h5_open_image(const void *image, size_t n_bytes,
                                          const char *name, sim_h5 **out);
void sim_h5_close(sim_h5 **f);

/* Is there a data set / group / attribute of this name?  (paths "/a/b") */
bool sim_h5_has(const sim_h5 *f, const char *name);
bool sim_h5_has_attribute(const sim_h5 *f, const char *name);
bool sim_h5_has_attribute_of(const sim_h5 *f, const char *data_set, const char *name);

/* Fails: SIM_E_DATA naming file and data set when absent, of another class, or > 5 dims. */
SIM_MUST_USE sim_status sim_h5_shape_of(const sim_h5 *f, const char *name,
                                        sim_h5_shape *out);

/* How a data set is stored. */
typedef struct {
    uint64_t stored_bytes; /* in the file: what was never written takes none */
    size_t piece_rows;     /* rows of a chunk, which are best read together; else 1 */
    size_t chunk_bytes;    /* unpacked; 0: not chunked */
} sim_h5_storage;
SIM_MUST_USE sim_status sim_h5_storage_of(const sim_h5 *f, const char *name,
                                          sim_h5_storage *out);

/*
 * Reads rows [row, row + n_rows) (or the whole with n_rows SIM_H5_ALL) converted to
 * `type` into `data`, which holds `room` elements.  Refuses (SIM_E_DATA) when the
 * elements are not exactly `room`, or a conversion from float to integer or to fewer
 * bits of integer would be needed.
 */
#define SIM_H5_ALL ((size_t)-1)
SIM_MUST_USE sim_status sim_h5_read(const sim_h5 *f, const char *name, sim_type type,
                                    size_t row, size_t n_rows, void *data, size_t room);

/* Allocates and reads the whole data set; at most `limit` elements.  Caller's. */
SIM_MUST_USE sim_status sim_h5_read_new(const sim_h5 *f, const char *name, sim_type type,
                                        size_t limit, void **data, sim_h5_shape *shape);

/* A text data set (uint8 [n]) or fixed-length string; at most 64 MiB.  Caller's. */
SIM_MUST_USE sim_status sim_h5_read_text(const sim_h5 *f, const char *name, char **text);

/* Root attributes. */
SIM_MUST_USE sim_status sim_h5_read_attribute_text(const sim_h5 *f, const char *name,
                                                   char *out, size_t out_bytes);
SIM_MUST_USE sim_status sim_h5_read_attribute(const sim_h5 *f, const char *name,
                                              sim_type type, void *data, size_t room);

/*
 * Where the bytes of a uint8 data set lie in the file, for pread.  Refuses (SIM_E_DATA)
 * unless contiguous, allocated, unfiltered, internal, and within the file.
 */
SIM_MUST_USE sim_status sim_h5_bytes_at(const sim_h5 *f, const char *name, uint64_t *at,
                                        uint64_t *n_bytes);

/* Calls `see` for every data set below `group` in byte order of full path; the tensor has
 * name = path without the leading slash, dims, type, data NULL. */
SIM_MUST_USE sim_status sim_h5_visit(const sim_h5 *f, const char *group,
                                     sim_status (*see)(void *ctx, const sim_tensor *t),
                                     void *ctx);

/*
 * An image in memory under construction: core driver, EARLIEST bounds, one buffer of
 * `reserve_bytes` + 64 MiB mapped before HDF5 is entered, so that it never moves.
 */
SIM_MUST_USE sim_status sim_h5_create_image(size_t reserve_bytes, sim_h5 **out);
/*
 * The frame of a large file: a file of memory (default bounds) in which bulk bytes are a
 * hole that takes no room.  The caller writes head, bulk and tail to disk; `fd` is for
 * reading the frame after sim_h5_finish, and the caller's to close.
 */
enum { SIM_H5_BULK_AT = 4096 }; /* where the first reserved data set begins */
SIM_MUST_USE sim_status sim_h5_create_frame(sim_h5 **out, int *fd);

/* Writes a data set, with the groups on its way; scalar for n_dims 0. */
SIM_MUST_USE sim_status sim_h5_write(sim_h5 *f, const char *name, const sim_tensor *t);
SIM_MUST_USE sim_status sim_h5_write_text(sim_h5 *f, const char *name, const char *text);
/* The same in pieces: makes the data set, whose values are then to be written in full. */
SIM_MUST_USE sim_status sim_h5_begin_rows(sim_h5 *f, const char *name,
                                          const sim_tensor *t);
/* Rows [row, row + n_rows) of the first dimension, of the type it was made with. */
SIM_MUST_USE sim_status sim_h5_write_rows(sim_h5 *f, const char *name, sim_type type,
                                          size_t row, size_t n_rows, const void *data);
/* Attributes on the root, or on a data set with sim_h5_write_attribute_of. */
SIM_MUST_USE sim_status sim_h5_write_attribute_text(sim_h5 *f, const char *name,
                                                    const char *text);
SIM_MUST_USE sim_status sim_h5_write_attribute(sim_h5 *f, const char *name,
                                               const sim_tensor *t);
SIM_MUST_USE sim_status sim_h5_write_attribute_of(sim_h5 *f, const char *data_set,
                                                  const char *name, const sim_tensor *t);
SIM_MUST_USE sim_status sim_h5_read_attribute_of(const sim_h5 *f, const char *data_set,
                                                 const char *name, sim_type type,
                                                 void *data, size_t room);

/*
 * Creates the first data set of a frame: contiguous uint8, early allocation and no fill,
 * for bulk bytes that others write.  They begin at SIM_H5_BULK_AT.
 */
SIM_MUST_USE sim_status sim_h5_reserve(sim_h5 *f, const char *name, int n_dims,
                                       const size_t *dims);

/* Flushes an image and gives its bytes, borrowed until close. */
SIM_MUST_USE sim_status sim_h5_image(sim_h5 *f, const void **image, size_t *n_bytes);
/* Flushes and closes a written file; errors count. */
SIM_MUST_USE sim_status sim_h5_finish(sim_h5 **f);

const char *sim_h5_library(void); /* "HDF5 1.10.8" */

#endif
