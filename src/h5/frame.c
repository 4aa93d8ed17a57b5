/*
 * frame.c - the frame of a large file: its metadata in memory, with a hole for the bulk data.
 *
 * HDF5 writes through a virtual file driver of this file to an anonymous memory file, in which a
 * hole uses no memory. The drivers of HDF5 either need a path on disk, and crash when the disk is
 * full, or fill the hole.  For the same reason the driver reports no failed write to HDF5, which would
 * crash when the process exits: it is recorded, and sim_h5_finish returns it.
 */
#include "private.h"

#include "simile/file.h"
#include "simile/memory.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

typedef struct {
    H5FD_t pub; /* required first member */
    int fd;
    h5_failure *failure; /* of its sim_h5 */
    haddr_t eoa, eof;
} memory_file;

/* What the property list passes to the driver. */
typedef struct {
    int fd;
    h5_failure *failure;
} memory_info;

/* Number of the driver in HDF5 1.14: 256 to 511 are for drivers that are not registered with the HDF Group. */
enum { PRIVATE_DRIVER = 500 };

static const char frame_name[] = "the HDF5 file in memory";

static H5FD_t *open_memory(const char *name, unsigned flags, hid_t access,
                           haddr_t max_address)
{
    memory_file *m = NULL;
    (void)name;
    (void)flags;
    (void)max_address;
    if (sim_new(&m, "h5/frame") != SIM_OK)
        return NULL;
    const memory_info *info = H5Pget_driver_info(access);
    m->fd = info->fd;
    m->failure = info->failure;
    return &m->pub;
}

static herr_t close_memory(H5FD_t *file)
{
    sim_free(file); /* the memory file belongs to the caller */
    return 0;
}

static herr_t query_features(const H5FD_t *file, unsigned long *flags)
{
    (void)file;
    *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA |
             H5FD_FEAT_AGGREGATE_SMALLDATA;
    return 0;
}

static haddr_t get_eoa(const H5FD_t *file, H5FD_mem_t type)
{
    (void)type;
    return ((const memory_file *)(const void *)file)->eoa;
}

static herr_t set_eoa(H5FD_t *file, H5FD_mem_t type, haddr_t at)
{
    (void)type;
    ((memory_file *)(void *)file)->eoa = at;
    return 0;
}

static haddr_t get_eof(const H5FD_t *file, H5FD_mem_t type)
{
    (void)type;
    return ((const memory_file *)(const void *)file)->eof;
}

/* Holes and bytes beyond the end of the file read as zeros. */
static herr_t read_memory(H5FD_t *file, H5FD_mem_t type, hid_t transfer, haddr_t at,
                          size_t n, void *data)
{
    const memory_file *m = (const void *)file;
    size_t n_stored = at >= m->eof ? 0 : m->eof - at < n ? (size_t)(m->eof - at) : n;
    (void)type;
    (void)transfer;
    memset((char *)data + n_stored, 0, n - n_stored);
    return sim_file_read_at(m->fd, frame_name, at, data, n_stored) == SIM_OK ? 0 : -1;
}

/* Records the first failure. */
static void note_failure(h5_failure *f, sim_status st)
{
    if (st == SIM_OK)
        return;
    if (f->status == SIM_OK) {
        f->status = st;
        (void)snprintf(f->message, sizeof f->message, "%s", sim_error_message());
    }
    sim_error_clear();
}

static herr_t write_memory(H5FD_t *file, H5FD_mem_t type, hid_t transfer, haddr_t at,
                           size_t n, const void *data)
{
    memory_file *m = (void *)file;
    (void)type;
    (void)transfer;
    if (m->failure->status == SIM_OK)
        note_failure(m->failure, sim_file_write_at(m->fd, frame_name, at, data, n));
    if (at + n > m->eof)
        m->eof = at + n;
    return 0;
}

static herr_t truncate_memory(H5FD_t *file, hid_t transfer, hbool_t closing)
{
    memory_file *m = (void *)file;
    (void)transfer;
    (void)closing;
    if (m->failure->status == SIM_OK)
        note_failure(m->failure, sim_file_set_length(m->fd, frame_name, m->eoa));
    m->eof = m->eoa;
    return 0;
}

