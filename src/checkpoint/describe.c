/*
 * describe.c - the contents of a checkpoint without the objects that wrote it: its tensors by
 * name, their values, and a description as JSON.
 *
 * In: an open checkpoint.  Part files are read one at a time.  Local.
 * Called by the subcommands that inspect and convert checkpoints.
 */
#include "private.h"

#include "simile/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- tensors ---- */

typedef struct {
    const char *hashes; /* content of /hashes */
    sim_status (*see)(void *ctx, const sim_stored_tensor *t);
    void *ctx;
} tensor_visit;

/* The hash of a tensor: 32 digits after "name " in a line of /hashes; "" if it has none. */
static void find_hash(const char *lines, const char *name, char out[33])
{
    size_t n = strlen(name);
    out[0] = '\0';
    for (const char *p = lines; (p = strstr(p, name)) != NULL; p += n)
        if ((p == lines || p[-1] == '\n') && p[n] == ' ') {
            (void)snprintf(out, 33, "%.32s", p + n + 1);
            return;
        }
}

static sim_status see_in_main_file(void *ctx, const sim_tensor *t)
{
    const tensor_visit *v = ctx;
    sim_stored_tensor s = {.name = t->name, .type = t->type, .n_dims = t->n_dims};

    if (!strchr(t->name, '/'))
        return SIM_OK; /* metadata: /step, /config, ... */
    memcpy(s.dims, t->dims, sizeof s.dims);
    find_hash(v->hashes, s.name, s.hash);
    return v->see(v->ctx, &s);
}

static sim_status see_in_parts(const sim_checkpoint *k, const parted_tensor *t,
                               const tensor_visit *v)
{
    sim_status st = SIM_OK;
    sim_stored_tensor s = {.name = t->name, .n_dims = t->n_dims, .n_parts = t->n_files};

    SIM_TRY(sim_checkpoint_parts_type(k, t, &s.type));
    memcpy(s.dims, t->dims, sizeof s.dims);
    find_hash(v->hashes, s.name, s.hash);
    SIM_TRY(v->see(v->ctx, &s));
done:
    return st;
}

sim_status sim_checkpoint_visit(const sim_checkpoint *k,
                                sim_status (*see)(void *ctx, const sim_stored_tensor *t),
                                void *ctx)
{
    sim_status st = SIM_OK;
    char *hashes = NULL;

    SIM_TRY(sim_h5_read_text(k->file, "/hashes", &hashes));
    tensor_visit v = {hashes, see, ctx};
    SIM_TRY(sim_h5_visit(k->file, "/", see_in_main_file, &v));
    for (size_t i = 0; i < k->n_parted; i++)
        SIM_TRY(see_in_parts(k, &k->parted[i], &v));
done:
    sim_free(hashes);
    return st;
}

size_t sim_stored_tensor_rows(const sim_stored_tensor *t)
{
    return t->n_dims ? t->dims[0] : 1;
}

size_t sim_stored_tensor_row_bytes(const sim_stored_tensor *t)
{
    size_t n = sim_type_bytes(t->type);
    for (int i = 1; i < t->n_dims; i++)
        n *= t->dims[i];
    return n;
}

static sim_status read_rows(const sim_checkpoint *k, const sim_tensor *t, size_t n_rows,
                            size_t n_values)
{
    const parted_tensor *parted = sim_checkpoint_find_parted(k, t->name);
    char name[512];

    if (parted)
        return sim_checkpoint_parts_read(k, parted, t);
    (void)snprintf(name, sizeof name, "/%s", t->name);
    return sim_h5_read(k->file, name, t->type, t->row_lo, t->n_dims ? n_rows : SIM_H5_ALL,
                       t->data, n_values);
}

