/*
 * tool_net.c - a backbone's forward and backward on inputs from a file, for test_parity.py.
 *
 *   tool_net IN.h5 OUT.h5 arch stem width activation n_blocks slots views group joint h w c
 * IN: /x [images][h][w][c] by block, view, slot; /dy [images][dim]; /weights/encoder.
 * OUT: /y, /grads/<tensor>, /weights/encoder (running statistics after the pass).
 */
#include "simile/encoder.h"
#include "simile/file.h"
#include "simile/h5.h"
#include "simile/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    sim_h5 *in, *out;
} files;

static sim_status fill(void *ctx, const char *group, const sim_tensor *t)
{
    const files *f = ctx;
    char name[200];
    (void)snprintf(name, sizeof name, "/%s/%s", group, t->name);
    return sim_h5_read(f->in, name, t->type, 0, SIM_H5_ALL, t->data, sim_tensor_count(t));
}

static sim_status save(void *ctx, const char *group, const sim_tensor *t)
{
    const files *f = ctx;
    char name[200];
    (void)snprintf(name, sizeof name, "/%s/%s", group, t->name);
    return sim_h5_write(f->out, name, t);
}

static sim_status save_gradients(const files *f, const sim_net *net, float *grads)
{
    sim_status st = SIM_OK;
    char name[200];
    for (size_t i = 0; i < sim_net_tensors(net); i++) {
        const sim_net_tensor *g = sim_net_tensor_at(net, i);
        sim_tensor t = {.type = SIM_F32, .n_dims = g->n_dims, .data = grads + g->offset};
        memcpy(t.dims, g->dims, sizeof t.dims);
        (void)snprintf(name, sizeof name, "/grads/%s", g->name);
        SIM_TRY(sim_h5_write(f->out, name, &t));
    }
done:
    return st;
}

static sim_status run(char **a)
{
    sim_status st = SIM_OK;
    files f = {0};
    sim_net *net = NULL;
    sim_tape *tape = NULL;
    float *x = NULL, *dy = NULL, *y = NULL, *grads = NULL;
    const void *image = NULL;
    size_t n_bytes = 0;
    sim_encoder_options e = {.arch = atoi(a[3]),
                             .stem = atoi(a[4]),
                             .width = atof(a[5]),
                             .activation = atoi(a[6])};
    const sim_batchnorm_options bn = {.group = atoi(a[10]), .views = atoi(a[11])};
    size_t blocks = (size_t)atoi(a[7]);
    const sim_batch_shape shape = {.n_blocks = blocks,
                                   .blocks = {0, blocks},
                                   .slots = (size_t)atoi(a[8]),
                                   .views = (size_t)atoi(a[9])};
    const sim_net_spec spec = {.encoder = &e,
                               .batchnorm = &bn,
                               .h = (size_t)atoi(a[12]),
                               .w = (size_t)atoi(a[13]),
                               .c = (size_t)atoi(a[14])};
    size_t images = sim_batch_images(&shape), floats = spec.h * spec.w * spec.c;

    SIM_TRY(sim_h5_open_read(a[1], &f.in));
    SIM_TRY(sim_h5_create_image((size_t)1 << 30, &f.out));
    SIM_TRY(sim_backbone_create(&spec, &net));
    const sim_visitor load = {fill, &f}, store = {save, &f};
    SIM_TRY(sim_net_visit(net, "weights/encoder", &load));
    size_t dim = sim_net_dim(net);
    SIM_TRY(sim_alloc(&x, images * floats, "test/net"));
    SIM_TRY(sim_alloc(&dy, images * dim, "test/net"));
    SIM_TRY(sim_alloc(&y, images * dim, "test/net"));
    SIM_TRY(sim_alloc(&grads, sim_net_parameters(net), "test/net"));
    SIM_TRY(sim_h5_read(f.in, "/x", SIM_F32, 0, SIM_H5_ALL, x, images * floats));
    SIM_TRY(sim_h5_read(f.in, "/dy", SIM_F32, 0, SIM_H5_ALL, dy, images * dim));
    SIM_TRY(sim_tape_create(net, &shape, &sim_reducer_local, true, &tape));
    sim_net_forward(tape, x, y);
    sim_net_backward(tape, dy, NULL, grads, sim_net_parameters(net));
    const sim_tensor t = {.type = SIM_F32, .n_dims = 2, .dims = {images, dim}, .data = y};
    SIM_TRY(sim_h5_write(f.out, "/y", &t));
    SIM_TRY(save_gradients(&f, net, grads));
    SIM_TRY(sim_net_visit(net, "weights/encoder", &store));
    SIM_TRY(sim_h5_image(f.out, &image, &n_bytes));
    const sim_piece piece = {image, n_bytes};
    SIM_TRY(sim_file_replace(a[2], &piece, 1));
done:
    sim_tape_destroy(&tape);
    sim_net_destroy(&net);
    sim_free(x);
    sim_free(dy);
    sim_free(y);
    sim_free(grads);
    sim_h5_close(&f.in);
    sim_h5_close(&f.out);
    return st;
}

int main(int argc, char **argv)
{
    if (argc != 15)
        return 64;
    sim_status st = run(argv);
    if (st != SIM_OK)
        (void)fprintf(stderr, "tool_net: %s\n", sim_error_message());
    return (int)st;
}
