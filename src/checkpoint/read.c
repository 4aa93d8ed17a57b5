/*
 * read.c - state from disk: verified by its digest before HDF5 parses a byte.
 */
#include "private.h"

#include "simile/file.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static sim_status read_int(const sim_h5 *f, const char *name, int64_t *out)
{
    return sim_h5_read(f, name, SIM_I64, 0, SIM_H5_ALL, out, 1);
}

static sim_status read_parts(sim_checkpoint *k)
{
    sim_status st = SIM_OK;
    char *text = NULL;

    if (!sim_h5_has(k->file, "/parts"))
        goto done;
    SIM_TRY(sim_h5_read_text(k->file, "/parts", &text));
    SIM_TRY(sim_json_parse(text, strlen(text), &k->parts));
done:
    sim_free(text);
    return st;
}

static sim_status read_head(sim_checkpoint *k)
{
    sim_status st = SIM_OK;
    char format[64], *fingerprint = NULL;
    int64_t version = 0, named = 0;
    const char *slash = strrchr(k->path, '/'), *name = slash ? slash + 1 : k->path;

    SIM_TRY(sim_h5_read_attribute_text(k->file, "format", format, sizeof format));
    SIM_TRY(sim_h5_read_attribute(k->file, "format_version", SIM_I64, &version, 1));
    SIM_CHECK(strcmp(format, "simile-checkpoint") == 0 && version == 1, SIM_E_DATA,
              "%s is a %s of version %lld, expected a simile-checkpoint of version 1",
              k->path, format, (long long)version);
    SIM_TRY(read_int(k->file, "/step", &k->head.step));
    SIM_TRY(read_int(k->file, "/epoch", &k->head.epoch));
    SIM_TRY(read_int(k->file, "/samples", &k->head.samples));
    SIM_CHECK(k->head.step >= 0 && k->head.epoch >= 0 && k->head.samples >= 0, SIM_E_DATA,
              "%s: a negative step, epoch or sample count", k->path);
    SIM_CHECK(!sim_checkpoint_step_of(name, &named) || named == k->head.step, SIM_E_DATA,
              "%s holds step %lld: it was renamed", k->path, (long long)k->head.step);
    SIM_TRY(sim_h5_read_text(k->file, "/config", &k->config));
    SIM_TRY(sim_h5_read_text(k->file, "/identity", &k->identity));
    SIM_TRY(sim_h5_read_text(k->file, "/history", &k->history));
    SIM_TRY(sim_h5_read_text(k->file, "/fingerprint", &fingerprint));
    (void)snprintf(k->head.fingerprint, sizeof k->head.fingerprint, "%s", fingerprint);
    k->head.config = k->config;
    k->head.identity = k->identity;
    k->head.history = k->history;
done:
    sim_free(fingerprint);
    return st;
}

static sim_status parse(const char *path, char *bytes, size_t n, sim_checkpoint **out)
{
    sim_status st = SIM_OK;
    sim_checkpoint *k = NULL;
    size_t image_bytes = 0;
    sim_hash digest;

    SIM_TRY(sim_new(&k, "checkpoint/file"));
    (void)snprintf(k->path, sizeof k->path, "%s", path);
    k->n_bytes = n;
    SIM_TRY(sim_checkpoint_verify(path, bytes, n, &image_bytes, &digest));
    SIM_TRY(sim_h5_open_image(bytes, image_bytes, k->path, &k->file));
    SIM_TRY(read_head(k));
    SIM_TRY(read_parts(k));
    k->bytes = bytes;
    *out = k;
    k = NULL;
done:
    sim_checkpoint_close(&k);
    return st;
}

sim_status sim_checkpoint_load_file(const char *path, sim_checkpoint **out)
{
    sim_status st = SIM_OK;
    char *bytes = NULL;
    size_t n = 0;

    SIM_TRY(sim_file_load(path, CHECKPOINT_LIMIT_BYTES, &bytes, &n));
    SIM_TRY(parse(path, bytes, n, out));
    bytes = NULL;
done:
    sim_free(bytes);
    return st;
}

void sim_checkpoint_close(sim_checkpoint **out)
{
    sim_checkpoint *k = *out;
    if (!k)
        return;
    sim_h5_close(&k->file);
    sim_json_destroy(&k->parts);
    sim_free(k->bytes);
    sim_free(k->config);
    sim_free(k->identity);
    sim_free(k->history);
    sim_free(k);
    *out = NULL;
}

const sim_checkpoint_head *sim_checkpoint_head_of(const sim_checkpoint *k)
{
    return &k->head;
}

const char *sim_checkpoint_path(const sim_checkpoint *k)
{
    return k->path;
}

/* ---- which one ---- */

