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

static uint64_t get_le64(const unsigned char *p)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v |= (uint64_t)p[i] << 8 * i;
    return v;
}

static sim_status verify(const char *path, const char *bytes, size_t n,
                         size_t *image_bytes)
{
    sim_status st = SIM_OK;
    static const unsigned char zeros[TRAILER_BYTES] = {0};

    SIM_CHECK(n > TRAILER_BYTES, SIM_E_DATA, "%s has %zu bytes and is no checkpoint",
              path, n);
    const unsigned char *t = (const unsigned char *)bytes + n - TRAILER_BYTES;
    SIM_CHECK(memcmp(t, TRAILER_MAGIC, 16) == 0, SIM_E_DATA,
              "%s has no checkpoint's end mark: it was cut, or is no checkpoint", path);
    SIM_CHECK(get_le64(t + 16) == n - TRAILER_BYTES, SIM_E_DATA,
              "%s: %zu bytes, but its end mark tells %llu: it was cut or joined", path,
              n - TRAILER_BYTES, (unsigned long long)get_le64(t + 16));
    SIM_CHECK(memcmp(t + 40, zeros, TRAILER_BYTES - 40) == 0, SIM_E_DATA,
              "%s: its end mark is damaged", path);
    sim_hash h = sim_hash_bytes(bytes, n - TRAILER_BYTES);
    SIM_CHECK(h.low == get_le64(t + 24) && h.high == get_le64(t + 32), SIM_E_DATA,
              "%s does not have its digest: a bit of it was changed", path);
    *image_bytes = n - TRAILER_BYTES;
done:
    return st;
}

