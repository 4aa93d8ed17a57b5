/*
 * test_subset.c - a fraction of the images of every class: how many, which ones, and their contents.
 */
#include "simile_test.h"

#include "simile/data.h"
#include "simile/memory.h"

#include <math.h>
#include <unistd.h>

/* Class 3 has one image, class 4 none. */
enum { CLASSES = 5, SIDE = 4, FLOATS = SIDE * SIDE * 3 };
static const size_t class_sizes[CLASSES] = {100, 37, 10, 1, 0};
enum { N = 100 + 37 + 10 + 1, N_GROUPS = 11 };

static char directory[64], path[96];

/* The class of an image: classes alternate as long as they have images. */
static void assign_labels(int32_t labels[N])
{
    size_t left[CLASSES], at = 0;

    memcpy(left, class_sizes, sizeof left);
    while (at < N)
        for (int32_t k = 0; k < CLASSES; k++)
            if (left[k] > 0) {
                labels[at++] = k;
                left[k]--;
            }
}

static void image_name(const void *ctx, size_t item, char *out, size_t out_bytes)
{
    (void)ctx;
    (void)snprintf(out, out_bytes, "image-%zu", item);
}

/* Image i has the pixels i, i + 1, ... */
static void write_set(bool encoded, bool labelled)
{
    const sim_dataset_spec spec = {.encoded = encoded,
                                   .h = encoded ? 0 : SIDE,
                                   .w = encoded ? 0 : SIDE,
                                   .c = 3,
                                   .type = SIM_U8,
                                   .source = "test",
                                   .created_by = "test"};
    const sim_dataset_names names = {.name = image_name};
    sim_dataset_writer *w = NULL;
    int32_t labels[N];
    char fingerprint[33];

    assign_labels(labels);
    ASSERT_OK(sim_dataset_create(path, &spec, &w));
    for (size_t i = 0; i < N; i++) {
        uint8_t pixels[FLOATS], *jpeg = NULL;
        const sim_image image = {
            .h = SIDE, .w = SIDE, .c = 3, .type = SIM_U8, .pixels = pixels};
        sim_dataset_item item = {.bytes = pixels,
                                 .n = FLOATS,
                                 .label = labelled ? labels[i] : -1,
                                 .group = labelled ? (int32_t)(i * 7 % N_GROUPS) : -1,
                                 .source = i};
        for (size_t k = 0; k < FLOATS; k++)
            pixels[k] = (uint8_t)(i + k);
        if (encoded) {
            ASSERT_OK(sim_image_encode_jpeg(&image, 90, &jpeg, &item.n));
            item.bytes = jpeg;
            ASSERT_OK(sim_image_moments(&image, SIDE, &item.moments));
        }
        sim_dataset_measure(&spec, &item);
        ASSERT_OK(sim_dataset_append_item(w, &item));
        sim_free(jpeg);
    }
    ASSERT_OK(sim_dataset_finish(&w, NULL, 0, &names, fingerprint));
}

/* The number of an image in the file, by its name. */
static void read_numbers(const sim_dataset *d, size_t numbers[N])
{
    size_t width = 0;
    char *names = NULL, name[64] = "";

    ASSERT_OK(sim_dataset_read_names(d, &width, &names));
    assert_true(width < sizeof name);
    for (size_t i = 0; i < sim_dataset_about(d)->n_images; i++) {
        memcpy(name, names + i * width, width);
        name[width] = '\0';
        assert_int_equal(sscanf(name, "image-%zu", &numbers[i]), 1);
    }
    sim_free(names);
}

static sim_dataset *open_part(double fraction, uint32_t seed)
{
    sim_dataset *d = NULL;

    ASSERT_OK(sim_dataset_open(path, &d));
    ASSERT_OK(sim_dataset_keep_fraction(d, fraction, seed));
    return d;
}

