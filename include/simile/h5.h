/*
 * h5.h - the only module that uses HDF5: hardened reading, files built in memory.
 *
 * Module: h5
 * Not thread-safe. HDF5 prints no errors; its innermost message becomes part of the error message.
 * Plugins are disabled. Links other than hard links, virtual and external data sets, unknown
 * filters and variable-length types are refused, but for strings and byte strings. Files on disk are only read by HDF5; they are
 * written through file.h.
 *
 * Errors, unless stated otherwise: SIM_E_DATA when reading, SIM_E_IO when writing. The message
 * contains the file and the data set or attribute. Names are paths such as "/a/b".
 */
#ifndef SIMILE_H5_H
#define SIMILE_H5_H

#include "simile/status.h"
#include "simile/tensor.h"

typedef struct sim_h5 sim_h5;

typedef struct {
    sim_type type; /* the smallest that holds every value of the type in the file */
    bool exact;    /* the type in the file is exactly `type`, little endian */
    int n_dims;
    size_t dims[SIM_MAX_DIMS];
    bool
        is_bool; /* enumeration of 0 and 1 (h5py) or bit field of 1 byte; type is SIM_U8 */
} sim_h5_shape;

/* Opens a file for reading. Errors: SIM_E_INPUT, SIM_E_ACCESS, SIM_E_DATA. */
SIM_MUST_USE sim_status sim_h5_open_read(const char *path, sim_h5 **out);
/* Opens a file image in memory, which is borrowed until close; `name` is used in messages. */
SIM_MUST_USE sim_status sim_h5_open_image(const void *image, size_t n_bytes,
                                          const char *name, sim_h5 **out);
/* Closes a file; errors are ignored. Accepts NULL. */
void sim_h5_close(sim_h5 **f);

/* Whether a data set or group, an attribute of the root, an attribute of a data set exists. */
bool sim_h5_has(const sim_h5 *f, const char *name);
bool sim_h5_has_attribute(const sim_h5 *f, const char *name);
bool sim_h5_has_attribute_of(const sim_h5 *f, const char *data_set, const char *name);

/* Errors: SIM_E_DATA if the data set is absent, not numeric, or has more than SIM_MAX_DIMS
 * dimensions. */
SIM_MUST_USE sim_status sim_h5_shape_of(const sim_h5 *f, const char *name,
                                        sim_h5_shape *out);

/* How a data set is stored. */
typedef struct {
    uint64_t stored_bytes; /* allocated in the file; 0 if never written */
    size_t piece_rows;     /* rows per chunk, to be read together; 1 if not chunked */
    size_t chunk_bytes;    /* uncompressed; 0 if not chunked */
} sim_h5_storage;
SIM_MUST_USE sim_status sim_h5_storage_of(const sim_h5 *f, const char *name,
                                          sim_h5_storage *out);

/*
 * Reads rows [row, row + n_rows), or all if n_rows is SIM_H5_ALL, converted to `type`.
 *   data  [capacity] elements
 * Errors: SIM_E_DATA if the number of elements is not `capacity`, or if the conversion could lose
 * information (float to integer, or to a smaller integer). Any integer may be read as float64;
 * values above 2^53 are then rounded.
 */
#define SIM_H5_ALL ((size_t)-1)
SIM_MUST_USE sim_status sim_h5_read(const sim_h5 *f, const char *name, sim_type type,
                                    size_t row, size_t n_rows, void *data,
                                    size_t capacity);

/* Allocates and reads a whole data set of at most `limit` elements. *data becomes the caller's. */
SIM_MUST_USE sim_status sim_h5_read_new(const sim_h5 *f, const char *name, sim_type type,
                                        size_t limit, void **data, sim_h5_shape *shape);

/* Reads a text, stored as uint8 [n] without zero bytes, of at most 64 MiB. *text becomes the
 * caller's. */
SIM_MUST_USE sim_status sim_h5_read_text(const sim_h5 *f, const char *name, char **text);

/* Read an attribute of the root, or of a data set: a fixed-length string, which is terminated by
 * zero, or exactly `capacity` numbers. */
SIM_MUST_USE sim_status sim_h5_read_attribute_text(const sim_h5 *f, const char *name,
                                                   char *out, size_t out_bytes);
/*
 * Checks the attribute `format_version`, which is 1 if absent.
 *   newest   version that this program reads
 *   version  that of the file
 * Errors: SIM_E_DATA; SIM_E_INSTALL if the file needs a newer simile.
 */
