/*
 * test_preprocessing.c - the preprocessing of a model: its text, invalid texts, and the check of
 * a data set.
 */
#include "simile_test.h"

#include "simile/data.h"
#include "simile/memory.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const sim_dataset_info gray = {.n_images = 9,
                                      .h = 12,
                                      .w = 20,
                                      .c = 1,
                                      .type = SIM_U8,
                                      .mean = {0.1},
                                      .std = {1.0 / 3},
                                      .range = {-5, 1.0 / 7}};

#define OPERATIONS                                                                       \
    "\"resize\": \"shorter side, bilinear, antialiased\", \"crop\": "                    \
    "\"centre\", "

static void the_size_is_that_of_the_option_the_data_or_photos(void **state)
{
    (void)state;
    sim_dataset_info photos = gray;
    photos.encoded = true;
    photos.h = photos.w = 0;
    const sim_preprocessing p[] = {
        sim_preprocessing_of(0, &gray), sim_preprocessing_of(8, &gray),
        sim_preprocessing_of(0, &photos), sim_preprocessing_of(96, &photos)};
    const size_t sides[][2] = {{12, 20}, {8, 8}, {224, 224}, {96, 96}};
    for (int i = 0; i < 4; i++)
        assert_true(p[i].h == sides[i][0] && p[i].w == sides[i][1] && p[i].c == 1);
}

static void the_text_keeps_every_bit(void **state)
{
    (void)state;
    const sim_preprocessing p = sim_preprocessing_of(0, &gray);
    sim_preprocessing q;
    char *text = NULL;

    ASSERT_OK(sim_preprocessing_text(&p, &text));
    ASSERT_OK(sim_preprocessing_parse(text, "x.h5", &q));
    assert_true(q.h == 12 && q.w == 20 && q.c == 1);
    assert_memory_equal(&q.mean[0], &gray.mean[0], sizeof(double));
    assert_memory_equal(&q.std[0], &gray.std[0], sizeof(double));
    assert_memory_equal(&q.range, &gray.range, sizeof q.range);
    sim_free(text);
}

static void the_resize_before_the_crop_is_kept(void **state)
{
    (void)state;
    sim_preprocessing p = sim_preprocessing_of(8, &gray), q;
    char *text = NULL;

    p.resize = 10;
    ASSERT_OK(sim_preprocessing_text(&p, &text));
    assert_non_null(strstr(text, "shorter side to 10, bilinear, antialiased"));
    ASSERT_OK(sim_preprocessing_parse(text, "x.h5", &q));
    assert_int_equal(q.resize, 10);
    memcpy(strstr(text, "10, b"), "07, b", 5); /* not as it is written */
    assert_int_equal(sim_preprocessing_parse(text, "x.h5", &q), SIM_E_INSTALL);
    sim_free(text);
    p.resize = 7; /* less than the crop */
    ASSERT_OK(sim_preprocessing_text(&p, &text));
    assert_int_equal(sim_preprocessing_parse(text, "x.h5", &q), SIM_E_INSTALL);
    sim_error_clear();
    sim_free(text);
}

static void a_text_without_a_range_has_none(void **state)
{
    (void)state;
    static const char text[] =
        "{\"height\": 4, \"width\": 5, \"channels\": 3, " OPERATIONS
        "\"mean\": [0, 0.5, 1], \"std\": [1, 0, 2]}";
    sim_preprocessing p;

    ASSERT_OK(sim_preprocessing_parse(text, "x.h5", &p));
    assert_true(p.h == 4 && p.w == 5 && p.c == 3);
    const double mean[] = {0, 0.5, 1}, std[] = {1, 0, 2}, none[] = {0, 0};
    assert_memory_equal(p.mean, mean, sizeof mean);
    assert_memory_equal(p.std, std, sizeof std);
    assert_memory_equal(&p.range, none, sizeof none);
}

