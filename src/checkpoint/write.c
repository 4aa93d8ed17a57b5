/*
 * write.c - writes a checkpoint: an HDF5 image built in memory, a trailer with its digest,
 * and one atomic replacement of the file, after the part files of large tensors.
 *
 * The bytes do not depend on the number of ranks: shards are written in global order.
 */
#include "private.h"

#include "simile/file.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- sizes ---- */

static sim_status add_bytes(void *ctx, const char *group, const sim_tensor *t)
{
    size_t *n = ctx;
    (void)group;
    if (!sim_checkpoint_is_parted(t))
        *n += sim_tensor_count(t) * sim_type_bytes(t->type) +
              2048; /* HDF5 headers, upper bound */
    return SIM_OK;
}

sim_status sim_checkpoint_bytes(const sim_state_source *sources, size_t n_sources,
                                size_t *n_bytes)
{
    sim_status st = SIM_OK;
    const sim_visitor v = {.visit = add_bytes, .ctx = n_bytes};
    *n_bytes = 0;
    for (size_t i = 0; i < n_sources; i++)
        SIM_TRY(sources[i].visit(sources[i].object, &v));
done:
    return st;
}

/* ---- hashes of weights ---- */

typedef struct {
    char name[192];
    sim_hash hash;
    sim_tensor tensor; /* if not sharded; its data is borrowed from the source */
} named_hash;

typedef struct {
    named_hash *list;
    size_t n, capacity;
} hashes;

static sim_status add_entry(hashes *h, const char *name, named_hash **out)
{
    sim_status st = SIM_OK;

    if (h->n == h->capacity) {
        h->capacity = h->capacity ? 2 * h->capacity : 128;
        SIM_TRY(sim_grow(&h->list, h->capacity, "checkpoint/hashes"));
    }
    named_hash *e = &h->list[h->n++];
    (void)snprintf(e->name, sizeof e->name, "%s", name);
    *out = e;
done:
    return st;
}

static sim_status add_hash(hashes *h, const char *name, const sim_tensor *t)
{
    sim_status st = SIM_OK;
    named_hash *e = NULL;
    sim_tensor named = *t;

    SIM_TRY(add_entry(h, name, &e));
    named.name = e->name;
    e->hash = sim_tensor_hash(&named);
    e->tensor = *t;
done:
    return st;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const named_hash *)a)->name, ((const named_hash *)b)->name);
}

/*
 * One hash over all float32 tensors below /weights, sorted by path.  Per tensor: path
 * ("/weights/encoder/conv1.weight"), dims (uint64 LE each), values.
 */
static sim_status weights_hash_of(hashes *h, sim_hash *out)
{
    sim_status st = SIM_OK;
    sim_hasher *hasher = NULL;

    SIM_TRY(sim_hasher_create(&hasher));
    if (h->n)
        qsort(h->list, h->n, sizeof *h->list, compare_names);
    for (size_t i = 0; i < h->n; i++) {
        const sim_tensor *t = &h->list[i].tensor;
        uint64_t dims[SIM_MAX_DIMS];
        if (strncmp(h->list[i].name, "weights/", 8) != 0 || t->type != SIM_F32)
            continue;
        for (int d = 0; d < t->n_dims; d++)
            dims[d] = t->dims[d];
        sim_hasher_add(hasher, "/", 1);
        sim_hasher_add(hasher, h->list[i].name, strlen(h->list[i].name));
        sim_hasher_add(hasher, dims, sizeof *dims * (size_t)t->n_dims);
        sim_hasher_add(hasher, t->data, sim_tensor_count(t) * sizeof(float));
    }
    *out = sim_hasher_value(hasher);
done:
    sim_hasher_destroy(&hasher);
    return st;
}

static sim_status hash_weight(void *ctx, const char *group, const sim_tensor *t)
{
    char name[192];
    /* A rank has only some rows of a sharded tensor. */
    if (t->type != SIM_F32 || t->sharded || strncmp(group, "weights/", 8) != 0)
        return SIM_OK;
    (void)snprintf(name, sizeof name, "%s/%s", group, t->name);
    return add_hash(ctx, name, t);
}

