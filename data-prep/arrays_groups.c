/*
 * arrays_groups.c - the group of each image in a file of arrays: whole numbers or texts.
 *
 * Data sets of simile have the numbers in /group and the names in /groups, which are kept.
 */
#include "arrays.h"

#include "simile/log.h"
#include "simile/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static sim_status add_texts(const prep_arrays *file, const char *name, size_t n_images,
                            prep_names *out)
{
    sim_status st = SIM_OK;
    char *text = NULL;
    size_t n = 0, width = 0;

    SIM_TRY(
        file->ops->read_strings(file->file, name, ARRAY_MAX_IMAGES, &n, &width, &text));
    SIM_CHECK(n == n_images, SIM_E_DATA, "%s: %s: %zu groups for %zu images", file->path,
              name, n, n_images);
    for (size_t i = 0; i < n; i++)
        SIM_TRY(sim_prep_names_add(out, text + i * width));
done:
    sim_free(text);
    return st;
}

static sim_status check_numbers(const prep_arrays *file, const char *name,
                                size_t n_images, sim_type *type)
{
    sim_status st = SIM_OK;
    sim_h5_shape s;

    SIM_TRY(file->ops->shape_of(file->file, name, &s));
    SIM_CHECK(s.n_dims > 0 && s.dims[0] == n_images, SIM_E_DATA,
              "%s: %s: %zu groups for %zu images", file->path, name,
              s.n_dims ? s.dims[0] : 0, n_images);
    SIM_CHECK(array_values_per_row(&s) == 1 && s.type != SIM_F32 && s.type != SIM_F64,
              SIM_E_DATA,
              "%s: %s contains no groups, expected one whole number or text per image",
              file->path, name);
    *type = s.type == SIM_U64 ? SIM_U64 : SIM_I64;
done:
    return st;
}

static sim_status add_numbers(const prep_arrays *file, const char *name, size_t n_images,
                              prep_names *out)
{
    sim_status st = SIM_OK;
    sim_type type = SIM_I64;
    int64_t *values = NULL;
    char text[32];

    SIM_TRY(check_numbers(file, name, n_images, &type));
    SIM_TRY(sim_alloc(&values, n_images, "prep/groups"));
    SIM_TRY(file->ops->read(file->file, name, type, 0, SIM_H5_ALL, values, n_images));
    for (size_t i = 0; i < n_images; i++) {
        if (type == SIM_U64)
            (void)snprintf(text, sizeof text, "%" PRIu64, (uint64_t)values[i]);
        else
            (void)snprintf(text, sizeof text, "%" PRId64, values[i]);
        SIM_TRY(sim_prep_names_add(out, text));
    }
done:
    sim_free(values);
    return st;
}

/* ---- data sets of simile ---- */

static sim_status read_ids(const prep_arrays *file, size_t n_images, size_t n_groups,
                           int32_t *ids)
{
    sim_status st = SIM_OK;

    SIM_TRY(
        file->ops->read(file->file, ARRAY_GROUP, SIM_I32, 0, SIM_H5_ALL, ids, n_images));
    for (size_t i = 0; i < n_images; i++)
        SIM_CHECK(ids[i] >= 0 && (size_t)ids[i] < n_groups, SIM_E_DATA,
                  "%s: %s: the group of image %zu is %d, expected 0 to %zu", file->path,
                  ARRAY_GROUP, i, ids[i], n_groups - 1);
done:
    return st;
}

/* The name of the group of every image. */
static sim_status add_named(const prep_arrays *file, size_t n_images, prep_names *out)
{
    sim_status st = SIM_OK;
    char *names = NULL;
    size_t n_groups = 0, width = 0;
    int32_t *ids = NULL;

    SIM_TRY(file->ops->read_strings(file->file, ARRAY_GROUPS, ARRAY_MAX_IMAGES, &n_groups,
                                    &width, &names));
    SIM_TRY(sim_alloc(&ids, n_images, "prep/groups"));
    SIM_TRY(read_ids(file, n_images, n_groups, ids));
    for (size_t i = 0; i < n_images; i++)
        SIM_TRY(sim_prep_names_add(out, names + (size_t)ids[i] * width));
done:
    sim_free(names);
    sim_free(ids);
    return st;
}

sim_status sim_arrays_read_groups(const prep_arrays *file, const char *key,
                                  bool is_dataset, size_t n_images, prep_source *out)
{
    sim_status st = SIM_OK;
    prep_names texts = {0};
    char name[ARRAY_NAME];

    array_full_name(key ? key : ARRAY_GROUP, name);
    if (!key && !(is_dataset && file->ops->has(file->file, ARRAY_GROUP)))
        goto done;
    SIM_CHECK(file->ops->resolve(file->file, name, sizeof name), SIM_E_DATA,
              "%s: no data set %s; specify the groups with --groups-key", file->path,
              name);
    if (!key && file->ops->has(file->file, ARRAY_GROUPS))
        SIM_TRY(add_named(file, n_images, &texts));
    else if (file->ops->is_strings(file->file, name))
        SIM_TRY(add_texts(file, name, n_images, &texts));
    else
        SIM_TRY(add_numbers(file, name, n_images, &texts));
    SIM_TRY(sim_prep_set_groups(file->path, &texts, out));
done:
    sim_prep_names_clear(&texts);
    return st;
}
