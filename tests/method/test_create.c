/*
 * test_create.c - every method of the table: a refused allocation leaves nothing behind, a
 * momentum copy begins as the trained nets are, trained numbers stay in range.
 */
#include "simile_test.h"

#include "simile/kernel.h"
#include "simile/memory.h"
#include "simile/method.h"

#include <math.h>
#include <stdlib.h>

static const sim_comm alone = {.rank = 0, .size = 1};
static const sim_encoder_options encoder = {
    .width = 0.0625, .projector_layers = 2, .projector_dim = 6, .projector_bn = true};
static const sim_batchnorm_options batchnorm = {.group = 2};
static const sim_method_env env = {.comm = &alone,
                                   .partition = {.size = 1, .rank = 0},
                                   .encoder = &encoder,
                                   .batchnorm = &batchnorm,
                                   .h = 16, /* the least that cpc cuts in its grid */
                                   .w = 16,
                                   .c = 3,
                                   .batch = 8,
                                   .block = 4,
                                   .seed = 5};

/* The default, but for what a paper takes large. */
static int64_t small(const sim_option *o)
{
    if (strcmp(o->name, "queue_size") == 0)
        return 300;
    return strcmp(o->name, "predictor_hidden") == 0 ? 12 : strtoll(o->fallback, NULL, 10);
}

static void fill_one(const sim_option *o, char *to)
{
    if (o->type == SIM_OPTION_INT)
        *(int64_t *)(void *)(to + o->offset) = small(o);
    else if (o->type == SIM_OPTION_REAL)
        *(double *)(void *)(to + o->offset) = strtod(o->fallback, NULL);
    else if (o->type == SIM_OPTION_BOOL)
        *(bool *)(to + o->offset) = strcmp(o->fallback, "true") == 0;
    else if (o->type == SIM_OPTION_ENUM)
        *(int *)(void *)(to + o->offset) = sim_choices_find(o->choices, o->fallback);
}

static void options_of(const sim_method_row *row, sim_option_storage *out)
{
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < row->table->n_rows; i++)
        fill_one(&row->table->rows[i], (char *)out);
}

static void a_refused_allocation_leaves_nothing_behind(void **state)
{
    (void)state;
    sim_option_storage options;
    for (size_t i = 0; i < sim_methods_count(); i++) {
        const sim_method_row *row = sim_methods_at(i);
        size_t before = sim_memory_bytes();
        sim_method m = {0};
        uint64_t k = 1;

        options_of(row, &options);
        for (;; k += 1 + k / 16) { /* each of the first ones, then fewer */
            sim_memory_fail_at(k);
            sim_status st = sim_method_create(row, &env, &options, &m);
            sim_memory_fail_at(0);
            sim_error_clear();
            if (st == SIM_OK)
                break;
            if (st != SIM_E_IO || sim_memory_bytes() != before)
                fail_msg("%s: allocation %d leaves %zu bytes", row->name, (int)k,
                         sim_memory_bytes() - before);
        }
        assert_true(k > 20);
        sim_method_destroy(&m);
        assert_int_equal(sim_memory_bytes(), before);
    }
}

/* ---- copies ---- */

static void check_copy(const sim_method *m)
{
    sim_net *nets[SIM_MAX_NETS], *copies[SIM_MAX_NETS];
    const char *groups[SIM_MAX_NETS];
    size_t n = m->row->nets(m->self, nets, groups);
    size_t n_copies = m->row->momentum_nets(m->self, copies, groups);

    assert_true(n_copies >= 1 && n_copies <= n);
    for (size_t i = 0; i < n_copies; i++) /* as after --init, which knows no copy */
        for (size_t k = 0; k < sim_net_parameters(nets[i]); k++)
            sim_net_weights(nets[i])[k] += 1;
    m->row->started(m->self);
    for (size_t i = 0; i < n_copies; i++) {
        assert_ptr_not_equal(sim_net_weights(copies[i]), sim_net_weights(nets[i]));
        assert_memory_equal(sim_net_weights(copies[i]), sim_net_weights(nets[i]),
                            sim_net_parameters(nets[i]) * sizeof(float));
    }
}

static void a_momentum_copy_begins_as_the_trained_nets_are(void **state)
{
    (void)state;
    sim_option_storage options;
    size_t seen = 0;
    for (size_t i = 0; i < sim_methods_count(); i++) {
        const sim_method_row *row = sim_methods_at(i);
        sim_method m = {0};
        if (!row->momentum_nets)
            continue;
        seen++;
        options_of(row, &options);
        ASSERT_OK(sim_method_create(row, &env, &options, &m));
        check_copy(&m);
        sim_method_destroy(&m);
    }
    assert_true(seen >= 3);
}

/* ---- trained numbers ---- */

/* Where the key of this name ends; the test's own reading of the tables. */
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

static bool learn_numbers(const sim_method_row *row, sim_option_storage *options)
{
    for (size_t i = 0; i < row->table->n_rows; i++)
        if (strcmp(row->table->rows[i].name, "learn_temperature") == 0)
            *(bool *)((char *)options + row->table->rows[i].offset) = true;
    return row->scalars != NULL;
}

static void check_range(const sim_method *m, float pushed, bool up)
{
    sim_method_scalar scalars[SIM_MAX_SCALARS];
    sim_method_number numbers[SIM_MAX_SCALARS];
    size_t n = m->row->scalars(m->self, scalars);

    assert_true(n >= 1);
    for (size_t i = 0; i < n; i++)
        *scalars[i].value = pushed;
    sim_method_bound(m);
    assert_int_equal(sim_method_numbers(m, numbers), n);
    for (size_t i = 0; i < n; i++) {
        double min = 0, max = 0;
        range_of(m->row, numbers[i].name, &min, &max);
        double end = up ? max : min, off = numbers[i].value - end;
        if (!(off < 1e-5 * fabs(end) && off > -1e-5 * fabs(end)))
            fail_msg("%s: %s is %g, expected %g", m->row->name, numbers[i].name,
                     numbers[i].value, end);
    }
}

static void a_trained_number_stays_in_the_range_of_its_key(void **state)
{
    (void)state;
    sim_option_storage options;
    size_t seen = 0;
    for (size_t i = 0; i < sim_methods_count(); i++) {
        const sim_method_row *row = sim_methods_at(i);
        sim_method m = {0};
        options_of(row, &options);
        if (!learn_numbers(row, &options))
            continue;
        seen++;
        ASSERT_OK(sim_method_create(row, &env, &options, &m));
        check_range(&m, 1e30F, true);
        check_range(&m, -1e30F, false);
        sim_method_destroy(&m);
    }
    assert_true(seen == sim_methods_count());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_refused_allocation_leaves_nothing_behind),
        cmocka_unit_test(a_momentum_copy_begins_as_the_trained_nets_are),
        cmocka_unit_test(a_trained_number_stays_in_the_range_of_its_key),
    };
    if (sim_kernels_pick("auto") != SIM_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
