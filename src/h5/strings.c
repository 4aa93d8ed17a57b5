/*
 * strings.c - data sets of strings, as names of images and classes.
 *
 * Written as fixed-length UTF-8 strings padded with zeros.  Read from fixed-length and
 * variable-length strings, and from enumerations, whose values have names.
 */
#include "private.h"

#include "simile/memory.h"

#include <string.h>

static hid_t fixed_type(size_t width)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    (void)H5Tset_size(type, width);
    (void)H5Tset_strpad(type, H5T_STR_NULLPAD);
    (void)H5Tset_cset(type, H5T_CSET_UTF8);
    return type;
}

sim_status sim_h5_write_strings(sim_h5 *f, const char *name, size_t n, size_t width,
                                const char *text)
{
    sim_status st = SIM_OK;
    hid_t space = sim_h5_space_of(1, &n), create = sim_h5_set_plist();
    hid_t type = fixed_type(width), set = -1;

    set = sim_h5_create_set(f, name, type, space, create);
    SIM_CHECK(set >= 0 && H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, text) >= 0,
              SIM_E_IO, "%s: %s cannot be written: %s", f->name, name, sim_h5_reason());
done:
    if (set >= 0)
        (void)H5Dclose(set);
    (void)H5Tclose(type);
    (void)H5Pclose(create);
    (void)H5Sclose(space);
    return st;
}

/* ---- reading ---- */

typedef struct {
    hid_t set, space, type;
} string_set;

static void close_strings(string_set *s)
{
    if (s->type >= 0)
        (void)H5Tclose(s->type);
    if (s->space >= 0)
        (void)H5Sclose(s->space);
    if (s->set >= 0)
        (void)H5Dclose(s->set);
}

static bool open_strings(const sim_h5 *f, const char *name, string_set *s)
{
    *s = (string_set){-1, -1, -1};
    if (!sim_h5_has(f, name))
        return false;
    s->set = H5Dopen2(f->file, name, H5P_DEFAULT);
    if (s->set < 0)
        return false;
    s->space = H5Dget_space(s->set);
    s->type = H5Dget_type(s->set);
    if (s->space < 0 || s->type < 0)
        return false;
    H5T_class_t class = H5Tget_class(s->type);
    return class == H5T_STRING || (class == H5T_ENUM && H5Tget_size(s->type) <= 8);
}

bool sim_h5_is_strings(const sim_h5 *f, const char *name)
{
    string_set s;
    bool yes = open_strings(f, name, &s);
    close_strings(&s);
    return yes;
}

/* Copies variable-length strings to rows of `width`; the longest determines it. */
static sim_status pack_strings(char *const *list, size_t n, size_t *width, char **text)
{
    sim_status st = SIM_OK;
    size_t longest = 1;
    void *rows = NULL;

    for (size_t i = 0; i < n; i++)
        if (list[i] && strlen(list[i]) > longest)
            longest = strlen(list[i]);
    SIM_TRY(sim_alloc_bytes(n, longest + 1, "h5/strings", &rows));
    for (size_t i = 0; i < n; i++)
        if (list[i])
            memcpy((char *)rows + i * (longest + 1), list[i], strlen(list[i]));
    *width = longest + 1;
    *text = rows;
done:
    return st;
}

static sim_status read_variable(const sim_h5 *f, const char *name, const string_set *s,
                                size_t n, size_t *width, char **text)
{
    sim_status st = SIM_OK;
    char **list = NULL;
    hid_t type = H5Tcopy(H5T_C_S1);

    (void)H5Tset_size(type, H5T_VARIABLE);
    (void)H5Tset_cset(type, H5Tget_cset(s->type));
    SIM_TRY(sim_alloc(&list, n, "h5/strings"));
    SIM_CHECK(H5Dread(s->set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, list) >= 0, SIM_E_DATA,
              "%s: %s: %s", f->name, name, sim_h5_reason());
    st = pack_strings(list, n, width, text);
    (void)H5Dvlen_reclaim(type, s->space, H5P_DEFAULT, list);
done:
    sim_free(list);
    (void)H5Tclose(type);
    return st;
}

