/*
 * read.c - opens checkpoints and loads their tensors into the objects of a job.
 *
 * Rank 0 reads a file and broadcasts its bytes; every rank verifies the digest before
 * HDF5 parses them.  Part files are read by the ranks that need their rows.
 */
#include "private.h"

#include "simile/file.h"
#include "simile/log.h"
#include "simile/memory.h"
#include "simile/text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static sim_status read_count(const sim_checkpoint *k, const char *name, int64_t *out)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_h5_read(k->file, name, SIM_I64, 0, SIM_H5_ALL, out, 1));
    SIM_CHECK(*out >= 0 && *out <= (int64_t)SIM_MAX_COUNT, SIM_E_DATA,
              "%s: %s is %lld, expected 0 to %lld", k->path, name, (long long)*out,
              (long long)SIM_MAX_COUNT);
done:
    return st;
}

static sim_status read_head(sim_checkpoint *k)
{
    sim_status st = SIM_OK;
    char *fingerprint = NULL;
    int64_t named = 0;
    const char *slash = strrchr(k->path, '/'), *name = slash ? slash + 1 : k->path;

    SIM_TRY(sim_checkpoint_check_format(k->file, k->path, CHECKPOINT_FORMAT));
    SIM_TRY(read_count(k, "/step", &k->head.step));
    SIM_TRY(read_count(k, "/epoch", &k->head.epoch));
    SIM_TRY(read_count(k, "/samples", &k->head.samples));
    SIM_CHECK(!sim_checkpoint_step_of(name, &named) || named == k->head.step, SIM_E_DATA,
              "%s contains step %lld, but is named as step %lld; rename it", k->path,
              (long long)k->head.step, (long long)named);
    SIM_TRY(sim_h5_read_text(k->file, "/config", &k->config));
    SIM_TRY(sim_h5_read_text(k->file, "/identity", &k->identity));
    SIM_TRY(sim_h5_read_text(k->file, "/history", &k->history));
    SIM_TRY(sim_h5_read_text(k->file, "/fingerprint", &fingerprint));
    (void)snprintf(k->head.fingerprint, sizeof k->head.fingerprint, "%s", fingerprint);
    if (sim_h5_has(k->file, "/preprocessing"))
        SIM_TRY(sim_h5_read_text(k->file, "/preprocessing", &k->preprocessing));
    k->head.preprocessing = k->preprocessing;
    k->head.config = k->config;
    k->head.identity = k->identity;
    k->head.history = k->history;
done:
    sim_free(fingerprint);
    return st;
}

/* Verifies and opens the bytes of a file; takes ownership of `bytes` on success. */
static sim_status open_bytes(const char *path, char *bytes, size_t n,
                             sim_checkpoint **out)
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
    SIM_TRY(sim_checkpoint_parts_load(k));
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
    SIM_TRY(open_bytes(path, bytes, n, out));
    bytes = NULL;
done:
    sim_free(bytes);
    return st;
}

