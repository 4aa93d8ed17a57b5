/*
 * observe_knn.c - kNN accuracy of the encoder during training.
 *
 * In: the encoder in training with its running statistics, and the two data sets of the job.
 * Out: a record with the accuracy.
 * Called by: the training loop, as a callback, at the ends of epochs, on every rank.
 * Invariant: training is not changed by a bit, and the result equals that of
 * `simile evaluate knn` on a checkpoint of the same step.
 */
#include "simile/eval.h"

#include "simile/clock.h"
#include "simile/hash.h"
#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

static const sim_option rows[] = {
    {.name = "knn_every_epochs",
     .type = SIM_OPTION_INT,
     .offset = offsetof(sim_evaluate_options, knn_every_epochs),
     .max = 1000000,
     .fallback = "0",
     .unit = "epochs",
     .help =
         "kNN of data.test against data.train during training, both with labels; 0: off",
     .kind = SIM_FREE_KEY},
    {.name = "k",
     .type = SIM_OPTION_INT,
     .offset = offsetof(sim_evaluate_options, knn.k),
     .min = 1,
     .max = 1000000,
     .fallback = "200",
     .unit = "images",
     .help = "neighbours that vote, clipped to the bank",
     .kind = SIM_FREE_KEY},
    {.name = "temperature",
     .type = SIM_OPTION_REAL,
     .offset = offsetof(sim_evaluate_options, knn.temperature),
     .min = 0.001,
     .max = 100,
     .fallback = "0.1",
     .unit = "",
     .help = "the vote of a neighbour has the weight exp(similarity / temperature)",
     .kind = SIM_FREE_KEY},
};

const sim_option_table sim_evaluate_table = {.section = "evaluate",
                                             .rows = rows,
                                             .n_rows = sizeof rows / sizeof rows[0],
                                             .struct_bytes =
                                                 sizeof(sim_evaluate_options)};

struct sim_online_knn {
    sim_evaluate_options options;
    sim_dataset *test;
    sim_class_match match;
    int loader_threads;
};

static sim_status check_labels(const sim_dataset *d, const char *key)
{
    sim_status st = SIM_OK;
    SIM_CHECK(
        sim_dataset_labels(d), SIM_E_CONFIG,
        "evaluate.knn_every_epochs: kNN requires labels, but %s (%s) has none; use a "
        "data set with labels, or set evaluate.knn_every_epochs=0",
        sim_dataset_path(d), key);
done:
    return st;
}

sim_status sim_knn_inputs(const sim_job *job, sim_dataset **train, sim_dataset **test)
{
    sim_status st = SIM_OK;
    SIM_CHECK(
        job->train.test[0], SIM_E_CONFIG,
        "evaluate.knn_every_epochs: kNN requires data.test, a data set with labels, "
        "but it is not set; set data.test, or evaluate.knn_every_epochs=0");
    SIM_TRY(sim_dataset_open(job->train.train, train));
    SIM_TRY(sim_dataset_open(job->train.test, test));
    SIM_TRY(check_labels(*train, "data.train"));
    SIM_TRY(check_labels(*test, "data.test"));
    const sim_preprocessing p =
        sim_preprocessing_of((size_t)job->augment.size, sim_dataset_about(*train));
    SIM_TRY(sim_preprocessing_check(&p, *test));
done:
    return st;
}

sim_status sim_online_knn_create(const sim_job *job, const sim_evaluate_options *options,
                                 sim_online_knn **out)
{
    sim_status st = SIM_OK;
    sim_online_knn *w = NULL;
    sim_dataset *train = NULL;

    if (options->knn_every_epochs == 0)
        goto done;
    SIM_TRY(sim_new(&w, "eval/watch"));
    w->options = *options;
    w->loader_threads = (int)job->train.loader_threads;
    SIM_TRY(sim_knn_inputs(job, &train, &w->test));
    const sim_labelled_set bank = sim_labelled_set_of(train),
                           queries = sim_labelled_set_of(w->test);
    SIM_TRY(sim_classes_match(&bank, &queries, &w->match));
    *out = w;
    w = NULL;
done:
    sim_dataset_close(&train); /* the loop opens it too */
    sim_online_knn_destroy(&w);
    return st;
}

void sim_online_knn_destroy(sim_online_knn **w)
{
    if (!*w)
        return;
    sim_dataset_close(&(*w)->test);
    sim_class_match_clear(&(*w)->match);
    SIM_FREE(*w);
}