sim_status sim_checkpoint_read(const sim_checkpoint *k, const sim_stored_tensor *stored,
                               size_t row, size_t n_rows, void *data, size_t data_bytes)
{
    sim_status st = SIM_OK;
    const size_t rows = sim_stored_tensor_rows(stored),
                 row_bytes = sim_stored_tensor_row_bytes(stored);
    sim_tensor t = {.name = stored->name,
                    .type = stored->type,
                    .n_dims = stored->n_dims,
                    .data = data,
                    .sharded = true,
                    .row_lo = row,
                    .row_hi = row + n_rows};

    SIM_CHECK(row <= rows && n_rows <= rows - row, SIM_E_DATA,
              "%s: %s has %zu rows; rows %zu to %zu were requested", k->path,
              stored->name, rows, row, row + n_rows);
    SIM_CHECK(row_bytes == 0 || n_rows <= data_bytes / row_bytes, SIM_E_DATA,
              "%s: %zu rows of %s have %zu bytes each and exceed a buffer of %zu bytes",
              k->path, n_rows, stored->name, row_bytes, data_bytes);
    if (n_rows == 0)
        goto done;
    memcpy(t.dims, stored->dims, sizeof t.dims);
    SIM_TRY(read_rows(k, &t, n_rows, n_rows * (row_bytes / sim_type_bytes(t.type))));
done:
    return st;
}

/* ---- description ---- */

static sim_status describe_tensor(void *ctx, const sim_stored_tensor *t)
{
    sim_json *j = sim_json_object(ctx, NULL);

    sim_json_text(j, "name", t->name);
    sim_json_text(j, "type", sim_type_name(t->type));
    sim_json *dims = sim_json_array(j, "dims");
    for (int i = 0; i < t->n_dims; i++)
        sim_json_int(dims, NULL, (int64_t)t->dims[i]);
    sim_json_text(j, "hash", t->hash);
    if (t->n_parts)
        sim_json_int(j, "parts", (int64_t)t->n_parts);
    return SIM_OK;
}

/* Adds a value with the JSON type that it looks like. */
static void add_value(sim_json *j, const char *key, const char *text)
{
    char *end = NULL;
    const long long whole = strtoll(text, &end, 10);

    if (*text && !*end) {
        sim_json_int(j, key, whole);
        return;
    }
    const double real = strtod(text, &end);
    if (*text && !*end && strspn(text, "+-.0123456789eE") == strlen(text))
        sim_json_real(j, key, real);
    else if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)
        sim_json_bool(j, key, *text == 't');
    else
        sim_json_text(j, key, text);
}

/* Adds the lines "key: value" of an identity as an object. */
static sim_status describe_identity(const char *lines, sim_json *j)
{
    sim_status st = SIM_OK;
    char *copy = NULL, *rest = NULL;

    SIM_TRY(sim_text_copy(lines, "checkpoint/identity", &copy));
    for (char *line = strtok_r(copy, "\n", &rest); line;
         line = strtok_r(NULL, "\n", &rest)) {
        char *value = strstr(line, ": ");
        if (!value)
            continue;
        *value = '\0';
        /* A fingerprint may consist of digits only. */
        if (strcmp(line, "fingerprint") == 0)
            sim_json_text(j, line, value + 2);
        else
            add_value(j, line, value + 2);
    }
done:
    sim_free(copy);
    return st;
}

sim_status sim_checkpoint_describe(const sim_checkpoint *k, sim_json *out)
{
    sim_status st = SIM_OK;
    char *weights = NULL;
    sim_json *preprocessing = NULL;

    SIM_TRY(sim_h5_read_text(k->file, "/weights_hash", &weights));
    sim_json_text(out, "checkpoint", k->path);
    sim_json_int(out, "step", k->head.step);
    sim_json_int(out, "epoch", k->head.epoch);
    sim_json_int(out, "samples", k->head.samples);
    SIM_TRY(describe_identity(k->head.identity, sim_json_object(out, "identity")));
    sim_json_text(out, "fingerprint", k->head.fingerprint);
    sim_json_text(out, "weights_hash", weights);
    if (k->head.preprocessing) {
        SIM_TRY(sim_json_parse(k->head.preprocessing, strlen(k->head.preprocessing),
                               &preprocessing));
        sim_json_put(out, "preprocessing", preprocessing);
    }
    SIM_TRY(sim_checkpoint_visit(k, describe_tensor, sim_json_array(out, "tensors")));
done:
    sim_json_destroy(&preprocessing);
    sim_free(weights);
    return st;
}
