/*
 * visit.c - visits a net's tensors, named as in torch's state_dict.
 */
#include "net.h"

#include <float.h>
#include <stdio.h>
#include <string.h>

typedef enum { WEIGHTS = 1, BUFFERS = 2 } parts;

static sim_status visit_weight(sim_net *net, size_t i, const char *group,
                               const sim_visitor *v)
{
    const sim_net_tensor *w = &net->tensors[i];
    sim_tensor t = {.name = w->name,
                    .type = SIM_F32,
                    .n_dims = w->n_dims,
                    .data = net->weights + w->offset};
    memcpy(t.dims, w->dims, sizeof t.dims);
    return sim_visit(v, group, &t);
}

static sim_status visit_running(sim_net *net, const node *n, const char *group,
                                const sim_visitor *v)
{
    sim_status st = SIM_OK;
    char name[80];
    float *mean = net->running + n->running;

    (void)snprintf(name, sizeof name, "%s.running_mean", n->name);
    SIM_TRY(sim_visit_f32(v, group, name, n->c, mean));
    (void)snprintf(name, sizeof name, "%s.running_var", n->name);
    const sim_tensor variance = {.name = name,
                                 .type = SIM_F32,
                                 .n_dims = 1,
                                 .dims = {n->c},
                                 .data = mean + n->c,
                                 .bounded = true,
                                 .most = FLT_MAX};
    SIM_TRY(sim_visit(v, group, &variance));
    (void)snprintf(name, sizeof name, "%s.num_batches_tracked", n->name);
    SIM_TRY(sim_visit_count(v, group, name, SIM_MAX_COUNT, &net->batches[n->counter]));
done:
    return st;
}

static sim_status visit(sim_net *net, const char *group, const sim_visitor *v, int which)
{
    sim_status st = SIM_OK;
    size_t next = 0;

    for (int i = 0; i < net->n_nodes; i++) {
        const node *n = &net->nodes[i];
        for (size_t own = 0; own < n->n_tensors; own++, next++)
            if (which & WEIGHTS)
                SIM_TRY(visit_weight(net, next, group, v));
        if (n->has_running && (which & BUFFERS))
            SIM_TRY(visit_running(net, n, group, v));
    }
done:
    return st;
}

sim_status sim_net_visit(sim_net *net, const char *group, const sim_visitor *v)
{
    return visit(net, group, v, WEIGHTS | BUFFERS);
}

sim_status sim_net_visit_buffers(sim_net *net, const char *group, const sim_visitor *v)
{
    return visit(net, group, v, BUFFERS);
}

sim_status sim_net_visit_weights(sim_net *net, const char *group, const sim_visitor *v)
{
    return visit(net, group, v, WEIGHTS);
}