sim_status sim_weights_hash(const sim_state_source *sources, size_t n_sources,
                            sim_hash *out)
{
    sim_status st = SIM_OK;
    hashes h = {0};
    const sim_visitor v = {.visit = hash_weight, .ctx = &h};
    for (size_t i = 0; i < n_sources; i++)
        SIM_TRY(sources[i].visit(sources[i].object, &v));
    SIM_TRY(weights_hash_of(&h, out));
done:
    sim_free(h.list);
    return st;
}

/* ---- the image ---- */

typedef struct {
    const sim_comm *comm;
    sim_h5 *file; /* on rank 0 */
    hashes hashes;
    sim_json *json; /* on rank 0: the table of part files, usually empty */
    checkpoint_parts parts;
    sim_status failed; /* this rank's first failure, reported at the next agreement */
} image_writer;

static sim_status save_whole(image_writer *w, const char *path, const sim_tensor *t)
{
    sim_status st = SIM_OK;
    SIM_TRY(sim_h5_write(w->file, path, t));
    SIM_TRY(add_hash(&w->hashes, path + 1, t));
done:
    return st;
}

static sim_status save_shard(image_writer *w, const char *path, const sim_tensor *t)
{
    sim_status st = SIM_OK;
    sim_tensor named = *t;
    named_hash *e = NULL;
    sim_hash hash = {0};

    /* weights_hash_of reads weights from memory, so they are never sharded. */
    SIM_ASSERT(strncmp(path, "/weights/", 9) != 0);
    SIM_TRY(sim_comm_agree(w->comm, w->failed));
    named.name = path + 1;
    if (sim_checkpoint_is_parted(t))
        SIM_TRY(sim_checkpoint_shard_to_parts(w->comm, &named, &w->parts, &hash));
    else
        SIM_TRY(sim_checkpoint_shard_to_image(w->comm, &named, w->file, path, &hash));
    if (w->comm->rank == 0)
        w->failed = add_entry(&w->hashes, path + 1, &e);
    if (e)
        e->hash = hash;
done:
    return st;
}

/* Returns only failures that all ranks agree on.  A failure of rank 0 is kept in w->failed
 * until the next agreement, so that no rank is left alone in a collective call. */
static sim_status save_tensor(void *ctx, const char *group, const sim_tensor *t)
{
    image_writer *w = ctx;
    char path[192];

    (void)snprintf(path, sizeof path, "/%s/%s", group, t->name);
    if (t->sharded)
        return save_shard(w, path, t);
    if (w->comm->rank == 0 && w->failed == SIM_OK)
        w->failed = save_whole(w, path, t);
    return SIM_OK;
}

static sim_status write_int(sim_h5 *f, const char *name, int64_t value)
{
    const sim_tensor t = {.name = name, .type = SIM_I64, .data = &value};
    return sim_h5_write(f, name, &t);
}

/* Writes /parts, which lists the part files of each tensor; absent if there are none. */
static sim_status write_part_table(sim_h5 *f, const image_writer *w)
{
    sim_status st = SIM_OK;
    char *text = NULL;

    if (w->parts.index == 0)
        goto done;
    SIM_TRY(sim_json_dump(w->json, 0, &text));
    SIM_TRY(sim_h5_write_text(f, "/parts", text));
done:
    sim_free(text);
    return st;
}

static sim_status write_head(sim_h5 *f, const sim_checkpoint_head *head)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_checkpoint_write_format(f, CHECKPOINT_FORMAT));
    SIM_TRY(write_int(f, "/step", head->step));
    SIM_TRY(write_int(f, "/epoch", head->epoch));
    SIM_TRY(write_int(f, "/samples", head->samples));
    SIM_TRY(sim_h5_write_text(f, "/config", head->config));
    SIM_TRY(sim_h5_write_text(f, "/identity", head->identity));
    SIM_TRY(sim_h5_write_text(f, "/history", head->history));
    SIM_TRY(sim_h5_write_text(f, "/fingerprint", head->fingerprint));
    if (head->preprocessing)
        SIM_TRY(sim_h5_write_text(f, "/preprocessing", head->preprocessing));
done:
    return st;
}

