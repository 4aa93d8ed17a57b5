/*
 * archive.c - streams compressed files, tar and zip archives with libarchive, without unpacking.
 */
#include "prep.h"

#include "simile/file.h"
#include "simile/memory.h"
#include "simile/text.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include <archive.h>
#include <archive_entry.h>

enum { BLOCK = 1 << 16 };

struct prep_tar {
    char *const *paths;            /* [n_paths] */
    size_t n_paths, at;            /* at: number of the current one */
    const char *path;              /* of the current one */
    char *own;                     /* the path of a single archive; or NULL */
    struct archive *outer, *inner; /* inner: the inner tar that is being read, or NULL */
    bool nested;
    char inner_name[256];
    char name[PATH_MAX];
    char block[BLOCK]; /* input buffer of the inner tar */
};

static const char *reason(struct archive *a)
{
    const char *text = archive_error_string(a);
    return text ? text : "corrupted";
}

/* ---- one compressed file ---- */

static sim_status read_all(struct archive *a, const char *path, size_t limit,
                           uint8_t **bytes, size_t *n)
{
    sim_status st = SIM_OK;
    uint8_t *p = NULL;
    size_t capacity = 1 << 16, used = 0;

    SIM_TRY(sim_alloc(&p, capacity, "prep/entry"));
    for (;;) {
        if (used == capacity) {
            SIM_CHECK(capacity < limit, SIM_E_DATA,
                      "%s: an entry is larger than %zu bytes", path, limit);
            capacity = 2 * capacity < limit ? 2 * capacity : limit;
            SIM_TRY(sim_grow(&p, capacity, "prep/entry"));
        }
        la_ssize_t got = archive_read_data(a, p + used, capacity - used);
        SIM_CHECK(got >= 0, SIM_E_DATA, "%s cannot be decompressed: %s", path, reason(a));
        if (got == 0)
            break;
        used += (size_t)got;
    }
    *bytes = p;
    *n = used;
    p = NULL;
done:
    sim_free(p);
    return st;
}

/* Compressions that libarchive reads itself; for others it would start a program. */
static void support_filters(struct archive *a)
{
    (void)archive_read_support_filter_gzip(a);
    (void)archive_read_support_filter_bzip2(a);
    (void)archive_read_support_filter_xz(a);
    (void)archive_read_support_filter_lzma(a);
    (void)archive_read_support_filter_zstd(a);
    (void)archive_read_support_filter_lz4(a);
    (void)archive_read_support_filter_compress(a);
}

static sim_status open_archive(const char *path, bool raw, struct archive **out)
{
    sim_status st = SIM_OK;
    struct archive *a = archive_read_new();

    SIM_CHECK(a, SIM_E_IO, "%s: out of memory", path);
    support_filters(a);
    if (raw) {
        (void)archive_read_support_format_raw(a);
    } else {
        (void)archive_read_support_format_tar(a);
        (void)archive_read_support_format_zip(a);
    }
    SIM_CHECK(archive_read_open_filename(a, path, BLOCK) == ARCHIVE_OK, SIM_E_DATA,
              "%s cannot be read as %s: %s", path,
              raw ? "a compressed file" : "an archive", reason(a));
    *out = a;
    a = NULL;
done:
    if (a)
        (void)archive_read_free(a);
    return st;
}

static bool is_gzip(const char *path)
{
    uint8_t first[2];
    uint64_t n = 0;
    int fd = -1;
    bool yes = sim_file_open_read(path, &fd, &n) == SIM_OK && n >= sizeof first &&
               sim_file_read_at(fd, path, 0, first, sizeof first) == SIM_OK &&
               first[0] == 0x1f && first[1] == 0x8b;
    SIM_IGNORE(sim_file_close(&fd, path));
    sim_error_clear();
    return yes;
}