static void invalid_texts_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "[]",
        "{}",
        "{\"height\": 0, \"width\": 5, \"channels\": 1, " OPERATIONS
        "\"mean\": [0], \"std\": [1]}",
        "{\"height\": 4, \"width\": 100000000, \"channels\": 1, " OPERATIONS
        "\"mean\": [0], \"std\": [1]}",
        "{\"height\": 4, \"width\": 5, \"channels\": 65, " OPERATIONS
        "\"mean\": [0], \"std\": [1]}",
        "{\"height\": 4, \"width\": 5, \"channels\": 1, " OPERATIONS
        "\"sample_type\": \"int8\", \"mean\": [0], \"std\": [1]}",
        "{\"height\": 4, \"width\": 5, \"channels\": 1, " OPERATIONS
        "\"sample_type\": \"uint16\", \"mean\": [0], \"std\": [1]}",
        "{\"height\": 4, \"width\": 5, \"channels\": 1, " OPERATIONS
        "\"sample_type\": \"uint16\", \"mean\": [0], \"std\": [1], "
        "\"scale_low\": [7], \"scale_high\": [7]}",
        "{\"height\": 4, \"width\": 5, \"channels\": 2, " OPERATIONS
        "\"sample_type\": \"float32\", \"mean\": [0, 0], \"std\": [1, 1], "
        "\"scale_low\": [0], \"scale_high\": [1, 1]}",
        "{\"height\": 4, \"width\": 5, \"channels\": 3, " OPERATIONS
        "\"mean\": [0, 0], \"std\": [1, 1, 1]}",
        "{\"height\": 4, \"width\": 5, \"channels\": 1, " OPERATIONS
        "\"mean\": [\"0\"], \"std\": [1]}",
        "{\"height\": 4, \"width\": 5, \"channels\": 1, " OPERATIONS
        "\"mean\": [0], \"std\": [-1]}",
        "{\"height\": 4, \"width\": 5, \"channels\": 1, " OPERATIONS
        "\"mean\": [null], \"std\": [1]}",
        "{\"height\": 4, \"width\": 5, \"channels\": 1, " OPERATIONS
        "\"mean\": [0], \"std\": [1], \"value_range\": [3, 3]}",
        "{\"height\": 4, \"width\": 5, \"channels\": 1, " OPERATIONS
        "\"mean\": [0], \"std\": [1], \"value_range\": [3]}",
    };
    sim_preprocessing p;

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_int_equal(sim_preprocessing_parse(texts[i], "x.h5", &p), SIM_E_DATA);
        assert_non_null(strstr(sim_error_message(), "x.h5"));
        sim_error_clear();
    }
}

static void an_unknown_operation_needs_a_newer_version(void **state)
{
    (void)state;
    sim_preprocessing p;

    assert_int_equal(
        sim_preprocessing_parse("{\"height\": 4, \"width\": 5, \"channels\": 1, "
                                "\"resize\": \"lanczos\", \"crop\": \"none\", "
                                "\"mean\": [0], \"std\": [1]}",
                                "x.h5", &p),
        SIM_E_INSTALL);
    assert_non_null(strstr(sim_error_message(), "lanczos"));
    sim_error_clear();
}

static void other_channels_are_refused(void **state)
{
    (void)state;
    static const uint8_t pixels[12 * 20];
    const sim_dataset_spec spec = {
        .h = 12, .w = 20, .c = 1, .type = SIM_U8, .source = "test", .created_by = "test"};
    char path[64];
    char fingerprint[33];
    sim_dataset_writer *w = NULL;
    sim_dataset *d = NULL;

    (void)snprintf(path, sizeof path, "gray-%d.h5", (int)getpid());
    ASSERT_OK(sim_dataset_create(path, &spec, &w));
    ASSERT_OK(sim_dataset_append(w, pixels, sizeof pixels, -1, NULL));
    ASSERT_OK(sim_dataset_finish(&w, NULL, 0, NULL, fingerprint));
    ASSERT_OK(sim_dataset_open(path, &d));
    sim_preprocessing p = {.h = 8, .w = 8, .c = 1, .type = SIM_U8};
    ASSERT_OK(sim_preprocessing_check(&p, d));
    p.c = 3;
    assert_int_equal(sim_preprocessing_check(&p, d), SIM_E_DATA);
    assert_non_null(strstr(sim_error_message(), path));
    sim_error_clear();
    sim_dataset_close(&d);
    (void)unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_size_is_that_of_the_option_the_data_or_photos),
        cmocka_unit_test(the_text_keeps_every_bit),
        cmocka_unit_test(the_resize_before_the_crop_is_kept),
        cmocka_unit_test(a_text_without_a_range_has_none),
        cmocka_unit_test(invalid_texts_are_refused),
        cmocka_unit_test(an_unknown_operation_needs_a_newer_version),
        cmocka_unit_test(other_channels_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