/* What is still to be looked at, from the newest down; names are on rank 0 alone. */
typedef struct {
    char folder[4200];
    sim_names names;
    size_t left, refused;
} search;

static sim_status begin_search(const char *run_path, search *s)
{
    sim_status st = SIM_OK;

    (void)snprintf(s->folder, sizeof s->folder, "%s/checkpoints", run_path);
    if (!sim_path_is_directory(s->folder))
        goto done;
    SIM_TRY(sim_directory_list(s->folder, &s->names));
    s->left = s->names.n;
done:
    return st;
}

static void refuse(search *s)
{
    s->refused++;
    sim_log_warn("refused: %s", sim_error_message());
    sim_error_clear();
}

/* Is it certain that the file is no good?  One that cannot be read may be. */
static bool is_harmed(sim_status st)
{
    return st == SIM_E_DATA || st == SIM_E_INPUT;
}

/* The next main file that is good; *out stays NULL when there is none at all. */
static sim_status next_here(search *s, sim_checkpoint **out)
{
    sim_status st = SIM_OK;
    char path[4500];
    int64_t step = 0;

    while (s->left > 0 && !*out) {
        const char *name = s->names.names[--s->left];
        if (!sim_checkpoint_step_of(name, &step))
            continue;
        (void)snprintf(path, sizeof path, "%s/%s", s->folder, name);
        st = sim_checkpoint_load_file(path, out);
        if (is_harmed(st))
            refuse(s);
        else
            SIM_TRY(st);
        st = SIM_OK;
    }
    SIM_CHECK(
        *out || s->refused == 0, SIM_E_DATA,
        "%s: none of its %zu checkpoints is good (reasons above); move them away to "
        "start anew",
        s->folder, s->refused);
done:
    return st;
}

/* Rank 0's file to the other ranks, who verify it themselves. */
static sim_status share(const sim_comm *c, sim_checkpoint **k)
{
    sim_status st = SIM_OK;
    uint64_t n = *k ? (*k)->n_bytes : 0;
    char path[4096] = "", *bytes = NULL;

    sim_comm_broadcast(c, 0, &n, sizeof n);
    if (n == 0 || c->size == 1)
        goto done;
    if (c->rank == 0) {
        SIM_ASSERT(*k); /* it had n bytes */
        (void)snprintf(path, sizeof path, "%s", (*k)->path);
        bytes = (*k)->bytes;
    } else {
        st = sim_alloc(&bytes, (size_t)n + 1, "checkpoint/file");
    }
    SIM_TRY(sim_comm_agree(c, st));
    sim_comm_broadcast(c, 0, path, sizeof path);
    sim_comm_broadcast(c, 0, bytes, (size_t)n);
    if (c->rank != 0)
        st = parse(path, bytes, (size_t)n, k);
    if (c->rank != 0 && st != SIM_OK)
        sim_free(bytes);
    bytes = NULL;
    SIM_TRY(sim_comm_agree(c, st));
done:
    if (c->rank != 0)
        sim_free(bytes);
    return st;
}

/* To all ranks, who look at the parts together. */
static sim_status share_and_verify(const sim_comm *c, sim_checkpoint **k)
{
    sim_status st = SIM_OK;

    SIM_TRY(share(c, k));
    if (*k)
        st = sim_checkpoint_parts_verify(*k, (size_t)c->rank, (size_t)c->size);
    SIM_TRY(sim_comm_agree(c, st));
done:
    return st;
}

sim_status sim_checkpoint_newest(const sim_comm *c, const char *run_path,
                                 sim_checkpoint **out)
{
    sim_status st = SIM_OK;
    sim_checkpoint *k = NULL;
    search s = {.left = 0};

    if (c->rank == 0)
        st = begin_search(run_path, &s);
    SIM_TRY(sim_comm_agree(c, st));
    for (;;) {
        SIM_TRY(sim_comm_agree(c, c->rank == 0 ? next_here(&s, &k) : SIM_OK));
        st = share_and_verify(c, &k);
        if (st != SIM_E_DATA)
            break;
        refuse(&s); /* all ranks: they learned it together */
        sim_checkpoint_close(&k);
    }
    SIM_TRY(st);
    *out = k;
    k = NULL;
done:
    sim_names_clear(&s.names);
    sim_checkpoint_close(&k);
    return st;
}

/* A checkpoint by the name of its file. */
static sim_status open_file(const sim_comm *c, const char *path, sim_checkpoint **out)
{
    sim_status st = SIM_OK;

    if (c->rank == 0)
        st = sim_checkpoint_load_file(path, out);
    SIM_TRY(sim_comm_agree(c, st));
    SIM_TRY(share_and_verify(c, out));
done:
    return st;
}

