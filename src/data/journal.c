/*
 * journal.c - the journal of committed images, from which an interrupted conversion resumes.
 *
 * A head is followed by records.  A record holds the sums over all images so far and the
 * images since the previous record.  Nothing is synchronized to disk in between.  A record
 * is valid if its hash matches and its images match their digests in PATH.part, which holds
 * after a power failure as after a kill.
 */
#include "writer.h"

#include "simile/file.h"
#include "simile/h5.h"
#include "simile/hash.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

typedef struct {
    char magic[16];
    sim_hash identity;
    sim_hash hash; /* of the bytes before it */
} journal_head;

typedef struct {
    uint64_t n_images; /* entries that follow */
    sim_dataset_mark mark;
    sim_moments moments; /* of all images so far */
    sim_hash hash;       /* of this head with a zero hash, and of the entries */
} record_head;

typedef struct {
    sim_hash digest;
    uint64_t n_bytes;
    int32_t label, group;
    uint32_t source, reserved;
} entry;

static const char magic[16] = "SIMILE-PREP-4";
/* The largest number of images, each in a record of its own. */
static const size_t max_journal_bytes =
    sizeof(journal_head) + SIM_MAX_IMAGES * (sizeof(record_head) + sizeof(entry));

static void make_head(const sim_dataset_writer *w, journal_head *out)
{
    memset(out, 0, sizeof *out);
    memcpy(out->magic, magic, sizeof magic);
    out->identity = w->spec.identity;
    out->hash = sim_hash_bytes(out, offsetof(journal_head, hash));
}

static sim_status hash_record(const record_head *r, const entry *entries, sim_hash *out)
{
    sim_status st = SIM_OK;
    sim_hasher *h = NULL;
    record_head bare = *r;

    bare.hash = (sim_hash){0};
    SIM_TRY(sim_hasher_create(&h));
    sim_hasher_add(h, &bare, sizeof bare);
    sim_hasher_add(h, entries, r->n_images * sizeof *entries);
    *out = sim_hasher_value(h);
done:
    sim_hasher_destroy(&h);
    return st;
}

/* ---- recovery ---- */

static sim_status recover_entry(sim_dataset_writer *w, const entry *e)
{
    sim_status st = SIM_OK;
    SIM_TRY(sim_writer_reserve(w));
    w->digest[2 * w->n] = e->digest.low;
    w->digest[2 * w->n + 1] = e->digest.high;
    w->labels[w->n] = e->label;
    w->groups[w->n] = e->group;
    w->source[w->n] = e->source;
    w->n_labels += e->label >= 0;
    w->n_groups += e->group >= 0;
    w->offset[w->n++] = w->bytes;
    w->bytes += e->n_bytes;
    w->offset[w->n] = w->bytes;
done:
    return st;
}

/* Whether image i in PATH.part matches its digest.  A truncated file is not an error. */
static bool matches_digest(sim_dataset_writer *w, sim_hasher *h, int fd, size_t i)
{
    uint64_t at = SIM_H5_BULK_AT + w->offset[i], end = SIM_H5_BULK_AT + w->offset[i + 1];
    sim_hasher_reset(h);
    while (at < end) {
        size_t n = end - at < SIM_WRITER_BUFFER ? (size_t)(end - at) : SIM_WRITER_BUFFER;
        if (sim_file_read_at(fd, w->part, at, w->buffer, n) != SIM_OK) {
            sim_error_clear();
            return false;
        }
        sim_hasher_add(h, w->buffer, n);
        at += n;
    }
    const sim_hash expected = {w->digest[2 * i], w->digest[2 * i + 1]};
    return sim_hash_equal(sim_hasher_value(h), expected);
}

/* Removes the images from `first` on. */
static void drop_images(sim_dataset_writer *w, size_t first)
{
    while (w->n > first) {
        w->n_labels -= w->labels[--w->n] >= 0;
        w->n_groups -= w->groups[w->n] >= 0;
    }
    w->bytes = w->n ? w->offset[w->n] : 0;
}

/* Recovers the record at w->journal_bytes; *valid is false if it is incomplete or corrupted
 * or one of its images does not match. */
static sim_status recover_record(sim_dataset_writer *w, sim_hasher *h, int fd,
                                 const char *bytes, size_t n_bytes, bool *valid)
{
    sim_status st = SIM_OK;
    record_head r;
    sim_hash hash = {0};
    size_t left = n_bytes - (size_t)w->journal_bytes, first = w->n;

    *valid = false;
    if (left < sizeof r)
        goto done;
    memcpy(&r, bytes + w->journal_bytes, sizeof r);
    if (r.n_images > (left - sizeof r) / sizeof(entry))
        goto done;
    const entry *e = (const void *)(bytes + w->journal_bytes + sizeof r);
    SIM_TRY(hash_record(&r, e, &hash));
    if (!sim_hash_equal(hash, r.hash))
        goto done;
    *valid = true;
    for (size_t i = 0; i < r.n_images && *valid; i++) {
        SIM_TRY(recover_entry(w, &e[i]));
        *valid = matches_digest(w, h, fd, w->n - 1);
    }
    if (!*valid) {
        drop_images(w, first);
        goto done;
    }
    w->mark = r.mark;
    w->moments = r.moments;
    w->journal_bytes += sizeof r + r.n_images * sizeof *e;
done:
    return st;
}