/* Writes /hashes, one "name hex" line per tensor, and /weights_hash. */
static sim_status write_hashes(sim_h5 *f, hashes *h)
{
    sim_status st = SIM_OK;
    char hex[33], *text = NULL;
    sim_hash weights;
    size_t used = 0, capacity = h->n * (sizeof h->list->name + 40) + 1;

    SIM_TRY(weights_hash_of(h, &weights));
    SIM_TRY(sim_alloc(&text, capacity, "checkpoint/hashes"));
    for (size_t i = 0; i < h->n; i++) {
        sim_hash_hex(h->list[i].hash, hex);
        int n = snprintf(text + used, capacity - used, "%s %s\n", h->list[i].name, hex);
        used += n > 0 ? (size_t)n : 0;
    }
    SIM_TRY(sim_h5_write_text(f, "/hashes", text));
    sim_hash_hex(weights, hex);
    SIM_TRY(sim_h5_write_text(f, "/weights_hash", hex));
done:
    sim_free(text);
    return st;
}

/* ---- the file ---- */

bool sim_checkpoint_hint_is_foreign(const char *path)
{
    enum { MAX_BYTES = 80 };
    char *text = NULL;
    size_t n = 0;

    if (!sim_path_is_file(path))
        return sim_path_is_taken(path);
    sim_status st = sim_file_load(path, MAX_BYTES, &text, &n);
    bool is =
        st == SIM_E_DATA || (st == SIM_OK && n > 0 && strncmp(text, "step-", 5) != 0);
    sim_error_clear();
    sim_free(text);
    return is;
}

/* Updates checkpoints/latest or checkpoints/best, a hint for people and scripts.  The program reads
 * the directory instead, so a failure is only a warning. */
static void write_hint(const sim_run *run, const char *file, int64_t step)
{
    char path[4200], line[80];
    int n = snprintf(line, sizeof line, "step-%09lld.h5\n", (long long)step);
    const sim_piece hint = {line, (size_t)n};
    sim_status st = sim_run_path(run, file, path, sizeof path);
    if (st == SIM_OK && sim_checkpoint_hint_is_foreign(path))
        st = sim_run_set_aside(path, "not the name of a checkpoint", NULL);
    if (st == SIM_OK)
        st = sim_file_replace(path, &hint, 1);
    if (st != SIM_OK)
        sim_log_warn("%s; the checkpoint itself was saved", sim_error_message());
}

static sim_status checkpoint_path(const sim_run *run, int64_t step, char *out,
                                  size_t out_bytes)
{
    char name[64];
    (void)snprintf(name, sizeof name, "checkpoints/step-%09lld.h5", (long long)step);
    return sim_run_path(run, name, out, out_bytes);
}

static sim_status store_image(const sim_run *run, int64_t step, const void *image,
                              size_t n)
{
    sim_status st = SIM_OK;
    char path[4200];
    sim_hash digest;

    SIM_TRY(checkpoint_path(run, step, path, sizeof path));
    SIM_TRY(sim_checkpoint_seal(path, image, n, &digest));
    write_hint(run, "checkpoints/latest", step);
done:
    return st;
}

/* True if the checkpoint's weights equal those of the sources. */
static bool has_weights(const sim_checkpoint *k, const sim_state_source *sources,
                        size_t n_sources)
{
    char *text = NULL, hex[33];
    sim_hash current;

    if (sim_h5_read_text(k->file, "/weights_hash", &text) != SIM_OK ||
        sim_weights_hash(sources, n_sources, &current) != SIM_OK) {
        sim_free(text);
        return false;
    }
    sim_hash_hex(current, hex);
    bool same = strcmp(text, hex) == 0;
    sim_free(text);
    return same;
}

/* What is stored at the path of a checkpoint before it is written. */
typedef enum {
    EXISTING_NONE,
    EXISTING_SAME,    /* a good file of exactly this state, its part files included */
    EXISTING_EARLIER, /* of this run: of another state, or corrupted */
    EXISTING_FOREIGN  /* of the user or of another run */
} existing_file;

/*
 * Equal step and identity are not sufficient for the same state: runs that accept the same
 * changes at different steps reach the same step with different weights.  A checkpoint whose
 * history has segments, but none of this run, is of another run.
 */
static existing_file compare_existing(const sim_checkpoint *k,
                                      const sim_checkpoint_head *head,
                                      const sim_state_source *sources, size_t n_sources)
{
    if (strcmp(k->head.identity, head->identity) != 0)
        return EXISTING_FOREIGN;
    if (k->head.epoch == head->epoch && k->head.samples == head->samples &&
        has_weights(k, sources, n_sources) &&
        sim_checkpoint_parts_verify(k, 0, 1) == SIM_OK)
        return EXISTING_SAME;
    return strcmp(k->head.history, "[]") != 0 &&
                   sim_checkpoint_lineage(&k->head, head->history) == SIM_LINEAGE_OTHER
               ? EXISTING_FOREIGN
               : EXISTING_EARLIER;
}

