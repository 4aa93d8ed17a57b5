/*
 * bench_environment.c - what every bench prints about the machine that it ran on.
 */
#include "cli.h"

#include "simile/clock.h"
#include "simile/kernel.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* The name of the processor, "unknown" where /proc/cpuinfo has none. */
static void read_processor(char *out, size_t out_bytes)
{
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "r");

    (void)snprintf(out, out_bytes, "unknown");
    while (f && fgets(line, sizeof line, f)) {
        const char *value = strchr(line, ':');
        if (!value || strncmp(line, "model name", 10) != 0)
            continue;
        (void)snprintf(out, out_bytes, "%.*s", (int)strcspn(value + 2, "\n"), value + 2);
        break;
    }
    if (f)
        (void)fclose(f);
}

/* ---- products ---- */

enum { REPEATS = 5 };

typedef struct {
    size_t rows, columns, terms, products; /* products per thread and repeat */
    float *a, *panel, *out;                /* out [thread][rows][columns] */
} product_bench;

static void run_products(size_t thread, void *ctx)
{
    const product_bench *p = ctx;
    float *out = p->out + thread * p->rows * p->columns;
    for (size_t i = 0; i < p->products; i++)
        sim_product(p->rows, p->columns, p->terms, p->a, p->terms, p->panel, out,
                    p->columns);
}

static double time_products(product_bench *p, size_t threads)
{
    double best = INFINITY;
    for (int i = 0; i <= REPEATS; i++) {
        const double start = sim_clock_s();
        sim_for(threads, run_products, p);
        best = i > 0 ? fmin(best, sim_clock_s() - start) : best;
    }
    return best;
}

sim_status sim_bench_product_rate(size_t rows, size_t columns, size_t terms, double *rate)
{
    sim_status st = SIM_OK;
    enum { MULTIPLY_ADDS = 1 << 28 };
    const size_t threads = (size_t)sim_threads(), each = rows * columns * terms;
    product_bench p = {.rows = rows,
                       .columns = columns,
                       .terms = terms,
                       .products = MULTIPLY_ADDS / each + 1};

    SIM_TRY(sim_alloc(&p.a, rows * terms, "cli/bench"));
    SIM_TRY(sim_alloc(&p.panel, sim_panel_floats(terms, columns), "cli/bench"));
    SIM_TRY(sim_alloc(&p.out, threads * rows * columns, "cli/bench"));
    *rate = (double)(threads * p.products * each) / time_products(&p, threads);
done:
    sim_free(p.a);
    sim_free(p.panel);
    sim_free(p.out);
    return st;
}

sim_status sim_bench_environment(const sim_comm *c, sim_json *j, double *peak)
{
    sim_status st = SIM_OK;
    char processor[128], cores[128];
    enum { ROWS = 12, COLUMNS = 32, TERMS = 128 }; /* stay in L1 */
    double rate = 0;

    SIM_TRY(sim_comm_agree(c, sim_bench_product_rate(ROWS, COLUMNS, TERMS, &rate)));
    if (peak)
        *peak = rate;
    read_processor(processor, sizeof processor);
    sim_cores_text(cores, sizeof cores);
    sim_json *e = sim_json_object(j, "environment");
    sim_json_text(e, "processor", processor);
    sim_json_int(e, "cores_present", sim_cores_present());
    sim_json_text(e, "cores_of_rank_0", cores);
    sim_json_text(e, "kernels", sim_kernels_name());
    sim_json_text(e, "blas", sim_kernels_blas());
    sim_json_real(e, "multiply_add_gflops", 2e-9 * rate);
done:
    return st;
}