/* Images, labels and digests are those of the same images of the file, in its order. */
static void compare_with_file(const sim_dataset *part, const size_t numbers[N])
{
    sim_dataset *all = NULL;
    sim_image a = {0}, b = {0};

    ASSERT_OK(sim_dataset_open(path, &all));
    for (size_t i = 0; i < sim_dataset_about(part)->n_images; i++) {
        const size_t at = numbers[i];
        assert_true(i == 0 || numbers[i - 1] < at);
        assert_true(
            sim_hash_equal(sim_dataset_digest(part, i), sim_dataset_digest(all, at)));
        if (sim_dataset_labels(all))
            assert_int_equal(sim_dataset_labels(part)[i], sim_dataset_labels(all)[at]);
        if (sim_dataset_labels(all))
            assert_int_equal(sim_dataset_groups(part)[i], at * 7 % N_GROUPS);
        else
            assert_null(sim_dataset_groups(part));
        ASSERT_OK(sim_dataset_read(part, i, &a));
        ASSERT_OK(sim_dataset_read(all, at, &b));
        assert_memory_equal(a.pixels, b.pixels, FLOATS);
    }
    assert_string_equal(sim_dataset_about(part)->fingerprint,
                        sim_dataset_about(all)->fingerprint);
    assert_int_equal(sim_dataset_about(part)->n_classes,
                     sim_dataset_about(all)->n_classes);
    sim_free(a.pixels);
    sim_free(b.pixels);
    sim_dataset_close(&all);
}

static void every_class_keeps_its_share(void **state)
{
    static const double fractions[] = {1e-6, 0.01, 0.1, 0.25, 0.5, 0.99, 1};
    (void)state;

    for (int encoded = 0; encoded < 2; encoded++) {
        write_set(encoded, true);
        for (size_t f = 0; f < sizeof fractions / sizeof fractions[0]; f++) {
            size_t numbers[N], count[CLASSES] = {0};
            sim_dataset *d = open_part(fractions[f], 3);
            for (size_t i = 0; i < sim_dataset_about(d)->n_images; i++)
                count[sim_dataset_labels(d)[i]]++;
            for (size_t k = 0; k < CLASSES; k++) {
                const double share = round(fractions[f] * (double)class_sizes[k]);
                assert_int_equal(count[k], class_sizes[k] && share < 1 ? 1 : share);
            }
            read_numbers(d, numbers);
            compare_with_file(d, numbers);
            sim_dataset_close(&d);
        }
    }
}

static void a_smaller_fraction_is_a_part_of_a_larger_one(void **state)
{
    size_t few[N], many[N], other[N];
    (void)state;

    write_set(false, true);
    sim_dataset *a = open_part(0.1, 7), *b = open_part(0.3, 7), *c = open_part(0.1, 8);
    read_numbers(a, few);
    read_numbers(b, many);
    read_numbers(c, other);
    const size_t n = sim_dataset_about(a)->n_images;
    for (size_t i = 0, k = 0; i < n; i++) {
        while (k < sim_dataset_about(b)->n_images && many[k] < few[i])
            k++;
        assert_int_equal(many[k], few[i]);
    }
    assert_int_equal(n, sim_dataset_about(c)->n_images);
    assert_memory_not_equal(few, other, n * sizeof few[0]);
    sim_dataset_close(&a);
    sim_dataset_close(&b);
    sim_dataset_close(&c);
}

static void without_labels_the_share_is_of_all_images(void **state)
{
    size_t numbers[N];
    (void)state;

    write_set(false, false);
    sim_dataset *d = open_part(0.2, 1);
    assert_int_equal(sim_dataset_about(d)->n_images, 30); /* of 148 */
    assert_null(sim_dataset_labels(d));
    read_numbers(d, numbers);
    compare_with_file(d, numbers);
    sim_dataset_close(&d);
}

static void a_failed_allocation_leaks_nothing(void **state)
{
    (void)state;
    write_set(false, true);
    for (uint64_t k = 1;; k++) {
        sim_dataset *d = NULL;
        ASSERT_OK(sim_dataset_open(path, &d));
        sim_memory_fail_at(k);
        const sim_status st = sim_dataset_keep_fraction(d, 0.5, 0);
        sim_memory_fail_at(0);
        sim_error_clear();
        sim_dataset_close(&d);
        assert_int_equal(sim_memory_bytes(), 0);
        if (st == SIM_OK) {
            assert_true(k > 4);
            break;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_class_keeps_its_share),
        cmocka_unit_test(a_smaller_fraction_is_a_part_of_a_larger_one),
        cmocka_unit_test(without_labels_the_share_is_of_all_images),
        cmocka_unit_test(a_failed_allocation_leaks_nothing),
    };
    (void)snprintf(directory, sizeof directory, "/tmp/simile-subset-XXXXXX");
    if (!mkdtemp(directory))
        return 1;
    (void)snprintf(path, sizeof path, "%s/set.h5", directory);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)unlink(path);
    (void)rmdir(directory);
    return failed;
}
