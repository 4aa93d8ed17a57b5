/*
 * test_create.c - every row of methods.def: a failed allocation leaks nothing, the momentum
 * encoder starts as a copy of the trained networks, trained scalars stay in range.
 */
#include "method_cases.h"

#include "simile/kernel.h"

#include <math.h>

static const sim_comm alone = {.rank = 0, .size = 1};

static void fail_allocations(const method_case *c)
{
    sim_method_env env = case_env(&alone);
    size_t before = sim_memory_bytes();
    sim_method m = {0};
    uint64_t k = 1;

    env.small = c->small;
    for (;; k += 1 + k / 16) { /* each of the first, then a sample */
        sim_memory_fail_at(k);
        sim_status st = sim_method_create(c->row, &env, &c->options, &m);
        sim_memory_fail_at(0);
        sim_error_clear();
        if (st == SIM_OK)
            break;
        if (st != SIM_E_IO || sim_memory_bytes() != before)
            fail_msg("%s: failed allocation %d leaks %zu bytes", c->name, (int)k,
                     sim_memory_bytes() - before);
    }
    assert_true(k > 20);
    sim_method_destroy(&m);
    assert_int_equal(sim_memory_bytes(), before);
}

static void a_failed_allocation_leaks_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < sim_methods_count(); i++) {
        method_case c = default_case(sim_methods_at(i));
        fail_allocations(&c);
        if (add_small_views(&c))
            fail_allocations(&c);
    }
}

/* Small views are refused by the methods that do not take them, with the names of those that do. */
static void small_views_are_refused_with_the_methods_that_take_them(void **state)
{
    (void)state;
    sim_method_env env = case_env(&alone);
    size_t n_refused = 0;

    env.small = case_small;
    for (size_t i = 0; i < sim_methods_count(); i++) {
        const method_case c = default_case(sim_methods_at(i));
        if (c.row->takes_small_views)
            continue;
        n_refused++;
        assert_int_equal(sim_method_check(c.row, &env, &c.options), SIM_E_CONFIG);
        assert_non_null(strstr(sim_error_message(), "augment.small_views"));
        assert_non_null(strstr(sim_error_message(), c.row->name));
        for (size_t k = 0; k < sim_methods_count(); k++)
            if (sim_methods_at(k)->takes_small_views)
                assert_non_null(strstr(sim_error_message(), sim_methods_at(k)->name));
        sim_error_clear();
    }
    assert_true(n_refused > 0);
}

/* ---- the momentum encoder ---- */

static void check_copy(const sim_method *m)
{
    sim_net *nets[SIM_MAX_NETS], *copies[SIM_MAX_NETS];
    const char *groups[SIM_MAX_NETS];
    size_t n = m->row->nets(m->self, nets, groups);
    size_t n_copies = m->row->momentum_nets(m->self, copies, groups);

    assert_true(n_copies >= 1 && n_copies <= n);
    for (size_t i = 0; i < n_copies; i++) /* as after --init */
        for (size_t k = 0; k < sim_net_parameters(nets[i]); k++)
            sim_net_weights(nets[i])[k] += 1;
    m->row->started(m->self);
    for (size_t i = 0; i < n_copies; i++) {
        assert_ptr_not_equal(sim_net_weights(copies[i]), sim_net_weights(nets[i]));
        assert_memory_equal(sim_net_weights(copies[i]), sim_net_weights(nets[i]),
                            sim_net_parameters(nets[i]) * sizeof(float));
    }
}

static void the_momentum_encoder_starts_as_a_copy_of_the_trained_networks(void **state)
{
    (void)state;
    const sim_method_env env = case_env(&alone);
    size_t seen = 0;
    for (size_t i = 0; i < sim_methods_count(); i++) {
        const sim_method_row *row = sim_methods_at(i);
        sim_method m = {0};
        if (!row->momentum_nets)
            continue;
        seen++;
        const method_case c = default_case(row);
        ASSERT_OK(sim_method_create(row, &env, &c.options, &m));
        check_copy(&m);
        sim_method_destroy(&m);
    }
    assert_true(seen > 0);
}

/* ---- trained scalars ---- */

/* The range of a key. */
static void range_of(const sim_method_row *row, const char *name, double *min,
                     double *max)
{
    for (size_t i = 0; i < row->table->n_rows; i++)
        if (strcmp(row->table->rows[i].name, name) == 0) {
            *min = row->table->rows[i].min;
            *max = row->table->rows[i].max;
            return;
        }
    fail_msg("%s: no key is named %s", row->name, name);
}

/* Sets all scalars to a value beyond their ranges; returns their number. */
static size_t check_range(const sim_method *m, float value, bool up)
{
    sim_method_scalar scalars[SIM_MAX_SCALARS];
    sim_method_number numbers[SIM_MAX_SCALARS];
    size_t n = m->row->scalars(m->self, scalars);

    for (size_t i = 0; i < n; i++)
        *scalars[i].value = value;
    sim_method_clip_scalars(m);
    assert_int_equal(sim_method_numbers(m, numbers), n);
    for (size_t i = 0; i < n; i++) {
        double min = 0, max = 0;
        range_of(m->row, numbers[i].name, &min, &max);
        double end = up ? max : min, off = numbers[i].value - end;
        if (!(off < 1e-5 * fabs(end) && off > -1e-5 * fabs(end)))
            fail_msg("%s: %s is %g, expected %g", m->row->name, numbers[i].name,
                     numbers[i].value, end);
    }
    return n;
}

static void a_trained_scalar_stays_in_the_range_of_its_key(void **state)
{
    (void)state;
    const sim_method_env env = case_env(&alone);
    size_t seen = 0;
    for (size_t i = 0; i < sim_methods_count(); i++) {
        const sim_method_row *row = sim_methods_at(i);
        sim_method m = {0};
        method_case c = default_case(row);
        (void)set_option(&c, "learn_temperature=true");
        ASSERT_OK(sim_method_create(row, &env, &c.options, &m));
        seen += check_range(&m, 1e30F, true);
        (void)check_range(&m, -1e30F, false);
        sim_method_destroy(&m);
    }
    assert_true(seen > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_allocation_leaks_nothing),
        cmocka_unit_test(small_views_are_refused_with_the_methods_that_take_them),
        cmocka_unit_test(the_momentum_encoder_starts_as_a_copy_of_the_trained_networks),
        cmocka_unit_test(a_trained_scalar_stays_in_the_range_of_its_key),
    };
    if (sim_kernels_pick("auto") != SIM_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