/* Registers the driver on the first call. */
static hid_t memory_driver(void)
{
    static const H5FD_class_t class = {
#if H5_VERSION_GE(1, 14, 0)
        .version = H5FD_CLASS_VERSION,
        .value = PRIVATE_DRIVER,
#endif
        .name = "simile-frame",
        .maxaddr = INT64_MAX,
        .fc_degree = H5F_CLOSE_STRONG,
        .fapl_size = sizeof(memory_info),
        .open = open_memory,
        .close = close_memory,
        .query = query_features,
        .get_eoa = get_eoa,
        .set_eoa = set_eoa,
        .get_eof = get_eof,
        .read = read_memory,
        .write = write_memory,
        .truncate = truncate_memory,
        .fl_map = H5FD_FLMAP_SINGLE
    };
    static hid_t driver = -1;
    if (driver < 0)
        driver = H5FDregister(&class);
    return driver;
}

/* Initial metadata share one block of SIM_H5_BULK_AT bytes, which the first data set follows. */
static sim_status frame_access(const memory_info *info, hid_t *access)
{
    sim_status st = SIM_OK;

    *access = H5Pcreate(H5P_FILE_ACCESS);
    SIM_CHECK(H5Pset_driver(*access, memory_driver(), info) >= 0 &&
                  H5Pset_meta_block_size(*access, SIM_H5_BULK_AT) >= 0 &&
                  H5Pset_small_data_block_size(*access, 0) >= 0,
              SIM_E_IO, "HDF5 refuses the driver for files in memory: %s",
              sim_h5_reason());
done:
    return st;
}

sim_status sim_h5_create_frame(sim_h5 **out, int *fd)
{
    sim_status st = SIM_OK;
    sim_h5 *f = NULL;
    int memory = memfd_create("simile-frame", MFD_CLOEXEC);
    hid_t access = -1;

    sim_h5_quiet();
    SIM_CHECK(memory >= 0, SIM_E_IO, "cannot create a file in memory: %s",
              strerror(errno));
    SIM_TRY(sim_new(&f, "h5/file"));
    f->file = -1;
    SIM_TRY(frame_access(&(memory_info){memory, &f->failure}, &access));
    f->file = H5Fcreate(frame_name, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    SIM_CHECK(f->file >= 0, SIM_E_IO, "cannot create an HDF5 file in memory: %s",
              sim_h5_reason());
    SIM_TRY(sim_text_copy(frame_name, "h5/file", &f->name));
    *out = f;
    *fd = memory;
    f = NULL;
    memory = -1;
done:
    sim_h5_close(&f);
    if (access >= 0)
        (void)H5Pclose(access);
    SIM_IGNORE(sim_file_close(&memory, frame_name));
    return st;
}

sim_status sim_h5_reserve(sim_h5 *f, const char *name, sim_type type, int n_dims,
                          const size_t *dims)
{
    sim_status st = SIM_OK;
    hid_t space = sim_h5_space_of(n_dims, dims), create = sim_h5_set_plist(), set = -1;

    (void)H5Pset_layout(create, H5D_CONTIGUOUS);
    (void)H5Pset_alloc_time(create, H5D_ALLOC_TIME_EARLY);
    (void)H5Pset_fill_time(create, H5D_FILL_TIME_NEVER);
    set = sim_h5_create_set(f, name, sim_h5_file_type(type), space, create);
    SIM_CHECK(set >= 0, SIM_E_IO, "%s: %s cannot be created: %s", f->name, name,
              sim_h5_reason());
    haddr_t offset = H5Dget_offset(set);
    SIM_CHECK(offset == SIM_H5_BULK_AT, SIM_E_BUG,
              "%s: HDF5 places %s at offset %llu, expected %d", f->name, name,
              (unsigned long long)offset, SIM_H5_BULK_AT);
done:
    if (set >= 0)
        (void)H5Dclose(set);
    (void)H5Pclose(create);
    (void)H5Sclose(space);
    return st;
}
