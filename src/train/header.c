/*
 * header.c - what the log says when a run starts.
 *
 * Written for whoever reads the log at night: what runs where, on what, how much of it.
 */
#include "state.h"

#include "simile/log.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <stdlib.h>

/* More threads than cores wait for each other at every loop: many times slower. */
static void warn_of_crowding(const sim_train_state *t)
{
    const char *local = getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
    long ranks = local ? strtol(local, NULL, 10) : t->comm->size;
    if (ranks * sim_threads() > sim_cores_allowed())
        sim_log_warn("%ld ranks x %d threads on %d cores of %s: many times slower; set "
                     "OMP_NUM_THREADS or threads",
                     ranks, sim_threads(), sim_cores_allowed(), t->comm->host);
}

static void print_data(const sim_train_state *t)
{
    const sim_dataset_info *d = sim_dataset_about(t->data);
    if (d->encoded)
        sim_log("data      %s: %zu photos, fingerprint %s", t->job->train.train,
                d->n_images, d->fingerprint);
    else
        sim_log("data      %s: %zu images of %zu x %zu x %zu, fingerprint %s",
                t->job->train.train, d->n_images, d->h, d->w, d->c, d->fingerprint);
}

static sim_status print_views(const sim_train_state *t)
{
    sim_status st = SIM_OK;
    char *one = NULL, *two = NULL;
    SIM_TRY(sim_augment_text(t->augment, 0, &one));
    SIM_TRY(sim_augment_text(t->augment, 1, &two));
    sim_log("view 1    %s", one);
    sim_log("view 2    %s", two);
done:
    sim_free(one);
    sim_free(two);
    return st;
}

static void print_schedule(const sim_train_state *t)
{
    const sim_schedule_plan *p = &t->plan;
    sim_log("batch     %lld images = %zu blocks of %lld, %zu views of %zu x %zu x %zu",
            (long long)t->job->train.batch, p->n_blocks, (long long)t->job->train.block,
            p->views, p->h, p->w, p->c);
    sim_log(
        "schedule  %lld steps, %zu an epoch (%zu images left over each epoch), warm-up "
        "%g steps, peak learning rate %g",
        (long long)p->total_steps, p->steps_per_epoch, p->left_over, p->warmup_steps,
        p->learning_rate);
}

static sim_status print_method(const sim_train_state *t)
{
    sim_status st = SIM_OK;
    char *about = NULL;
    SIM_TRY(t->method.row->about(t->method.self, &about));
    sim_log("method    %s: %s", t->method.row->name, about);
    sim_log("optimizer %s, %zu weights", sim_optimizer_about(t->optimizer),
            t->method.gradient_floats);
    sim_job_advise(t->job, &t->plan);
done:
    sim_free(about);
    return st;
}

sim_status sim_header_print(sim_train_state *t)
{
    sim_status st = SIM_OK;
    sim_log("%s", t->request->build);
    sim_log("run       %s on %s: %d rank%s x %d thread%s + %lld loading, kernels %s",
            t->run.path, t->comm->host, t->comm->size, t->comm->size == 1 ? "" : "s",
            sim_threads(), sim_threads() == 1 ? "" : "s",
            (long long)t->job->train.loader_threads, t->request->kernels);
    warn_of_crowding(t);
    print_data(t);
    SIM_TRY(print_views(t));
    print_schedule(t);
    SIM_TRY(print_method(t));
done:
    return st;
}