static sim_status read_int(const sim_h5 *f, const char *name, int64_t *out)
{
    return sim_h5_read(f, name, SIM_I64, 0, SIM_H5_ALL, out, 1);
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
    SIM_CHECK(!checkpoint_step_of(name, &named) || named == k->head.step, SIM_E_DATA,
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

    SIM_TRY(sim_new(&k, "checkpoint/file"));
    (void)snprintf(k->path, sizeof k->path, "%s", path);
    SIM_TRY(verify(path, bytes, n, &k->image_bytes));
    SIM_TRY(sim_h5_open_image(bytes, k->image_bytes, k->path, &k->file));
    SIM_TRY(read_head(k));
    k->bytes = bytes;
    *out = k;
    k = NULL;
done:
    sim_checkpoint_close(&k);
    return st;
}

enum { FILE_LIMIT_BITS = 40 };

sim_status checkpoint_load_file(const char *path, sim_checkpoint **out)
{
    sim_status st = SIM_OK;
    char *bytes = NULL;
    size_t n = 0;

    SIM_TRY(sim_file_load(path, (size_t)1 << FILE_LIMIT_BITS, &bytes, &n));
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

/* On rank 0: the newest good file of a folder; NULL and SIM_OK when there is none at all. */
static sim_status newest_here(const char *run_path, sim_checkpoint **out)
{
    sim_status st = SIM_OK;
    sim_names names = {0};
    char folder[4200], path[4500];
    int64_t step = 0;
    size_t refused = 0;

    (void)snprintf(folder, sizeof folder, "%s/checkpoints", run_path);
    if (!sim_path_is_directory(folder))
        goto done;
    SIM_TRY(sim_directory_list(folder, &names));
    for (size_t i = names.n; i-- > 0 && !*out;) {
        if (!checkpoint_step_of(names.names[i], &step))
            continue;
        (void)snprintf(path, sizeof path, "%s/%s", folder, names.names[i]);
        if (checkpoint_load_file(path, out) == SIM_OK)
            break;
        refused++;
        sim_log_warn("refused: %s", sim_story());
    }
    sim_story_clear();
    SIM_CHECK(
        *out || refused == 0, SIM_E_DATA,
        "%s: none of its %zu checkpoints is good (reasons above); move them away to "
        "start anew",
        folder, refused);
done:
    sim_names_clear(&names);
    return st;
}

/* Rank 0's file to the other ranks, who verify it themselves. */
static sim_status share(const sim_comm *c, sim_checkpoint **k)
{
    sim_status st = SIM_OK;
    uint64_t n = *k ? (*k)->image_bytes + TRAILER_BYTES : 0;
    char path[4096] = "", *bytes = NULL;

    sim_comm_broadcast(c, 0, &n, sizeof n);
    if (n == 0 || c->size == 1)
        goto done;
    if (c->rank == 0) {
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

sim_status sim_checkpoint_newest(const sim_comm *c, const char *run_path,
                                 sim_checkpoint **out)
{
    sim_status st = SIM_OK;
    sim_checkpoint *k = NULL;

    if (c->rank == 0)
        st = newest_here(run_path, &k);
    SIM_TRY(sim_comm_agree(c, st));
    SIM_TRY(share(c, &k));
    *out = k;
    k = NULL;
done:
    sim_checkpoint_close(&k);
    return st;
}

sim_status sim_checkpoint_open(const sim_comm *c, const char *path, sim_checkpoint **out)
{
    sim_status st = SIM_OK;
    sim_checkpoint *k = NULL;

    if (c->rank == 0 && !sim_path_is_directory(path))
        st = checkpoint_load_file(path, &k);
    else if (c->rank == 0)
        st = newest_here(path, &k);
    if (c->rank == 0 && st == SIM_OK && !k)
        st = sim_story_begin(SIM_E_INPUT, __FILE__, __LINE__, "%s holds no checkpoint",
                             path);
    SIM_TRY(sim_comm_agree(c, st));
    SIM_TRY(share(c, &k));
    *out = k;
    k = NULL;
done:
    sim_checkpoint_close(&k);
    return st;
}

/* ---- filling ---- */

typedef struct {
    const sim_h5 *file;
    const char *path;
    bool optional_heads; /* --init: only the encoder must be there */
    size_t missing;
} filler;

static sim_status check_dims(const filler *f, const char *name, const sim_tensor *t)
{
    sim_status st = SIM_OK;
    sim_h5_shape s;

    SIM_TRY(sim_h5_shape_of(f->file, name, &s));
    bool same = s.n_dims == t->n_dims;
    for (int i = 0; same && i < t->n_dims; i++)
        same = s.dims[i] == t->dims[i];
    SIM_CHECK(
        same, SIM_E_DATA,
        "%s: %s has another shape than this job's encoder or head (first dimension %zu, "
        "expected %zu)",
        f->path, name, s.n_dims ? s.dims[0] : 0, t->n_dims ? t->dims[0] : 0);
done:
    return st;
}

static sim_status check_finite(const filler *f, const char *name, const sim_tensor *t,
                               size_t n)
{
    sim_status st = SIM_OK;
    for (size_t i = 0; t->type == SIM_F32 && i < n; i++)
        SIM_CHECK(isfinite(((const float *)t->data)[i]), SIM_E_DATA,
                  "%s: %s holds a value that is not finite", f->path, name);
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
    SIM_TRY(check_dims(f, name, t));
    if (t->sharded)
        n = rows * (sim_tensor_row_bytes(t) / sim_type_bytes(t->type));
    SIM_TRY(sim_h5_read(f->file, name, t->type, t->sharded ? t->row_lo : 0,
                        t->sharded ? rows : SIM_H5_ALL, t->data, n));
    SIM_TRY(check_finite(f, name, t, n));
done:
    return st;
}

sim_status sim_checkpoint_load(const sim_checkpoint *k, const sim_state_source *sources,
                               size_t n_sources)
{
    sim_status st = SIM_OK;
    filler f = {.file = k->file, .path = k->path};
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
    filler f = {.path = path, .optional_heads = true};
    const sim_visitor v = {.see = fill_tensor, .ctx = &f};

    SIM_TRY(sim_h5_open_read(path, &file));
    f.file = file;
    for (size_t i = 0; i < n_sources; i++)
        SIM_TRY(sources[i].visit(sources[i].object, &v));
    *n_missing = f.missing;
done:
    sim_h5_close(&file);
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

static sim_status describe_tensor(void *ctx, const sim_tensor *t)
{
    describer *d = ctx;
    char hex[33];
    if (!strchr(t->name, '/'))
        return SIM_OK; /* the head's own texts and numbers */
    sim_json *j = sim_json_object(d->list, NULL);
    sim_json_text(j, "name", t->name);
    sim_json *dims = sim_json_array(j, "dims");
    for (int i = 0; i < t->n_dims; i++)
        sim_json_int(dims, NULL, (int64_t)t->dims[i]);
    hash_of(d->hashes, t->name, hex);
    sim_json_text(j, "hash", hex);
    return SIM_OK;
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
    SIM_TRY(sim_h5_walk(k->file, "/", describe_tensor, &d));
done:
    sim_free(weights);
    sim_free(hashes);
    return st;
}
