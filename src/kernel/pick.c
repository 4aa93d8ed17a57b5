/*
 * pick.c - selection of the instruction set; the workspace.
 */
#include "private.h"

#include "simile/memory.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Atomic, because the first use, possibly in several threads of a sim_for, selects "auto". */
static const sim_kernel_table *_Atomic selected;

typedef struct {
    const sim_kernel_table *table;
    int (*runs)(void);
} isa_row;

#define SIM_ISA(name, flags, runs_)                                                      \
    static int name##_runs(void)                                                         \
    {                                                                                    \
        return runs_;                                                                    \
    }
#include "isa.def"
#undef SIM_ISA

static const isa_row rows[] = {
#define SIM_ISA(name, flags, runs) {&sim_kernels_##name, name##_runs},
#include "isa.def"
#undef SIM_ISA
};

enum { N_ROWS = sizeof rows / sizeof rows[0] };

static const char names[] = "auto"
#define SIM_ISA(name, flags, runs) ", " #name
#include "isa.def"
#undef SIM_ISA
    ;

sim_status sim_kernels_pick(const char *name)
{
    sim_status st = SIM_OK;
    const char *requested = getenv("SIMILE_KERNELS");

    if (strcmp(name, "auto") == 0 && requested && *requested)
        name = requested;
    for (int i = N_ROWS - 1; i >= 0; i--) {
        bool named = strcmp(name, rows[i].table->name) == 0;
        if (!named && strcmp(name, "auto") != 0)
            continue;
        if (rows[i].runs()) {
            sim_kernels_use(rows[i].table);
            sim_blas_use_one_thread();
            goto done;
        }
        SIM_CHECK(!named, SIM_E_CONFIG,
                  "kernels: %s: not supported by this machine; use auto", name);
    }
    SIM_FAIL(SIM_E_CONFIG,
             "kernels: \"%s\" is none of %s, which this build has; use auto", name,
             names);
done:
    return st;
}

const sim_kernel_table *sim_kernels(void)
{
    const sim_kernel_table *table = atomic_load_explicit(&selected, memory_order_relaxed);
    if (table)
        return table;
    if (sim_kernels_pick("auto") != SIM_OK)
        sim_kernels_use(&sim_kernels_portable);
    return atomic_load_explicit(&selected, memory_order_relaxed);
}

void sim_kernels_use(const sim_kernel_table *table)
{
    atomic_store_explicit(&selected, table, memory_order_relaxed);
}

const char *sim_kernels_name(void)
{
    return sim_kernels()->name;
}

const char *sim_kernels_arithmetic(void)
{
    return sim_kernels()->arithmetic;
}

/* ---- workspace ---- */

static struct {
    void *data;
    size_t bytes;
} workspace;

void *sim_workspace(size_t bytes)
{
    if (bytes > workspace.bytes) {
        SIM_FREE(workspace.data);
        workspace.bytes = 0;
        if (sim_alloc_bytes(bytes, 1, "kernel/workspace", &workspace.data) != SIM_OK)
            sim_assert_failed("there is memory for the workspace", __FILE__, __LINE__);
        workspace.bytes = bytes;
    }
    return workspace.data;
}