static sim_status recover_images(sim_dataset_writer *w, const char *bytes, size_t n_bytes)
{
    sim_status st = SIM_OK;
    sim_hasher *h = NULL;
    journal_head head;
    uint64_t length = 0;
    bool valid = true;
    int fd = -1;

    make_head(w, &head);
    if (n_bytes < sizeof head || memcmp(bytes, &head, sizeof head) != 0 ||
        !sim_path_exists(w->part))
        goto done;
    SIM_TRY(sim_hasher_create(&h));
    SIM_TRY(sim_file_open_read(w->part, &fd, &length));
    w->journal_bytes = sizeof head;
    while (valid)
        SIM_TRY(recover_record(w, h, fd, bytes, n_bytes, &valid));
    w->n_committed = w->n;
done:
    SIM_IGNORE(sim_file_close(&fd, w->part));
    sim_hasher_destroy(&h);
    return st;
}

/* Makes this process the only one that writes the temporary files. */
static sim_status lock_journal(sim_dataset_writer *w)
{
    sim_status st = SIM_OK;
    bool locked = false;
    char lock[PATH_MAX], host[256];

    SIM_TRY(sim_file_lock(w->journal_fd, w->journal, &locked));
    if (!locked) {
        sim_host_name(host, sizeof host);
        (void)snprintf(lock, sizeof lock, "%.4000s.lock", w->path);
        SIM_TRY(sim_lock_acquire(lock, host, w->path, "", w->lock_token));
        memcpy(w->lock, lock, sizeof lock);
    }
    w->locked = true;
done:
    return st;
}

/* Whether a file begins with these bytes, or is shorter and has the first of them. */
static bool begins_with(const char *path, const char *bytes, size_t n_bytes)
{
    enum { MOST = 512 };
    char first[MOST];
    uint64_t n = 0;
    int fd = -1;
    bool is = sim_path_is_file(path) && sim_file_open_read(path, &fd, &n) == SIM_OK;

    SIM_ASSERT(n_bytes <= MOST);
    n = n < n_bytes ? n : n_bytes;
    is = is && (n == 0 || (sim_file_read_at(fd, path, 0, first, n) == SIM_OK &&
                           memcmp(first, bytes, n) == 0));
    sim_error_clear();
    SIM_IGNORE(sim_file_close(&fd, path));
    return is;
}

bool sim_writer_is_journal(const char *path)
{
    static const char of_any_version[] = "SIMILE-PREP-";
    return begins_with(path, of_any_version, strlen(of_any_version));
}

/* Whether the file can be the images of a conversion: they follow a gap of zeros, which is filled
 * at the end. */
static bool is_part(const char *path)
{
    static const char gap[512];
    return begins_with(path, gap, sizeof gap);
}

static sim_status set_aside(const char *path)
{
    sim_status st = SIM_OK;
    char old[PATH_MAX];
    SIM_TRY(sim_file_set_aside(path, old));
    sim_log_warn("%s is not of an interrupted conversion; it is kept as %s", path, old);
done:
    return st;
}

/* Keeps files of the user that have the names of the temporary files. */
static sim_status keep_foreign_files(const sim_dataset_writer *w)
{
    sim_status st = SIM_OK;
    if (sim_path_is_taken(w->journal) && !sim_writer_is_journal(w->journal))
        SIM_TRY(set_aside(w->journal));
    if (sim_path_is_taken(w->part) && !sim_path_is_taken(w->journal) && !is_part(w->part))
        SIM_TRY(set_aside(w->part));
done:
    return st;
}

sim_status sim_writer_journal_open(sim_dataset_writer *w)
{
    sim_status st = SIM_OK;
    journal_head head;
    char *bytes = NULL;
    size_t n = 0;

    SIM_TRY(keep_foreign_files(w));
    SIM_TRY(sim_file_open_append(w->journal, &w->journal_fd));
    SIM_TRY(lock_journal(w));
    SIM_TRY(sim_file_load(w->journal, max_journal_bytes, &bytes, &n));
    if (!sim_hash_equal(w->spec.identity, (sim_hash){0}))
        SIM_TRY(recover_images(w, bytes, n));
    if (n >= sizeof head && w->journal_bytes == 0)
        sim_log("%s belongs to another conversion; restarting from scratch", w->part);
    SIM_TRY(sim_file_set_length(w->journal_fd, w->journal, w->journal_bytes));
    if (w->journal_bytes > 0)
        goto done;
    make_head(w, &head);
    SIM_TRY(sim_file_write_at(w->journal_fd, w->journal, 0, &head, sizeof head));
    w->journal_bytes = sizeof head;
done:
    sim_free(bytes);
    return st;
}

/* ---- writing ---- */

sim_status sim_writer_journal_add(sim_dataset_writer *w, const sim_dataset_mark *mark)
{
    sim_status st = SIM_OK;
    size_t n = w->n - w->n_committed, bytes = sizeof(record_head) + n * sizeof(entry);
    record_head *r = NULL;
    void *block = NULL;

    SIM_TRY(sim_alloc_bytes(bytes, 1, "data/journal", &block));
    r = block;
    *r = (record_head){.n_images = n, .mark = *mark, .moments = w->moments};
    entry *e = (entry *)(void *)(r + 1);
    for (size_t k = 0, i = w->n_committed; k < n; k++, i++)
        e[k] = (entry){.digest = {w->digest[2 * i], w->digest[2 * i + 1]},
                       .n_bytes = w->offset[i + 1] - w->offset[i],
                       .label = w->labels[i],
                       .group = w->groups[i],
                       .source = w->source[i]};
    SIM_TRY(hash_record(r, e, &r->hash));
    SIM_TRY(sim_file_write_at(w->journal_fd, w->journal, w->journal_bytes, block, bytes));
    w->journal_bytes += bytes;
    w->n_committed = w->n;
    w->mark = *mark;
done:
    sim_free(block);
    return st;
}
