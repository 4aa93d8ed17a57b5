/*
 * tensors.c - the tensors of a safetensors file as those of backbone and projector.
 *
 * In: tensors of any origin.  Out: float32 values under the names of the networks; the shapes of the
 * backbone are those of a network of encoder.arch.
 */
#include "private.h"

#include "simile/memory.h"
#include "simile/model.h"
#include "simile/text.h"

#include <stdio.h>
#include <string.h>

static const char counter_ending[] = ".num_batches_tracked",
                  mean_ending[] = ".running_mean";

/* ---- values ---- */

static uint64_t little_endian(const uint8_t *bytes, size_t n)
{
    uint64_t v = 0;
    for (size_t i = n; i-- > 0;)
        v = v << 8 | bytes[i];
    return v;
}

static float float_of_bits(uint32_t bits)
{
    float x = 0;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static float read_f32(const uint8_t *bytes)
{
    return float_of_bits((uint32_t)little_endian(bytes, 4));
}

static float read_bf16(const uint8_t *bytes)
{
    return float_of_bits((uint32_t)little_endian(bytes, 2) << 16);
}

/* IEEE 754 binary16: sign, 5 bits of exponent with bias 15, 10 bits of fraction. */
static float read_f16(const uint8_t *bytes)
{
    const uint32_t h = (uint32_t)little_endian(bytes, 2), sign = (h & 0x8000) << 16,
                   exponent = h >> 10 & 31, fraction = h & 0x3ff;

    if (exponent == 31)
        return float_of_bits(sign | 0x7f800000 | fraction << 13);
    if (exponent > 0)
        return float_of_bits(sign | (exponent + 127 - 15) << 23 | fraction << 13);
    const float subnormal = (float)fraction * 0x1p-24f;
    return sign ? -subnormal : subnormal;
}

static float read_f64(const uint8_t *bytes)
{
    const uint64_t bits = little_endian(bytes, 8);
    double x = 0;

    memcpy(&x, &bits, sizeof x);
    return (float)x;
}

typedef struct {
    const char *name;
    size_t n_bytes; /* of an element */
    float (*read)(const uint8_t *bytes);
} float_dtype;

static const float_dtype float_dtypes[] = {{"F32", 4, read_f32},
                                           {"F16", 2, read_f16},
                                           {"BF16", 2, read_bf16},
                                           {"F64", 8, read_f64}};

static const float_dtype *find_dtype(const char *name)
{
    for (size_t i = 0; i < sizeof float_dtypes / sizeof float_dtypes[0]; i++)
        if (strcmp(float_dtypes[i].name, name) == 0)
            return &float_dtypes[i];
    return NULL;
}

static sim_status read_floats(const import_file *f, import_tensor *t)
{
    sim_status st = SIM_OK;
    const float_dtype *dtype = find_dtype(t->given->dtype);
    const size_t n = sim_tensor_count(&t->tensor);
    uint8_t *bytes = NULL;
    float *values = NULL;

    SIM_CHECK(dtype, SIM_E_DATA,
              "%s: tensor %s has dtype %s, expected F32, F16, BF16 or F64", f->path,
              t->given->name, t->given->dtype);
    SIM_TRY(sim_alloc(&values, n, "import/tensors"));
    t->tensor.data = values;
    SIM_TRY(sim_alloc(&bytes, t->given->n_bytes, "import/tensors"));
    SIM_TRY(sim_safetensors_read(f->file, t->given, bytes, t->given->n_bytes));
    for (size_t i = 0; i < n; i++)
        values[i] = dtype->read(bytes + i * dtype->n_bytes);
done:
    sim_free(bytes);
    return st;
}

/* ---- the list ---- */

static sim_status append_tensor(import_file *f, int net, const char *name,
                                const sim_safetensor *given, import_tensor **out)
{
    sim_status st = SIM_OK;

    if (f->n == f->capacity) {
        f->capacity = f->capacity ? 2 * f->capacity : 256;
        SIM_TRY(sim_grow(&f->tensors, f->capacity, "import/tensors"));
    }
    import_tensor *t = &f->tensors[f->n];
    *t = (import_tensor){.net = net, .given = given};
    SIM_TRY(sim_text_copy(name, "import/tensors", &t->name));
    t->tensor.name = t->name;
    f->n++;
    *out = t;
done:
    return st;
}

/* A counter of updates, which only momentum NULL of PyTorch's batch norm uses. */
static sim_status append_counter(import_file *f, const import_tensor *mean)
{
    sim_status st = SIM_OK;
    const int net = mean->net;
    char name[128];
    int64_t *zero = NULL;
    import_tensor *t = NULL;

    (void)snprintf(name, sizeof name, "%.*s%s",
                   (int)(strlen(mean->name) - strlen(mean_ending)), mean->name,
                   counter_ending);
    SIM_TRY(append_tensor(f, net, name, NULL, &t));
    t->tensor.type = SIM_I64;
    SIM_TRY(sim_new(&zero, "import/tensors"));
    t->tensor.data = zero;
done:
    return st;
}

static void ignore_tensor(import_file *f, const char *name)
{
    const size_t used = strlen(f->ignored);

    f->n_ignored++;
    if (used + strlen(name) + 8 < sizeof f->ignored)
        (void)snprintf(f->ignored + used, sizeof f->ignored - used, "%s%s",
                       used ? ", " : "", name);
}

/* The classifier, and a projector that no metadata describes. */
static bool is_unused(const import_file *f, int net, const char *file_name)
{
    return strncmp(file_name, "fc.", 3) == 0 || (net != SIM_BACKBONE && !f->metadata);
}

/* A number and a part, as "0.weight". */
static bool is_head_name(const char *name)
{
    static const char *const parts[] = {".weight", ".bias", ".running_mean",
                                        ".running_var"};
    const size_t digits = strspn(name, "0123456789");

    if (digits < 1 || digits > 3)
        return false;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (strcmp(name + digits, parts[i]) == 0)
            return true;
    return false;
}

static sim_status list_tensor(import_file *f, const sim_safetensor *given)
{
    sim_status st = SIM_OK;
    const char *name = NULL;
    const int net = sim_model_parse_file_name(given->name, &name);
    import_tensor *t = NULL;

    if (is_unused(f, net, given->name)) {
        ignore_tensor(f, given->name);
        goto done;
    }
    if (sim_text_ends_with(name, counter_ending))
        goto done;
    SIM_CHECK(net == SIM_BACKBONE || (is_head_name(name) && given->n_dims <= 2),
              SIM_E_DATA, "%s: %.100s is not a tensor of a projector", f->path,
              given->name);
    SIM_TRY(append_tensor(f, net, name, given, &t));
    t->tensor.type = SIM_F32;
    t->tensor.n_dims = given->n_dims;
    for (int i = 0; i < given->n_dims && i < SIM_MAX_DIMS; i++)
        t->tensor.dims[i] = given->dims[i];
done:
    return st;
}

static sim_status recognize_backbone(import_file *f)
{
    sim_status st = SIM_OK;
    sim_named_shape *shapes = NULL;
    size_t n = 0;
    double width = 0;

    SIM_TRY(sim_import_width(f, &width));
    SIM_TRY(sim_alloc(&shapes, f->n, "import/tensors"));
    for (size_t i = 0; i < f->n; i++) {
        const sim_tensor *t = &f->tensors[i].tensor;
        if (f->tensors[i].net != SIM_BACKBONE)
            continue;
        shapes[n].name = t->name;
        shapes[n].n_dims = t->n_dims;
        memcpy(shapes[n].dims, t->dims, sizeof t->dims);
        n++;
    }
    SIM_TRY(sim_backbone_recognize(f->path, shapes, n, width, &f->encoder, &f->channels));
done:
    sim_free(shapes);
    return st;
}

sim_status sim_import_read_tensors(import_file *f)
{
    sim_status st = SIM_OK;

    for (size_t i = 0; i < sim_safetensors_count(f->file); i++)
        SIM_TRY(list_tensor(f, sim_safetensors_at(f->file, i)));
    SIM_TRY(recognize_backbone(f));
    const size_t n_given = f->n;
    for (size_t i = 0; i < n_given; i++) {
        SIM_TRY(read_floats(f, &f->tensors[i]));
        if (sim_text_ends_with(f->tensors[i].name, mean_ending))
            SIM_TRY(append_counter(f, &f->tensors[i]));
    }
done:
    return st;
}

void sim_import_free_tensors(import_file *f)
{
    for (size_t i = 0; i < f->n; i++) {
        sim_free(f->tensors[i].name);
        sim_free(f->tensors[i].tensor.data);
    }
    sim_free(f->tensors);
}
