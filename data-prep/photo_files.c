/*
 * photo_files.c - reads photos that are files, and finds the type of their samples.
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

/* ---- type and range of the samples ---- */

typedef struct {
    const prep_format *format;
    const prep_source *source;
    const prep_options *options;
    prep_survey *of_item; /* [n_items] */
} item_surveys;

/* Whether a file may have more than 8 bits, by its first bytes. */
static bool may_be_deep(const char *path)
{
    uint8_t head[SIM_IMAGE_HEAD];
    uint64_t n = 0;
    int fd = -1;
    bool deep = sim_file_open_read(path, &fd, &n) == SIM_OK && n >= sizeof head &&
                sim_file_read_at(fd, path, 0, head, sizeof head) == SIM_OK &&
                sim_image_may_be_deep(head, sizeof head);
    SIM_IGNORE(sim_file_close(&fd, path));
    sim_error_clear();
    return deep;
}

static void survey_item(size_t i, void *ctx)
{
    const item_surveys *r = ctx;
    char path[PATH_MAX];
    uint8_t *bytes = NULL;
    size_t n = 0;

    if (r->format->item_path(r->source, i, path) != SIM_OK)
        goto done;
    if (!may_be_deep(path))
        r->of_item[i].n_others = 1;
    else if (sim_prep_photo_load(path, &bytes, &n) == SIM_OK)
        sim_prep_survey_add(&r->of_item[i], r->options, path, bytes, n);
done:
    sim_free(bytes);
    sim_error_clear();
}

sim_status sim_prep_photos_survey(const prep_format *format, const prep_options *options,
                                  prep_source *s)
{
    sim_status st = SIM_OK;
    item_surveys r = {.format = format, .source = s, .options = options};
    prep_survey all = {0};

    SIM_TRY(sim_alloc(&r.of_item, s->n_items, "prep/survey"));
    sim_for(s->n_items, survey_item, &r);
    for (size_t i = 0; i < s->n_items; i++)
        sim_prep_survey_merge(&all, &r.of_item[i]);
    sim_prep_survey_apply(&all, options, s);
done:
    sim_free(r.of_item);
    return st;
}
