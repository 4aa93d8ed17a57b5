/*
 * report_csv.c - the metrics of a run as comma-separated values, for `simile report --csv`.
 *
 * One line per step that has metrics, and one column per metric: those of training under their names, those
 * of evaluations as EVALUATION/NAME.  What a step does not have is empty.
 */
#include "csv.h"
#include "report.h"

#include "simile/memory.h"

#include <math.h>
#include <string.h>

static const char first_column[] = "step";

bool sim_report_is_csv(const char *path)
{
    return sim_file_begins_with(path, "step,");
}

static sim_status put_header(csv_writer *w, const report_run *r)
{
    sim_status st = SIM_OK;
    char name[sizeof r->curves->group + sizeof r->curves->name + 1];

    SIM_TRY(sim_csv_bytes(w, first_column, sizeof first_column - 1));
    for (size_t i = 0; i < r->n_curves; i++) {
        const report_curve *c = &r->curves[i];
        const bool of_training = strcmp(c->group, "train") == 0;
        (void)snprintf(name, sizeof name, "%s%s%s", of_training ? "" : c->group,
                       of_training ? "" : "/", c->name);
        SIM_TRY(sim_csv_field(w, name, strlen(name)));
    }
    SIM_TRY(sim_csv_bytes(w, "\n", 1));
done:
    return st;
}

/* The least step of the points that follow; infinite at the end. */
static double next_step(const report_run *r, const size_t *next)
{
    double step = INFINITY;

    for (size_t i = 0; i < r->n_curves; i++)
        if (next[i] < r->curves[i].n)
            step = fmin(step, r->curves[i].points[next[i]].x);
    return step;
}

static sim_status put_row(csv_writer *w, const report_run *r, double step, size_t *next)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_csv_format(w, "%.0f", step));
    for (size_t i = 0; i < r->n_curves; i++) {
        const report_curve *c = &r->curves[i];
        double value = (double)NAN;
        for (; next[i] < c->n && c->points[next[i]].x <= step; next[i]++)
            value = c->points[next[i]].y;
        SIM_TRY(sim_csv_bytes(w, ",", 1));
        if (isfinite(value))
            SIM_TRY(sim_csv_format(w, "%.17g", value));
    }
    SIM_TRY(sim_csv_bytes(w, "\n", 1));
done:
    return st;
}

sim_status sim_report_write_csv(const char *run, const char *target)
{
    sim_status st = SIM_OK;
    report_run r = {.path = NULL};
    csv_writer w = {.file = {.fd = -1}};
    size_t *next = NULL;
    double step = 0;

    SIM_TRY(sim_report_read(run, false, &r));
    SIM_TRY(sim_alloc(&next, r.n_curves, "cli/report"));
    SIM_TRY(sim_csv_begin(target, &w));
    SIM_TRY(put_header(&w, &r));
    step = next_step(&r, next);
    while (isfinite(step)) {
        SIM_TRY(put_row(&w, &r, step, next));
        step = next_step(&r, next);
    }
    SIM_TRY(sim_csv_end(&w));
done:
    sim_csv_cancel(&w);
    sim_report_clear(&r);
    sim_free(next);
    return st;
}