SIM_MUST_USE sim_status sim_h5_check_version(const sim_h5 *f, const char *path,
                                             int64_t newest, int64_t *version);
SIM_MUST_USE sim_status sim_h5_read_attribute(const sim_h5 *f, const char *name,
                                              sim_type type, void *data, size_t capacity);
SIM_MUST_USE sim_status sim_h5_read_attribute_of(const sim_h5 *f, const char *data_set,
                                                 const char *name, sim_type type,
                                                 void *data, size_t capacity);

/*
 * Offset and length of the bytes of a data set in the file, for pread.
 * Errors: SIM_E_DATA unless the data set is contiguous, allocated, without filters, of an exact type and
 * within the file.
 */
SIM_MUST_USE sim_status sim_h5_bytes_at(const sim_h5 *f, const char *name, uint64_t *at,
                                        uint64_t *n_bytes);

/* Calls `visit` for every data set below `group`, sorted by name within each group. The name of the
 * tensor is the path without the leading slash; its data is NULL. An absent group is empty. */
SIM_MUST_USE sim_status sim_h5_visit(const sim_h5 *f, const char *group,
                                     sim_status (*visit)(void *ctx, const sim_tensor *t),
                                     void *ctx);

/* The same for data sets of any type; `name` begins with a slash. */
SIM_MUST_USE sim_status sim_h5_visit_sets(const sim_h5 *f, const char *group,
                                          sim_status (*visit)(void *ctx,
                                                              const char *name),
                                          void *ctx);

/*
 * Byte strings, such as image files: the elements of a data set of one dimension of variable-length uint8
 * or of opaque values; or a whole data set of uint8 of one dimension, or an opaque scalar, as a single one.
 */
typedef struct {
    size_t n;     /* byte strings; 0: the data set is of another type */
    bool is_list; /* an array of byte strings, not a single one */
} sim_h5_bytes;
sim_h5_bytes sim_h5_bytes_of(const sim_h5 *f, const char *name);
/* Reads byte string i of at most `limit` bytes.  The caller owns *bytes [n]. */
SIM_MUST_USE sim_status sim_h5_read_bytes(const sim_h5 *f, const char *name, size_t i,
                                          size_t limit, uint8_t **bytes, size_t *n);

/*
 * Creates a file image in memory for up to reserve_bytes of content. One buffer of reserve_bytes +
 * 64 MiB is mapped in advance, so the image is never moved. Format version EARLIEST.
 */
SIM_MUST_USE sim_status sim_h5_create_image(size_t reserve_bytes, sim_h5 **out);
/*
 * Creates the frame of a large file in an anonymous memory file: all metadata, and a hole that uses
 * no memory for the bulk data. The caller writes the part before the hole, the bulk data and the
 * part behind it to disk. *fd is for reading the frame after sim_h5_finish; the caller closes it.
 */
enum { SIM_H5_BULK_AT = 4096 }; /* offset of the data set of sim_h5_reserve */
SIM_MUST_USE sim_status sim_h5_create_frame(sim_h5 **out, int *fd);

/* Create a data set and its parent groups, and write it; a scalar if n_dims is 0. t->name is
 * not used. */
SIM_MUST_USE sim_status sim_h5_write(sim_h5 *f, const char *name, const sim_tensor *t);
SIM_MUST_USE sim_status sim_h5_write_text(sim_h5 *f, const char *name, const char *text);
/* Creates a data set of the shape and type of t. Its values are undefined until
 * sim_h5_write_rows has written all rows. */
SIM_MUST_USE sim_status sim_h5_begin_rows(sim_h5 *f, const char *name,
                                          const sim_tensor *t);
/* Writes rows [row, row + n_rows) of the first dimension; `type` is that of the data set. */
SIM_MUST_USE sim_status sim_h5_write_rows(sim_h5 *f, const char *name, sim_type type,
                                          size_t row, size_t n_rows, const void *data);
/* Write an attribute of the root, or of a data set (sim_h5_write_attribute_of). */
SIM_MUST_USE sim_status sim_h5_write_attribute_text(sim_h5 *f, const char *name,
                                                    const char *text);
SIM_MUST_USE sim_status sim_h5_write_attribute(sim_h5 *f, const char *name,
                                               const sim_tensor *t);
SIM_MUST_USE sim_status sim_h5_write_attribute_of(sim_h5 *f, const char *data_set,
                                                  const char *name, const sim_tensor *t);

