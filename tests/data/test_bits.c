/*
 * test_bits.c - the bits of views do not change, on any instruction set.
 *
 * A run that continues with a new version would otherwise see other views.  The digests were written
 * by this file ("--record") with the plain loops of commit 60bbf54, which had no vector kernels.
 */
#include "simile_test.h"

#include "simile/data.h"
#include "simile/hash.h"
#include "simile/kernel.h"
#include "simile/memory.h"
#include "simile/random.h"

static const struct {
    const char *preset; /* "" is the preprocessing alone */
    size_t c;
    const char *digest;
} expected[] = {
    {"", 1, "ca1640666701ad91cdbd559c15269003"},
    {"", 3, "66ff0b1ed357a2632b28309f61ce12e5"},
    {"simclr-cifar", 1, "983d9d5b75696dddc856a967e2ede6e8"},
    {"simclr-cifar", 3, "6945f53c120b602c8001b32835a4e515"},
    {"simclr", 1, "0d31c66c1b4199c1b81e8d51c986ed36"},
    {"simclr", 3, "44fe4b6068b9d120b3afcf6695b07e0e"},
    {"digits", 1, "04bcee73bd9aca5fbcf55d2bdafe9f42"},
    {"digits", 3, "7555ca4f65ca22d469ddc117a9079c56"},
    {"none", 1, "99262621ce996283ce6f618c8470f526"},
    {"none", 3, "51d369a163a9972aadfb406b747e03a0"},
    {"mocov1", 1, "2b675a3c21026040219be966833075e7"},
    {"mocov1", 3, "c7a154990f57b2d9a62debb709b6ff5e"},
    {"mocov2", 1, "6909a94e52cd30b22a1d3e9504f56267"},
    {"mocov2", 3, "35999be2829db425080dc33fa4a821fb"},
    {"byol", 1, "9fa2edeae45dfbab80df5a9cd33dee03"},
    {"byol", 3, "9c577b0caf811c63eedd4f9bc880f747"},
    {"mocov2-cifar", 1, "b498aa36ff7bed7098be57f406604cf1"},
    {"mocov2-cifar", 3, "9a3e82fcbdf45bf60792fe0856cca0e1"},
    {"byol-cifar", 1, "d367f638866b99e038c1539caf254e7c"},
    {"byol-cifar", 3, "543f372d8145095178c14a0c8e602393"},
    {"supervised", 1, "f84f628fd951b82dae3b34eb7f215539"},
    {"supervised", 3, "6a2eff50f33b84685c483a36acfa0566"},
    {"supervised-cifar", 1, "fc9812c9dbc538680def150d0888f6bc"},
    {"supervised-cifar", 3, "5475c825a4087b1eda4b24752657b94f"},
};

enum { N_EXPECTED = sizeof expected / sizeof expected[0] };

/* Images with fewer, as many and more pixels than views; lines, and sides next to those of vectors. */
static const struct {
    size_t h, w, out; /* out: side of views, 0 as the image */
} shapes[] = {{32, 32, 32}, {32, 32, 0}, {17, 33, 20}, {61, 45, 32}, {120, 91, 47},
              {9, 7, 50},   {1, 40, 16}, {40, 1, 16},  {16, 15, 0},  {201, 150, 113}};
enum {
    N_SHAPES = sizeof shapes / sizeof shapes[0],
    N_VIEWS = 12,
    MAX_FLOATS = 201 * 150 * 3
};

static int find_preset(const char *name)
{
    for (size_t i = 0; i < sim_augment_table.n_rows; i++)
        if (strcmp(sim_augment_table.rows[i].name, "preset") == 0)
            return sim_choices_find(sim_augment_table.rows[i].choices, name);
    return -1;
}

/* Gradients with noise, and large areas of one colour. */
static void fill_image(const sim_image *image, uint32_t sample)
{
    for (size_t i = 0; i < image->h * image->w * image->c; i++) {
        sim_random r = {
            .purpose = SIM_RANDOM_TEST, .sample = sample, .draw = (uint32_t)i};
        size_t y = i / image->c / image->w, x = i / image->c % image->w;
        uint32_t noise = sim_random_below(&r, 24);
        ((uint8_t *)image->pixels)[i] =
            (uint8_t)(x / 8 % 3 == 0 ? 255 * (y / 8 % 2)
                                     : 3 * y + (2 + i % image->c) * x + noise);
    }
}

