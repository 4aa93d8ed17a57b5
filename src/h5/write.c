/*
 * write.c - file images in memory for checkpoints; writing of data sets and attributes.
 *
 * HDF5 does not write checkpoints to disk, because a full disk makes HDF5 1.10 crash or hang. An
 * image is built in one buffer that is large enough from the start, so reallocation by the core
 * driver never moves it and never fails.
 */
#include "private.h"

#include "simile/file.h"
#include "simile/memory.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { SLACK_BYTES = 64 << 20 }; /* for metadata and growth by the core driver */

sim_status sim_h5_create_image(size_t reserve_bytes, sim_h5 **out)
{
    sim_status st = SIM_OK;
    sim_h5 *f = NULL;
    hid_t access = -1;
    char unique[64];

    sim_h5_quiet();
    SIM_TRY(sim_new(&f, "h5/file"));
    f->file = -1;
    f->reserved_bytes = reserve_bytes + SLACK_BYTES;
    SIM_TRY(sim_text_copy("(image)", "h5/file", &f->name));
    SIM_TRY(sim_alloc_bytes(f->reserved_bytes, 1, "h5/image", &f->reserved));
    f->image = (h5_buffer){f->reserved, f->reserved_bytes};
    SIM_TRY(sim_h5_image_access(&f->image, &access));
    (void)H5Pset_libver_bounds(access, H5F_LIBVER_EARLIEST, H5F_LIBVER_LATEST);
    sim_h5_image_name(unique);
    f->file = H5Fcreate(unique, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    SIM_CHECK(f->file >= 0, SIM_E_IO, "HDF5 image: %s", sim_h5_reason());
    *out = f;
    f = NULL;
done:
    sim_h5_close(&f);
    if (access >= 0)
        (void)H5Pclose(access);
    return st;
}

/* ---- data sets and attributes ---- */

hid_t sim_h5_space_of(int n_dims, const size_t *dims)
{
    hsize_t h[SIM_MAX_DIMS];
    for (int i = 0; i < n_dims; i++)
        h[i] = dims[i];
    return n_dims ? H5Screate_simple(n_dims, h, NULL) : H5Screate(H5S_SCALAR);
}

hid_t sim_h5_file_type(sim_type type)
{
    switch (type) {
    case SIM_F32:
        return H5T_IEEE_F32LE;
    case SIM_F64:
        return H5T_IEEE_F64LE;
    case SIM_I64:
        return H5T_STD_I64LE;
    case SIM_U64:
        return H5T_STD_U64LE;
    case SIM_I32:
        return H5T_STD_I32LE;
    case SIM_U16:
        return H5T_STD_U16LE;
    case SIM_U8:
        return H5T_STD_U8LE;
    }
    return -1;
}

hid_t sim_h5_set_plist(void)
{
    hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    (void)H5Pset_obj_track_times(create, false);
    return create;
}

hid_t sim_h5_create_set(sim_h5 *f, const char *name, hid_t type, hid_t space,
                        hid_t create)
{
    hid_t links = H5Pcreate(H5P_LINK_CREATE);
    (void)H5Pset_create_intermediate_group(links, 1);
    hid_t set = H5Dcreate2(f->file, name, type, space, links, create, H5P_DEFAULT);
    (void)H5Pclose(links);
    return set;
}

sim_status sim_h5_write(sim_h5 *f, const char *name, const sim_tensor *t)
{
    sim_status st = SIM_OK;
    hid_t space = sim_h5_space_of(t->n_dims, t->dims), create = sim_h5_set_plist(),
          set = -1;

    set = sim_h5_create_set(f, name, sim_h5_file_type(t->type), space, create);
    SIM_CHECK(set >= 0, SIM_E_IO, "%s: %s cannot be created: %s", f->name, name,
              sim_h5_reason());
    SIM_CHECK(sim_tensor_count(t) == 0 ||
                  H5Dwrite(set, sim_h5_memory_type(t->type), H5S_ALL, H5S_ALL,
                           H5P_DEFAULT, t->data) >= 0,
              SIM_E_IO, "%s: %s cannot be written: %s", f->name, name, sim_h5_reason());
done:
    if (set >= 0)
        (void)H5Dclose(set);
    (void)H5Pclose(create);
    (void)H5Sclose(space);
    return st;
}

/* Early allocation without fill: the buffer is zeroed, and every row is written once. */
sim_status sim_h5_begin_rows(sim_h5 *f, const char *name, const sim_tensor *t)
{
    sim_status st = SIM_OK;
    hid_t space = sim_h5_space_of(t->n_dims, t->dims), create = sim_h5_set_plist();

    (void)H5Pset_alloc_time(create, H5D_ALLOC_TIME_EARLY);
    (void)H5Pset_fill_time(create, H5D_FILL_TIME_NEVER);
    hid_t set = sim_h5_create_set(f, name, sim_h5_file_type(t->type), space, create);
    SIM_CHECK(set >= 0, SIM_E_IO, "%s: %s cannot be created: %s", f->name, name,
              sim_h5_reason());
    (void)H5Dclose(set);
done:
    (void)H5Pclose(create);
    (void)H5Sclose(space);
    return st;
}

sim_status sim_h5_write_rows(sim_h5 *f, const char *name, sim_type type, size_t row,
                             size_t n_rows, const void *data)
{
    sim_status st = SIM_OK;
    hsize_t start[SIM_MAX_DIMS] = {row}, count[SIM_MAX_DIMS];
    hid_t space = -1, memory = -1, set = H5Dopen2(f->file, name, H5P_DEFAULT);

    SIM_CHECK(set >= 0, SIM_E_IO, "%s: %s: %s", f->name, name, sim_h5_reason());
    space = H5Dget_space(set);
    int n_dims = H5Sget_simple_extent_dims(space, count, NULL);
    SIM_ASSERT(n_dims > 0 && row + n_rows <= count[0]);
    count[0] = n_rows;
    memory = H5Screate_simple(n_dims, count, NULL);
    SIM_CHECK(H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
                  H5Dwrite(set, sim_h5_memory_type(type), memory, space, H5P_DEFAULT,
                           data) >= 0,
              SIM_E_IO, "%s: %s cannot be written: %s", f->name, name, sim_h5_reason());
done:
    if (memory >= 0)
        (void)H5Sclose(memory);
    if (space >= 0)
        (void)H5Sclose(space);
    if (set >= 0)
        (void)H5Dclose(set);
    return st;
}

sim_status sim_h5_write_text(sim_h5 *f, const char *name, const char *text)
{
    const sim_tensor t = {.name = name,
                          .type = SIM_U8,
                          .n_dims = 1,
                          .dims = {strlen(text)},
                          .data = (void *)(uintptr_t)text};
    return sim_h5_write(f, name, &t);
}

sim_status sim_h5_write_attribute_text(sim_h5 *f, const char *name, const char *text)
{
    sim_status st = SIM_OK;
    hid_t space = H5Screate(H5S_SCALAR), type = H5Tcopy(H5T_C_S1), attribute = -1;
    size_t n = strlen(text);

    (void)H5Tset_size(type, n ? n : 1);
    (void)H5Tset_strpad(type, H5T_STR_NULLPAD);
    (void)H5Tset_cset(type, H5T_CSET_UTF8);
    attribute = H5Acreate2(f->file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    SIM_CHECK(attribute >= 0 && H5Awrite(attribute, type, text) >= 0, SIM_E_IO,
              "%s: attribute %s cannot be written: %s", f->name, name, sim_h5_reason());
done:
    if (attribute >= 0)
        (void)H5Aclose(attribute);
    (void)H5Tclose(type);
    (void)H5Sclose(space);
    return st;
}

static sim_status write_numbers(sim_h5 *f, hid_t object, const char *name,
                                const sim_tensor *t)
{
    sim_status st = SIM_OK;
    hid_t space = sim_h5_space_of(t->n_dims, t->dims), attribute = -1;

    SIM_CHECK(object >= 0, SIM_E_IO, "%s: attribute %s: its data set cannot be opened",
              f->name, name);
    attribute = H5Acreate2(object, name, sim_h5_file_type(t->type), space, H5P_DEFAULT,
                           H5P_DEFAULT);
    SIM_CHECK(attribute >= 0 &&
                  H5Awrite(attribute, sim_h5_memory_type(t->type), t->data) >= 0,
              SIM_E_IO, "%s: attribute %s cannot be written: %s", f->name, name,
              sim_h5_reason());
done:
    if (attribute >= 0)
        (void)H5Aclose(attribute);
    (void)H5Sclose(space);
    return st;
}

sim_status sim_h5_write_attribute(sim_h5 *f, const char *name, const sim_tensor *t)
{
    return write_numbers(f, f->file, name, t);
}

sim_status sim_h5_write_attribute_of(sim_h5 *f, const char *data_set, const char *name,
                                     const sim_tensor *t)
{
    hid_t object = H5Oopen(f->file, data_set, H5P_DEFAULT);
    sim_status st = write_numbers(f, object, name, t);
    if (object >= 0)
        (void)H5Oclose(object);
    return st;
}

sim_status sim_h5_image(sim_h5 *f, const void **image, size_t *n_bytes)
{
    sim_status st = SIM_OK;

    SIM_CHECK(H5Fflush(f->file, H5F_SCOPE_GLOBAL) >= 0, SIM_E_IO, "HDF5 image: %s",
              sim_h5_reason());
    ssize_t n = H5Fget_file_image(f->file, NULL, 0);
    SIM_CHECK(n > 0, SIM_E_IO, "HDF5 image: %s", sim_h5_reason());
    *image = f->reserved;
    *n_bytes = (size_t)n;
done:
    return st;
}

sim_status sim_h5_finish(sim_h5 **out)
{
    sim_status st = SIM_OK;
    sim_h5 *f = *out;

    SIM_CHECK(H5Fflush(f->file, H5F_SCOPE_GLOBAL) >= 0, SIM_E_IO, "%s: %s", f->name,
              sim_h5_reason());
    herr_t closed = H5Fclose(f->file);
    f->file = -1;
    SIM_CHECK(f->failure.status == SIM_OK, f->failure.status, "%s", f->failure.message);
    SIM_CHECK(closed >= 0, SIM_E_IO, "%s: %s", f->name, sim_h5_reason());
done:
    sim_h5_close(out);
    return st;
}