sim_status sim_checkpoint_open(const sim_comm *c, const char *path, sim_checkpoint **out)
{
    sim_status st = SIM_OK;
    sim_checkpoint *k = NULL;
    int64_t folder = c->rank == 0 && sim_path_is_directory(path);

    sim_comm_max_i64(c, &folder, 1);
    SIM_TRY(folder ? sim_checkpoint_newest(c, path, &k) : open_file(c, path, &k));
    SIM_CHECK(k, SIM_E_INPUT, "%s holds no checkpoint", path);
    *out = k;
    k = NULL;
done:
    sim_checkpoint_close(&k);
    return st;
}

/* ---- filling ---- */

typedef struct {
    const sim_h5 *file;
    const sim_checkpoint *checkpoint; /* that the file is of; NULL with --init */
    const char *path;
    bool optional_heads; /* --init: only the encoder must be there */
    size_t missing;
} filler;

static void shape_text(int n_dims, const size_t *dims, char *out, size_t out_bytes)
{
    (void)snprintf(out, out_bytes, "%s", n_dims ? "" : "one number");
    for (int i = 0; i < n_dims; i++) {
        size_t at = strlen(out);
        (void)snprintf(out + at, out_bytes - at, "%s%zu", i ? " x " : "", dims[i]);
    }
}

static sim_status check_dims(const filler *f, const char *name, const sim_tensor *t)
{
    sim_status st = SIM_OK;
    sim_h5_shape s;

    SIM_TRY(sim_h5_shape_of(f->file, name, &s));
    bool same = s.n_dims == t->n_dims;
    for (int i = 0; same && i < t->n_dims; i++)
        same = s.dims[i] == t->dims[i];
    char has[128], wants[128];
    shape_text(s.n_dims, s.dims, has, sizeof has);
    shape_text(t->n_dims, t->dims, wants, sizeof wants);
    SIM_CHECK(same, SIM_E_DATA,
              "%s: %s has another shape than the encoder or head here: %s, expected %s "
              "(another job, or images of other channels)",
              f->path, name, has, wants);
done:
    return st;
}

static sim_status check_values(const filler *f, const char *name, const sim_tensor *t,
                               size_t n)
{
    sim_status st = SIM_OK;
    const char *last = strrchr(name, '.');
    bool variance = last && strcmp(last, ".running_var") == 0;

    for (size_t i = 0; t->type == SIM_F32 && i < n; i++) {
        const float x = ((const float *)t->data)[i];
        SIM_CHECK(isfinite(x), SIM_E_DATA, "%s: %s holds a value that is not finite",
                  f->path, name);
        SIM_CHECK(!variance || x >= 0, SIM_E_DATA,
                  "%s: %s holds %g, but a variance is not negative", f->path, name,
                  (double)x);
    }
done:
    return st;
}

/* The values of a tensor from wherever they stand. */
static sim_status read_values(const filler *f, const char *name, const sim_tensor *t,
                              size_t n)
{
    sim_status st = SIM_OK;
    const sim_json *parted =
        f->checkpoint ? sim_checkpoint_find_parted(f->checkpoint, name + 1) : NULL;
    sim_tensor named = *t;

    if (parted) {
        named.name = name + 1;
        SIM_TRY(sim_checkpoint_parts_read(f->checkpoint, parted, &named));
        goto done;
    }
    SIM_TRY(check_dims(f, name, t));
    SIM_TRY(sim_h5_read(f->file, name, t->type, t->sharded ? t->row_lo : 0,
                        t->sharded ? t->row_hi - t->row_lo : SIM_H5_ALL, t->data, n));
done:
    return st;
}

static sim_status fill_tensor(void *ctx, const char *group, const sim_tensor *t)
{
    sim_status st = SIM_OK;
    filler *f = ctx;
    char name[192];
    size_t n = sim_tensor_count(t), rows = t->row_hi - t->row_lo;

    (void)snprintf(name, sizeof name, "/%s/%s", group, t->name);
    if (f->optional_heads && !sim_h5_has(f->file, name)) {
        bool count = strstr(name, "num_batches_tracked") != NULL;
        SIM_CHECK(count || strncmp(name, "/weights/encoder/", 17) != 0, SIM_E_DATA,
                  "%s has no %s", f->path, name);
        f->missing += !count;
        goto done;
    }
    if (t->sharded)
        n = rows * (sim_tensor_row_bytes(t) / sim_type_bytes(t->type));
    SIM_TRY(read_values(f, name, t, n));
    SIM_TRY(check_values(f, name, t, n));
done:
    return st;
}

