/*
 * test_safetensors.c - files written here byte by byte: valid ones are read, hostile ones refused.
 */
#include "simile_test.h"

#include "simile/memory.h"
#include "simile/safetensors.h"

#include <unistd.h>

static char path[] = "/tmp/simile-test-XXXXXX";

static int set_up(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int tear_down(void **state)
{
    (void)state;
    return unlink(path);
}

/* Writes the length `length`, the header, and n zero bytes. */
static void write_file_of_length(uint64_t length, const char *header, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    for (int i = 0; i < 8; i++)
        (void)fputc((int)(length >> 8 * i & 255), f);
    (void)fputs(header, f);
    for (size_t i = 0; i < n; i++)
        (void)fputc(0, f);
    assert_int_equal(fclose(f), 0);
}

static void write_file(const char *header, size_t n)
{
    write_file_of_length(strlen(header), header, n);
}

static void expect_refused(const char *word)
{
    sim_safetensors *f = NULL;
    ASSERT_REFUSED(sim_safetensors_open(path, &f), SIM_E_DATA, path);
    ASSERT_REFUSED(sim_safetensors_open(path, &f), SIM_E_DATA, word);
    assert_null(f);
    sim_error_clear();
}

static void expect_tensors(size_t n)
{
    sim_safetensors *f = NULL;
    ASSERT_OK(sim_safetensors_open(path, &f));
    assert_int_equal(sim_safetensors_count(f), n);
    sim_safetensors_close(&f);
    assert_null(f);
}

/* ---- valid files ---- */

static void a_file_is_read(void **state)
{
    (void)state;
    static const char header[] =
        "{\"b\":{\"dtype\":\"I16\",\"shape\":[],\"data_offsets\":[12,14]},"
        "\"__metadata__\":{\"key\":\"caf\\u00e9\"},"
        "\"a.w\":{\"dtype\":\"F32\",\"shape\":[1,3],\"data_offsets\":[0,12]}}  ";
    const float values[3] = {1.5F, -2, 0};
    float got[3];
    int16_t b = 0;
    sim_safetensors *f = NULL;
    FILE *out = NULL;

    write_file(header, 0);
    out = fopen(path, "ab");
    assert_non_null(out);
    (void)fwrite(values, sizeof values, 1, out);
    (void)fwrite("\x34\x12", 2, 1, out);
    assert_int_equal(fclose(out), 0);
    ASSERT_OK(sim_safetensors_open(path, &f));
    assert_int_equal(sim_safetensors_count(f), 2);
    const sim_safetensor *t = sim_safetensors_at(f, 0);
    assert_string_equal(t->name, "a.w");
    assert_string_equal(t->dtype, "F32");
    assert_true(t->n_dims == 2 && t->dims[0] == 1 && t->dims[1] == 3);
    ASSERT_OK(sim_safetensors_read(f, t, got, sizeof got));
    assert_memory_equal(got, values, sizeof values);
    t = sim_safetensors_find(f, "b");
    assert_true(t && t->n_dims == 0 && t->n_bytes == 2);
    ASSERT_OK(sim_safetensors_read(f, t, &b, sizeof b));
    assert_int_equal(b, 0x1234);
    assert_null(sim_safetensors_find(f, "a"));
    assert_string_equal(sim_safetensors_metadata(f, "key"), "caf\xc3\xa9");
    assert_null(sim_safetensors_metadata(f, "other"));
    sim_safetensors_close(&f);
}

static void unusual_but_valid_files_are_read(void **state)
{
    (void)state;
    write_file("{}", 0);
    expect_tensors(0);
    /* Empty tensors, at the begin, between others and at the end. */
    write_file("{\"c\":{\"dtype\":\"U8\",\"shape\":[0,9],\"data_offsets\":[3,3]},"
               "\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},"
               "\"a\":{\"dtype\":\"F64\",\"shape\":[0],\"data_offsets\":[0,0]}}",
               3);
    expect_tensors(3);
    /* Values that are not aligned. */
    write_file("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
               "\"b\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[1,9]}}",
               9);
    expect_tensors(2);
    write_file(
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}",
        1);
    expect_tensors(1);
}

/* ---- refused ---- */

static void a_file_that_is_too_short_is_refused(void **state)
{
    (void)state;
    assert_int_equal(truncate(path, 0), 0);
    expect_refused("0 bytes");
    assert_int_equal(truncate(path, 7), 0);
    expect_refused("7 bytes");
    write_file("", 0);
    expect_refused("header");
}

static void a_header_beyond_the_file_or_the_limit_is_refused(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {3, 100000001, UINT64_MAX, UINT64_MAX - 7,
                                       (uint64_t)INT64_MAX};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        write_file_of_length(lengths[i], "{}", 0);
        expect_refused("header");
    }
    /* Larger than the limit, but within the (sparse) file. */
    write_file_of_length(100000001, "{}", 0);
    assert_int_equal(truncate(path, 100000020), 0);
    expect_refused("100000001");
}