sim_status sim_prep_load(const char *path, size_t limit, uint8_t **bytes, size_t *n)
{
    sim_status st = SIM_OK;
    struct archive *a = NULL;
    struct archive_entry *e = NULL;

    if (!is_gzip(path)) {
        SIM_TRY(sim_file_load(path, limit, (char **)bytes, n));
        goto done;
    }
    SIM_TRY(open_archive(path, true, &a));
    SIM_CHECK(archive_read_next_header(a, &e) == ARCHIVE_OK, SIM_E_DATA,
              "%s cannot be decompressed: %s", path, reason(a));
    SIM_TRY(read_all(a, path, limit, bytes, n));
done:
    if (a)
        (void)archive_read_free(a);
    return st;
}

/* ---- tar archives ---- */

bool sim_prep_is_tar(const char *path)
{
    struct archive *a = NULL;
    struct archive_entry *e = NULL;
    bool yes = sim_path_exists(path) && !sim_path_is_directory(path) &&
               open_archive(path, false, &a) == SIM_OK &&
               archive_read_next_header(a, &e) == ARCHIVE_OK;

    if (a)
        (void)archive_read_free(a);
    sim_error_clear();
    return yes;
}

sim_status sim_prep_tar_open_all(char *const *paths, size_t n, bool nested,
                                 prep_tar **out)
{
    sim_status st = SIM_OK;
    prep_tar *t = NULL;

    SIM_TRY(sim_new(&t, "prep/tar"));
    t->nested = nested;
    t->paths = paths;
    t->n_paths = n;
    t->path = paths[0];
    SIM_TRY(open_archive(t->path, false, &t->outer));
    *out = t;
    t = NULL;
done:
    sim_prep_tar_close(&t);
    return st;
}

sim_status sim_prep_tar_open(const char *path, bool nested, prep_tar **out)
{
    sim_status st = SIM_OK;
    char *own = NULL;

    SIM_TRY(sim_text_copy(path, "prep/tar", &own));
    SIM_TRY(sim_prep_tar_open_all(&own, 1, nested, out));
    (*out)->own = own;
    (*out)->path = own;
    own = NULL;
done:
    sim_free(own);
    return st;
}

void sim_prep_tar_close(prep_tar **out)
{
    prep_tar *t = *out;
    if (!t)
        return;
    if (t->inner)
        (void)archive_read_free(t->inner);
    if (t->outer)
        (void)archive_read_free(t->outer);
    sim_free(t->own);
    sim_free(t);
    *out = NULL;
}

/* The bytes of the inner tar are the data of an entry of the outer one. */
static la_ssize_t read_inner(struct archive *inner, void *ctx, const void **bytes)
{
    prep_tar *t = ctx;
    la_ssize_t n = archive_read_data(t->outer, t->block, sizeof t->block);
    if (n < 0)
        archive_set_error(inner, EIO, "%s", reason(t->outer));
    *bytes = t->block;
    return n < 0 ? ARCHIVE_FATAL : n;
}

static sim_status open_inner(prep_tar *t, const char *name)
{
    sim_status st = SIM_OK;

    (void)snprintf(t->inner_name, sizeof t->inner_name, "%s", sim_prep_base_name(name));
    t->inner = archive_read_new();
    SIM_CHECK(t->inner, SIM_E_IO, "%s: out of memory", t->path);
    support_filters(t->inner);
    (void)archive_read_support_format_tar(t->inner);
    SIM_CHECK(archive_read_open(t->inner, t, NULL, read_inner, NULL) == ARCHIVE_OK,
              SIM_E_DATA, "%s: %s cannot be read as an archive: %s", t->path,
              t->inner_name, reason(t->inner));
done:
    return st;
}

/* The next header of the current archive; *e is NULL at its end. */
static sim_status next_header(const prep_tar *t, struct archive_entry **e)
{
    sim_status st = SIM_OK;
    struct archive *a = t->inner ? t->inner : t->outer;
    int got = archive_read_next_header(a, e);

    SIM_CHECK(got == ARCHIVE_OK || got == ARCHIVE_WARN || got == ARCHIVE_EOF, SIM_E_DATA,
              "%s%s%s: %s", t->path, t->inner ? ": " : "", t->inner ? t->inner_name : "",
              reason(a));
    if (got == ARCHIVE_EOF)
        *e = NULL;
done:
    return st;
}

