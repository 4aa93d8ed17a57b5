/*
 * loader.c - threads that prefetch: they read, decode and augment images.
 *
 * Lists of requests wait in a ring buffer.  Each thread processes one image with all its
 * views at a time, in any order, and writes to fixed locations.  sim_loader_wait reports the
 * first failure of a list, in the order of the list.
 */
#include "private.h"

#include "simile/clock.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <stdio.h>
#include <string.h>

enum { N_LISTS = 4 };

typedef struct {
    sim_view_request *requests; /* [max_requests] */
    size_t n;
    size_t next, done; /* first request not started; requests completed */
    size_t failed;     /* index of the first failure; n: none */
    sim_status code;
    char message[512];
} request_list;

struct sim_loader {
    const sim_dataset *data;
    const sim_augment *augment;
    uint32_t seed;
    request_list lists[N_LISTS];
    size_t max_requests;
    size_t posted, waited; /* counts of lists */
    sim_mutex lock;
    sim_signal work, finished;
    bool stop;
    sim_thread *threads;
    int n_threads;
    double wait_s;
};

/* End of the run of requests of one image that begins at `from`. */
static size_t end_of_image(const request_list *q, size_t from)
{
    size_t to = from + 1;
    while (to < q->n && q->requests[to].image == q->requests[from].image)
        to++;
    return to;
}

/* The oldest list with requests that are not started; NULL if there is none. */
static request_list *oldest_pending(sim_loader *l)
{
    for (size_t i = l->waited; i < l->posted; i++) {
        request_list *q = &l->lists[i % N_LISTS];
        if (q->next < q->n)
            return q;
    }
    return NULL;
}

static sim_status serve(const sim_loader *l, const sim_view_request *r, size_t n,
                        sim_image *image)
{
    sim_status st = SIM_OK;
    SIM_TRY(sim_dataset_read(l->data, r[0].image, image));
    for (size_t i = 0; i < n; i++)
        SIM_TRY(sim_augment_view(l->augment, l->seed, r[i].sample, r[i].epoch, r[i].view,
                                 image, r[i].out));
done:
    return st;
}

static void record_failure(request_list *q, size_t at, sim_status code)
{
    if (at >= q->failed)
        return;
    q->failed = at;
    q->code = code;
    (void)snprintf(q->message, sizeof q->message, "%s", sim_error_message());
}

static void *loader_thread(void *ctx)
{
    sim_loader *l = ctx;
    sim_image image = {0};

    sim_mutex_lock(&l->lock);
    while (!l->stop) {
        request_list *q = oldest_pending(l);
        if (!q) {
            sim_signal_wait(&l->work, &l->lock);
            continue;
        }
        size_t from = q->next, to = end_of_image(q, from);
        q->next = to;
        sim_mutex_unlock(&l->lock);
        sim_status st = serve(l, q->requests + from, to - from, &image);
        sim_mutex_lock(&l->lock);
        if (st != SIM_OK)
            record_failure(q, from, st);
        q->done += to - from;
        if (q->done == q->n)
            sim_signal_all(&l->finished);
    }
    sim_mutex_unlock(&l->lock);
    sim_free(image.pixels);
    return NULL;
}

/* The arrays of a loader, listed once for allocation, accounting and release. */
enum { N_BUFFERS = N_LISTS + 1 };

static void list_buffers(sim_loader *l, int n_threads, size_t max_requests,
                         sim_buffer out[N_BUFFERS])
{
    for (size_t i = 0; i < N_LISTS; i++)
        out[i] = SIM_BUFFER(l->lists[i].requests, max_requests);
    out[N_LISTS] = SIM_BUFFER(l->threads, (size_t)n_threads);
}

sim_status sim_loader_create(const sim_dataset *d, const sim_augment *a, uint32_t seed,
                             int n_threads, size_t max_requests, sim_loader **out)
{
    sim_status st = SIM_OK;
    sim_loader *l = NULL;
    sim_buffer buffers[N_BUFFERS];

    SIM_TRY(sim_new(&l, "data/loader"));
    l->data = d;
    l->augment = a;
    l->seed = seed;
    l->max_requests = max_requests;
    sim_mutex_init(&l->lock);
    sim_signal_init(&l->work);
    sim_signal_init(&l->finished);
    list_buffers(l, n_threads, max_requests, buffers);
    SIM_TRY(sim_buffers_create(buffers, N_BUFFERS, "data/loader"));
    for (; l->n_threads < n_threads; l->n_threads++)
        SIM_TRY(sim_thread_start(&l->threads[l->n_threads], loader_thread, l));
    *out = l;
    l = NULL;
done:
    sim_loader_destroy(&l);
    return st;
}

void sim_loader_destroy(sim_loader **out)
{
    sim_loader *l = *out;
    sim_buffer buffers[N_BUFFERS];
    if (!l)
        return;
    sim_mutex_lock(&l->lock);
    l->stop = true;
    sim_signal_all(&l->work);
    sim_mutex_unlock(&l->lock);
    for (int i = 0; i < l->n_threads; i++)
        sim_thread_join(&l->threads[i]);
    list_buffers(l, l->n_threads, l->max_requests, buffers);
    sim_buffers_destroy(buffers, N_BUFFERS);
    sim_signal_destroy(&l->work);
    sim_signal_destroy(&l->finished);
    sim_mutex_destroy(&l->lock);
    sim_free(l);
    *out = NULL;
}

void sim_loader_post(sim_loader *l, const sim_view_request *requests, size_t n)
{
    sim_mutex_lock(&l->lock);
    SIM_ASSERT(l->posted - l->waited < N_LISTS && n <= l->max_requests);
    request_list *q = &l->lists[l->posted % N_LISTS];
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
    request_list *q = &l->lists[l->waited % N_LISTS];
    while (q->done < q->n)
        sim_signal_wait(&l->finished, &l->lock);
    l->waited++;
    l->wait_s += sim_clock_s() - start;
    if (q->failed < q->n) {
        st = q->code;
        sim_error_set(q->message);
    }
    sim_mutex_unlock(&l->lock);
    return st;
}

size_t sim_loader_bytes(int n_threads, size_t max_requests)
{
    sim_loader none = {0};
    sim_buffer buffers[N_BUFFERS];

    list_buffers(&none, n_threads, max_requests, buffers);
    return sizeof(sim_loader) + sim_buffers_bytes(buffers, N_BUFFERS);
}

double sim_loader_wait_seconds(const sim_loader *l)
{
    return l->wait_s;
}