sim_status sim_checkpoint_load(const sim_checkpoint *k, const sim_state_source *sources,
                               size_t n_sources)
{
    sim_status st = SIM_OK;
    filler f = {.file = k->file, .checkpoint = k, .path = k->path};
    const sim_visitor v = {.see = fill_tensor, .ctx = &f};
    for (size_t i = 0; i < n_sources; i++)
        SIM_TRY(sources[i].visit(sources[i].object, &v));
done:
    return st;
}

sim_status sim_weights_load(const char *path, const sim_state_source *sources,
                            size_t n_sources, size_t *n_missing)
{
    sim_status st = SIM_OK;
    sim_h5 *file = NULL;
    char *bytes = NULL;
    size_t n = 0, image_bytes = 0;
    sim_hash digest;
    filler f = {.path = path, .optional_heads = true};
    const sim_visitor v = {.see = fill_tensor, .ctx = &f};

    SIM_TRY(sim_file_load(path, CHECKPOINT_LIMIT_BYTES, &bytes, &n));
    SIM_CHECK(n > 0, SIM_E_DATA, "%s is empty, expected an HDF5 file", path);
    image_bytes = n;
    if (sim_checkpoint_is_sealed(bytes, n))
        SIM_TRY(sim_checkpoint_verify(path, bytes, n, &image_bytes, &digest));
    SIM_TRY(sim_h5_open_image(bytes, image_bytes, path, &file));
    f.file = file;
    for (size_t i = 0; i < n_sources; i++)
        SIM_TRY(sources[i].visit(sources[i].object, &v));
    *n_missing = f.missing;
done:
    sim_h5_close(&file);
    sim_free(bytes);
    return st;
}

/* ---- describing ---- */

typedef struct {
    sim_json *list;
    const char *hashes;
} describer;

/* The hex after "name " in the lines of /hashes. */
static void hash_of(const char *lines, const char *name, char out[33])
{
    size_t n = strlen(name);
    out[0] = '\0';
    for (const char *p = lines; (p = strstr(p, name)) != NULL; p += n)
        if ((p == lines || p[-1] == '\n') && p[n] == ' ') {
            (void)snprintf(out, 33, "%.32s", p + n + 1);
            return;
        }
}

/* A tensor with name and hash, and an empty list of dims. */
static sim_json *add_tensor(describer *d, const char *name, sim_json **dims)
{
    char hex[33];
    sim_json *j = sim_json_object(d->list, NULL);
    sim_json_text(j, "name", name);
    *dims = sim_json_array(j, "dims");
    hash_of(d->hashes, name, hex);
    sim_json_text(j, "hash", hex);
    return j;
}

static sim_status describe_tensor(void *ctx, const sim_tensor *t)
{
    sim_json *dims = NULL;
    if (!strchr(t->name, '/'))
        return SIM_OK; /* the head's own texts and numbers */
    (void)add_tensor(ctx, t->name, &dims);
    for (int i = 0; i < t->n_dims; i++)
        sim_json_int(dims, NULL, (int64_t)t->dims[i]);
    return SIM_OK;
}

static void describe_parted(const sim_checkpoint *k, describer *d)
{
    const sim_json *parted = NULL;
    for (size_t i = 0; (parted = sim_checkpoint_parted_tensor(k, i)) != NULL; i++) {
        sim_json *files = NULL, *dims = NULL;
        const char *name = "";
        if (!sim_json_get_text(parted, "tensor", &name) ||
            !sim_json_get_object(parted, "files", &files) ||
            !sim_json_get_object(parted, "dims", &dims))
            continue;
        sim_json *out = NULL, *j = add_tensor(d, name, &out);
        for (size_t n = 0; n < sim_json_size(dims); n++)
            sim_json_int(out, NULL, sim_json_int_at(dims, n));
        sim_json_int(j, "parts", (int64_t)sim_json_size(files));
    }
}

sim_status sim_checkpoint_describe(const sim_checkpoint *k, sim_json *out)
{
    sim_status st = SIM_OK;
    char *weights = NULL, *hashes = NULL;

    SIM_TRY(sim_h5_read_text(k->file, "/weights_hash", &weights));
    SIM_TRY(sim_h5_read_text(k->file, "/hashes", &hashes));
    sim_json_text(out, "checkpoint", k->path);
    sim_json_int(out, "step", k->head.step);
    sim_json_int(out, "epoch", k->head.epoch);
    sim_json_int(out, "samples", k->head.samples);
    sim_json_text(out, "identity", k->head.identity);
    sim_json_text(out, "fingerprint", k->head.fingerprint);
    sim_json_text(out, "weights_hash", weights);
    describer d = {sim_json_array(out, "tensors"), hashes};
    SIM_TRY(sim_h5_visit(k->file, "/", describe_tensor, &d));
    describe_parted(k, &d);
done:
    sim_free(weights);
    sim_free(hashes);
    return st;
}
