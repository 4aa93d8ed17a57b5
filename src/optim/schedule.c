/*
 * schedule.c - the learning-rate schedule.
 */
#include "optim_row.h"

#include <math.h>

#define ROW(key, type_, field, lo, hi, fallback_, choices_, unit_, help_)                \
    {                                                                                    \
        .name = key, .type = type_, .offset = offsetof(sim_schedule_options, field),     \
        .min = lo, .max = hi, .fallback = fallback_, .choices = choices_, .unit = unit_, \
        .help = help_, .kind = SIM_IDENTITY                                              \
    }

/* Values of schedule.shape, in the order of the names. */
enum { SHAPE_COSINE, SHAPE_CONSTANT, SHAPE_STEPS };
#define SHAPES "cosine|constant|steps"

static const sim_option rows[] = {
    ROW("epochs", SIM_OPTION_INT, epochs, 1, 1000000, "100", NULL, "epochs",
        "length of the run in epochs"),
    ROW("steps", SIM_OPTION_INT, steps, 0, 1e12, "0", NULL, "steps",
        "length of the run in updates; 0: by epochs"),
    ROW("warmup_epochs", SIM_OPTION_REAL, warmup_epochs, 0, 1000000, "0", NULL, "epochs",
        "linear warm-up of the learning rate, in epochs"),
    ROW("warmup_steps", SIM_OPTION_INT, warmup_steps, 0, 1e12, "0", NULL, "steps",
        "linear warm-up in updates; 0: by warmup_epochs"),
    ROW("shape", SIM_OPTION_ENUM, shape, 0, 0, "cosine", SHAPES, "",
        "schedule after the warm-up; steps: times 0.1 at 60 % and at 80 % of the run"),
};

const sim_option_table sim_schedule_table = {.section = "schedule",
                                             .rows = rows,
                                             .n_rows = sizeof rows / sizeof rows[0],
                                             .struct_bytes =
                                                 sizeof(sim_schedule_options)};

/* Taylor series after reduction to [0, pi/2]. */
double sim_optim_cos(double x)
{
    const double pi = 3.14159265358979323846;
    double sign = 1;
    if (x > pi / 2) {
        x = pi - x;
        sign = -1;
    }
    double x2 = x * x, sum = 1;
    for (int k = 20; k >= 2; k -= 2)
        sum = 1 - sum * x2 / (double)(k * (k - 1));
    return sign * sum;
}

double sim_schedule_factor(const sim_schedule_options *s, double t, double warmup,
                           double total)
{
    if (t < warmup)
        return (t + 1) / warmup < 1 ? (t + 1) / warmup : 1;
    if (s->shape == SHAPE_CONSTANT || total <= warmup)
        return 1;
    if (s->shape == SHAPE_STEPS)
        return t < 0.6 * total ? 1 : t < 0.8 * total ? 0.1 : 0.01;
    double part = (t - warmup) / (total - warmup);
    return part >= 1 ? 0 : (1 + sim_optim_cos(3.14159265358979323846 * part)) / 2;
}
