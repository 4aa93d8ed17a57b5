/*
 * tool_context.c - the context net's forward and backward on inputs from a file, for
 * test_context.py.
 *
 *   tool_context IN.h5 OUT.h5 grid dim layers activation n_blocks slots
 * IN: /x, /dy [images][grid][grid][dim]; /weights/context.
 * OUT: /y, /dx, /grads/<tensor>: the sum over the blocks.
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

/* Values and gradients of a pass, [images][floats] each. */
typedef struct {
    float *x, *y, *dy, *dx, *grads;
} arrays;

static sim_status pass(const files *f, sim_net *net, const sim_batch_shape *shape,
                       arrays *a)
{
    sim_status st = SIM_OK;
    sim_tape *tape = NULL;
    size_t images = sim_batch_images(shape), floats = images * sim_net_dim(net);

    SIM_TRY(sim_alloc(&a->x, floats, "test/context"));
    SIM_TRY(sim_alloc(&a->y, floats, "test/context"));
    SIM_TRY(sim_alloc(&a->dy, floats, "test/context"));
    SIM_TRY(sim_alloc(&a->dx, floats, "test/context"));
    SIM_TRY(sim_alloc(&a->grads, sim_net_parameters(net), "test/context"));
    SIM_TRY(sim_h5_read(f->in, "/x", SIM_F32, 0, SIM_H5_ALL, a->x, floats));
    SIM_TRY(sim_h5_read(f->in, "/dy", SIM_F32, 0, SIM_H5_ALL, a->dy, floats));
    SIM_TRY(sim_tape_create(net, shape, &sim_reducer_local, true, &tape));
    sim_net_forward(tape, a->x, a->y);
    sim_net_backward(tape, a->dy, a->dx, a->grads, sim_net_parameters(net));
    const sim_tensor y = {
        .type = SIM_F32, .n_dims = 2, .dims = {images, sim_net_dim(net)}, .data = a->y};
    sim_tensor dx = y;
    dx.data = a->dx;
    SIM_TRY(sim_h5_write(f->out, "/y", &y));
    SIM_TRY(sim_h5_write(f->out, "/dx", &dx));
    SIM_TRY(save_gradients(f, net, a->grads));
done:
    sim_tape_destroy(&tape);
    return st;
}

static sim_status run(char **a)
{
    sim_status st = SIM_OK;
    files f = {0};
    sim_net *net = NULL;
    arrays all = {0};
    const void *image = NULL;
    size_t n_bytes = 0, blocks = (size_t)atoi(a[7]);
    const sim_context_spec spec = {.grid = (size_t)atoi(a[3]),
                                   .dim = (size_t)atoi(a[4]),
                                   .layers = atoi(a[5]),
                                   .activation = atoi(a[6])};
    const sim_batch_shape shape = {.n_blocks = blocks,
                                   .blocks = {0, blocks},
                                   .views = 1,
                                   .slots = (size_t)atoi(a[8])};

    SIM_TRY(sim_h5_open_read(a[1], &f.in));
    SIM_TRY(sim_h5_create_image((size_t)1 << 26, &f.out));
    SIM_TRY(sim_context_create(&spec, &net));
    const sim_visitor load = {fill, &f};
    SIM_TRY(sim_net_visit(net, "weights/context", &load));
    SIM_TRY(pass(&f, net, &shape, &all));
    SIM_TRY(sim_h5_image(f.out, &image, &n_bytes));
    const sim_piece piece = {image, n_bytes};
    SIM_TRY(sim_file_replace(a[2], &piece, 1));
done:
    sim_net_destroy(&net);
    sim_free(all.x);
    sim_free(all.y);
    sim_free(all.dy);
    sim_free(all.dx);
    sim_free(all.grads);
    sim_h5_close(&f.in);
    sim_h5_close(&f.out);
    return st;
}

int main(int argc, char **argv)
{
    if (argc != 9)
        return 64;
    sim_status st = run(argv);
    if (st != SIM_OK)
        (void)fprintf(stderr, "tool_context: %s\n", sim_error_message());
    return (int)st;
}
