/*
 * resume.c - what state a run starts from, and saving it.
 *
 * Fresh weights, weights from a file, or the newest good checkpoint whose identity is the
 * job's; anything else is refused with the keys that differ.
 */
#include "state.h"

#include "simile/clock.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

static sim_status visit_method(void *object, const sim_visitor *v)
{
    sim_train_state *t = object;
    return t->method.row->visit(t->method.self, v);
}

static sim_status visit_optimizer(void *object, const sim_visitor *v)
{
    sim_train_state *t = object;
    return sim_optimizer_visit(t->optimizer, v);
}

/* The guard's counts and the sums of the interval under way. */
static sim_status visit_interval(void *object, const sim_visitor *v)
{
    sim_status st = SIM_OK;
    sim_train_state *t = object;
    const sim_tensor sums = {.name = "interval",
                             .type = SIM_F64,
                             .n_dims = 1,
                             .dims = {SIM_SUMS},
                             .data = t->sums};

    SIM_TRY(sim_visit_i64(v, "train", "skipped", &t->at.skipped));
    SIM_TRY(sim_visit_i64(v, "train", "bad_run", &t->at.bad_run));
    SIM_TRY(sim_visit(v, "train", &sums));
done:
    return st;
}

size_t sim_resume_sources(sim_train_state *t, sim_state_source out[4])
{
    out[0] = (sim_state_source){visit_method, t};
    out[1] = (sim_state_source){visit_optimizer, t};
    out[2] = (sim_state_source){visit_interval, t};
    return 3;
}

/* The job's identity with what it does not say: the data and the arithmetic. */
static sim_status full_identity(const sim_train_state *t, char **out)
{
    return sim_text_format("train/identity", out, "%sarithmetic: %s\nfingerprint: %s\n",
                           t->request->identity, t->request->arithmetic,
                           sim_dataset_about(t->data)->fingerprint);
}

/* Length of the line's key, and whether `text` has the very same line. */
static bool has_line(const char *text, const char *line, size_t n)
{
    for (const char *at = text; (at = strstr(at, ": ")) != NULL; at += 2) {
        const char *start = at;
        while (start > text && start[-1] != '\n')
            start--;
        const char *end = strchr(start, '\n');
        size_t m = end ? (size_t)(end - start) : strlen(start);
        if (m == n && memcmp(start, line, n) == 0)
            return true;
    }
    return false;
}

/* Appends the lines of `a` that `b` lacks, marked, up to the room there is. */
static size_t list_missing(const char *a, const char *b, const char *mark, char *out,
                           size_t used, size_t out_bytes)
{
    for (const char *line = a; *line;) {
        const char *end = strchr(line, '\n');
        size_t n = end ? (size_t)(end - line) : strlen(line);
        if (n && !has_line(b, line, n) && used < out_bytes) {
            int k =
                snprintf(out + used, out_bytes - used, "\n  %s %.*s", mark, (int)n, line);
            used += k > 0 ? (size_t)k : 0;
        }
        line += end ? n + 1 : n;
    }
    return used < out_bytes ? used : out_bytes - 1;
}

static sim_status same_identity(const sim_train_state *t, const sim_checkpoint *k)
{
    sim_status st = SIM_OK;
    char *mine = NULL;
    char differ[2048] = "";
    const char *theirs = sim_checkpoint_head_of(k)->identity;

    SIM_TRY(full_identity(t, &mine));
    if (strcmp(mine, theirs) == 0)
        goto done;
    size_t used = list_missing(theirs, mine, "checkpoint:", differ, 0, sizeof differ);
    (void)list_missing(mine, theirs, "this job:  ", differ, used, sizeof differ);
    SIM_FAIL(
        SIM_E_CONFIG,
        "%s is of another run; its identity differs in%s\nUse another run directory, or "
        "put these keys back",
        sim_checkpoint_path(k), differ);
done:
    sim_free(mine);
    return st;
}

static sim_status load(sim_train_state *t, const sim_checkpoint *k)
{
    sim_status st = SIM_OK;
    sim_state_source sources[4];
    const sim_checkpoint_head *head = sim_checkpoint_head_of(k);
    size_t n = sim_resume_sources(t, sources);

    SIM_TRY(same_identity(t, k));
    SIM_TRY(sim_checkpoint_load(k, sources, n));
    t->at.step = head->step;
    t->at.epoch = head->epoch;
    t->at.samples = head->samples;
    SIM_TRY(sim_text_copy(head->history, "train/history", &t->history));
    sim_log("resumed from %s: step %lld, epoch %lld, %lld images of it",
            sim_checkpoint_path(k), (long long)head->step, (long long)head->epoch,
            (long long)head->samples);
done:
    return st;
}

