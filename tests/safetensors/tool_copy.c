/*
 * tool_copy.c - for test_numpy.py: `tool_copy IN OUT` prints the tensors of IN and their values, and
 * writes to OUT those whose dtype the writer has, with the text "key" of the metadata.
 */
#include "simile/log.h"
#include "simile/memory.h"
#include "simile/safetensors.h"

#include <stdio.h>
#include <string.h>

enum { MAX_TENSORS = 64 };

static const struct {
    const char *dtype;
    sim_type type;
} types[] = {{"F32", SIM_F32}, {"F64", SIM_F64}, {"I64", SIM_I64}, {"U64", SIM_U64},
             {"I32", SIM_I32}, {"U16", SIM_U16}, {"U8", SIM_U8}};

static void print_tensor(const sim_safetensor *t, const uint8_t *data)
{
    (void)printf("%s %s [", t->name, t->dtype);
    for (int i = 0; i < t->n_dims; i++)
        (void)printf("%s%zu", i ? "," : "", t->dims[i]);
    (void)printf("] ");
    for (size_t i = 0; i < t->n_bytes; i++)
        (void)printf("%02x", data[i]);
    (void)printf("\n");
}

/* Adds the tensor unless the writer lacks its dtype. */
static void add_tensor(const sim_safetensor *t, void *data, sim_tensor *list, size_t *n)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(types[i].dtype, t->dtype) == 0) {
            list[*n] = (sim_tensor){.name = t->name,
                                    .type = types[i].type,
                                    .n_dims = t->n_dims,
                                    .data = data};
            memcpy(list[(*n)++].dims, t->dims, (size_t)t->n_dims * sizeof t->dims[0]);
        }
}

static sim_status copy_file(const char *in, const char *out)
{
    sim_status st = SIM_OK;
    sim_safetensors *f = NULL;
    sim_tensor list[MAX_TENSORS];
    uint8_t *data[MAX_TENSORS] = {NULL};
    size_t n = 0;

    SIM_TRY(sim_safetensors_open(in, &f));
    SIM_ASSERT(sim_safetensors_count(f) <= MAX_TENSORS);
    for (size_t i = 0; i < sim_safetensors_count(f); i++) {
        const sim_safetensor *t = sim_safetensors_at(f, i);
        SIM_TRY(sim_alloc(&data[i], t->n_bytes, "test/data"));
        SIM_TRY(sim_safetensors_read(f, t, data[i], t->n_bytes));
        print_tensor(t, data[i]);
        add_tensor(t, data[i], list, &n);
    }
    const char *text = sim_safetensors_metadata(f, "key");
    SIM_TRY(sim_safetensors_write(out, list, n, &(sim_safetensors_text){"key", text},
                                  text ? 1 : 0));
done:
    for (size_t i = 0; i < MAX_TENSORS; i++)
        sim_free(data[i]);
    sim_safetensors_close(&f);
    return st;
}

int main(int argc, char **argv)
{
    sim_status st = argc == 3 ? copy_file(argv[1], argv[2]) : SIM_E_USAGE;
    if (st != SIM_OK)
        sim_log_failure(st);
    return (int)st;
}
