/*
 * online.c - evaluations during training: opens the test set, and runs the rows of online.def at the
 * ends of epochs.
 *
 * In: the networks in training with their running statistics, and the data sets of the job.
 * Out: a record for each evaluation.
 * Called by: the training loop, as a callback, on every rank.
 * Invariant: training is not changed by a bit, and a result equals that of `simile evaluate` on a
 * checkpoint of the same step.
 */
#include "online.h"

#include "simile/clock.h"
#include "simile/log.h"
#include "simile/memory.h"
#include "simile/report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const sim_online_eval_row *const rows[] = {
#define SIM_ONLINE(name) &sim_online_##name,
#include "online.def"
#undef SIM_ONLINE
};
enum { ROWS = sizeof rows / sizeof rows[0] };

struct sim_online_eval {
    const sim_job *job;
    sim_evaluate_options options;
    bool on[ROWS];
    sim_dataset_info train; /* of data.train */
    sim_dataset *test;      /* NULL: data.train serves, without labels */
    sim_class_match match;
    bool has_match;
    int loader_threads;
    double score; /* of the last step, for checkpoint.keep_best; NaN: none */
};

/* The metric of each value of checkpoint.keep_best, and the evaluation that computes it. */
static const struct {
    const char *metric, *evaluation;
} scores[SIM_KEEP_CHOICES] = {[SIM_KEEP_KNN] = {"knn_top1", "knn"},
                              [SIM_KEEP_LINEAR] = {"linear_top1", "linear"},
                              [SIM_KEEP_CLASSIFIER] = {"classifier_top1", "classifier"},
                              [SIM_KEEP_RANKME] = {"rankme", "quality"}};

/* ---- creation ---- */

static bool is_on(const sim_online_eval_row *row, const sim_job *job,
                  const sim_evaluate_options *o)
{
    if (row->every_epochs(o) == 0)
        return false;
    return !row->classifier || (job->method->classifies && job->train.test[0]);
}

/* The first row that is on and needs at most these labels; NULL if there is none. */
static const sim_online_eval_row *find_row(const sim_online_eval *w, online_labels labels)
{
    for (size_t i = 0; i < ROWS; i++)
        if (w->on[i] && rows[i]->labels <= labels)
            return rows[i];
    return NULL;
}

static sim_status check_labels(const sim_online_eval_row *row, const sim_dataset *d,
                               const char *key)
{
    sim_status st = SIM_OK;
    const char *why = sim_dataset_unlabelled(d);

    SIM_CHECK(
        !row || sim_dataset_labels(d), SIM_E_CONFIG,
        "evaluate.%s: the evaluation requires labels, but %s (%s) has none%s%s; use "
        "a data set with labels, or set evaluate.%s=0",
        row->key, sim_dataset_path(d), key, why ? ": " : "", why ? why : "", row->key);
done:
    return st;
}

static sim_status check_score(const sim_online_eval *w)
{
    sim_status st = SIM_OK;
    const char *wanted = scores[w->job->train.keep_best].evaluation;
    size_t i = 0;

    if (!wanted)
        goto done;
    while (strcmp(rows[i]->name, wanted) != 0)
        i++;
    SIM_CHECK(w->on[i], SIM_E_CONFIG,
              "checkpoint.keep_best: the evaluation %s is off; set evaluate.%s%s, or "
              "checkpoint.keep_best=off",
              wanted, rows[i]->key,
              rows[i]->classifier ? " and data.test, with method.name: supervised" : "");
done:
    return st;
}

static sim_status check_pictures(const sim_online_eval *w)
{
    sim_status st = SIM_OK;
    for (size_t i = 0; i < ROWS && st == SIM_OK; i++)
        if (w->on[i] && rows[i]->draws && (st = sim_grid_check()) != SIM_OK)
            sim_error_prefix("evaluate.%s: ", rows[i]->key);
    return st;
}

