/*
 * photo_files.c - reads photos that are files, and finds the range of those with 16 bits.
 */
#include "photo_files.h"

#include "simile/file.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

sim_status sim_prep_photo_load(const char *path, uint8_t **bytes, size_t *n)
{
    sim_status st = SIM_OK;
    struct stat about;

    SIM_CHECK(stat(path, &about) == 0, SIM_E_INPUT, "%s: %s", path, strerror(errno));
    SIM_CHECK(S_ISREG(about.st_mode), SIM_E_INPUT, "%s is not a regular file", path);
    SIM_TRY(sim_file_load(path, PREP_PHOTO_LIMIT, (char **)bytes, n));
done:
    return st;
}

/* ---- the range of PNG files with 16 bits ---- */

typedef struct {
    const prep_format *format;
    const prep_source *source;
    prep_extremes *of_item; /* [n_items] */
} range_search;

/* Whether a file is a deep PNG, by its first bytes. */
static bool is_deep(const char *path)
{
    uint8_t head[SIM_PNG_HEAD];
    uint64_t n = 0;
    int fd = -1;
    bool deep = sim_file_open_read(path, &fd, &n) == SIM_OK && n >= sizeof head &&
                sim_file_read_at(fd, path, 0, head, sizeof head) == SIM_OK &&
                sim_png_is_deep(head, sizeof head);
    SIM_IGNORE(sim_file_close(&fd, path));
    sim_error_clear();
    return deep;
}

static void search_item(size_t i, void *ctx)
{
    const range_search *r = ctx;
    char path[PATH_MAX];
    uint8_t *bytes = NULL;
    size_t n = 0;

    if (r->format->item_path(r->source, i, path) == SIM_OK && is_deep(path) &&
        sim_prep_photo_load(path, &bytes, &n) == SIM_OK)
        sim_prep_extremes_add_photo(&r->of_item[i], path, bytes, n);
    sim_free(bytes);
    sim_error_clear();
}

sim_status sim_prep_photos_range(const prep_format *format, const prep_source *s,
                                 const prep_options *options, sim_value_range *out)
{
    sim_status st = SIM_OK;
    range_search r = {.format = format, .source = s};
    prep_extremes all = {0};

    SIM_TRY(sim_alloc(&r.of_item, s->n_items, "prep/range"));
    sim_for(s->n_items, search_item, &r);
    for (size_t i = 0; i < s->n_items; i++)
        if (r.of_item[i].any)
            sim_prep_extremes_add(&all, r.of_item[i].lo, r.of_item[i].hi, true);
    *out = sim_prep_choose_range(&all, options);
done:
    sim_free(r.of_item);
    return st;
}
