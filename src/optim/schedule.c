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
    ROW("warmup_start_lr", SIM_OPTION_REAL, warmup_start_lr, 0, 1e4, "0", NULL, "",
        "learning rate of the first update of a warm-up; 0: learning rate / steps of "
        "warm-up"),
    ROW("shape", SIM_OPTION_ENUM, shape, 0, 0, "cosine", SHAPES, "",
        "schedule after the warm-up; steps: times gamma at each milestone"),
    ROW("min_lr", SIM_OPTION_REAL, min_lr, 0, 1e4, "0", NULL, "",
        "learning rate at the end of cosine, and lower bound of steps"),
    ROW("milestones", SIM_OPTION_NUMBERS, milestones, 0, 1e12, "", NULL,
        "epochs or steps",
        "of shape steps: a list such as [120, 160], in epochs, or in updates if "
        "schedule.steps is given; none: 60 % and 80 % of the run"),
    ROW("gamma", SIM_OPTION_REAL, gamma, 1e-6, 1, "0.1", NULL, "",
        "of shape steps: factor on the learning rate at a milestone"),
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

static double warmup_rate(const sim_schedule_options *s, double base, double t,
                          double warmup)
{
    double start = s->warmup_start_lr;
    if (!(start > 0))
        return (t + 1) / warmup < 1 ? base * ((t + 1) / warmup) : base;
    double rises = warmup > 2 ? warmup - 1 : 1;
    return t < rises ? start + (base - start) * (t / rises) : base;
}

/* Position m of the run, in the unit of its length, is update m total / length. Multiplied by the
 * length, so that whole numbers are compared without rounding. */
static size_t milestones_passed(const sim_schedule_options *s, double t, double total)
{
    const sim_option_numbers *m = &s->milestones;
    double length = s->steps ? (double)s->steps : (double)s->epochs;
    size_t passed = 0;
    if (m->n == 0)
        return t >= 0.8 * total ? 2 : t >= 0.6 * total ? 1 : 0;
    while (passed < m->n && t * length >= m->values[passed] * total)
        passed++;
    return passed;
}

/* gamma^passed, by division: powers of decimal factors such as 0.1 are then rounded once. */
static double rate_after_milestones(const sim_schedule_options *s, double base, double t,
                                    double total)
{
    double divisor = 1;
    for (size_t i = milestones_passed(s, t, total); i > 0; i--)
        divisor *= 1 / s->gamma;
    double rate = base * (1 / divisor);
    return rate > s->min_lr ? rate : s->min_lr;
}

double sim_schedule_learning_rate(const sim_schedule_options *s, double base, double t,
                                  double warmup, double total)
{
    if (t < warmup)
        return warmup_rate(s, base, t, warmup);
    if (s->shape == SHAPE_CONSTANT || total <= warmup)
        return base;
    if (s->shape == SHAPE_STEPS)
        return rate_after_milestones(s, base, t, total);
    double part = (t - warmup) / (total - warmup);
    if (part >= 1)
        return s->min_lr;
    return s->min_lr +
           (base - s->min_lr) * ((1 + sim_optim_cos(3.14159265358979323846 * part)) / 2);
}

sim_status sim_schedule_check(const sim_schedule_options *s, double base)
{
    sim_status st = SIM_OK;
    const sim_option_numbers *m = &s->milestones;

    SIM_CHECK(s->warmup_start_lr <= base, SIM_E_CONFIG,
              "schedule.warmup_start_lr: %g is above the learning rate, %g",
              s->warmup_start_lr, base);
    SIM_CHECK(s->min_lr <= base, SIM_E_CONFIG,
              "schedule.min_lr: %g is above the learning rate, %g", s->min_lr, base);
    SIM_CHECK(m->n == 0 || s->shape == SHAPE_STEPS, SIM_E_CONFIG,
              "schedule.milestones requires schedule.shape: steps");
    for (size_t i = 1; i < m->n; i++)
        SIM_CHECK(m->values[i] > m->values[i - 1], SIM_E_CONFIG,
                  "schedule.milestones: %g after %g; they must increase", m->values[i],
                  m->values[i - 1]);
done:
    return st;
}
