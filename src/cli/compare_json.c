/*
 * compare_json.c - DIR/compare.json: configurations and runs with their commands, keys and measures.
 */
#include "compare.h"

#include "simile/memory.h"

#include <math.h>
#include <string.h>

static void put_data(sim_json *j, const char *key, const compare_data *data)
{
    sim_json *o = sim_json_object(j, key);
    sim_json_text(o, "path", data->path);
    sim_json_text(o, "fingerprint", data->fingerprint);
}

static void put_keys(const comparison *c, const compare_configuration *f, sim_json *j)
{
    sim_json_text(j, "job", c->arguments->jobs[f->job]);
    sim_json *keys = sim_json_object(j, "keys");
    for (size_t k = 0; k < c->arguments->n_keys; k++)
        if ((int)k != c->seed_key)
            sim_json_text(keys, c->arguments->keys[k].key, sim_compare_value(c, f, k));
}

static void put_configuration(const comparison *c, size_t i, sim_json *j)
{
    sim_json_int(j, "configuration", (int64_t)i + 1);
    put_keys(c, &c->configurations[i], j);
    sim_json *measures = sim_json_object(j, "measures");
    for (size_t m = 0; m < c->n_measures; m++) {
        const compare_mean mean = sim_compare_mean(c, i, m);
        sim_json *o = sim_json_object(measures, c->measures[m].key);
        sim_json_real(o, "mean", mean.mean);
        sim_json_real(o, "deviation", mean.n > 1 ? mean.deviation : NAN);
        sim_json_int(o, "n", (int64_t)mean.n);
    }
}

static sim_status put_command(const compare_command *k, sim_json *list)
{
    sim_status st = SIM_OK;
    char *text = NULL;

    SIM_TRY(sim_compare_command_text(k, &text));
    sim_json_text(list, NULL, text);
done:
    sim_free(text);
    return st;
}

static sim_status put_commands(const comparison *c, const compare_run *r, sim_json *list)
{
    sim_status st = SIM_OK;
    compare_command k = {0};

    SIM_TRY(sim_compare_pretrain_command(c, r, 0, &k));
    SIM_TRY(put_command(&k, list));
    for (size_t i = 0; i < c->n_evaluations; i++) {
        sim_compare_command_clear(&k);
        SIM_TRY(sim_compare_evaluate_command(c, r, c->evaluations[i], r->n_steps, &k));
        SIM_TRY(put_command(&k, list));
    }
    for (size_t i = 0; i < c->n_evaluations; i++) {
        if (sim_compare_first_of_encoder(c, r) != r)
            break;
        sim_compare_command_clear(&k);
        SIM_TRY(sim_compare_evaluate_command(c, r, c->evaluations[i], 0, &k));
        SIM_TRY(put_command(&k, list));
    }
done:
    sim_compare_command_clear(&k);
    return st;
}

static const char *state_of(const compare_run *r)
{
    return r->failure.code   ? "failed"
           : r->is_trained   ? "complete"
           : r->is_elsewhere ? "running"
                             : "missing";
}

static sim_status put_run(const comparison *c, const compare_run *r, sim_json *j)
{
    sim_status st = SIM_OK;

    sim_json_text(j, "run", r->path);
    sim_json_int(j, "configuration", (int64_t)r->configuration + 1);
    put_keys(c, &c->configurations[r->configuration], j);
    sim_json_int(j, "seed", r->seed);
    sim_json_int(j, "steps", r->n_steps);
    sim_json_text(j, "state", state_of(r));
    if (r->failure.code) {
        sim_json_int(j, "exit", r->failure.code);
        sim_json_text(j, "error", r->failure.text);
    }
    sim_json *measures = sim_json_object(j, "measures");
    for (size_t m = 0; m < c->n_measures; m++)
        sim_json_real(measures, c->measures[m].key, r->values[m]);
    SIM_TRY(put_commands(c, r, sim_json_array(j, "commands")));
done:
    return st;
}

static void put_differences(const compare_differences *d, sim_json *list)
{
    for (size_t i = 0; i < d->n; i++) {
        sim_json *o = sim_json_object(list, NULL);
        sim_json_text(o, "key", d->rows[i].key);
        sim_json_text(o, "value", d->rows[i].value);
        sim_json_text(o, "configurations", d->rows[i].configurations);
    }
}

sim_status sim_compare_json(const comparison *c, const compare_differences *d,
                            sim_json **out)
{
    sim_status st = SIM_OK;
    const compare_counts n = sim_compare_count(c);
    sim_json *j = NULL;

    SIM_TRY(sim_json_create(&j));
    sim_json_text(j, "comparison", c->directory);
    sim_json_text(j, "program", sim_cli_build());
    put_data(sim_json_object(j, "data"), "train", &c->train);
    if (*c->test.path) {
        sim_json *data = NULL;
        if (sim_json_get_object(j, "data", &data))
            put_data(data, "test", &c->test);
    }
    sim_json_int(j, "n_runs", (int64_t)c->n_runs);
    sim_json_int(j, "n_complete", (int64_t)n.complete);
    sim_json_int(j, "n_failed", (int64_t)n.failed);
    sim_json_int(j, "n_missing", (int64_t)n.missing);
    sim_json_int(j, "total_steps", c->total_steps);
    sim_json *list = sim_json_array(j, "configurations");
    for (size_t i = 0; i < c->n_configurations; i++)
        put_configuration(c, i, sim_json_object(list, NULL));
    put_differences(d, sim_json_array(j, "differences"));
    list = sim_json_array(j, "runs");
    for (size_t i = 0; i < c->n_runs; i++)
        SIM_TRY(put_run(c, &c->runs[i], sim_json_object(list, NULL)));
    *out = j;
    j = NULL;
done:
    sim_json_destroy(&j);
    return st;
}
