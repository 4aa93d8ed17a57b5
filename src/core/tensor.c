/*
 * tensor.c - types, sizes and hashes of tensors; visiting.
 */
#include "simile/tensor.h"

#include <string.h>

#define XXH_STATIC_LINKING_ONLY /* for the definition of XXH3_state_t */
#include <xxhash.h>

const char *sim_type_name(sim_type type)
{
    static const char *const names[] = {
        [SIM_F32] = "float32", [SIM_F64] = "float64", [SIM_I64] = "int64",
        [SIM_U64] = "uint64",  [SIM_I32] = "int32",   [SIM_U16] = "uint16",
        [SIM_U8] = "uint8"};
    return names[type];
}

size_t sim_type_bytes(sim_type type)
{
    static const size_t bytes[] = {
        [SIM_F32] = 4, [SIM_F64] = 8, [SIM_I64] = 8, [SIM_U64] = 8,
        [SIM_I32] = 4, [SIM_U16] = 2, [SIM_U8] = 1};
    return bytes[type];
}

size_t sim_tensor_count(const sim_tensor *t)
{
    size_t n = 1;
    for (int i = 0; i < t->n_dims; i++)
        n *= t->dims[i];
    return n;
}

size_t sim_tensor_row_bytes(const sim_tensor *t)
{
    size_t n = t->n_dims ? sim_type_bytes(t->type) : 0;
    for (int i = 1; i < t->n_dims; i++)
        n *= t->dims[i];
    return n;
}

/* Stores n_dims and the dims, which are hashed after the name; returns their bytes. */
static size_t shape_words(const sim_tensor *t, uint64_t words[1 + SIM_MAX_DIMS])
{
    SIM_ASSERT(t->n_dims <= SIM_MAX_DIMS);
    words[0] = (uint64_t)t->n_dims;
    for (int i = 0; i < t->n_dims; i++)
        words[1 + i] = t->dims[i];
    return sizeof *words * (size_t)(1 + t->n_dims);
}

void sim_tensor_hash_begin(const sim_tensor *t, sim_hasher *h)
{
    uint64_t words[1 + SIM_MAX_DIMS];
    size_t n = shape_words(t, words);
    sim_hasher_reset(h);
    sim_hasher_add(h, t->name, strlen(t->name));
    sim_hasher_add(h, words, n);
}

sim_hash sim_tensor_hash(const sim_tensor *t)
{
    XXH3_state_t state; /* on the stack: hashing cannot fail */
    uint64_t words[1 + SIM_MAX_DIMS];
    size_t n = shape_words(t, words);
    SIM_ASSERT(!t->sharded);
    XXH3_INITSTATE(&state);
    (void)XXH3_128bits_reset(&state);
    (void)XXH3_128bits_update(&state, t->name, strlen(t->name));
    (void)XXH3_128bits_update(&state, words, n);
    (void)XXH3_128bits_update(&state, t->data,
                              sim_tensor_count(t) * sim_type_bytes(t->type));
    XXH128_hash_t h = XXH3_128bits_digest(&state);
    return (sim_hash){.low = h.low64, .high = h.high64};
}

sim_status sim_visit(const sim_visitor *v, const char *group, const sim_tensor *t)
{
    return v->visit(v->ctx, group, t);
}

sim_status sim_visit_f32(const sim_visitor *v, const char *group, const char *name,
                         size_t n, float *data)
{
    const sim_tensor t = {
        .name = name, .type = SIM_F32, .n_dims = 1, .dims = {n}, .data = data};
    return sim_visit(v, group, &t);
}

sim_status sim_visit_count(const sim_visitor *v, const char *group, const char *name,
                           double most, int64_t *count)
{
    const sim_tensor t = {
        .name = name, .type = SIM_I64, .data = count, .bounded = true, .most = most};
    return sim_visit(v, group, &t);
}