sim_status sim_checkpoint_open_image(const char *path, const void *image, size_t n,
                                     sim_checkpoint **out)
{
    sim_status st = SIM_OK;
    char *bytes = NULL;
    size_t n_bytes = 0;

    SIM_TRY(sim_checkpoint_seal_copy(image, n, &bytes, &n_bytes));
    SIM_TRY(open_bytes(path, bytes, n_bytes, out));
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
    sim_free(k->parted);
    sim_json_destroy(&k->parts);
    sim_free(k->bytes);
    sim_free(k->config);
    sim_free(k->preprocessing);
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

/* ---- selection of a checkpoint ---- */

/* Search for the newest valid file, from the highest step down. `names` is filled on rank 0 only. */
typedef struct {
    char directory[4200];
    sim_names names;
    size_t n_left, n_skipped;
} search;

/* Only exact names count: a copy such as step-30.h5 is neither a checkpoint nor deleted. */
static void warn_of_other_names(const search *s)
{
    int64_t step = 0;

    for (size_t i = 0; i < s->names.n; i++) {
        const char *name = s->names.names[i];
        const size_t n = strlen(name);
        if (n > 3 && strcasecmp(name + n - 3, ".h5") == 0 &&
            strncasecmp(name, "step-", strlen("step-")) == 0 &&
            !sim_checkpoint_step_of(name, &step) &&
            !sim_checkpoint_part_step_of(name, &step))
            sim_log_warn(
                "%s/%s is ignored: checkpoints are named step-NNNNNNNNN.h5, with at "
                "least 9 digits",
                s->directory, name);
    }
}

static sim_status begin_search(const char *run_path, search *s)
{
    sim_status st = SIM_OK;

    (void)snprintf(s->directory, sizeof s->directory, "%s/checkpoints", run_path);
    if (!sim_path_is_directory(s->directory))
        goto done;
    SIM_TRY(sim_directory_list(s->directory, &s->names));
    s->n_left = s->names.n;
    warn_of_other_names(s);
done:
    return st;
}

/* Logs the pending error as the reason why a file is skipped. */
static void log_skipped(search *s)
{
    s->n_skipped++;
    sim_log_warn("checkpoint skipped: %s", sim_error_message());
    sim_error_clear();
}

/* A corrupted or missing file is skipped.  One that cannot be read (I/O error, permission,
 * memory) may be good, so the search fails instead of resuming from an older step. */
static bool may_skip(sim_status st)
{
    return st == SIM_E_DATA || st == SIM_E_INPUT;
}

/* Rank 0: opens the next good main file.  *out stays NULL if there are no files. */
static sim_status open_next_good(search *s, sim_checkpoint **out)
{
    sim_status st = SIM_OK;
    char path[4500];
    int64_t step = 0;

    while (s->n_left > 0 && !*out) {
        const char *name = s->names.names[--s->n_left];
        if (!sim_checkpoint_step_of(name, &step))
            continue;
        (void)snprintf(path, sizeof path, "%s/%s", s->directory, name);
        st = sim_checkpoint_load_file(path, out);
        if (may_skip(st))
            log_skipped(s);
        else
            SIM_TRY(st);
        st = SIM_OK;
    }
    SIM_CHECK(*out || s->n_skipped == 0, SIM_E_DATA,
              "%s: none of its %zu checkpoints can be loaded (reasons above); move them "
              "away to start from scratch",
              s->directory, s->n_skipped);
done:
    return st;
}

/* Broadcasts rank 0's file; the other ranks verify and open their copy.  Collective. */
static sim_status broadcast_file(const sim_comm *c, sim_checkpoint **k)
{
    sim_status st = SIM_OK;
    uint64_t n = *k ? (*k)->n_bytes : 0;
    char path[4096] = "", *bytes = NULL;

    sim_comm_broadcast(c, 0, &n, sizeof n);
    if (n == 0 || c->size == 1)
        goto done;
    if (c->rank == 0) {
        SIM_ASSERT(*k); /* n > 0 */
        (void)snprintf(path, sizeof path, "%s", (*k)->path);
        bytes = (*k)->bytes;
    } else {
        st = sim_alloc(&bytes, (size_t)n + 1, "checkpoint/file");
    }
    SIM_TRY(sim_comm_agree(c, st));
    sim_comm_broadcast(c, 0, path, sizeof path);
    sim_comm_broadcast(c, 0, bytes, (size_t)n);
    if (c->rank != 0)
        st = open_bytes(path, bytes, (size_t)n, k);
    if (c->rank != 0 && st != SIM_OK)
        sim_free(bytes);
    bytes = NULL;
    SIM_TRY(sim_comm_agree(c, st));
done:
    if (c->rank != 0)
        sim_free(bytes);
    return st;
}

sim_status sim_checkpoint_share(const sim_comm *c, sim_checkpoint **k)
{
    return broadcast_file(c, k);
}

/* Broadcasts the main file; the ranks then share the verification of its part files. */
static sim_status broadcast_and_verify(const sim_comm *c, sim_checkpoint **k)
{
    sim_status st = SIM_OK;

    SIM_TRY(broadcast_file(c, k));
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
    search s = {.n_left = 0};

    if (c->rank == 0)
        st = begin_search(run_path, &s);
    SIM_TRY(sim_comm_agree(c, st));
    for (;;) {
        SIM_TRY(sim_comm_agree(c, c->rank == 0 ? open_next_good(&s, &k) : SIM_OK));
        st = broadcast_and_verify(c, &k);
        if (st != SIM_E_DATA)
            break;
        log_skipped(&s); /* on all ranks: st is the agreed status */
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

static sim_status open_named(const sim_comm *c, const char *path, sim_checkpoint **out)
{
    sim_status st = SIM_OK;

    if (c->rank == 0)
        st = sim_path_explain(sim_checkpoint_load_file(path, out), path,
                              SIM_USE_CHECKPOINT);
    SIM_TRY(sim_comm_agree(c, st));
    SIM_TRY(broadcast_and_verify(c, out));
done:
    return st;
}

/* Only rank 0, whose message is printed, accesses the disk. */
static sim_status refuse_empty(const sim_comm *c, const char *path)
{
    sim_status st = SIM_OK;
    SIM_FAIL(SIM_E_INPUT, "%s holds no checkpoint", path);
done:
    return c->rank == 0 ? sim_path_explain(st, path, SIM_USE_CHECKPOINT) : st;
}

sim_status sim_checkpoint_open(const sim_comm *c, const char *path, sim_checkpoint **out)
{
    sim_status st = SIM_OK;
    sim_checkpoint *k = NULL;
    int64_t is_directory = c->rank == 0 && sim_path_is_directory(path);

    sim_comm_max_i64(c, &is_directory, 1);
    SIM_TRY(is_directory ? sim_checkpoint_newest(c, path, &k) : open_named(c, path, &k));
    if (!k)
        SIM_TRY(refuse_empty(c, path));
    *out = k;
    k = NULL;
done:
    sim_checkpoint_close(&k);
    return st;
}

/* ---- loading of tensors ---- */

typedef struct {
    const sim_h5 *file;
    const sim_checkpoint *checkpoint; /* owner of `file`; NULL for --init */
    const char *path;
    bool heads_are_optional; /* --init: only encoder weights are required */
    size_t n_missing;
} loader;

static sim_status check_dims(const loader *f, const char *name, const sim_tensor *t)
{
    sim_status st = SIM_OK;
    sim_h5_shape s;

    SIM_TRY(sim_h5_shape_of(f->file, name, &s));
    SIM_TRY(sim_checkpoint_check_dims(f->path, name + 1, s.n_dims, s.dims, t));
done:
    return st;
}

/* Element i of the read values, as a double.  Integers up to 2^53 are exact. */
static double value_at(const sim_tensor *t, size_t i)
{
    switch (t->type) {
    case SIM_F32:
        return (double)((const float *)t->data)[i];
    case SIM_F64:
        return ((const double *)t->data)[i];
    case SIM_I64:
        return (double)((const int64_t *)t->data)[i];
    case SIM_U64:
        return (double)((const uint64_t *)t->data)[i];
    case SIM_I32:
        return (double)((const int32_t *)t->data)[i];
    case SIM_U16:
        return (double)((const uint16_t *)t->data)[i];
    case SIM_U8:
        return (double)((const uint8_t *)t->data)[i];
    }
    return (double)NAN;
}

static sim_status check_values(const loader *f, const char *name, const sim_tensor *t,
                               size_t n)
{
    sim_status st = SIM_OK;

    if (!t->bounded && t->type != SIM_F32)
        goto done;
    for (size_t i = 0; i < n; i++) {
        const double x = value_at(t, i);
        SIM_CHECK(isfinite(x), SIM_E_DATA, "%s: %s has a value that is not finite",
                  f->path, name);
        SIM_CHECK(!t->bounded || (x >= t->least && x <= t->most), SIM_E_DATA,
                  "%s: %s has the value %.17g, expected %.9g to %.9g", f->path, name, x,
                  t->least, t->most);
    }
done:
    return st;
}

/* Reads a tensor, or this rank's rows of it, from the main file or from part files. */
static sim_status read_values(const loader *f, const char *name, const sim_tensor *t,
                              size_t n)
{
    sim_status st = SIM_OK;
    const parted_tensor *parted =
        f->checkpoint ? sim_checkpoint_find_parted(f->checkpoint, name + 1) : NULL;

    if (parted) {
        SIM_TRY(sim_checkpoint_parts_read(f->checkpoint, parted, t));
        goto done;
    }
    SIM_TRY(check_dims(f, name, t));
    SIM_TRY(sim_h5_read(f->file, name, t->type, t->sharded ? t->row_lo : 0,
                        t->sharded ? t->row_hi - t->row_lo : SIM_H5_ALL, t->data, n));
done:
    return st;
}

enum { MAX_STEM_WEIGHTS = 1 << 24 };

/* The first convolution of an encoder, whose weights may be for images of another number of channels. */
static bool is_stem(const char *name)
{
    static const char end[] = "/encoder/conv1.weight";
    return sim_text_ends_with(name, end);
}

static bool has_other_channels(const sim_h5_shape *s, const sim_tensor *t)
{
    return s->n_dims == 4 && t->n_dims == 4 && s->dims[0] == t->dims[0] &&
           s->dims[1] != t->dims[1] && s->dims[2] == t->dims[2] &&
           s->dims[3] == t->dims[3];
}

static sim_status load_stem(const loader *f, const char *name, const sim_tensor *t)
{
    sim_status st = SIM_OK;
    sim_h5_shape s;
    void *weights = NULL;

    SIM_TRY(sim_h5_shape_of(f->file, name, &s));
    if (!has_other_channels(&s, t)) {
        SIM_TRY(read_values(f, name, t, sim_tensor_count(t)));
        goto done;
    }
    SIM_TRY(sim_h5_read_new(f->file, name, SIM_F32, MAX_STEM_WEIGHTS, &weights, &s));
    sim_checkpoint_adapt_channels(weights, s.dims[1], t);
    sim_log("%s: the filters of conv1 for %zu channel%s become filters for %zu (%s)",
            f->path, s.dims[1], s.dims[1] == 1 ? "" : "s", t->dims[1],
            t->dims[1] == 1 ? "their sum"
                            : "repeated and multiplied by the ratio of the numbers");
done:
    if (st == SIM_OK)
        st = check_values(f, name, t, sim_tensor_count(t));
    sim_free(weights);
    return st;
}

static sim_status load_tensor(void *ctx, const char *group, const sim_tensor *t)
{
    sim_status st = SIM_OK;
    loader *f = ctx;
    char name[192];
    size_t n = sim_tensor_count(t), rows = t->row_hi - t->row_lo;

    (void)snprintf(name, sizeof name, "/%s/%s", group, t->name);
    if (t->optional && !sim_h5_has(f->file, name))
        goto done;
    if (f->heads_are_optional && !sim_h5_has(f->file, name)) {
        bool is_counter = strstr(name, "num_batches_tracked") != NULL;
        SIM_CHECK(is_counter || strncmp(name, "/weights/encoder/", 17) != 0, SIM_E_DATA,
                  "%s has no tensor %s, which the encoder requires", f->path, name);
        f->n_missing += !is_counter;
        goto done;
    }
    if (f->heads_are_optional && is_stem(name)) {
        SIM_TRY(load_stem(f, name, t));
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
    loader f = {.file = k->file, .checkpoint = k, .path = k->path};
    const sim_visitor v = {.visit = load_tensor, .ctx = &f};
    for (size_t i = 0; i < n_sources; i++)
        SIM_TRY(sources[i].visit(sources[i].object, &v));
done:
    return st;
}

sim_status sim_checkpoint_load_weights(const sim_checkpoint *k,
                                       const sim_state_source *sources, size_t n_sources,
                                       size_t *n_missing)
{
    sim_status st = SIM_OK;
    loader f = {
        .file = k->file, .checkpoint = k, .path = k->path, .heads_are_optional = true};
    const sim_visitor v = {.visit = load_tensor, .ctx = &f};

    for (size_t i = 0; i < n_sources; i++)
        SIM_TRY(sources[i].visit(sources[i].object, &v));
    *n_missing = f.n_missing;
done:
    return st;
}

sim_status sim_weights_load(const char *path, const sim_state_source *sources,
                            size_t n_sources, size_t *n_missing, char **preprocessing)
{
    sim_status st = SIM_OK;
    sim_h5 *file = NULL;
    char *bytes = NULL;
    size_t n = 0, image_bytes = 0;
    sim_hash digest;
    loader f = {.path = path, .heads_are_optional = true};
    const sim_visitor v = {.visit = load_tensor, .ctx = &f};

    SIM_TRY(sim_file_load(path, CHECKPOINT_LIMIT_BYTES, &bytes, &n));
    SIM_CHECK(n > 0, SIM_E_DATA, "%s is empty, expected an HDF5 file", path);
    image_bytes = n;
    const bool sealed = sim_checkpoint_is_sealed(bytes, n);
    if (sealed)
        SIM_TRY(sim_checkpoint_verify(path, bytes, n, &image_bytes, &digest));
    SIM_TRY(sim_h5_open_image(bytes, image_bytes, path, &file));
    if (sealed)
        SIM_TRY(sim_checkpoint_check_format(file, path, CHECKPOINT_FORMAT));
    f.file = file;
    for (size_t i = 0; i < n_sources; i++)
        SIM_TRY(sources[i].visit(sources[i].object, &v));
    if (sim_h5_has(file, "/preprocessing"))
        SIM_TRY(sim_h5_read_text(file, "/preprocessing", preprocessing));
    *n_missing = f.n_missing;
done:
    sim_h5_close(&file);
    sim_free(bytes);
    return sim_path_explain(st, path, SIM_USE_WEIGHTS);
}
