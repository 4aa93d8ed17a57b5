/*
 * archive.c - compressed files and tar archives by libarchive, streamed, never unpacked.
 */
#include "prep.h"

#include "simile/file.h"
#include "simile/memory.h"

#include <string.h>

#include <archive.h>
#include <archive_entry.h>

bool prep_ends_with(const char *text, const char *end)
{
    size_t a = strlen(text), b = strlen(end);
    return a >= b && strcmp(text + a - b, end) == 0;
}

static sim_status read_entry(struct archive *a, const char *path, size_t limit,
                             uint8_t **bytes, size_t *n)
{
    sim_status st = SIM_OK;
    uint8_t *p = NULL;
    size_t room = 1 << 20, used = 0;

    SIM_TRY(sim_alloc(&p, room, "prep/entry"));
    for (;;) {
        if (used == room) {
            SIM_CHECK(room < limit, SIM_E_DATA, "%s: an entry is larger than %zu bytes",
                      path, limit);
            room = 2 * room < limit ? 2 * room : limit;
            SIM_TRY(sim_grow(&p, room, "prep/entry"));
        }
        la_ssize_t got = archive_read_data(a, p + used, room - used);
        SIM_CHECK(got >= 0, SIM_E_DATA, "%s cannot be unpacked: %s", path,
                  archive_error_string(a) ? archive_error_string(a) : "damaged");
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

static sim_status open_archive(const char *path, bool raw, struct archive **out)
{
    sim_status st = SIM_OK;
    enum { BLOCK = 1 << 16 };
    struct archive *a = archive_read_new();

    SIM_CHECK(a, SIM_E_IO, "out of memory for an archive");
    (void)archive_read_support_filter_all(a);
    if (raw)
        (void)archive_read_support_format_raw(a);
    else
        (void)archive_read_support_format_tar(a);
    SIM_CHECK(archive_read_open_filename(a, path, BLOCK) == ARCHIVE_OK, SIM_E_DATA,
              "%s cannot be read as %s: %s", path,
              raw ? "a compressed file" : "an archive",
              archive_error_string(a) ? archive_error_string(a) : "damaged");
    *out = a;
    a = NULL;
done:
    if (a)
        (void)archive_read_free(a);
    return st;
}

sim_status prep_load(const char *path, size_t limit, uint8_t **bytes, size_t *n)
{
    sim_status st = SIM_OK;
    struct archive *a = NULL;
    struct archive_entry *e = NULL;

    if (!prep_ends_with(path, ".gz")) {
        SIM_TRY(sim_file_load(path, limit, (char **)bytes, n));
        goto done;
    }
    SIM_TRY(open_archive(path, true, &a));
    SIM_CHECK(archive_read_next_header(a, &e) == ARCHIVE_OK, SIM_E_DATA,
              "%s cannot be unpacked: %s", path,
              archive_error_string(a) ? archive_error_string(a) : "damaged");
    SIM_TRY(read_entry(a, path, limit, bytes, n));
done:
    if (a)
        (void)archive_read_free(a);
    return st;
}

sim_status prep_each_entry(const char *path, size_t limit,
                           sim_status (*see)(void *ctx, const char *name,
                                             const uint8_t *bytes, size_t n),
                           void *ctx)
{
    sim_status st = SIM_OK;
    struct archive *a = NULL;
    struct archive_entry *e = NULL;
    uint8_t *bytes = NULL;
    int got = ARCHIVE_OK;

    SIM_TRY(open_archive(path, false, &a));
    while ((got = archive_read_next_header(a, &e)) == ARCHIVE_OK || got == ARCHIVE_WARN) {
        size_t n = 0;
        if (archive_entry_filetype(e) != AE_IFREG || !archive_entry_pathname(e))
            continue;
        SIM_TRY(read_entry(a, path, limit, &bytes, &n));
        SIM_TRY(see(ctx, archive_entry_pathname(e), bytes, n));
        SIM_FREE(bytes);
    }
    SIM_CHECK(got == ARCHIVE_EOF, SIM_E_DATA, "%s: %s", path,
              archive_error_string(a) ? archive_error_string(a)
                                      : "the archive is damaged");
done:
    sim_free(bytes);
    if (a)
        (void)archive_read_free(a);
    return st;
}

sim_status prep_lines(const char *text, size_t n_bytes, char ***lines, size_t *n)
{
    sim_status st = SIM_OK;
    char **list = NULL;
    size_t count = 0, room = 0;

    for (size_t at = 0; at < n_bytes;) {
        size_t end = at;
        while (end < n_bytes && text[end] != '\n' && text[end] != '\r')
            end++;
        if (end > at) {
            if (count == room) {
                room = room ? 2 * room : 64;
                SIM_TRY(sim_grow(&list, room, "prep/lines"));
            }
            SIM_TRY(sim_text_format("prep/lines", &list[count], "%.*s", (int)(end - at),
                                    text + at));
            count++;
        }
        at = end + 1;
    }
    *lines = list;
    *n = count;
    list = NULL;
done:
    prep_free_lines(list, count);
    return st;
}

void prep_free_lines(char **lines, size_t n)
{
    for (size_t i = 0; lines && i < n; i++)
        sim_free(lines[i]);
    sim_free(lines);
}