static void invalid_json_is_refused(void **state)
{
    (void)state;
    static const char *const headers[] = {"[]",
                                          " {}",
                                          "{",
                                          "{} x",
                                          "null",
                                          "{\"a\":}",
                                          "{\"\\u0000\":1}",
                                          "{\"\xff\":1}",
                                          "{\"a\":1e999}",
                                          "\"",
                                          "{}{}"};
    char deep[6000] = "{\"a\":";

    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        write_file(headers[i], 0);
        expect_refused("header");
    }
    memset(deep + strlen(deep), '[', 5000);
    write_file(deep, 0);
    expect_refused("header");
    for (char *p = deep; *p; p++)
        *p = *p == '[' ? '{' : *p;
    write_file(deep, 0);
    expect_refused("header");
}

static void a_name_that_occurs_twice_is_refused(void **state)
{
    (void)state;
    write_file("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
               "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
               2);
    expect_refused("header");
    write_file("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],"
               "\"data_offsets\":[0,1]}}",
               1);
    expect_refused("header");
}

/* Each header describes tensors of 4 bytes, if anything. */
static void a_malformed_tensor_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *entry, *word;
    } cases[] = {
        {"1", "object"},
        {"[]", "object"},
        {"null", "object"},
        {"{}", "dtype"},
        {"{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]}", "dtype"},
        {"{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}", "F33"},
        {"{\"dtype\":\"f32\",\"shape\":[1],\"data_offsets\":[0,4]}", "f32"},
        {"{\"dtype\":\"F32\",\"data_offsets\":[0,4]}", "shape"},
        {"{\"dtype\":\"F32\",\"shape\":{},\"data_offsets\":[0,4]}", "shape"},
        {"{\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]}", "shape"},
        {"{\"dtype\":\"F32\",\"shape\":[1]}", "data_offsets"},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":{}}", "data_offsets"},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}", "data_offsets"},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,4]}", "data_offsets"},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}", "data_offsets"},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}", "data_offsets"},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4.0]}", "data_offsets"},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,\"4\"]}", "data_offsets"},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,3]}", "span"},
        {"{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,4]}", "span"},
        {"{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}", "span"},
        {"{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,4]}", "span"},
        {"{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}", "dimension 0"},
        {"{\"dtype\":\"F32\",\"shape\":[1,1.0],\"data_offsets\":[0,4]}", "dimension 1"},
        {"{\"dtype\":\"F32\",\"shape\":[\"1\"],\"data_offsets\":[0,4]}", "dimension 0"},
        {"{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}", "9"},
        {"{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}",
         "address space"},
        {"{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}",
         "address space"},
        {"{\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,4]}",
         "header"},
    };
    char header[256];

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        (void)snprintf(header, sizeof header, "{\"name\":%s}", cases[i].entry);
        write_file(header, 4);
        expect_refused(cases[i].word);
    }
}

static void values_that_overlap_or_leave_a_gap_are_refused(void **state)
{
    (void)state;
    static const struct {
        int begin[2], end[2], n_bytes; /* of two tensors; of values in the file */
    } cases[] = {
        {{0, 2}, {4, 6}, 6},  /* overlap */
        {{0, 0}, {4, 4}, 4},  /* the same bytes */
        {{0, 1}, {4, 3}, 4},  /* one within the other */
        {{0, 5}, {4, 8}, 8},  /* a gap */
        {{1, 4}, {4, 8}, 8},  /* a gap at the start */
        {{0, 4}, {4, 8}, 9},  /* bytes behind the last tensor */
        {{0, 4}, {4, 8}, 7},  /* truncated */
        {{0, 4}, {4, 9}, 4},  /* the second tensor is absent */
        {{4, 0}, {8, 3}, 8},  /* a gap; the second is stored first */
        {{0, 8}, {4, 12}, 8}, /* a gap of the bytes that the file lacks */
    };
    char header[256];

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        (void)snprintf(
            header, sizeof header,
            "{\"a\":{\"dtype\":\"U8\",\"shape\":[%d],\"data_offsets\":[%d,%d]},"
            "\"b\":{\"dtype\":\"U8\",\"shape\":[%d],\"data_offsets\":[%d,%d]}}",
            cases[i].end[0] - cases[i].begin[0], cases[i].begin[0], cases[i].end[0],
            cases[i].end[1] - cases[i].begin[1], cases[i].begin[1], cases[i].end[1]);
        write_file(header, (size_t)cases[i].n_bytes);
        expect_refused("byte");
    }
    write_file("{}", 1);
    expect_refused("1 bytes");
}

