/*
 * write.c - writes a safetensors file.
 *
 * In: named tensors and texts.  Out: a file whose bytes depend on them alone.
 */
#include "simile/safetensors.h"

#include "simile/file.h"
#include "simile/json.h"
#include "simile/memory.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 8 }; /* bytes; of the values in the file */

static const char *const dtype_names[] = {
    [SIM_F32] = "F32", [SIM_F64] = "F64", [SIM_I64] = "I64", [SIM_U64] = "U64",
    [SIM_I32] = "I32", [SIM_U16] = "U16", [SIM_U8] = "U8",
};

static size_t tensor_bytes(const sim_tensor *t)
{
    return sim_tensor_count(t) * sim_type_bytes(t->type);
}

/* The order in the file: larger elements first, so that all are aligned; then by name. */
static int compare_tensors(const void *a, const void *b)
{
    const sim_tensor *p = a, *q = b;
    size_t bytes_p = sim_type_bytes(p->type), bytes_q = sim_type_bytes(q->type);

    if (bytes_p != bytes_q)
        return bytes_p > bytes_q ? -1 : 1;
    return strcmp(p->name, q->name);
}

/* Describes a tensor whose values begin at *at, which is advanced to their end. */
static void describe_tensor(const sim_tensor *t, size_t *at, sim_json *header)
{
    sim_json *entry = sim_json_object(header, t->name), *shape, *offsets;

    sim_json_text(entry, "dtype", dtype_names[t->type]);
    shape = sim_json_array(entry, "shape");
    for (int i = 0; i < t->n_dims; i++)
        sim_json_int(shape, NULL, (int64_t)t->dims[i]);
    offsets = sim_json_array(entry, "data_offsets");
    sim_json_int(offsets, NULL, (int64_t)*at);
    *at += tensor_bytes(t);
    sim_json_int(offsets, NULL, (int64_t)*at);
}

/* The header, padded with spaces.  *text is the caller's. */
static sim_status describe_file(const sim_tensor *sorted, size_t n_tensors,
                                const sim_safetensors_text *metadata, size_t n_texts,
                                char **text, size_t *n_bytes)
{
    sim_status st = SIM_OK;
    sim_json *header = NULL;
    size_t at = 0, n = 0;

    SIM_TRY(sim_json_create(&header));
    sim_json *texts = n_texts ? sim_json_object(header, "__metadata__") : NULL;
    for (size_t i = 0; i < n_texts; i++)
        sim_json_text(texts, metadata[i].name, metadata[i].value);
    for (size_t i = 0; i < n_tensors; i++)
        describe_tensor(&sorted[i], &at, header);
    SIM_TRY(sim_json_dump(header, 0, text));
    n = strlen(*text);
    *n_bytes = (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    SIM_TRY(sim_grow(text, *n_bytes + 1, "safetensors/header"));
    memset(*text + n, ' ', *n_bytes - n);
done:
    sim_json_destroy(&header);
    return st;
}

sim_status sim_safetensors_write(const char *path, const sim_tensor *tensors,
                                 size_t n_tensors, const sim_safetensors_text *metadata,
                                 size_t n_texts)
{
    sim_status st = SIM_OK;
    sim_tensor *sorted = NULL;
    sim_piece *pieces = NULL; /* length, header, values */
    char *header = NULL;
    size_t header_bytes = 0;
    uint8_t length[8];

    SIM_TRY(sim_alloc(&sorted, n_tensors, "safetensors/header"));
    SIM_TRY(sim_alloc(&pieces, n_tensors + 2, "safetensors/header"));
    for (size_t i = 0; i < n_tensors; i++)
        sorted[i] = tensors[i];
    qsort(sorted, n_tensors, sizeof *sorted, compare_tensors);
    SIM_TRY(describe_file(sorted, n_tensors, metadata, n_texts, &header, &header_bytes));
    for (size_t i = 0; i < sizeof length; i++)
        length[i] = (uint8_t)((uint64_t)header_bytes >> 8 * i);
    pieces[0] = (sim_piece){length, sizeof length};
    pieces[1] = (sim_piece){header, header_bytes};
    for (size_t i = 0; i < n_tensors; i++)
        pieces[i + 2] = (sim_piece){sorted[i].data, tensor_bytes(&sorted[i])};
    SIM_TRY(sim_file_replace(path, pieces, n_tensors + 2));
done:
    sim_free(sorted);
    sim_free(pieces);
    sim_free(header);
    return st;
}
