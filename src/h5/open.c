/*
 * open.c - opening files, images and data sets for reading. Refuses whatever could read other files
 * or run foreign code.
 */
#include "private.h"

#include "simile/file.h"
#include "simile/memory.h"

#include <errno.h>
#include <string.h>

static sim_status create_handle(const char *path, hid_t file, sim_h5 **out)
{
    sim_status st = SIM_OK;
    sim_h5 *f = NULL;

    SIM_TRY(sim_new(&f, "h5/file"));
    f->file = file;
    SIM_TRY(sim_text_copy(path, "h5/file", &f->name));
    SIM_TRY(sim_text_copy(path, "h5/file", &f->path));
    *out = f;
    f = NULL;
done:
    if (f) {
        f->file = -1; /* the caller closes it */
        sim_h5_close(&f);
    }
    return st;
}

/*
 * HDF5 locks a file that it opens, so that a file that is being written is not read. Many file
 * systems of clusters have no locks, and a reader needs none there.
 */
static sim_status open_locked(const char *path, hid_t access, hid_t *out)
{
    sim_status st = SIM_OK;
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, access);
    const char *reason = file < 0 ? sim_h5_reason() : "";
    bool is_lock = strstr(reason, "lock file") != NULL;
    int error = sim_h5_system_error(reason);

    if (is_lock && error != EWOULDBLOCK) {
        (void)H5Pset_file_locking(access, false, true);
        file = H5Fopen(path, H5F_ACC_RDONLY, access);
        reason = file < 0 ? sim_h5_reason() : "";
        is_lock = strstr(reason, "lock file") != NULL;
        error = sim_h5_system_error(reason);
    }
    SIM_CHECK(!is_lock, SIM_E_IO,
              "%s cannot be locked for reading (%s): another program has it open for "
              "writing, or the file system has no locks; close it there, or set "
              "HDF5_USE_FILE_LOCKING=FALSE",
              path, strerror(error));
    SIM_CHECK(error == 0, SIM_E_IO, "%s cannot be read: %s", path, strerror(error));
    SIM_CHECK(file >= 0, SIM_E_DATA, "%s is not a readable HDF5 file: %s", path, reason);
    *out = file;
done:
    return st;
}

sim_status sim_h5_open_read(const char *path, sim_h5 **out)
{
    sim_status st = SIM_OK;
    int fd = -1;
    uint64_t n = 0;
    hid_t file = -1, access = -1;

    sim_h5_quiet();
    SIM_TRY(sim_file_open_read(path, &fd, &n)); /* reports a missing file */
    SIM_TRY(sim_file_close(&fd, path));
    SIM_CHECK(n > 0, SIM_E_DATA, "%s is empty, expected an HDF5 file", path);
    access = H5Pcreate(H5P_FILE_ACCESS);
    (void)H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
    SIM_TRY(open_locked(path, access, &file));
    SIM_TRY(create_handle(path, file, out));
    file = -1;
done:
    if (file >= 0)
        (void)H5Fclose(file);
    if (access >= 0)
        (void)H5Pclose(access);
    return st;
}

sim_status sim_h5_open_image(const void *image, size_t n_bytes, const char *name,
                             sim_h5 **out)
{
    sim_status st = SIM_OK;
    sim_h5 *f = NULL;
    hid_t access = -1;
    char unique[64];

    sim_h5_quiet();
    SIM_TRY(sim_new(&f, "h5/file"));
    f->file = -1;
    f->image = (h5_buffer){(void *)image, n_bytes}; /* opened read-only */
    SIM_TRY(sim_text_copy(name, "h5/file", &f->name));
    SIM_TRY(sim_h5_image_access(&f->image, &access));
    SIM_CHECK(H5Pset_file_image(access, f->image.data, n_bytes) >= 0, SIM_E_IO, "%s: %s",
              name, sim_h5_reason());
    sim_h5_image_name(unique);
    f->file = H5Fopen(unique, H5F_ACC_RDONLY, access);
    SIM_CHECK(f->file >= 0, SIM_E_DATA, "%s is not a readable HDF5 file: %s", name,
              sim_h5_reason());
    *out = f;
    f = NULL;
done:
    sim_h5_close(&f);
    if (access >= 0)
        (void)H5Pclose(access);
    return st;
}