static sim_augment *create_pipeline(const char *preset, size_t shape, size_t c)
{
    static sim_augment_options options;
    const size_t side = shapes[shape].out;
    const sim_preprocessing p = {.h = side ? side : shapes[shape].h,
                                 .w = side ? side : shapes[shape].w,
                                 .c = c,
                                 .type = SIM_U8,
                                 .mean = {0.48, 0.45, 0.41},
                                 .std = {0.23, 0.22, 0.25}};
    sim_augment *a = NULL;

    options.preset = find_preset(preset);
    if (preset[0])
        ASSERT_OK(sim_augment_create(&options, &p, &a));
    else
        ASSERT_OK(sim_augment_create_plain(&p, &a));
    return a;
}

static void add_views(sim_hasher *hasher, const char *preset, size_t shape, size_t c)
{
    static float out[MAX_FLOATS];
    static uint8_t pixels[MAX_FLOATS];
    const sim_image image = {.h = shapes[shape].h,
                             .w = shapes[shape].w,
                             .c = c,
                             .type = SIM_U8,
                             .pixels = pixels};
    sim_augment *a = create_pipeline(preset, shape, c);
    size_t h = 0, w = 0, channels = 0;

    sim_augment_shape(a, 0, &h, &w, &channels);
    for (uint32_t i = 0; i < N_VIEWS; i++) {
        fill_image(&image, i / 2);
        ASSERT_OK(sim_augment_view(a, 5, i / 2, 1, i % 2, &image, out));
        sim_hasher_add(hasher, out, h * w * c * sizeof *out);
    }
    sim_augment_destroy(&a);
}

/* The image resized for `prepare --size`. */
static void add_resized(sim_hasher *hasher, size_t shape, size_t c)
{
    static uint8_t pixels[MAX_FLOATS];
    const sim_image image = {.h = shapes[shape].h,
                             .w = shapes[shape].w,
                             .c = c,
                             .type = SIM_U8,
                             .pixels = pixels};
    sim_image resized = {0};

    fill_image(&image, 0);
    ASSERT_OK(sim_image_resize_short(&image, 20, &resized));
    sim_hasher_add(hasher, resized.pixels, resized.h * resized.w * c);
    sim_free(resized.pixels);
}

static void digest_views(const char *preset, size_t c, char digest[33])
{
    sim_hasher *hasher = NULL;

    ASSERT_OK(sim_hasher_create(&hasher));
    for (size_t shape = 0; shape < N_SHAPES; shape++) {
        add_views(hasher, preset, shape, c);
        if (!preset[0])
            add_resized(hasher, shape, c);
    }
    sim_hash_hex(sim_hasher_value(hasher), digest);
    sim_hasher_destroy(&hasher);
}

static void views_have_the_bits_of_plain_loops(void **state)
{
    (void)state;
    static const char *const isas[] = {
#define SIM_ISA(name, flags, runs) #name,
#include "../kernel/isa.def"
#undef SIM_ISA
    };
    char digest[33];

    for (size_t k = 0; k < sizeof isas / sizeof isas[0]; k++)
        for (size_t i = 0; sim_kernels_pick(isas[k]) == SIM_OK && i < N_EXPECTED; i++) {
            digest_views(expected[i].preset, expected[i].c, digest);
            if (strcmp(digest, expected[i].digest) != 0)
                fail_msg(
                    "kernels %s, preset \"%s\", %zu channels: digest %s, expected %s",
                    isas[k], expected[i].preset, expected[i].c, digest,
                    expected[i].digest);
        }
}

static void record(void)
{
    static const char *const presets[] = {
        "",
#define SIM_PRESET(name, view1, view2) name,
#include "presets.def"
#undef SIM_PRESET
    };
    char digest[33];

    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++)
        for (size_t c = 1; c <= 3; c += 2) {
            digest_views(presets[i], c, digest);
            (void)printf("    {\"%s\", %zu, \"%s\"},\n", presets[i], c, digest);
        }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(views_have_the_bits_of_plain_loops),
    };
    if (argc > 1 && strcmp(argv[1], "--record") == 0) {
        record();
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