/* Anything but a regular file, such as a link, is foreign unless it leads to the same state. */
static existing_file find_existing(const char *path, const sim_checkpoint_head *head,
                                   const sim_state_source *sources, size_t n_sources)
{
    existing_file found = EXISTING_EARLIER;
    sim_checkpoint *k = NULL;

    if (!sim_path_exists(path))
        return EXISTING_NONE;
    if (sim_checkpoint_is_foreign(path))
        found = EXISTING_FOREIGN;
    else if (sim_checkpoint_load_file(path, &k) == SIM_OK)
        found = compare_existing(k, head, sources, n_sources);
    if (found == EXISTING_EARLIER && !sim_path_is_file(path))
        found = EXISTING_FOREIGN;
    sim_checkpoint_close(&k);
    sim_error_clear();
    return found;
}

/* After all tensors.  *image is borrowed from the file. */
static sim_status finish_image(const sim_checkpoint_head *head, image_writer *w,
                               const void **image, size_t *n)
{
    sim_status st = SIM_OK;

    SIM_TRY(write_head(w->file, head));
    SIM_TRY(write_part_table(w->file, w));
    SIM_TRY(write_hashes(w->file, &w->hashes));
    SIM_TRY(sim_h5_image(w->file, image, n));
done:
    return st;
}

/* Rank 0: completes the image, stores it, and deletes old checkpoints. */
static sim_status finish_and_store(const sim_run *run,
                                   const sim_checkpoint_options *options,
                                   const sim_checkpoint_head *head, image_writer *w)
{
    sim_status st = SIM_OK;
    const void *image = NULL;
    size_t n = 0;

    SIM_TRY(finish_image(head, w, &image, &n));
    SIM_TRY(sim_run_check(run)); /* much time may have passed since prepare_path */
    SIM_TRY(store_image(run, head->step, image, n));
    if (options->best_step > 0)
        write_hint(run, "checkpoints/best", options->best_step);
    SIM_TRY(sim_run_check(run));
    if (sim_checkpoint_retire(w->parts.directory, options, head->step) != SIM_OK)
        sim_log_warn("%s; the new checkpoint was saved, old ones were not deleted",
                     sim_error_message());
done:
    return st;
}

static bool is_part_of(const char *name, int64_t step)
{
    int64_t found = -1;
    return sim_checkpoint_part_step_of(name, &found) && found == step;
}

/* Moves the part files of a step, whose names are in the list, and then its main file to a
 * directory, under their names: the checkpoint can still be used there. */
static sim_status move_with_parts(const char *directory, const sim_names *names,
                                  const char *path, int64_t step, const char *aside)
{
    sim_status st = SIM_OK;
    char from[4700], to[4700];

    SIM_TRY(sim_directory_create(aside));
    for (size_t i = 0; i < names->n; i++) {
        if (!is_part_of(names->names[i], step))
            continue;
        (void)snprintf(from, sizeof from, "%s/%.255s", directory, names->names[i]);
        (void)snprintf(to, sizeof to, "%s/%.255s", aside, names->names[i]);
        SIM_TRY(sim_file_rename(from, to));
    }
    (void)snprintf(to, sizeof to, "%s%s", aside, strrchr(path, '/'));
    SIM_TRY(sim_file_rename(path, to));
    sim_log_warn("%s: a checkpoint of another run; it is kept with its part files in %s",
                 path, aside);
done:
    return st;
}

/* Keeps the foreign file at the path of a checkpoint, with the part files of its step. */
static sim_status keep_foreign(const sim_run *run, const char *path, int64_t step)
{
    sim_status st = SIM_OK;
    sim_names names = {0};
    char directory[4200], aside[4400];
    bool has_parts = false;

    SIM_TRY(sim_run_path(run, "checkpoints", directory, sizeof directory));
    SIM_TRY(sim_directory_list(directory, &names));
    for (size_t i = 0; i < names.n && !has_parts; i++)
        has_parts = is_part_of(names.names[i], step);
    for (int i = 1; i == 1 || sim_path_is_taken(aside); i++)
        (void)snprintf(aside, sizeof aside, "%s/step-%09lld.old-%d", directory,
                       (long long)step, i);
    if (has_parts)
        SIM_TRY(move_with_parts(directory, &names, path, step, aside));
    else
        SIM_TRY(sim_run_set_aside(path, "not a checkpoint of this run", NULL));
done:
    sim_names_clear(&names);
    return st;
}

