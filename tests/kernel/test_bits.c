/*
 * test_bits.c - every kernel keeps its bits, on every instruction set and every machine.
 *
 * A run could otherwise not move between machines, or continue with a new version.  The digests were
 * written by this file ("--record") on x86-64; a new arithmetic replaces its columns.
 */
#include "simile_test.h"

#include "isas.h"
#include "random_shape.h"

#include "simile/hash.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <inttypes.h>

/*
 * Runs of all kernels with operands of either sign and the biased exponents [lowest, highest].  Not
 * every machine flushes denormals, so `portable` has ordinary operands only.
 */
static const struct {
    const char *arithmetic;
    uint32_t lowest, highest;
} columns[] = {
    {"portable-2", 120, 126}, /* up to 1 */
    {"fast-1", 120, 126},
    {"fast-1", 63, 64}, /* products are below and above the smallest normal number */
    {"fast-1", 0, 2},   /* and so are the operands */
};
enum { N_COLUMNS = sizeof columns / sizeof columns[0] };

static const struct {
    const char *kernel;
    uint64_t digest[N_COLUMNS];
} recorded[SIM_N_KERNELS] = {
    {"product",
     {0x651dcd5023a1e1af, 0x1b519d7a77435b74, 0x7938f755f06bd3a4, 0x4274998ea7376d2f}},
    {"product_transposed",
     {0x58a56d6cb530b9d9, 0xa0c984241fa3a688, 0x1671afb9820f48b7, 0xbd8eac879dd6887f}},
    {"copy_columns",
     {0xed3529ed5d6c4d96, 0xed3529ed5d6c4d96, 0x8205a9926ed4cb36, 0x3513848e931704a0}},
    {"wino_filters",
     {0x6c2c8ff0a1a683ab, 0x627e983fcff79bcb, 0x256172b491a19343, 0x393a2d76883d726f}},
    {"wino_input",
     {0x50f3b15e5145d5b8, 0xbe5f538099b90219, 0xc71ba0dfa0a37d8d, 0x56ea71198d9b72ad}},
    {"wino_output",
     {0x131d51fd23a59858, 0xd4a35f2b8f55c8cb, 0x39068c2e154c4053, 0xf3e4e109b27878f6}},
    {"wino_gradient",
     {0x589dc7692211bce1, 0x352695a20eaf1286, 0xfb449f8cf50a8a7c, 0x9d0d85254eb6700e}},
    {"wino_filter",
     {0x4567e53c7eab9034, 0x12b952712192203d, 0xa5a4084ea13339a1, 0x58c01ce497bc34c5}},
    {"moments",
     {0x4badd04db4003741, 0x1ab37a64ab1c0c74, 0x05feb0187ae8d2e8, 0x6ea3a603ce42785a}},
    {"norm_apply",
     {0xd3eebacc1a545cd3, 0x2fac7559069df6b3, 0x506af44b53da1c43, 0x09bdc5e50d0f2588}},
    {"norm_sums",
     {0xdb4075650beb2606, 0x2225d6162262f426, 0x5687875df591e918, 0xa959ec766e811e73}},
    {"norm_backward",
     {0x35f71012bb4db996, 0x78604ebd0efa1c29, 0x74be6897a3f427c7, 0x227011a432f7e3dc}},
    {"activate",
     {0xb529cacaaa8cf2d2, 0x6c24f4c68328a2f8, 0xbe5ca608737f04b8, 0x68935b7bb2854f13}},
    {"activate_backward",
     {0x23c8881397e44341, 0xa2b9504cfb3d468f, 0xcf5a913a3f7a8e93, 0xff98a417b8af6216}},
    {"add",
     {0x1932504a4f38f401, 0x1932504a4f38f401, 0xb760824bb4c9c060, 0x63e1e4570b27de37}},
    {"max_pool",
     {0xbd83118ee6115b38, 0xbd83118ee6115b38, 0x278b03c03035e05a, 0xd62e29d3e6b349f6}},
    {"row_max",
     {0x766164edb441bc52, 0x766164edb441bc52, 0xeaf400ba61d70ed8, 0xa9f05c70264a4d82}},
    {"row_exp_sum",
     {0x7bf92143f3d2391a, 0xa850d982c1e302ea, 0x83d3b8308ee427a6, 0x83d3b8308ee427a6}},
    {"row_softmax_two",
     {0x49901a902e7f7eaa, 0x3bbd157fd5bdf7e1, 0x67107708a27c136d, 0x67107708a27c136d}},
    {"row_shares",
     {0xf7aa9b01915f6040, 0x3a2fcef5c30729ef, 0xa63c40d97621b6aa, 0xa63c40d97621b6aa}},
    {"row_sigmoid",
     {0x7418555a0ab6ea91, 0xc4f256b873e680c0, 0x80c2cd77dbe8681c, 0x80c2cd77dbe8681c}},
    {"row_softplus_sum",
     {0xf956e7d887c3dde4, 0x83c73aa6a2bf9b80, 0x7fe074e1146b4fb1, 0x7fe074e1146b4fb1}},
    {"pixels_from_bytes",
     {0xd2914860d2361465, 0xd2914860d2361465, 0x6a96d93cf6217f63, 0xe16b9fb76a629f8f}},
    {"pixels_transpose",
     {0xee000052378b647b, 0xee000052378b647b, 0x76312d0e828c2d81, 0xd0d094e21b3b04f9}},
    {"pixels_sum",
     {0x4bc4929b2c650d14, 0x4bc4929b2c650d14, 0xfd06491520eee89d, 0x297d22bdd7f6abd7}},
    {"pixels_scale",
     {0x21746d1e078e8b02, 0x21746d1e078e8b02, 0x297d22bdd7f6abd7, 0x297d22bdd7f6abd7}},
    {"pixels_gray",
     {0x2ebd0fc8df4b59f7, 0x2ebd0fc8df4b59f7, 0x3269b3f032bfa009, 0xcb5354b52bac8243}},
    {"pixels_saturate",
     {0x6bd3b19fc394874f, 0x6bd3b19fc394874f, 0xe497c913386c1835, 0xe92a3667e7cd91f0}},
    {"pixels_hue",
     {0xab8689b8a36b7f00, 0xab8689b8a36b7f00, 0x4a116cf77f0eb27c, 0xddb541cd8bbb5d8c}},
    {"pixels_normalize",
     {0x639cc1190cebaf44, 0x639cc1190cebaf44, 0x14b5218a68250cfb, 0xfcfaf904a6cb4a4f}},
};

