/*
 * without_archive.c - replaces archive.c in a build without libarchive.
 *
 * Archives are recognized, so that they are refused for the right reason.
 */
#include "prep.h"

#include "simile/file.h"
#include "simile/h5.h"

static sim_status refuse(const char *path)
{
    sim_status st = SIM_OK;
    SIM_FAIL(SIM_E_INSTALL,
             "%s is an archive or a compressed file; this simile was built without "
             "archives (cmake -DSIMILE_WITH_ARCHIVE=ON); unpack it first",
             path);
done:
    return st;
}

sim_status sim_prep_load(const char *path, size_t limit, uint8_t **bytes, size_t *n)
{
    return sim_path_kind_of(path) == SIM_PATH_ARCHIVE
               ? refuse(path)
               : sim_file_load(path, limit, (char **)bytes, n);
}

bool sim_prep_is_tar(const char *path)
{
    return sim_path_kind_of(path) == SIM_PATH_ARCHIVE;
}

sim_status sim_prep_tar_open(const char *path, bool nested, prep_tar **out)
{
    (void)nested, (void)out;
    return refuse(path);
}

sim_status sim_prep_tar_open_all(char *const *paths, size_t n, bool nested,
                                 prep_tar **out)
{
    (void)n, (void)nested, (void)out;
    return refuse(paths[0]);
}

/* No archive is open. */

sim_status sim_prep_tar_next(prep_tar *t, prep_entry *out)
{
    (void)t, (void)out;
    return refuse("it");
}

sim_status sim_prep_tar_read(prep_tar *t, void *data, size_t n)
{
    (void)t, (void)data, (void)n;
    return refuse("it");
}

sim_status sim_prep_tar_load(prep_tar *t, size_t limit, uint8_t **bytes, size_t *n)
{
    (void)t, (void)limit, (void)bytes, (void)n;
    return refuse("it");
}

void sim_prep_tar_close(prep_tar **t)
{
    *t = NULL;
}

bool sim_prep_tar_contains(const char *path, const char *const *names)
{
    (void)path, (void)names;
    return false;
}