static sim_status load_init(sim_train_state *t)
{
    sim_status st = SIM_OK;
    sim_state_source source = {visit_method, t};
    size_t missing = 0;

    if (!t->request->init)
        goto done;
    SIM_TRY(sim_weights_load(t->request->init, &source, 1, &missing));
    sim_log("initial weights from %s", t->request->init);
    if (missing)
        sim_log("%zu tensors beside the encoder are not in it and start as drawn",
                missing);
done:
    return st;
}

static sim_status find(sim_train_state *t, sim_checkpoint **k)
{
    sim_status st = SIM_OK;

    if (t->request->resume == SIM_RESUME_FILE) {
        SIM_TRY(sim_checkpoint_open(t->comm, t->request->resume_file, k));
        goto done;
    }
    SIM_TRY(sim_checkpoint_newest(t->comm, t->run.path, k));
    SIM_CHECK(
        !*k || t->request->resume == SIM_RESUME_AUTO, SIM_E_CREATE,
        "%s already holds %s, but --resume never was given; use another run directory",
        t->run.path, sim_checkpoint_path(*k));
done:
    return st;
}

sim_status sim_resume_start(sim_train_state *t)
{
    sim_status st = SIM_OK;
    sim_checkpoint *k = NULL;

    SIM_TRY(find(t, &k));
    st = k ? load(t, k) : load_init(t);
    SIM_TRY(sim_comm_agree(t->comm, st));
    t->method.row->updated(t->method.self);
    t->start_step = t->last_saved = t->at.step;
    if (!k)
        SIM_TRY(sim_resume_save(t, "started"));
done:
    sim_checkpoint_close(&k);
    return st;
}

sim_status sim_resume_save(sim_train_state *t, const char *why)
{
    sim_status st = SIM_OK;
    sim_state_source sources[4];
    char *identity = NULL, *history = NULL;
    sim_checkpoint_head head = {.step = t->at.step,
                                .epoch = t->at.epoch,
                                .samples = t->at.samples,
                                .config = t->request->resolved};
    double start = sim_clock_s();

    st = full_identity(t, &identity);
    if (st == SIM_OK)
        st = sim_history_text(t, why, &history);
    SIM_TRY(sim_comm_agree(t->comm, st));
    head.identity = identity;
    head.history = history;
    memcpy(head.fingerprint, sim_dataset_about(t->data)->fingerprint,
           sizeof head.fingerprint);
    size_t n = sim_resume_sources(t, sources);
    SIM_TRY(sim_checkpoint_write(t->comm, &t->run, &t->job->train.checkpoint, &head,
                                 sources, n));
    t->last_saved = t->at.step;
done:
    sim_free(identity);
    sim_free(history);
    t->last_checkpoint_s = sim_clock_s();
    double took = t->last_checkpoint_s - start;
    t->phase_s[SIM_PHASE_CHECKPOINT] += took;
    if (took > t->slowest_checkpoint_s)
        t->slowest_checkpoint_s = took;
    return st;
}

sim_status sim_resume_save_due(sim_train_state *t)
{
    const int64_t most = t->job->train.checkpoint.max_failures;
    sim_status st = sim_resume_save(t, "running");

    if (st == SIM_OK) {
        t->failed_saves = 0;
        return st;
    }
    if (++t->failed_saves > most) {
        sim_story_prefix("step %lld: checkpoint %lld in a row that failed, older ones "
                         "stand: ",
                         (long long)t->at.step, (long long)t->failed_saves);
        return st;
    }
    sim_log_warn(
        "step %lld: no checkpoint: %s; training goes on, older checkpoints stand "
        "(failure %lld in a row, %lld are let pass)",
        (long long)t->at.step, sim_story(), (long long)t->failed_saves, (long long)most);
    sim_story_clear();
    return SIM_OK;
}

sim_status sim_resume_save_last(sim_train_state *t, const char *why)
{
    sim_status st = sim_resume_save(t, why);
    if (st != SIM_OK)
        sim_story_prefix("step %lld: the last checkpoint failed, so a new start goes on "
                         "from an older one: ",
                         (long long)t->at.step);
    return st;
}