typedef struct {
    float *in, *work;
    double *out;
} buffers;

/* As bits, because arithmetic would flush them. */
static void fill_operands(sim_random *r, size_t column, float *in)
{
    const uint32_t lowest = columns[column].lowest,
                   n = columns[column].highest - lowest + 1;
    for (size_t i = 0; i < SIM_CASE_FLOATS; i++) {
        const uint32_t sign = sim_random_below(r, 2), exponent = sim_random_below(r, n),
                       mantissa = sim_random_below(r, 1u << 23);
        const uint32_t bits = sign << 31 | (lowest + exponent) << 23 | mantissa;
        memcpy(&in[i], &bits, sizeof bits);
    }
}

static void add_outputs(size_t kernel, const sim_kernel_shape *s, const buffers *b,
                        sim_hasher *h)
{
    memset(b->work, 0, SIM_CASE_FLOATS * sizeof *b->work);
    sim_case_result r =
        sim_kernel_cases[kernel].run(sim_kernels(), s, b->in, b->work, b->out);
    sim_hasher_add(h, b->out, r.n * sizeof *b->out);
}

static void digest_shapes(size_t column, const buffers *b, sim_hasher *const *hashers)
{
    for (uint32_t sample = 0; sample < N_SHAPES; sample++) {
        sim_random r = {.seed = 10, .purpose = SIM_RANDOM_TEST, .sample = sample};
        const sim_kernel_shape s = random_shape(&r);
        fill_operands(&r, column, b->in);
        for (size_t kernel = 0; kernel < SIM_N_KERNELS; kernel++)
            add_outputs(kernel, &s, b, hashers[kernel]);
    }
}

/* Digests of the selected kernels. */
static void digest_kernels(size_t column, uint64_t digest[SIM_N_KERNELS])
{
    sim_hasher *hashers[SIM_N_KERNELS];
    buffers b = {0};

    ASSERT_OK(sim_alloc(&b.in, SIM_CASE_FLOATS, "test/bits"));
    ASSERT_OK(sim_alloc(&b.work, SIM_CASE_FLOATS, "test/bits"));
    ASSERT_OK(sim_alloc(&b.out, SIM_CASE_FLOATS, "test/bits"));
    for (size_t kernel = 0; kernel < SIM_N_KERNELS; kernel++)
        ASSERT_OK(sim_hasher_create(&hashers[kernel]));
    digest_shapes(column, &b, hashers);
    for (size_t kernel = 0; kernel < SIM_N_KERNELS; kernel++) {
        digest[kernel] = sim_hasher_value(hashers[kernel]).low;
        sim_hasher_destroy(&hashers[kernel]);
    }
    sim_free(b.in);
    sim_free(b.work);
    sim_free(b.out);
}