/* Rows have one byte more than the strings of the file, so that each ends with a zero. */
static sim_status read_fixed(const sim_h5 *f, const char *name, const string_set *s,
                             size_t n, size_t *width, char **text)
{
    sim_status st = SIM_OK;
    size_t bytes = H5Tget_size(s->type);
    hid_t type = -1;
    void *rows = NULL;

    SIM_CHECK(bytes > 0 && n <= H5Dget_storage_size(s->set) / bytes, SIM_E_DATA,
              "%s: %s has %zu strings of %zu bytes, more than the file stores", f->name,
              name, n, bytes);
    SIM_TRY(sim_alloc_bytes(n, bytes + 1, "h5/strings", &rows));
    type = fixed_type(bytes + 1);
    (void)H5Tset_cset(type, H5Tget_cset(s->type));
    SIM_CHECK(H5Dread(s->set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, rows) >= 0, SIM_E_DATA,
              "%s: %s: %s", f->name, name, sim_h5_reason());
    *width = bytes + 1;
    *text = rows;
    rows = NULL;
done:
    sim_free(rows);
    if (type >= 0)
        (void)H5Tclose(type);
    return st;
}

/* The names of the values of an enumeration, such as the bool of h5py. */
static sim_status read_enum(const sim_h5 *f, const char *name, const string_set *s,
                            size_t n, size_t *width, char **text)
{
    sim_status st = SIM_OK;
    enum { NAME = 64 };
    hid_t native = H5Tget_native_type(s->type, H5T_DIR_DEFAULT);
    size_t bytes = H5Tget_size(s->type);
    void *values = NULL, *rows = NULL;

    SIM_CHECK(native >= 0 && n <= H5Dget_storage_size(s->set) / bytes, SIM_E_DATA,
              "%s: %s has %zu values, more than the file stores", f->name, name, n);
    bytes = H5Tget_size(native);
    SIM_TRY(sim_alloc_bytes(n, bytes, "h5/strings", &values));
    SIM_TRY(sim_alloc_bytes(n, NAME, "h5/strings", &rows));
    SIM_CHECK(H5Dread(s->set, native, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0,
              SIM_E_DATA, "%s: %s: %s", f->name, name, sim_h5_reason());
    for (size_t i = 0; i < n; i++)
        SIM_CHECK(H5Tenum_nameof(native, (const char *)values + i * bytes,
                                 (char *)rows + i * NAME, NAME) >= 0,
                  SIM_E_DATA, "%s: %s: value %zu is not one of the enumeration", f->name,
                  name, i);
    *width = NAME;
    *text = rows;
    rows = NULL;
done:
    sim_free(values);
    sim_free(rows);
    if (native >= 0)
        (void)H5Tclose(native);
    return st;
}

sim_status sim_h5_read_strings(const sim_h5 *f, const char *name, size_t limit, size_t *n,
                               size_t *width, char **text)
{
    sim_status st = SIM_OK;
    string_set s;
    hsize_t dims[H5S_MAX_RANK] = {0};

    bool strings = open_strings(f, name, &s);
    SIM_CHECK(strings, SIM_E_DATA, "%s: %s is not a data set of strings", f->name, name);
    int n_dims = H5Sget_simple_extent_ndims(s.space);
    SIM_CHECK(n_dims > 0 && H5Sget_simple_extent_dims(s.space, dims, NULL) == n_dims,
              SIM_E_DATA, "%s: %s has %d dimensions, expected 1", f->name, name, n_dims);
    for (int i = 1; i < n_dims; i++)
        SIM_CHECK(dims[i] == 1, SIM_E_DATA,
                  "%s: %s has %d dimensions, expected 1, or others of length 1", f->name,
                  name, n_dims);
    SIM_CHECK(dims[0] > 0 && dims[0] <= limit, SIM_E_DATA,
              "%s: %s has %llu strings, expected 1 to %zu", f->name, name,
              (unsigned long long)dims[0], limit);
    *n = (size_t)dims[0];
    SIM_TRY(H5Tget_class(s.type) == H5T_ENUM ? read_enum(f, name, &s, *n, width, text)
            : H5Tis_variable_str(s.type) > 0 ? read_variable(f, name, &s, *n, width, text)
                                             : read_fixed(f, name, &s, *n, width, text));
done:
    close_strings(&s);
    return st;
}
