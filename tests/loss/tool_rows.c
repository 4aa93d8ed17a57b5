/*
 * tool_rows.c - NT-Xent of a part of the rows of a large batch against all columns, for
 * test_large_batch.py.
 *
 *   tool_rows Z.raw N D LO HI TEMPERATURE OUT.raw
 * Z:   float32 [2][N][D], unit rows; read into the only copy of them.
 * OUT: float64 [2][HI - LO] losses of the anchors LO to HI - 1, float32 [2][HI - LO][D] gradients.
 * Prints the seconds of the loss.
 */
#include "contrast.h"

#include "simile/clock.h"
#include "simile/kernel.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { VIEWS = 2 };

typedef struct {
    sim_rows_shape shape;
    sim_range rows;
    double temperature;
    float *z, *dz;
    sim_contrast *contrast;
} part;

static bool read_rows(const char *path, size_t n, float *z)
{
    FILE *f = fopen(path, "rb");
    bool ok = f && fread(z, sizeof *z, n, f) == n;
    if (f)
        (void)fclose(f);
    return ok;
}

static bool write_part(const part *p, const char *path)
{
    const size_t d = p->shape.d, n = p->rows.hi - p->rows.lo;
    FILE *f = fopen(path, "wb");
    bool ok = f != NULL;

    for (size_t v = 0; v < VIEWS; v++)
        for (size_t i = p->rows.lo; i < p->rows.hi && ok; i++)
            ok = fwrite(&p->contrast->records[v * p->shape.n + i].loss, sizeof(double), 1,
                        f) == 1;
    for (size_t v = 0; v < VIEWS && ok; v++)
        ok = fwrite(p->dz + (v * p->shape.n + p->rows.lo) * d, sizeof(float), n * d, f) ==
             n * d;
    return ok && fclose(f) == 0;
}

static sim_status run(const sim_comm *c, char **a)
{
    sim_status st = SIM_OK;
    part p = {.shape = {.n = strtoul(a[2], NULL, 10),
                        .d = strtoul(a[3], NULL, 10),
                        .unit = LEAF_SLOTS,
                        .views = VIEWS},
              .rows = {strtoul(a[4], NULL, 10), strtoul(a[5], NULL, 10)},
              .temperature = strtod(a[6], NULL)};
    const sim_ntxent_options options = {.temperature = p.temperature, .anchors = p.rows};
    const size_t floats = VIEWS * p.shape.n * p.shape.d;
    sim_loss_report report;

    SIM_TRY(sim_kernels_pick("auto"));
    SIM_TRY(sim_alloc(&p.z, floats, "test/rows"));
    SIM_TRY(sim_alloc(&p.dz, floats, "test/rows"));
    SIM_TRY(sim_contrast_create(c, &p.shape, &p.contrast));
    SIM_CHECK(read_rows(a[1], floats, p.z), SIM_E_IO, "%s cannot be read", a[1]);
    /* Also makes all of it resident, as the gradients of all rows would. */
    for (size_t i = 0; i < floats; i++)
        p.dz[i] = NAN;
    const double start = sim_clock_s();
    sim_ntxent(p.contrast, &options, p.z, p.dz, &report);
    (void)printf("%.3f\n", sim_clock_s() - start);
    SIM_CHECK(write_part(&p, a[7]), SIM_E_IO, "%s cannot be written", a[7]);
done:
    sim_contrast_destroy(&p.contrast);
    sim_free(p.z);
    sim_free(p.dz);
    return st;
}

int main(int argc, char **argv)
{
    const sim_comm *c = NULL;
    if (argc != 8 || sim_comm_begin(&argc, &argv, &c) != SIM_OK)
        return 64;
    const sim_status st = run(c, argv);
    if (st != SIM_OK)
        (void)fprintf(stderr, "tool_rows: %s\n", sim_error_message());
    sim_comm_end();
    return (int)st;
}
