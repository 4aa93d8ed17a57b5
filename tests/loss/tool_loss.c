/*
 * tool_loss.c - NT-Xent on embeddings from a file, for test_loss.py.
 *
 *   tool_loss IN.h5 OUT.h5 temperature decoupled sum_directions
 * IN: /z [views][n][d] unit rows.  OUT: /loss, /dz.
 */
#include "simile/file.h"
#include "simile/h5.h"
#include "simile/loss.h"
#include "simile/memory.h"

#include <stdio.h>
#include <stdlib.h>

static sim_status run(char **a)
{
    sim_status st = SIM_OK;
    const sim_comm alone = {.rank = 0, .size = 1};
    sim_h5 *in = NULL, *out = NULL;
    sim_h5_shape s;
    float *z = NULL, *dz = NULL;
    sim_contrast *e = NULL;
    sim_loss_report report;
    const void *image = NULL;
    size_t n_bytes = 0;

    SIM_TRY(sim_h5_open_read(a[1], &in));
    SIM_TRY(sim_h5_read_new(in, "/z", SIM_F32, (size_t)1 << 28, (void **)&z, &s));
    const sim_rows_shape shape = {
        .views = s.dims[0], .n = s.dims[1], .d = s.dims[2], .unit = 32};
    const sim_ntxent_options options = {.temperature = atof(a[3]),
                                        .decoupled = atoi(a[4]) != 0,
                                        .factor = atoi(a[5]) != 0 ? 2 : 1};
    SIM_TRY(sim_alloc(&dz, s.dims[0] * s.dims[1] * s.dims[2], "test/loss"));
    SIM_TRY(sim_contrast_create(&alone, &shape, &e));
    sim_ntxent(e, &options, z, dz, &report);
    SIM_TRY(sim_h5_create_image((size_t)1 << 26, &out));
    const sim_tensor loss = {.type = SIM_F64, .data = &report.loss};
    const sim_tensor grad = {.type = SIM_F32,
                             .n_dims = 3,
                             .dims = {s.dims[0], s.dims[1], s.dims[2]},
                             .data = dz};
    const sim_tensor accuracy = {.type = SIM_F64, .data = &report.accuracy};
    const sim_tensor negative = {.type = SIM_F64, .data = &report.negative};
    const sim_tensor spread = {.type = SIM_F64, .data = &report.spread};
    SIM_TRY(sim_h5_write(out, "/loss", &loss));
    SIM_TRY(sim_h5_write(out, "/dz", &grad));
    SIM_TRY(sim_h5_write(out, "/accuracy", &accuracy));
    SIM_TRY(sim_h5_write(out, "/negative", &negative));
    SIM_TRY(sim_h5_write(out, "/spread", &spread));
    SIM_TRY(sim_h5_image(out, &image, &n_bytes));
    const sim_piece piece = {image, n_bytes};
    SIM_TRY(sim_file_replace(a[2], &piece, 1));
done:
    sim_contrast_destroy(&e);
    sim_h5_close(&in);
    sim_h5_close(&out);
    sim_free(z);
    sim_free(dz);
    return st;
}

int main(int argc, char **argv)
{
    if (argc != 6)
        return 64;
    sim_status st = run(argv);
    if (st != SIM_OK)
        (void)fprintf(stderr, "tool_loss: %s\n", sim_story());
    return (int)st;
}
