/*
 * evaluations.c - the table of evaluations.
 */
#include "evaluations.h"

#include <string.h>

#define SIM_EVALUATION(name) &sim_evaluation_##name,
static const sim_evaluation *const rows[] = {
#include "evaluations.def"
};
#undef SIM_EVALUATION

size_t sim_evaluations_count(void)
{
    return sizeof rows / sizeof rows[0];
}

const sim_evaluation *sim_evaluations_at(size_t i)
{
    return rows[i];
}

const sim_evaluation *sim_evaluations_find(const char *name)
{
    for (size_t i = 0; i < sim_evaluations_count(); i++)
        if (strcmp(rows[i]->name, name) == 0)
            return rows[i];
    return NULL;
}
