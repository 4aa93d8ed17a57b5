/*
 * methods.c - the table of methods.
 */
#include "simile/method.h"

#include <string.h>

#define SIM_METHOD(name, row) extern const sim_method_row sim_method_##row;
#include "methods.def"
#undef SIM_METHOD

static const sim_method_row *const rows[] = {
#define SIM_METHOD(name, row) &sim_method_##row,
#include "methods.def"
#undef SIM_METHOD
};

#define SIM_METHOD(name, row) "|" #name
static const char names[] =
#include "methods.def"
    ;
#undef SIM_METHOD

size_t sim_methods_count(void)
{
    return sizeof rows / sizeof rows[0];
}

const sim_method_row *sim_methods_at(size_t i)
{
    SIM_ASSERT(i < sim_methods_count());
    return rows[i];
}

const sim_method_row *sim_methods_find(const char *name)
{
    for (size_t i = 0; i < sim_methods_count(); i++)
        if (strcmp(rows[i]->name, name) == 0)
            return rows[i];
    return NULL;
}

const char *sim_methods_names(void)
{
    return names + 1; /* without the leading "|" */
}
