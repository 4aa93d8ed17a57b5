/*
 * loader.c - threads that read and augment ahead of need.
 *
 * Lists of requests wait in a ring; each thread takes one image with its views at a time,
 * in any order, into fixed places.  Failures are kept per list; the first in list order is
 * told when the list is waited for.
 */
#include "private.h"

#include "simile/clock.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <stdio.h>
#include <string.h>

enum { LISTS = 4 };

typedef struct {
    sim_view_request *requests;
    size_t n;
    size_t next, done; /* first request not taken; requests finished */
    size_t failed;     /* index of the first failure, n: none */
    sim_status code;
    char story[512];
} list;

struct sim_loader {
    const sim_dataset *data;
    const sim_augment *augment;
    uint32_t seed;
    list lists[LISTS];
    size_t room;           /* requests of a list at most */
    size_t posted, waited; /* counts of lists */
    sim_mutex lock;
    sim_signal work, finished;
    bool stop;
    sim_thread *threads;
    int n_threads;
    double wait_s;
};

/* The first requests of a list that are of one image. */
static size_t same_image(const list *l, size_t from)
{
    size_t to = from + 1;
    while (to < l->n && l->requests[to].sample == l->requests[from].sample)
        to++;
    return to;
}

/* The oldest list with requests that nobody took; NULL when there is none. */
static list *open_list(sim_loader *l)
{
    for (size_t i = l->waited; i < l->posted; i++) {
        list *q = &l->lists[i % LISTS];
        if (q->next < q->n)
            return q;
    }
    return NULL;
}

static sim_status serve(const sim_loader *l, const sim_view_request *r, size_t n,
                        sim_image *image)
{
    sim_status st = SIM_OK;
    SIM_TRY(sim_dataset_read(l->data, r[0].sample, image));
    for (size_t i = 0; i < n; i++)
        SIM_TRY(sim_augment_view(l->augment, l->seed, r[i].sample, r[i].epoch, r[i].view,
                                 image, r[i].out));
done:
    return st;
}

static void note_failure(list *q, size_t at, sim_status code)
{
    if (at >= q->failed)
        return;
    q->failed = at;
    q->code = code;
    (void)snprintf(q->story, sizeof q->story, "%s", sim_error_message());
}

static void *work(void *ctx)
{
    sim_loader *l = ctx;
    sim_image image = {0};

    sim_mutex_lock(&l->lock);
    while (!l->stop) {
        list *q = open_list(l);
        if (!q) {
            sim_signal_wait(&l->work, &l->lock);
            continue;
        }
        size_t from = q->next, to = same_image(q, from);
        q->next = to;
        sim_mutex_unlock(&l->lock);
        sim_status st = serve(l, q->requests + from, to - from, &image);
        sim_mutex_lock(&l->lock);
        if (st != SIM_OK)
            note_failure(q, from, st);
        q->done += to - from;
        if (q->done == q->n)
            sim_signal_all(&l->finished);
    }
    sim_mutex_unlock(&l->lock);
    sim_free(image.pixels);
    return NULL;
}

sim_status sim_loader_create(const sim_dataset *d, const sim_augment *a, uint32_t seed,
                             int n_threads, size_t most, sim_loader **out)
{
    sim_status st = SIM_OK;
    sim_loader *l = NULL;

    SIM_TRY(sim_new(&l, "data/loader"));
    l->data = d;
    l->augment = a;
    l->seed = seed;
    l->room = most;
    sim_mutex_init(&l->lock);
    sim_signal_init(&l->work);
    sim_signal_init(&l->finished);
    for (size_t i = 0; i < LISTS; i++)
        SIM_TRY(sim_alloc(&l->lists[i].requests, most, "data/loader"));
    SIM_TRY(sim_alloc(&l->threads, (size_t)n_threads, "data/loader"));
    for (; l->n_threads < n_threads; l->n_threads++)
        SIM_TRY(sim_thread_start(&l->threads[l->n_threads], work, l));
    *out = l;
    l = NULL;
done:
    sim_loader_destroy(&l);
    return st;
}

void sim_loader_destroy(sim_loader **out)
{
    sim_loader *l = *out;
    if (!l)
        return;
    sim_mutex_lock(&l->lock);
    l->stop = true;
    sim_signal_all(&l->work);
    sim_mutex_unlock(&l->lock);
    for (int i = 0; i < l->n_threads; i++)
        sim_thread_join(&l->threads[i]);
    for (size_t i = 0; i < LISTS; i++)
        sim_free(l->lists[i].requests);
    sim_signal_destroy(&l->work);
    sim_signal_destroy(&l->finished);
    sim_mutex_destroy(&l->lock);
    sim_free(l->threads);
    sim_free(l);
    *out = NULL;
}

void sim_loader_post(sim_loader *l, const sim_view_request *requests, size_t n)
{
    sim_mutex_lock(&l->lock);
    SIM_ASSERT(l->posted - l->waited < LISTS && n <= l->room);
    list *q = &l->lists[l->posted % LISTS];
    memcpy(q->requests, requests, n * sizeof *requests);
    q->n = q->failed = n;
    q->next = q->done = 0;
    l->posted++;
    sim_signal_all(&l->work);
    sim_mutex_unlock(&l->lock);
}

sim_status sim_loader_wait(sim_loader *l)
{
    sim_status st = SIM_OK;
    double start = sim_clock_s();

    sim_mutex_lock(&l->lock);
    SIM_ASSERT(l->waited < l->posted);
    list *q = &l->lists[l->waited % LISTS];
    while (q->done < q->n)
        sim_signal_wait(&l->finished, &l->lock);
    l->waited++;
    l->wait_s += sim_clock_s() - start;
    if (q->failed < q->n) {
        st = q->code;
        sim_error_set(q->story);
    }
    sim_mutex_unlock(&l->lock);
    return st;
}

size_t sim_loader_bytes(int n_threads, size_t n)
{
    return sizeof(sim_loader) + (size_t)n_threads * sizeof(sim_thread) +
           LISTS * n * sizeof(sim_view_request);
}

double sim_loader_wait_seconds(const sim_loader *l)
{
    return l->wait_s;
}