/*
 * Creates the first data set of a frame: contiguous at offset SIM_H5_BULK_AT, never written
 * by HDF5. The caller writes its bytes to disk.
 */
SIM_MUST_USE sim_status sim_h5_reserve(sim_h5 *f, const char *name, sim_type type,
                                       int n_dims, const size_t *dims);

/* Flushes an image and returns its bytes, borrowed until close. */
SIM_MUST_USE sim_status sim_h5_image(sim_h5 *f, const void **image, size_t *n_bytes);
/* Flushes and closes a file that was written; *f becomes NULL, also on failure. */
SIM_MUST_USE sim_status sim_h5_finish(sim_h5 **f);

/*
 * Data sets of strings, one dimension.  When reading, further dimensions may have length 1.
 *
 *   text  [n][width], each row padded with zeros; read rows end with a zero.  Caller's.
 *
 * Reads fixed-length and variable-length strings, at most `limit` of them.
 * Errors: SIM_E_DATA; when writing SIM_E_IO.
 */
SIM_MUST_USE sim_status sim_h5_write_strings(sim_h5 *f, const char *name, size_t n,
                                             size_t width, const char *text);
SIM_MUST_USE sim_status sim_h5_read_strings(const sim_h5 *f, const char *name,
                                            size_t limit, size_t *n, size_t *width,
                                            char **text);
bool sim_h5_is_strings(const sim_h5 *f, const char *name);

/*
 * Replaces a name that is a soft link within the file by the name that it refers to.  False if
 * it does not exist, or refers to another file.
 */
bool sim_h5_resolve(const sim_h5 *f, char *name, size_t name_bytes);
/* Calls `member` for every data set and link of the file, whether or not it can be read;
 * `problem` is "" or why it cannot.  Stops with a warning after 65536 members. */
void sim_h5_list(const sim_h5 *f,
                 void (*member)(void *ctx, const char *path, const char *problem),
                 void *ctx);

/* ---- paths of the wrong kind ---- */

/* What a path holds, by its content. */
typedef enum {
    SIM_PATH_UNKNOWN, /* it does not exist, is empty, or cannot be read */
    SIM_PATH_DATASET,
    SIM_PATH_EMBEDDINGS,
    SIM_PATH_CHECKPOINT,
    SIM_PATH_RUN,       /* a directory that contains checkpoints/ */
    SIM_PATH_DIRECTORY, /* any other directory */
    SIM_PATH_ARCHIVE,   /* tar, zip, or a compressed file */
    SIM_PATH_IDX,       /* MNIST */
    SIM_PATH_NUMPY,     /* .npy or .npz */
    SIM_PATH_PICKLE,    /* Python */
    SIM_PATH_IMAGE,     /* JPEG, PNG, TIFF, WebP, GIF */
    SIM_PATH_SAFETENSORS,
    SIM_PATH_TORCH,       /* written by torch.save */
    SIM_PATH_HDF5,        /* without a format of simile */
    SIM_PATH_BROKEN_HDF5, /* the HDF5 library cannot open it */
    SIM_PATH_TEXT,
    SIM_PATH_OTHER,
    SIM_PATH_KINDS
} sim_path_kind;
/* The pending error message is kept. */
sim_path_kind sim_path_kind_of(const char *path);
/* Whether a file has the signature of HDF5 at an offset where a user block may end; *at is the
 * offset.  Clears the error message. */
bool sim_path_has_hdf5_signature(const char *path, uint64_t *at);
/* What a command reads from a path. */
typedef enum {
    SIM_USE_DATASET,
    SIM_USE_CHECKPOINT, /* or a run directory */
    SIM_USE_MODEL,      /* the same, or a file of weights */
    SIM_USE_RUN,
    SIM_USE_WEIGHTS, /* pretrain --init */
    SIM_USE_ARRAYS,  /* loss --in */
    SIM_USE_JOB,
    SIM_USE_SOURCE, /* prepare */
    SIM_USE_INSPECT,
    SIM_PATH_USES
} sim_path_use;
/*
 * Called with the status of reading `path`.  If that is an error because the path is of a kind that
 * the use does not accept, the error message is replaced: what it is, what is expected, and what to
 * do with it.  Returns `status`.  Local.
 */
sim_status sim_path_explain(sim_status status, const char *path, sim_path_use use);

const char *sim_h5_library(void); /* "HDF5 1.10.8" */

#endif