/* test NULL: data.test is not set. */
static sim_status check_sets(const sim_online_eval *w, const sim_dataset *train,
                             const sim_dataset *test)
{
    sim_status st = SIM_OK;
    const sim_online_eval_row *labelled = find_row(w, ONLINE_TEST_LABELS);
    const sim_preprocessing p =
        sim_preprocessing_of((size_t)w->job->augment.size, sim_dataset_about(train));

    SIM_TRY(check_pictures(w));
    SIM_CHECK(
        test || !labelled, SIM_E_CONFIG,
        "evaluate.%s: the evaluation requires data.test, a data set with labels, but it "
        "is not set; set data.test, or evaluate.%s=0",
        labelled->key, labelled->key);
    SIM_TRY(check_labels(find_row(w, ONLINE_BOTH_LABELS), train, "data.train"));
    if (test && find_row(w, ONLINE_NO_LABELS)) {
        SIM_TRY(check_labels(labelled, test, "data.test"));
        SIM_TRY(sim_preprocessing_check(&p, test));
    }
done:
    return st;
}

static sim_online_eval select_rows(const sim_job *job,
                                   const sim_evaluate_options *options)
{
    sim_online_eval w = {.job = job,
                         .options = *options,
                         .loader_threads = (int)job->train.loader_threads};
    for (size_t i = 0; i < ROWS; i++)
        w.on[i] = is_on(rows[i], job, options);
    return w;
}

sim_status sim_online_eval_check(const sim_job *job, const sim_evaluate_options *options,
                                 const sim_dataset *train, const sim_dataset *test)
{
    sim_status st = SIM_OK;
    const sim_online_eval w = select_rows(job, options);

    SIM_TRY(check_score(&w));
    SIM_TRY(check_sets(&w, train, test));
done:
    return st;
}

static sim_status open_sets(sim_online_eval *w, sim_dataset **train)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_job_open_train(w->job, train));
    w->train = *sim_dataset_about(*train);
    SIM_TRY(sim_job_open_test(w->job, &w->test));
    SIM_TRY(check_sets(w, *train, w->test));
    if (find_row(w, ONLINE_TEST_LABELS)) {
        const sim_labelled_set bank = sim_labelled_set_of(*train),
                               queries = sim_labelled_set_of(w->test);
        SIM_TRY(sim_classes_match(&bank, &queries, &w->match));
        w->has_match = true;
    }
done:
    return st;
}

sim_status sim_online_eval_create(const sim_job *job, const sim_evaluate_options *options,
                                  sim_online_eval **out)
{
    sim_status st = SIM_OK;
    sim_online_eval *w = NULL;
    sim_dataset *train = NULL;

    SIM_TRY(sim_new(&w, "eval/online"));
    *w = select_rows(job, options);
    SIM_TRY(check_score(w));
    if (!find_row(w, ONLINE_NO_LABELS))
        goto done;
    SIM_TRY(open_sets(w, &train));
    *out = w;
    w = NULL;
done:
    sim_dataset_close(&train); /* the loop opens it too */
    sim_online_eval_destroy(&w);
    return st;
}

void sim_online_eval_destroy(sim_online_eval **w)
{
    if (!*w)
        return;
    sim_dataset_close(&(*w)->test);
    sim_class_match_clear(&(*w)->match);
    SIM_FREE(*w);
}

/* ---- memory plan ---- */

static size_t held_bytes(const sim_online_eval *w)
{
    if (!w->test)
        return 0;
    const sim_dataset_info *test = sim_dataset_about(w->test);
    return test->n_images * ((test->has_labels ? 2 * sizeof(int32_t) : 0) +
                             sizeof(sim_hash) + (test->encoded ? sizeof(uint64_t) : 0));
}