sim_status sim_online_knn_plan(const sim_job *job, const sim_evaluate_options *options,
                               const sim_dataset_info *train,
                               const sim_dataset_info *test, size_t ranks, size_t rank,
                               size_t *held, size_t *peak, sim_workspace_size *workspace)
{
    sim_status st = SIM_OK;
    const sim_partition part = {.size = ranks, .rank = rank};
    const sim_range bank = sim_embed_local(part, train->n_images);
    const sim_range queries = sim_embed_local(part, test->n_images);
    size_t dim = sim_backbone_dim(&job->encoder);
    sim_net_spec spec = {.encoder = &job->encoder, .batchnorm = &job->batchnorm};
    const sim_preprocessing p = sim_preprocessing_of((size_t)job->augment.size, train);
    sim_patches cut;
    size_t evaluator = 0;

    *held = *peak = 0;
    if (options->knn_every_epochs == 0)
        goto done;
    SIM_TRY(sim_patches_of(job->method->model(&job->method_options).grid, p.h, p.w, p.c,
                           &cut));
    spec.c = p.c;
    spec.h = cut.patch_h;
    spec.w = cut.patch_w;
    SIM_TRY(sim_evaluator_plan(&spec, &evaluator, workspace));
    *held = test->n_images * (2 * sizeof(int32_t) + sizeof(sim_hash) +
                              (test->encoded ? sizeof(uint64_t) : 0));
    size_t views = evaluator + sim_embed_bytes(&cut, dim, (int)job->train.loader_threads);
    size_t search =
        sim_knn_bytes(part, &options->knn, 1, dim, train->n_images, test->n_images);
    *peak = (views > search ? views : search) +
            (bank.hi - bank.lo + queries.hi - queries.lo) * dim * sizeof(float);
done:
    return st;
}

const sim_dataset *sim_online_knn_test(const sim_online_knn *w)
{
    return w ? w->test : NULL;
}

/* An embedder with the encoder in training, which is borrowed. */
static sim_status borrow_encoder(const sim_train_state *t, sim_embedder *out)
{
    sim_status st = SIM_OK;
    const sim_job *job = sim_train_job(t);
    const sim_method *m = sim_train_method(t);
    const sim_preprocessing *p = sim_train_preprocessing(t);
    sim_embedder e = {.preprocessing = *p};

    SIM_TRY(sim_patches_of(job->method->model(&job->method_options).grid, p->h, p->w,
                           p->c, &e.cut));
    e.backbone = m->row->networks(m->self)->net[SIM_BACKBONE];
    *out = e;
done:
    return st;
}

static sim_status publish_result(const sim_online_knn *w, const sim_train_state *t,
                                 const sim_knn_result *r, int64_t epochs, double took_s,
                                 sim_stream *stream)
{
    static const sim_metric epoch = {.name = "epoch", .format = SIM_FORMAT_INT},
                            top1 = {.name = "knn_top1", .format = SIM_FORMAT_FIXED},
                            top5 = {.name = "knn_top5", .format = SIM_FORMAT_FIXED},
                            k = {.name = "knn_k", .format = SIM_FORMAT_INT},
                            elapsed = {.name = "elapsed_s", .format = SIM_FORMAT_FIXED};
    sim_record record = {.kind = SIM_RECORD_EVALUATION,
                         .protocol = "knn",
                         .test = sim_dataset_about(w->test)->fingerprint,
                         .step = sim_train_step(t)};

    sim_record_add(&record, &epoch, (double)epochs);
    sim_record_add(&record, &top1, r->top1);
    sim_record_add(&record, &top5, r->top5);
    sim_record_add(&record, &k, (double)r->k);
    sim_record_add(&record, &elapsed, sim_train_elapsed_s(t));
    (void)snprintf(
        record.text, sizeof record.text,
        "step %lld epoch %lld: kNN top-1 %.2f %%, top-5 %.2f %% of %lld test images "
        "(k %lld, T %g; %.1f s)",
        (long long)record.step, (long long)epochs, 100 * r->top1, 100 * r->top5,
        (long long)r->n_test, (long long)r->k, w->options.knn.temperature, took_s);
    return sim_stream_publish(stream, &record);
}

static sim_status after_step(void *ctx, const sim_train_state *t, sim_stream *stream)
{
    sim_status st = SIM_OK;
    const sim_online_knn *w = ctx;
    sim_embedder e;
    sim_knn_result r;
    int64_t epochs = 0;
    double start = sim_clock_s();

    if (!sim_train_epoch_ended(t, &epochs) || epochs % w->options.knn_every_epochs != 0)
        goto done;
    SIM_TRY(borrow_encoder(t, &e));
    const sim_evaluation_inputs in = {.embedder = &e,
                                      .train = sim_labelled_set_of(sim_train_data(t)),
                                      .test = sim_labelled_set_of(w->test),
                                      .match = &w->match,
                                      .loader_threads = w->loader_threads};
    SIM_TRY(sim_knn_of(sim_train_comm(t), &w->options.knn, 1, &in, &r));
    SIM_TRY(publish_result(w, t, &r, epochs, sim_clock_s() - start, stream));
done:
    return st;
}

sim_train_callback sim_online_knn_callback(sim_online_knn *w)
{
    return (sim_train_callback){.ctx = w, .after_step = after_step};
}