/* At the end of an archive: continues with the outer one, or with the next of several; false after the
 * last one. */
static sim_status open_next(prep_tar *t, bool *any)
{
    sim_status st = SIM_OK;

    *any = t->inner || t->at + 1 < t->n_paths;
    if (t->inner) {
        (void)archive_read_free(t->inner);
        t->inner = NULL;
    } else if (*any) {
        (void)archive_read_free(t->outer);
        t->outer = NULL;
        t->path = t->paths[++t->at];
        SIM_TRY(open_archive(t->path, false, &t->outer));
    }
done:
    return st;
}

/* Names are UTF-8, or bytes if they are not valid, independently of the locale. */
static const char *name_of(struct archive_entry *e)
{
    const char *name = archive_entry_pathname_utf8(e);
    return name ? name : archive_entry_pathname(e);
}

sim_status sim_prep_tar_next(prep_tar *t, prep_entry *out)
{
    sim_status st = SIM_OK;
    struct archive_entry *e = NULL;
    bool more = false;

    for (;;) {
        SIM_TRY(next_header(t, &e));
        if (!e)
            SIM_TRY(open_next(t, &more));
        if (!e && more)
            continue;
        const char *name = e ? name_of(e) : NULL;
        bool link =
            e && (archive_entry_hardlink(e) || archive_entry_filetype(e) == AE_IFLNK);
        if (e && ((archive_entry_filetype(e) != AE_IFREG && !link) || !name))
            continue;
        if (e && t->nested && !t->inner && sim_text_ends_with(name, ".tar")) {
            SIM_TRY(open_inner(t, name));
            continue;
        }
        int n = snprintf(t->name, sizeof t->name, "%s", name ? name : "");
        SIM_CHECK(n >= 0 && (size_t)n < sizeof t->name, SIM_E_DATA,
                  "%s: the path %.200s... has %d bytes, expected at most %zu", t->path,
                  name, n, sizeof t->name - 1);
        *out = (prep_entry){.name = e ? t->name : NULL,
                            .outer = t->inner ? t->inner_name : NULL,
                            .archive = t->at,
                            .n_bytes = e ? (uint64_t)archive_entry_size(e) : 0,
                            .is_link = link};
        goto done;
    }
done:
    return st;
}

sim_status sim_prep_tar_read(prep_tar *t, void *data, size_t n)
{
    sim_status st = SIM_OK;
    struct archive *a = t->inner ? t->inner : t->outer;
    char *p = data;

    while (n > 0) {
        la_ssize_t got = archive_read_data(a, p, n);
        SIM_CHECK(got > 0, SIM_E_DATA, "%s: %s: %s", t->path, t->name,
                  got < 0 ? reason(a) : "unexpected end of the entry");
        p += got;
        n -= (size_t)got;
    }
done:
    return st;
}

sim_status sim_prep_tar_load(prep_tar *t, size_t limit, uint8_t **bytes, size_t *n)
{
    return read_all(t->inner ? t->inner : t->outer, t->path, limit, bytes, n);
}

bool sim_prep_tar_contains(const char *path, const char *const *names)
{
    enum { FIRST = 32 };
    prep_tar *t = NULL;
    prep_entry e = {.name = ""};
    bool found = false;

    if (sim_prep_tar_open(path, false, &t) != SIM_OK)
        goto done;
    for (int i = 0; i < FIRST && e.name && !found; i++) {
        if (sim_prep_tar_next(t, &e) != SIM_OK)
            break;
        for (const char *const *known = names; e.name && *known; known++)
            found |= strcmp(sim_prep_base_name(e.name), *known) == 0;
    }
done:
    sim_prep_tar_close(&t);
    sim_error_clear();
    return found;
}
