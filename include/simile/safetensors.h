/*
 * safetensors.h - the only module that reads and writes safetensors files.
 *
 * Module: safetensors
 * A file is the length of its header (uint64, little endian), the header, and the values. The
 * header is a JSON object: tensor name -> {"dtype", "shape", "data_offsets": [begin, end]}, and
 * "__metadata__" -> texts by name. Offsets are relative to the end of the header.
 * Source: https://huggingface.co/docs/safetensors, "Format".
 */
#ifndef SIMILE_SAFETENSORS_H
#define SIMILE_SAFETENSORS_H

#include "simile/tensor.h"

/* ---- reading ---- */

enum { SIM_SAFETENSORS_MAX_HEADER = 100000000 }; /* bytes; the limit of the format */
enum { SIM_SAFETENSORS_MAX_DIMS = 8 };

typedef struct sim_safetensors sim_safetensors;

/* A tensor of an open file. */
typedef struct {
    const char *name;  /* UTF-8; borrowed until close */
    const char *dtype; /* "F32", "I64", "BF16" ... */
    int n_dims;
    size_t dims[SIM_SAFETENSORS_MAX_DIMS]; /* outermost first */
    size_t n_bytes;
    uint64_t at; /* offset of its values in the file; not necessarily aligned */
} sim_safetensor;

/*
 * Opens a file and checks its whole header against the length of the file. Values are not read.
 * Refused: a header longer than the limit or the file; JSON that is invalid, nested too deep, or
 * has a name twice; an unknown dtype; a shape whose bytes overflow or differ from the offsets;
 * values that overlap, leave a gap, or do not end at the end of the file.
 * Errors: SIM_E_INPUT, SIM_E_ACCESS, SIM_E_IO; SIM_E_DATA naming file, tensor and defect.
 */
SIM_MUST_USE sim_status sim_safetensors_open(const char *path, sim_safetensors **out);
void sim_safetensors_close(sim_safetensors **f); /* accepts NULL */

size_t sim_safetensors_count(const sim_safetensors *f);
/* Tensor i in the order of the values. The results of these three are borrowed until close. */
const sim_safetensor *sim_safetensors_at(const sim_safetensors *f, size_t i);
/* NULL if there is no tensor of this name. */
const sim_safetensor *sim_safetensors_find(const sim_safetensors *f, const char *name);
/* A text of "__metadata__"; NULL if there is none of this name. */
const char *sim_safetensors_metadata(const sim_safetensors *f, const char *name);

/*
 * Reads all values of a tensor, little endian, to `data`, which has data_bytes = t->n_bytes.
 * Errors: SIM_E_IO.
 */
SIM_MUST_USE sim_status sim_safetensors_read(const sim_safetensors *f,
                                             const sim_safetensor *t, void *data,
                                             size_t data_bytes);

/* ---- writing ---- */

typedef struct {
    const char *name, *value;
} sim_safetensors_text;

/*
 * Replaces `path` atomically. Tensors are stored in the order of descending element size, then of
 * names, and the header is padded, so that all values are aligned. The bytes of the file depend
 * on the arguments alone.
 *   tensors   [n_tensors] names are distinct; not sharded
 *   metadata  [n_texts]
 * Errors: those of sim_file_replace.
 */
SIM_MUST_USE sim_status sim_safetensors_write(const char *path, const sim_tensor *tensors,
                                              size_t n_tensors,
                                              const sim_safetensors_text *metadata,
                                              size_t n_texts);

#endif
