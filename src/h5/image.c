/*
 * image.c - HDF5 files in one caller-provided buffer, for images under construction and reading.
 *
 * The core driver allocates a buffer for its property list, for the copy of the list and for the
 * file, and would so hold an image two or three times. The callbacks always return the same buffer.
 */
#include "private.h"

#include <stdio.h>
#include <string.h>

static void *image_malloc(size_t n, H5FD_file_image_op_t op, void *ctx)
{
    const h5_buffer *b = ctx;
    (void)op;
    return n <= b->n_bytes ? b->data : NULL;
}

static void *image_realloc(void *p, size_t n, H5FD_file_image_op_t op, void *ctx)
{
    (void)p;
    return image_malloc(n, op, ctx);
}

static void *image_memcpy(void *to, const void *from, size_t n, H5FD_file_image_op_t op,
                          void *ctx)
{
    (void)op;
    (void)ctx;
    return to == from ? to : memcpy(to, from, n);
}

static herr_t image_free(void *p, H5FD_file_image_op_t op, void *ctx)
{
    (void)p;
    (void)op;
    (void)ctx;
    return 0; /* the buffer belongs to the caller */
}

static void *copy_ctx(void *ctx)
{
    return ctx;
}

static herr_t free_ctx(void *ctx)
{
    (void)ctx;
    return 0;
}

sim_status sim_h5_image_access(h5_buffer *buffer, hid_t *out)
{
    sim_status st = SIM_OK;
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5FD_file_image_callbacks_t calls = {.image_malloc = image_malloc,
                                         .image_memcpy = image_memcpy,
                                         .image_realloc = image_realloc,
                                         .image_free = image_free,
                                         .udata_copy = copy_ctx,
                                         .udata_free = free_ctx,
                                         .udata = buffer};

    (void)H5Pset_fapl_core(access, 1 << 16, 0);
    (void)H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
    SIM_CHECK(H5Pset_file_image_callbacks(access, &calls) >= 0, SIM_E_IO,
              "HDF5 image: %s", sim_h5_reason());
    *out = access;
    access = -1;
done:
    if (access >= 0)
        (void)H5Pclose(access);
    return st;
}

void sim_h5_image_name(char out[64])
{
    static unsigned long count;
    (void)snprintf(out, 64, "(image %lu in memory)", ++count);
}
