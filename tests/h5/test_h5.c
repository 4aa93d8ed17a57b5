/*
 * test_h5.c - reading of files that the HDF5 library wrote, files that the HDF5 library reads back,
 * and everything that is refused.
 */
#include "simile_test.h"

#include "private.h"

#include "simile/file.h"
#include "simile/h5.h"
#include "simile/memory.h"

#include <errno.h>
#include <hdf5.h>
#include <unistd.h>

static char directory[] = "/tmp/simile-test-XXXXXX", path[64], other[64];

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(directory))
        return -1;
    (void)snprintf(path, sizeof path, "%s/a.h5", directory);
    (void)snprintf(other, sizeof other, "%s/b.h5", directory);
    (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    (void)unlink(path);
    (void)unlink(other);
    return rmdir(directory);
}

/* ---- files written by the HDF5 library ---- */

/* Creates a data set of 6 elements with the values 1 to 6, as [2][3]. */
static void add_set(hid_t file, const char *name, hid_t type, hid_t plist)
{
    static const int values[6] = {1, 2, 3, 4, 5, 6};
    const hsize_t dims[2] = {2, 3};
    hid_t space = H5Screate_simple(2, dims, NULL);
    hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    assert_true(set >= 0);
    assert_true(H5Dwrite(set, H5T_NATIVE_INT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >=
                0);
    (void)H5Dclose(set);
    (void)H5Sclose(space);
}

static hid_t create_file(const char *name)
{
    hid_t file = H5Fcreate(name, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(file >= 0);
    return file;
}

static hid_t chunked(void)
{
    const hsize_t chunk[2] = {1, 3};
    hid_t plist = H5Pcreate(H5P_DATASET_CREATE);
    assert_true(H5Pset_chunk(plist, 2, chunk) >= 0);
    return plist;
}

static double element(const void *data, sim_type type, size_t i)
{
    switch (type) {
    case SIM_F32:
        return (double)((const float *)data)[i];
    case SIM_F64:
        return ((const double *)data)[i];
    case SIM_I64:
        return (double)((const int64_t *)data)[i];
    case SIM_U64:
        return (double)((const uint64_t *)data)[i];
    case SIM_I32:
        return (double)((const int32_t *)data)[i];
    case SIM_U16:
        return (double)((const uint16_t *)data)[i];
    case SIM_U8:
        return (double)((const uint8_t *)data)[i];
    }
    return -1;
}

/* A type in a file, its sim_type, and the types F32 F64 I64 U64 I32 U16 U8 that it may be read as. */
typedef struct {
    hid_t type;
    sim_type expected;
    bool exact;
    const char *readable; /* one character per type, 'x': refused */
} conversion;

static void integers_become_float64_but_no_other_conversion_loses_values(void **state)
{
    (void)state;
    const conversion cases[] = {
        {H5T_IEEE_F32LE, SIM_F32, true, "+ +x x x x x"},
        {H5T_IEEE_F32BE, SIM_F32, false, "+ +x x x x x"},
        {H5T_IEEE_F64LE, SIM_F64, true, "+ +x x x x x"},
        {H5T_STD_U8LE, SIM_U8, true, "+ ++ + + + +"},
        {H5T_STD_I8LE, SIM_I32, false, "x ++ + + x x"},
        {H5T_STD_U16LE, SIM_U16, true, "+ ++ + + + x"},
        {H5T_STD_U16BE, SIM_U16, false, "+ ++ + + + x"},
        {H5T_STD_I16LE, SIM_I32, false, "x ++ + + x x"},
        {H5T_STD_I32LE, SIM_I32, true, "x ++ + + x x"},
        {H5T_STD_U32LE, SIM_I64, false, "x ++ x x x x"},
        {H5T_STD_I64LE, SIM_I64, true, "x ++ x x x x"},
        {H5T_STD_U64LE, SIM_U64, true, "x +x + x x x"},
    };
    static const sim_type types[] = {SIM_F32, SIM_F64, SIM_I64, SIM_U64,
                                     SIM_I32, SIM_U16, SIM_U8};
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        char flags[8] = "";
        size_t n = 0;
        sim_h5 *f = NULL;
        sim_h5_shape shape;
        for (const char *p = cases[k].readable; *p; p++)
            if (*p != ' ')
                flags[n++] = *p;
        assert_int_equal(n, 7);
        hid_t file = create_file(path);
        add_set(file, "x", cases[k].type, H5P_DEFAULT);
        (void)H5Fclose(file);
        ASSERT_OK(sim_h5_open_read(path, &f));
        ASSERT_OK(sim_h5_shape_of(f, "/x", &shape));
        assert_true(shape.type == cases[k].expected && shape.exact == cases[k].exact);
        assert_true(shape.n_dims == 2 && shape.dims[0] == 2 && shape.dims[1] == 3);
        for (size_t t = 0; t < 7; t++) {
            double data[6];
            sim_status st = sim_h5_read(f, "/x", types[t], 0, SIM_H5_ALL, data, 6);
            if (st != (flags[t] == '+' ? SIM_OK : SIM_E_DATA))
                fail_msg("case %zu as %s: %d %s", k, sim_type_name(types[t]), (int)st,
                         sim_error_message());
            for (size_t i = 0; st == SIM_OK && i < 6; i++)
                assert_true(element(data, types[t], i) == (double)(i + 1));
        }
        sim_h5_close(&f);
    }
}

static void rows_and_sizes_are_checked(void **state)
{
    (void)state;
    float data[6];
    void *all = NULL;
    char *text = NULL;
    sim_h5 *f = NULL;
    sim_h5_shape shape;
    hid_t file = create_file(path);
    add_set(file, "x", H5T_IEEE_F32LE, H5P_DEFAULT);
    (void)H5Fclose(file);
    ASSERT_OK(sim_h5_open_read(path, &f));
    ASSERT_OK(sim_h5_read(f, "/x", SIM_F32, 1, 1, data, 3));
    assert_true(data[0] == 4 && data[2] == 6);
    ASSERT_REFUSED(sim_h5_read(f, "/x", SIM_F32, 1, 2, data, 6), SIM_E_DATA, "/x");
    ASSERT_REFUSED(sim_h5_read(f, "/x", SIM_F32, SIZE_MAX, 2, data, 6), SIM_E_DATA, "/x");
    ASSERT_REFUSED(sim_h5_read(f, "/x", SIM_F32, 0, SIM_H5_ALL, data, 5), SIM_E_DATA,
                   "6 values");
    ASSERT_REFUSED(sim_h5_read_new(f, "/x", SIM_F32, 5, &all, &shape), SIM_E_DATA,
                   "6 values");
    ASSERT_REFUSED(sim_h5_read_text(f, "/x", &text), SIM_E_DATA, "/x");
    ASSERT_REFUSED(sim_h5_shape_of(f, "/y", &shape), SIM_E_DATA, "/y");
    ASSERT_OK(sim_h5_read_new(f, "/x", SIM_F64, 6, &all, &shape));
    assert_true(((const double *)all)[5] == 6);
    sim_free(all);
    sim_h5_close(&f);
    sim_h5_close(&f);
}

/* ---- refused ---- */

static size_t copy_bytes(unsigned flags, size_t n_values, const unsigned *values,
                         size_t n_bytes, size_t *capacity, void **buffer)
{
    (void)flags, (void)n_values, (void)values, (void)capacity, (void)buffer;
    return n_bytes;
}

static void add_unknown_filter(hid_t file)
{
    enum { FILTER = 300 };
    const H5Z_class2_t filter = {H5Z_CLASS_T_VERS, FILTER, 1,    1,
                                 "test",           NULL,   NULL, copy_bytes};
    hid_t plist = chunked();
    assert_true(H5Zregister(&filter) >= 0);
    assert_true(H5Pset_filter(plist, FILTER, 0, 0, NULL) >= 0);
    add_set(file, "filtered", H5T_STD_U8LE, plist);
    (void)H5Pclose(plist);
}

static void add_virtual(hid_t file)
{
    const hsize_t dims[2] = {2, 3};
    hid_t space = H5Screate_simple(2, dims, NULL), plist = H5Pcreate(H5P_DATASET_CREATE);
    assert_true(H5Pset_virtual(plist, space, other, "x", space) >= 0);
    hid_t set =
        H5Dcreate2(file, "virtual", H5T_STD_U8LE, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    assert_true(set >= 0);
    (void)H5Dclose(set);
    (void)H5Pclose(plist);
    (void)H5Sclose(space);
}

static void data_outside_the_file_and_unknown_filters_are_refused(void **state)
{
    (void)state;
    static const char *const refused[][2] = {
        {"/soft", "/soft"},         {"/external", "/external"},
        {"/loop/x", "/loop/x"},     {"/virtual", "virtual"},
        {"/stored", "other files"}, {"/filtered", "300"},
        {"/", "data set"},          {"", "data set"}};
    sim_h5 *f = NULL;
    sim_h5_shape shape;
    hid_t file = create_file(other);
    add_set(file, "x", H5T_STD_U8LE, H5P_DEFAULT);
    (void)H5Fclose(file);
    file = create_file(path);
    hid_t plist = H5Pcreate(H5P_DATASET_CREATE);
    add_set(file, "x", H5T_STD_U8LE, H5P_DEFAULT);
    assert_true(H5Lcreate_soft("/x", file, "soft", H5P_DEFAULT, H5P_DEFAULT) >= 0);
    assert_true(H5Lcreate_soft("/", file, "loop", H5P_DEFAULT, H5P_DEFAULT) >= 0);
    assert_true(
        H5Lcreate_external(other, "/x", file, "external", H5P_DEFAULT, H5P_DEFAULT) >= 0);
    assert_true(H5Pset_external(plist, other, 0, 6) >= 0);
    add_virtual(file);
    add_unknown_filter(file);
    const hsize_t six = 6;
    hid_t space = H5Screate_simple(1, &six, NULL);
    hid_t set =
        H5Dcreate2(file, "stored", H5T_STD_U8LE, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    assert_true(set >= 0);
    (void)H5Dclose(set);
    (void)H5Sclose(space);
    (void)H5Pclose(plist);
    (void)H5Fclose(file);
    ASSERT_OK(sim_h5_open_read(path, &f));
    ASSERT_OK(sim_h5_shape_of(f, "/x", &shape));
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        ASSERT_REFUSED(sim_h5_shape_of(f, refused[i][0], &shape), SIM_E_DATA,
                       refused[i][1]);
    sim_h5_close(&f);
}

static void files_that_are_not_hdf5_are_refused(void **state)
{
    (void)state;
    static const char bytes[600] = "\211HDF\r\n\032\n";
    const sim_piece piece = {bytes, sizeof bytes}, empty = {bytes, 0};
    sim_h5 *f = NULL;
    ASSERT_OK(sim_file_replace(path, &piece, 1));
    ASSERT_REFUSED(sim_h5_open_read(path, &f), SIM_E_DATA, path);
    ASSERT_OK(sim_file_replace(path, &empty, 1));
    ASSERT_REFUSED(sim_h5_open_read(path, &f), SIM_E_DATA, "empty");
    ASSERT_REFUSED(sim_h5_open_image(bytes, sizeof bytes, "name", &f), SIM_E_DATA,
                   "name");
    ASSERT_REFUSED(sim_h5_open_read("/nowhere/a.h5", &f), SIM_E_INPUT, "/nowhere/a.h5");
    assert_null(f);
}

static void only_contiguous_bytes_have_an_offset(void **state)
{
    (void)state;
    uint64_t at = 0, n = 0;
    sim_h5 *f = NULL;
    sim_h5_storage storage;
    hid_t file = create_file(path), plist = chunked();
    add_set(file, "x", H5T_STD_U8LE, H5P_DEFAULT);
    add_set(file, "float", H5T_IEEE_F32LE, H5P_DEFAULT);
    add_set(file, "chunked", H5T_STD_U8LE, plist);
    hid_t set = H5Dopen2(file, "x", H5P_DEFAULT);
    haddr_t offset = H5Dget_offset(set);
    (void)H5Dclose(set);
    (void)H5Pclose(plist);
    (void)H5Fclose(file);
    ASSERT_OK(sim_h5_open_read(path, &f));
    ASSERT_OK(sim_h5_bytes_at(f, "/x", &at, &n));
    assert_true(at == offset && n == 6);
    ASSERT_OK(sim_h5_bytes_at(f, "/float", &at, &n));
    assert_int_equal(n, 24);
    ASSERT_REFUSED(sim_h5_bytes_at(f, "/chunked", &at, &n), SIM_E_DATA, "/chunked");
    ASSERT_OK(sim_h5_storage_of(f, "/chunked", &storage));
    assert_true(storage.piece_rows == 1 && storage.chunk_bytes == 3);
    ASSERT_OK(sim_h5_storage_of(f, "/float", &storage));
    assert_true(storage.stored_bytes == 24 && storage.chunk_bytes == 0);
    assert_int_equal(truncate(path, (off_t)offset + 5), 0);
    ASSERT_REFUSED(sim_h5_bytes_at(f, "/x", &at, &n), SIM_E_DATA, "truncated");
    sim_h5_close(&f);
}

/* ---- files read by the HDF5 library ---- */

static void write_contents(sim_h5 *f)
{
    static float values[6] = {1, 2, 3, 4, 5, 6};
    static int64_t number = -7;
    const sim_tensor x = {.type = SIM_F32, .n_dims = 2, .dims = {2, 3}, .data = values};
    const sim_tensor scalar = {.type = SIM_I64, .data = &number};
    ASSERT_OK(sim_h5_write(f, "/b/x", &x));
    ASSERT_OK(sim_h5_begin_rows(f, "/a/rows", &x));
    for (size_t row = 2; row-- > 0;)
        ASSERT_OK(sim_h5_write_rows(f, "/a/rows", SIM_F32, row, 1, values + 3 * row));
    ASSERT_OK(sim_h5_write_text(f, "/text", "a text"));
    ASSERT_OK(sim_h5_write_attribute_text(f, "source", "test"));
    ASSERT_OK(sim_h5_write_attribute(f, "number", &scalar));
    ASSERT_OK(sim_h5_write_attribute_of(f, "/b/x", "number", &scalar));
}

static void assert_contents(hid_t file)
{
    static const char *const names[] = {"/b/x", "/a/rows"};
    for (size_t k = 0; k < 2; k++) {
        double values[6];
        hid_t set = H5Dopen2(file, names[k], H5P_DEFAULT), type = H5Dget_type(set);
        assert_true(H5Tequal(type, H5T_IEEE_F32LE) > 0);
        assert_true(
            H5Dread(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
        for (size_t i = 0; i < 6; i++)
            assert_true(values[i] == (double)(i + 1));
        (void)H5Tclose(type);
        (void)H5Dclose(set);
    }
    int64_t number = 0;
    hid_t attribute = H5Aopen_by_name(file, "/b/x", "number", H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Aread(attribute, H5T_NATIVE_INT64, &number) >= 0 && number == -7);
    (void)H5Aclose(attribute);
}

static void an_image_is_a_file_that_hdf5_reads_and_equal_content_gives_equal_bytes(
    void **state)
{
    (void)state;
    void *copy = NULL;
    size_t copy_bytes_ = 0;
    for (int round = 0; round < 2; round++) {
        sim_h5 *f = NULL;
        const void *image = NULL;
        size_t n = 0;
        ASSERT_OK(sim_h5_create_image(1 << 16, &f));
        write_contents(f);
        ASSERT_OK(sim_h5_image(f, &image, &n));
        if (round == 0) {
            const sim_piece piece = {image, n};
            ASSERT_OK(sim_file_replace(path, &piece, 1));
            ASSERT_OK(sim_alloc_bytes(n, 1, "test/h5", &copy));
            memcpy(copy, image, n);
            copy_bytes_ = n;
        } else {
            assert_int_equal(n, copy_bytes_);
            assert_memory_equal(image, copy, n);
        }
        sim_h5_close(&f);
    }
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    assert_true(file >= 0);
    assert_contents(file);
    (void)H5Fclose(file);
    sim_free(copy);
}

static sim_status store_name(void *ctx, const sim_tensor *t)
{
    (void)strcat(ctx, t->name);
    (void)strcat(ctx, " ");
    return strcmp(t->name, "text") == 0 ? SIM_E_AGAIN : SIM_OK;
}

static void an_image_is_read_from_memory(void **state)
{
    (void)state;
    sim_h5 *out = NULL, *in = NULL;
    const void *image = NULL;
    char names[64] = "", *text = NULL, source[8];
    size_t n = 0;
    int64_t number = 0;
    ASSERT_OK(sim_h5_create_image(1 << 16, &out));
    write_contents(out);
    ASSERT_OK(sim_h5_image(out, &image, &n));
    ASSERT_OK(sim_h5_open_image(image, n, "name", &in));
    ASSERT_OK(sim_h5_visit(in, "/nothing", store_name, names));
    assert_string_equal(names, "");
    ASSERT_OK(sim_h5_visit(in, "/b", store_name, names));
    assert_string_equal(names, "b/x ");
    names[0] = '\0';
    assert_int_equal(sim_h5_visit(in, "/", store_name, names), SIM_E_AGAIN);
    assert_string_equal(names, "a/rows b/x text ");
    ASSERT_OK(sim_h5_read_text(in, "/text", &text));
    assert_string_equal(text, "a text");
    ASSERT_OK(sim_h5_read_attribute_text(in, "source", source, sizeof source));
    assert_string_equal(source, "test");
    ASSERT_REFUSED(sim_h5_read_attribute_text(in, "source", source, 4), SIM_E_DATA,
                   "source");
    ASSERT_OK(sim_h5_read_attribute(in, "number", SIM_I64, &number, 1));
    assert_int_equal(number, -7);
    ASSERT_OK(sim_h5_read_attribute_of(in, "/b/x", "number", SIM_I64, &number, 1));
    ASSERT_REFUSED(sim_h5_read_attribute(in, "number", SIM_I32, &number, 1), SIM_E_DATA,
                   "number");
    ASSERT_REFUSED(sim_h5_read_attribute(in, "absent", SIM_I64, &number, 1), SIM_E_DATA,
                   "absent");
    sim_free(text);
    sim_h5_close(&in);
    sim_h5_close(&out);
}

static sim_status count_set(void *ctx, const sim_tensor *t)
{
    (void)t;
    ++*(size_t *)ctx;
    return SIM_OK;
}

static void count_member(void *ctx, const char *at, const char *problem)
{
    (void)at;
    (void)problem;
    ++*(size_t *)ctx;
}

/* More members than were listed once.  In quadratic time, this exceeds the time limit of the test. */
static void a_group_with_many_members_is_listed_once(void **state)
{
    (void)state;
    enum { N = 60000 };
    sim_h5 *out = NULL;
    size_t n_visited = 0, n_listed = 0, n_looped = 0;
    char name[32];
    const uint8_t one = 1;
    const sim_tensor t = {.type = SIM_U8, .data = (void *)(uintptr_t)&one};

    ASSERT_OK(sim_h5_create_image(256 << 20, &out));
    for (size_t i = 0; i < N; i++) {
        (void)snprintf(name, sizeof name, "/wide/%zu", i);
        ASSERT_OK(sim_h5_write(out, name, &t));
    }
    ASSERT_OK(sim_h5_visit(out, "/wide", count_set, &n_visited));
    assert_int_equal(n_visited, N);
    sim_h5_list(out, count_member, &n_listed);
    assert_int_equal(n_listed, N);
    sim_h5_close(&out);
    /* A group that is a member of itself three times has 3^depth members. */
    ASSERT_OK(sim_h5_create_image(1 << 20, &out));
    ASSERT_OK(sim_h5_write(out, "/loop/x", &t));
    for (int i = 0; i < 3; i++) {
        (void)snprintf(name, sizeof name, "/loop/again%d", i);
        assert_true(H5Lcreate_hard(out->file, "/loop", out->file, name, H5P_DEFAULT,
                                   H5P_DEFAULT) >= 0);
    }
    ASSERT_REFUSED(sim_h5_visit(out, "/", count_set, &n_looped), SIM_E_DATA, "/loop");
    n_looped = 0;
    sim_h5_list(out, count_member, &n_looped);
    assert_int_equal(n_looped, 1);
    sim_h5_close(&out);
}

/* Writes the frame to a file with `bulk` in its hole, as a data set writer does. */
static void write_frame(int fd, const uint8_t *bulk, size_t n_bulk)
{
    static uint8_t bytes[1 << 16];
    off_t length = lseek(fd, 0, SEEK_END);
    assert_in_range(length, SIM_H5_BULK_AT + n_bulk, sizeof bytes);
    assert_int_equal(pread(fd, bytes, (size_t)length, 0), length);
    for (size_t i = 0; i < n_bulk; i++)
        assert_int_equal(bytes[SIM_H5_BULK_AT + i], 0);
    memcpy(bytes + SIM_H5_BULK_AT, bulk, n_bulk);
    const sim_piece piece = {bytes, (size_t)length};
    ASSERT_OK(sim_file_replace(path, &piece, 1));
}

static int writes_left;

static ssize_t write_or_fail(int fd, const void *data, size_t n, off_t at)
{
    if (writes_left-- > 0)
        return sim_file_posix.pwrite(fd, data, n, at);
    errno = ENOSPC;
    return -1;
}

/* HDF5 closes what is left when the process exits: a file that it could not flush crashes it. */
static void a_failed_write_of_a_frame_is_reported(void **state)
{
    (void)state;
    const size_t dims[2] = {10, 500};
    sim_file_calls calls = sim_file_posix;
    sim_status st = SIM_E_IO;
    int n_writes = 0;

    calls.pwrite = write_or_fail;
    sim_file_use(&calls);
    for (; st != SIM_OK; n_writes++) {
        sim_h5 *f = NULL;
        int fd = -1;
        writes_left = n_writes;
        ASSERT_OK(sim_h5_create_frame(&f, &fd));
        ASSERT_OK(sim_h5_reserve(f, "/images", SIM_U8, 2, dims));
        write_contents(f);
        st = sim_h5_finish(&f);
        assert_null(f);
        (void)close(fd);
        if (st != SIM_OK) {
            assert_int_equal(st, SIM_E_IO);
            assert_non_null(strstr(sim_error_message(), "in memory"));
            assert_non_null(strstr(sim_error_message(), strerror(ENOSPC)));
        }
    }
    assert_true(n_writes > 2);
    sim_file_use(NULL);
    assert_int_equal(H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL), 0);
}

static void a_frame_surrounds_the_bulk_data(void **state)
{
    (void)state;
    enum { N = 5000 };
    uint8_t bulk[N], read[N];
    const size_t dims[2] = {10, N / 10};
    sim_h5 *f = NULL;
    int fd = -1;
    for (size_t i = 0; i < N; i++)
        bulk[i] = (uint8_t)(i * 7 + 1);
    ASSERT_OK(sim_h5_create_frame(&f, &fd));
    ASSERT_OK(sim_h5_reserve(f, "/images", SIM_U8, 2, dims));
    write_contents(f);
    ASSERT_OK(sim_h5_finish(&f));
    assert_null(f);
    write_frame(fd, bulk, N);
    (void)close(fd);
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    assert_true(file >= 0);
    hid_t set = H5Dopen2(file, "/images", H5P_DEFAULT);
    assert_true(H5Dread(set, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, read) >= 0);
    assert_memory_equal(read, bulk, N);
    assert_contents(file);
    (void)H5Dclose(set);
    (void)H5Fclose(file);
}

static void failed_allocations_are_reported_without_a_leak(void **state)
{
    (void)state;
    size_t before = sim_memory_bytes();
    sim_status st = SIM_E_IO;
    uint64_t k = 1;
    for (; st != SIM_OK && k < 100; k++) {
        sim_h5 *f = NULL;
        sim_memory_fail_at(k);
        st = sim_h5_create_image(1 << 16, &f);
        if (st == SIM_OK)
            st = sim_h5_write_text(f, "/text", "a text");
        sim_memory_fail_at(0);
        sim_h5_close(&f);
        assert_true(st == SIM_OK || st == SIM_E_IO);
        assert_int_equal(sim_memory_bytes(), before);
    }
    assert_true(st == SIM_OK && k > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_become_float64_but_no_other_conversion_loses_values),
        cmocka_unit_test(rows_and_sizes_are_checked),
        cmocka_unit_test(data_outside_the_file_and_unknown_filters_are_refused),
        cmocka_unit_test(files_that_are_not_hdf5_are_refused),
        cmocka_unit_test(only_contiguous_bytes_have_an_offset),
        cmocka_unit_test(
            an_image_is_a_file_that_hdf5_reads_and_equal_content_gives_equal_bytes),
        cmocka_unit_test(an_image_is_read_from_memory),
        cmocka_unit_test(a_frame_surrounds_the_bulk_data),
        cmocka_unit_test(a_failed_write_of_a_frame_is_reported),
        cmocka_unit_test(a_group_with_many_members_is_listed_once),
        cmocka_unit_test(failed_allocations_are_reported_without_a_leak),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down) != 0;
}
