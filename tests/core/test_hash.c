/*
 * test_hash.c - XXH3-128: published values, incremental hashing, hashes of tensors.
 *
 * The values of "", "a" and "abc" are test vectors of several other implementations of XXH3-128
 * (seed 0).
 */
#include "simile_test.h"

#include "simile/hash.h"
#include "simile/memory.h"
#include "simile/tensor.h"

static void hashes_match_published_values(void **state)
{
    (void)state;
    static const char *const known[][2] = {{"", "99aa06d3014798d86001c324468d497f"},
                                           {"a", "a96faf705af16834e6c632b61e964e1f"},
                                           {"abc", "06b05ab6733a618578af5f94892f3950"}};
    for (size_t i = 0; i < 3; i++) {
        char hex[33];
        sim_hash_hex(sim_hash_bytes(known[i][0], strlen(known[i][0])), hex);
        assert_string_equal(hex, known[i][1]);
    }
}

static void incremental_hashes_equal_the_hash_of_all_bytes(void **state)
{
    (void)state;
    static unsigned char data[3000];
    sim_hasher *h = NULL;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * i >> 3);
    ASSERT_OK(sim_hasher_create(&h));
    for (size_t n = 0; n < sizeof data; n += n < 300 ? 1 : 97)
        for (size_t piece = 1; piece <= 1000; piece *= 10) {
            sim_hasher_reset(h);
            for (size_t at = 0; at < n; at += piece) {
                sim_hasher_add(h, data + at, n - at < piece ? n - at : piece);
                sim_hasher_add(h, NULL, 0);
            }
            assert_true(sim_hash_equal(sim_hasher_value(h), sim_hash_bytes(data, n)));
        }
    sim_hasher_destroy(&h);
    assert_null(h);
    sim_hasher_destroy(&h);
    sim_memory_fail_at(1);
    ASSERT_REFUSED(sim_hasher_create(&h), SIM_E_IO, "core/hash");
}

static void hashes_that_differ_in_one_half_are_unequal(void **state)
{
    (void)state;
    sim_hash a = {1, 2}, b = {1, 3}, c = {4, 2};
    assert_true(sim_hash_equal(a, a));
    assert_false(sim_hash_equal(a, b));
    assert_false(sim_hash_equal(a, c));
}

static void a_tensor_is_hashed_by_name_dims_and_bytes(void **state)
{
    (void)state;
    float data[6] = {1, 2, 3, 4, 5, 6};
    const uint64_t head[] = {2, 2, 3};
    char all[2 + sizeof head + sizeof data] = "ab";
    memcpy(all + 2, head, sizeof head);
    memcpy(all + 2 + sizeof head, data, sizeof data);
    sim_tensor t = {
        .name = "ab", .type = SIM_F32, .n_dims = 2, .dims = {2, 3}, .data = data};
    sim_hash h = sim_tensor_hash(&t);
    assert_true(sim_hash_equal(h, sim_hash_bytes(all, sizeof all)));
    t.dims[0] = 3;
    t.dims[1] = 2;
    assert_false(sim_hash_equal(h, sim_tensor_hash(&t)));
    t = (sim_tensor){.name = "s", .type = SIM_F64, .data = data};
    assert_int_equal(sim_tensor_count(&t), 1);
}

static void types_have_their_sizes(void **state)
{
    (void)state;
    static const struct {
        sim_type type;
        size_t bytes;
    } known[] = {{SIM_F32, 4}, {SIM_F64, 8}, {SIM_I64, 8},
                 {SIM_U64, 8}, {SIM_I32, 4}, {SIM_U8, 1}};
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(sim_type_bytes(known[i].type), known[i].bytes);
}

static sim_status describe_tensor(void *ctx, const char *group, const sim_tensor *t)
{
    sim_status st = SIM_OK;
    SIM_CHECK(strcmp(t->name, "bad") != 0, SIM_E_DATA, "%s/bad", group);
    (void)snprintf(ctx, 64, "%s/%s %d %d %zu", group, t->name, (int)t->type, t->n_dims,
                   sim_tensor_count(t));
done:
    return st;
}

static void visitors_receive_tensors_and_may_fail(void **state)
{
    (void)state;
    char description[64];
    float x[3] = {0};
    int64_t n = 0;
    const sim_visitor v = {describe_tensor, description};
    ASSERT_OK(sim_visit_f32(&v, "/g", "x", 3, x));
    assert_string_equal(description, "/g/x 0 1 3");
    ASSERT_OK(sim_visit_count(&v, "/g", "n", SIM_MAX_COUNT, &n));
    assert_string_equal(description, "/g/n 2 0 1");
    ASSERT_REFUSED(sim_visit_count(&v, "/g", "bad", SIM_MAX_COUNT, &n), SIM_E_DATA,
                   "/g/bad");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hashes_match_published_values),
        cmocka_unit_test(incremental_hashes_equal_the_hash_of_all_bytes),
        cmocka_unit_test(hashes_that_differ_in_one_half_are_unequal),
        cmocka_unit_test(a_tensor_is_hashed_by_name_dims_and_bytes),
        cmocka_unit_test(types_have_their_sizes),
        cmocka_unit_test(visitors_receive_tensors_and_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