static sim_status plan_encoder(const sim_online_eval *w, size_t *bytes,
                               sim_workspace_size *workspace)
{
    sim_status st = SIM_OK;
    const sim_job *job = w->job;
    const sim_preprocessing p =
        sim_preprocessing_of((size_t)job->augment.size, &w->train);
    sim_net_spec spec = {.encoder = &job->encoder, .batchnorm = &job->batchnorm};
    sim_evaluator_bytes network;
    sim_patches cut;

    SIM_TRY(sim_patches_of(job->method->model(&job->method_options).grid, p.h, p.w, p.c,
                           &cut));
    spec.c = p.c;
    spec.h = cut.patch_h;
    spec.w = cut.patch_w;
    SIM_TRY(sim_evaluator_plan(&spec, &network, workspace));
    *bytes = network.evaluator +
             sim_embed_bytes(&cut, sim_backbone_dim(&job->encoder), w->loader_threads);
done:
    return st;
}

sim_status sim_online_eval_plan(const sim_online_eval *w, sim_partition partition,
                                size_t *held, size_t *peak, sim_workspace_size *workspace)
{
    sim_status st = SIM_OK;
    online_sizes s = {.options = &w->options,
                      .partition = partition,
                      .dim = sim_backbone_dim(&w->job->encoder),
                      .n_train = w->train.n_images,
                      .n_test = w->test ? sim_dataset_about(w->test)->n_images
                                        : w->train.n_images,
                      .n_classes = w->match.n_classes};
    const sim_range bank = sim_embed_local(s.partition, s.n_train);
    const sim_range queries = sim_embed_local(s.partition, s.n_test);

    *held = held_bytes(w);
    SIM_TRY(plan_encoder(w, &s.embedding, workspace));
    *peak = 0;
    for (size_t i = 0; i < ROWS; i++)
        if (w->on[i])
            *peak = larger_of(*peak, rows[i]->bytes(&s));
    if (find_row(w, ONLINE_BOTH_LABELS))
        *peak +=
            (bank.hi - bank.lo) * s.dim * sizeof(float) + s.n_train * sizeof(int32_t);
    if (find_row(w, ONLINE_TEST_LABELS))
        *peak += (queries.hi - queries.lo) * s.dim * sizeof(float);
done:
    return st;
}

/* ---- features ---- */

static void drop_features(online_step *s)
{
    SIM_FREE(s->train);
    SIM_FREE(s->train_labels);
    s->n_train = 0;
}

/* Local. */
static sim_status copy_labels(online_step *s, size_t n_train)
{
    sim_status st = SIM_OK;
    const sim_labelled_set *train = &s->in.train;

    SIM_TRY(sim_alloc(&s->train_labels, n_train, "eval/labels"));
    for (size_t i = 0; i < n_train; i++)
        s->train_labels[i] = train->labels[sim_sample_image(train->n, n_train, i)];
done:
    return st;
}

sim_status sim_online_eval_test_features(online_step *s, const float **test)
{
    sim_status st = SIM_OK;

    if (!s->test)
        SIM_TRY(sim_evaluation_features(s->comm, &s->in, &s->in.test, NULL, &s->test));
    *test = s->test;
done:
    return st;
}

sim_status sim_online_eval_features(online_step *s, size_t n_train,
                                    sim_labelled_features *train,
                                    sim_labelled_features *test)
{
    sim_status st = SIM_OK;
    const size_t all = s->in.train.n, n = n_train && n_train < all ? n_train : all;
    const sim_embed_choice choice = {.n_images = n < all ? n : 0};
    const float *test_features = NULL;

    if (s->n_train != n) {
        drop_features(s);
        SIM_TRY(sim_comm_agree(s->comm, copy_labels(s, n)));
        SIM_TRY(
            sim_evaluation_features(s->comm, &s->in, &s->in.train, &choice, &s->train));
        s->n_train = n;
    }
    SIM_TRY(sim_online_eval_test_features(s, &test_features));
    *train = (sim_labelled_features){n, s->train, s->train_labels};
    *test = (sim_labelled_features){s->in.test.n, test_features, s->in.match->labels};
done:
    return st;
}

/* ---- a step ---- */