/* Rank 0: looks for a file of this step.  *saved: it has the state already.  A foreign file is
 * renamed. */
static sim_status prepare_path(const sim_run *run, const sim_checkpoint_head *head,
                               const sim_state_source *sources, size_t n_sources,
                               bool *saved)
{
    sim_status st = SIM_OK;
    char path[4200];

    SIM_TRY(sim_run_check(run));
    SIM_TRY(checkpoint_path(run, head->step, path, sizeof path));
    existing_file found = find_existing(path, head, sources, n_sources);
    *saved = found == EXISTING_SAME;
    if (found == EXISTING_FOREIGN)
        SIM_TRY(keep_foreign(run, path, head->step));
done:
    return st;
}

static sim_status begin_image(image_writer *w, const sim_state_source *sources,
                              size_t n_sources)
{
    sim_status st = SIM_OK;
    size_t n_bytes = 0;

    SIM_TRY(sim_checkpoint_bytes(sources, n_sources, &n_bytes));
    SIM_TRY(sim_h5_create_image(n_bytes, &w->file));
    SIM_TRY(sim_json_create(&w->json));
    w->parts.table = sim_json_array(w->json, "tensors");
done:
    return st;
}

static void end_image(image_writer *w)
{
    sim_h5_close(&w->file);
    sim_json_destroy(&w->json);
    sim_free(w->hashes.list);
}

sim_status sim_checkpoint_build(const char *path, const sim_checkpoint_head *head,
                                const sim_state_source *source, sim_checkpoint **out)
{
    sim_status st = SIM_OK;
    static const sim_comm alone = {.rank = 0, .size = 1};
    image_writer w = {.comm = &alone};
    const sim_visitor v = {.visit = save_tensor, .ctx = &w};
    const void *image = NULL;
    size_t n = 0;

    SIM_TRY(begin_image(&w, source, 1));
    SIM_TRY(source->visit(source->object, &v));
    SIM_TRY(w.failed);
    SIM_TRY(finish_image(head, &w, &image, &n));
    SIM_TRY(sim_checkpoint_open_image(path, image, n, out));
done:
    end_image(&w);
    return st;
}

/* After a failed save: removes its part files and keeps the error message. */
static void remove_parts(const char *directory)
{
    char message[4096];
    (void)snprintf(message, sizeof message, "%s", sim_error_message());
    SIM_IGNORE(sim_checkpoint_drop_orphans(directory));
    sim_error_set(message);
}

sim_status sim_checkpoint_write(const sim_comm *c, const sim_run *run,
                                const sim_checkpoint_options *options,
                                const sim_checkpoint_head *head,
                                const sim_state_source *sources, size_t n_sources)
{
    sim_status st = SIM_OK;
    char directory[4200];
    image_writer w = {.comm = c, .parts = {.directory = directory, .step = head->step}};
    const sim_visitor v = {.visit = save_tensor, .ctx = &w};
    bool is_saved = false;
    int64_t saved = 0;

    if (c->rank == 0)
        st = prepare_path(run, head, sources, n_sources, &is_saved);
    SIM_TRY(sim_comm_agree(c, st));
    saved = is_saved;
    sim_comm_max_i64(c, &saved, 1);
    if (saved)
        goto done;
    st = sim_run_path(run, "checkpoints", directory, sizeof directory);
    if (c->rank == 0 && st == SIM_OK)
        st = begin_image(&w, sources, n_sources);
    SIM_TRY(sim_comm_agree(c, st));
    for (size_t i = 0; i < n_sources; i++)
        SIM_TRY(sources[i].visit(sources[i].object, &v));
    SIM_TRY(sim_comm_agree(c, w.failed));
    if (c->rank == 0)
        st = finish_and_store(run, options, head, &w);
    SIM_TRY(sim_comm_agree(c, st));
done:
    if (c->rank == 0 && st != SIM_OK && w.parts.index > 0 && !sim_run_is_lost(run))
        remove_parts(directory);
    end_image(&w);
    return st;
}