static void compare_column(size_t column)
{
    uint64_t digest[SIM_N_KERNELS];

    digest_kernels(column, digest);
    for (size_t kernel = 0; kernel < SIM_N_KERNELS; kernel++) {
        assert_string_equal(recorded[kernel].kernel, sim_kernel_cases[kernel].name);
        if (digest[kernel] != recorded[kernel].digest[column])
            fail_msg("%s: %s of operands with exponents %u to %u: digest %" PRIx64
                     ", expected %" PRIx64,
                     sim_kernels_name(), recorded[kernel].kernel, columns[column].lowest,
                     columns[column].highest, digest[kernel],
                     recorded[kernel].digest[column]);
    }
}

static void every_kernel_has_the_recorded_bits(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_ISAS; i++) {
        size_t compared = 0;
        if (sim_kernels_pick(isas[i]) != SIM_OK)
            continue;
        for (size_t column = 0; column < N_COLUMNS; column++)
            if (strcmp(columns[column].arithmetic, sim_kernels_arithmetic()) == 0) {
                compare_column(column);
                compared++;
            }
        assert_true(compared > 0);
    }
}

/* Of exp of every 4093rd float that is a number, for each arithmetic. */
static const struct {
    const char *arithmetic;
    uint64_t digest;
} exp_recorded[] = {
    {"portable-2", 0x59d67994560314df},
    {"fast-1", 0x9a4737c1a0662941},
};

static uint64_t digest_exp(void)
{
    enum { STEP = 4093, N = 1 << 20, CHUNK = 1 << 10 };
    sim_hasher *h = NULL;
    float x[CHUNK], y[CHUNK];

    ASSERT_OK(sim_hasher_create(&h));
    for (uint32_t i = 0; i < N; i++) {
        const uint32_t bits = i * STEP;
        memcpy(&x[i % CHUNK], &bits, sizeof bits);
        if (x[i % CHUNK] != x[i % CHUNK])
            x[i % CHUNK] = 0;
        if (i % CHUNK < CHUNK - 1)
            continue;
        sim_row_softmax_two(CHUNK, x, 1, 0, NULL, y);
        sim_hasher_add(h, y, sizeof y);
    }
    const uint64_t digest = sim_hasher_value(h).low;
    sim_hasher_destroy(&h);
    return digest;
}

static void exp_has_the_recorded_bits(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_ISAS; i++)
        for (size_t j = 0; j < sizeof exp_recorded / sizeof exp_recorded[0]; j++)
            if (sim_kernels_pick(isas[i]) == SIM_OK &&
                strcmp(exp_recorded[j].arithmetic, sim_kernels_arithmetic()) == 0)
                assert_int_equal(digest_exp(), exp_recorded[j].digest);
}

/* By the last instruction set of each arithmetic. */
static void record(void)
{
    static uint64_t digest[N_COLUMNS][SIM_N_KERNELS];
    for (size_t column = 0; column < N_COLUMNS; column++)
        for (size_t i = 0; i < N_ISAS; i++)
            if (sim_kernels_pick(isas[i]) == SIM_OK &&
                strcmp(columns[column].arithmetic, sim_kernels_arithmetic()) == 0)
                digest_kernels(column, digest[column]);
    for (size_t kernel = 0; kernel < SIM_N_KERNELS; kernel++) {
        (void)printf("    {\"%s\",\n     {", sim_kernel_cases[kernel].name);
        for (size_t column = 0; column < N_COLUMNS; column++)
            (void)printf("%s0x%016" PRIx64, column ? ", " : "", digest[column][kernel]);
        (void)printf("}},\n");
    }
    for (size_t i = 0; i < N_ISAS; i++)
        if (sim_kernels_pick(isas[i]) == SIM_OK)
            (void)printf("    {\"%s\", 0x%016" PRIx64 "},\n", sim_kernels_arithmetic(),
                         digest_exp());
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kernel_has_the_recorded_bits),
        cmocka_unit_test(exp_has_the_recorded_bits),
    };
    sim_flush_denormals();
    if (argc > 1 && strcmp(argv[1], "--record") == 0) {
        record();
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