/* Whether every component of the path is a hard link: soft and external links may refer to other
 * files. */
static bool is_plain_path(const sim_h5 *f, const char *name)
{
    char part[512];
    size_t n = strlen(name);
    H5L_info_t info;

    if (n == 0 || n >= sizeof part)
        return false;
    for (size_t i = 1; i <= n; i++) {
        if (name[i] != '/' && name[i] != '\0')
            continue;
        memcpy(part, name, i);
        part[i] = '\0';
        if (H5Lexists(f->file, part, H5P_DEFAULT) <= 0 ||
            H5Lget_info(f->file, part, &info, H5P_DEFAULT) < 0 ||
            info.type != H5L_TYPE_HARD) {
            (void)H5Eclear2(H5E_DEFAULT);
            return false;
        }
    }
    return true;
}

bool sim_h5_has(const sim_h5 *f, const char *name)
{
    if (!is_plain_path(f, name))
        return false;
    bool found = H5Oexists_by_name(f->file, name, H5P_DEFAULT) > 0;
    (void)H5Eclear2(H5E_DEFAULT);
    return found;
}

bool sim_h5_has_attribute(const sim_h5 *f, const char *name)
{
    return H5Aexists(f->file, name) > 0;
}

bool sim_h5_has_attribute_of(const sim_h5 *f, const char *data_set, const char *name)
{
    return sim_h5_has(f, data_set) &&
           H5Aexists_by_name(f->file, data_set, name, H5P_DEFAULT) > 0;
}

static bool is_known_filter(H5Z_filter_t filter)
{
    return filter == H5Z_FILTER_DEFLATE || filter == H5Z_FILTER_SHUFFLE ||
           filter == H5Z_FILTER_FLETCHER32 || filter == H5Z_FILTER_SZIP ||
           filter == H5Z_FILTER_NBIT || filter == H5Z_FILTER_SCALEOFFSET;
}

static sim_status check_storage(const sim_h5 *f, const char *name, hid_t set)
{
    sim_status st = SIM_OK;
    hid_t plist = H5Dget_create_plist(set);

    SIM_CHECK(plist >= 0, SIM_E_DATA, "%s: %s: %s", f->name, name, sim_h5_reason());
    SIM_CHECK(H5Pget_layout(plist) != H5D_VIRTUAL, SIM_E_DATA,
              "%s: %s is a virtual data set, which refers to other files", f->name, name);
    SIM_CHECK(H5Pget_external_count(plist) <= 0, SIM_E_DATA,
              "%s: %s is stored in other files", f->name, name);
    int n = H5Pget_nfilters(plist);
    for (int i = 0; i < n; i++) {
        unsigned flags = 0, config = 0;
        size_t values = 0;
        H5Z_filter_t filter =
            H5Pget_filter2(plist, (unsigned)i, &flags, &values, NULL, 0, NULL, &config);
        SIM_CHECK(is_known_filter(filter), SIM_E_DATA,
                  "%s: %s needs HDF5 filter %d, which is not supported", f->name, name,
                  (int)filter);
    }
done:
    if (plist >= 0)
        (void)H5Pclose(plist);
    return st;
}

sim_status sim_h5_open_set(const sim_h5 *f, const char *name, hid_t *out)
{
    sim_status st = SIM_OK;
    hid_t set = -1;

    SIM_CHECK(sim_h5_has(f, name), SIM_E_DATA, "%s has no data set %s", f->name, name);
    set = H5Dopen2(f->file, name, H5P_DEFAULT);
    SIM_CHECK(set >= 0, SIM_E_DATA, "%s: %s is not a data set: %s", f->name, name,
              sim_h5_reason());
    SIM_TRY(check_storage(f, name, set));
    *out = set;
    set = -1;
done:
    if (set >= 0)
        (void)H5Dclose(set);
    return st;
}

void sim_h5_close(sim_h5 **out)
{
    sim_h5 *f = *out;
    if (!f)
        return;
    if (f->file >= 0)
        (void)H5Fclose(f->file);
    sim_free(f->name);
    sim_free(f->path);
    sim_free(f->reserved);
    sim_free(f);
    *out = NULL;
}