/* An embedder with the networks in training, which are borrowed. */
static sim_status borrow_networks(const sim_train_state *t, sim_embedder *out)
{
    sim_status st = SIM_OK;
    const sim_job *job = sim_train_job(t);
    const sim_method *m = sim_train_method(t);
    const sim_preprocessing *p = sim_train_preprocessing(t);
    const sim_model *model = m->row->networks(m->self);
    sim_embedder e = {.preprocessing = *p};

    SIM_TRY(sim_patches_of(job->method->model(&job->method_options).grid, p->h, p->w,
                           p->c, &e.cut));
    e.backbone = model->net[SIM_BACKBONE];
    e.projector = model->net[SIM_CLASSIFIER];
    *out = e;
done:
    return st;
}

static sim_status publish(sim_online_eval *w, const sim_online_eval_row *row,
                          online_step *s, const sim_train_state *t, int64_t epochs,
                          sim_stream *stream)
{
    static const sim_metric epoch = {.name = "epoch", .format = SIM_FORMAT_INT},
                            elapsed = {.name = "elapsed_s", .format = SIM_FORMAT_FIXED};
    sim_status st = SIM_OK;
    const char *scored = scores[w->job->train.keep_best].metric;
    const double start = sim_clock_s();
    sim_record record = {.kind = SIM_RECORD_EVALUATION,
                         .protocol = row->name,
                         .test = sim_dataset_about(s->in.test.data)->fingerprint,
                         .step = sim_train_step(t)};
    char result[SIM_RECORD_TEXT_BYTES];

    sim_record_add(&record, &epoch, (double)epochs);
    st = row->run(s, &record);
    if (st ==
        SIM_E_DATA) { /* such as features that are not finite; training may recover */
        sim_log_warn("step %lld: evaluation %s failed: %s", (long long)record.step,
                     row->name, sim_error_message());
        sim_error_clear();
        return SIM_OK;
    }
    SIM_TRY(st);
    if (scored && strcmp(scores[w->job->train.keep_best].evaluation, row->name) == 0)
        w->score = sim_record_value(&record, scored);
    sim_record_add(&record, &elapsed, sim_train_elapsed_s(t));
    memcpy(result, record.text, sizeof result);
    (void)snprintf(record.text, sizeof record.text,
                   "step %lld epoch %lld: %.200s (%.1f s)", (long long)record.step,
                   (long long)epochs, result, sim_clock_s() - start);
    SIM_TRY(sim_stream_publish(stream, &record));
done:
    SIM_FREE(s->png);
    return st;
}

static bool is_due(const sim_online_eval *w, size_t row, int64_t epochs)
{
    return w->on[row] && epochs % rows[row]->every_epochs(&w->options) == 0;
}

static sim_status after_step(void *ctx, const sim_train_state *t, sim_stream *stream)
{
    sim_status st = SIM_OK;
    sim_online_eval *w = ctx;
    sim_embedder e;
    online_step s = {.comm = sim_train_comm(t), .options = &w->options};
    int64_t epochs = 0;

    w->score = (double)NAN;
    if (!sim_train_epoch_ended(t, &epochs))
        goto done;
    SIM_TRY(borrow_networks(t, &e));
    s.in = (sim_evaluation_inputs){
        .embedder = &e,
        .job = w->job,
        .train = sim_labelled_set_of(sim_train_data(t)),
        .test = sim_labelled_set_of(w->test ? w->test : sim_train_data(t)),
        .match = w->has_match ? &w->match : NULL,
        .loader_threads = w->loader_threads};
    for (size_t i = 0; i < ROWS; i++)
        if (is_due(w, i, epochs))
            SIM_TRY(publish(w, rows[i], &s, t, epochs, stream));
done:
    drop_features(&s);
    sim_free(s.test);
    return st;
}

static double score_of(const void *ctx)
{
    return ((const sim_online_eval *)ctx)->score;
}

sim_status sim_online_eval_compare(const sim_comm *c, const sim_online_eval *w)
{
    return w->test ? sim_job_compare_data(c, w->test) : SIM_OK;
}

sim_train_callback sim_online_eval_callback(sim_online_eval *w)
{
    return (sim_train_callback){.ctx = w, .after_step = after_step, .score = score_of};
}