static void malformed_metadata_is_refused(void **state)
{
    (void)state;
    static const char *const values[] = {"1",         "[]",           "null",
                                         "{\"k\":1}", "{\"k\":null}", "{\"k\":{}}"};
    char header[64];

    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        (void)snprintf(header, sizeof header, "{\"__metadata__\":%s}", values[i]);
        write_file(header, 0);
        expect_refused("__metadata__");
    }
}

/* Every prefix of a valid file, and every change of one bit of its header, is read or refused. */
static void a_truncated_or_flipped_file_is_read_or_refused(void **state)
{
    (void)state;
    static const char header[] =
        "{\"__metadata__\":{\"k\":\"v\"},"
        "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
    sim_safetensors *f = NULL;
    char flipped[sizeof header];

    for (size_t n = 0; n < 8 + strlen(header) + 8; n++) {
        write_file(header, 8);
        assert_int_equal(truncate(path, (off_t)n), 0);
        expect_refused(path);
    }
    for (size_t bit = 0; bit < 8 * strlen(header); bit++) {
        memcpy(flipped, header, sizeof header);
        flipped[bit / 8] = (char)(flipped[bit / 8] ^ 1 << bit % 8);
        if (flipped[bit / 8] == '\0')
            continue;
        write_file(flipped, 8);
        sim_status st = sim_safetensors_open(path, &f);
        assert_true(st == SIM_OK || st == SIM_E_DATA);
        sim_safetensors_close(&f);
        sim_error_clear();
    }
}

static void a_failed_allocation_is_reported(void **state)
{
    (void)state;
    sim_safetensors *f = NULL;
    size_t before = sim_memory_bytes();

    write_file("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1);
    for (uint64_t k = 1; k <= 4; k++) {
        sim_memory_fail_at(k);
        assert_int_equal(sim_safetensors_open(path, &f), SIM_E_IO);
        sim_memory_fail_at(0);
        assert_null(f);
        assert_int_equal(sim_memory_bytes(), before);
        sim_error_clear();
    }
    expect_tensors(1);
}

/* ---- writing ---- */

static void a_written_file_is_aligned_and_read_back(void **state)
{
    (void)state;
    float w[6] = {1, 2, 3, 4, 5, 6};
    int64_t n = -7;
    uint8_t u[3] = {9, 8, 7}, got[24];
    const sim_tensor tensors[] = {
        {.name = "u", .type = SIM_U8, .n_dims = 1, .dims = {3}, .data = u},
        {.name = "w", .type = SIM_F32, .n_dims = 2, .dims = {2, 3}, .data = w},
        {.name = "a", .type = SIM_F32, .n_dims = 1, .dims = {0}, .data = w},
        {.name = "n", .type = SIM_I64, .data = &n},
    };
    static const char *const order[] = {"n", "a", "w", "u"};
    const sim_safetensors_text text = {"key", "a \"quoted\" \n text"};
    sim_safetensors *f = NULL;

    ASSERT_OK(sim_safetensors_write(path, tensors, 4, &text, 1));
    ASSERT_OK(sim_safetensors_open(path, &f));
    assert_string_equal(sim_safetensors_metadata(f, "key"), text.value);
    assert_int_equal(sim_safetensors_count(f), 4);
    for (size_t i = 0; i < 4; i++) {
        const sim_safetensor *t = sim_safetensors_at(f, i);
        assert_string_equal(t->name, order[i]);
        assert_true(i != 0 || t->at % 8 == 0);
        assert_true(i == 3 || t->at % 4 == 0);
    }
    for (size_t i = 0; i < 4; i++) {
        const sim_safetensor *t = sim_safetensors_find(f, tensors[i].name);
        assert_true(t->n_dims == tensors[i].n_dims);
        ASSERT_OK(sim_safetensors_read(f, t, got, t->n_bytes));
        assert_memory_equal(got, tensors[i].data, t->n_bytes);
    }
    sim_safetensors_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_read),
        cmocka_unit_test(unusual_but_valid_files_are_read),
        cmocka_unit_test(a_file_that_is_too_short_is_refused),
        cmocka_unit_test(a_header_beyond_the_file_or_the_limit_is_refused),
        cmocka_unit_test(invalid_json_is_refused),
        cmocka_unit_test(a_name_that_occurs_twice_is_refused),
        cmocka_unit_test(a_malformed_tensor_is_refused),
        cmocka_unit_test(values_that_overlap_or_leave_a_gap_are_refused),
        cmocka_unit_test(malformed_metadata_is_refused),
        cmocka_unit_test(a_truncated_or_flipped_file_is_read_or_refused),
        cmocka_unit_test(a_failed_allocation_is_reported),
        cmocka_unit_test(a_written_file_is_aligned_and_read_back),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
