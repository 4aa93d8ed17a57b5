/*
 * bench_loader.c - `simile bench loader`: views per second of reading, decoding and augmenting.
 *
 * In: a data set, or generated images in a temporary file below --dir.  Out: one JSON object for all
 * ranks.  Every rank loads the same views in every step, so that differences are those of the machine.
 */
#include "cli.h"

#include "simile/clock.h"
#include "simile/kernel.h"
#include "simile/memory.h"

#include <stdio.h>

enum { VIEWS = 2, GENERATED_IMAGES = 64, GENERATED_SIDE = 32 };

typedef struct {
    const sim_bench_loading *spec;
    sim_preprocessing preprocessing;
    sim_dataset *data;
    sim_augment *augment;
    sim_loader *loader;
    sim_view_request *requests; /* [n_views] */
    float *views;               /* [n_views][h][w][c] */
    size_t n_views;
    double *elapsed_s, *cpu_s; /* [steps] */
} bench;

/* ---- generated images ---- */

/* Gradients with noise, in all colours. */
static void draw_image(size_t i, size_t side, uint8_t *pixels)
{
    uint32_t noise = (uint32_t)i;
    for (size_t k = 0; k < side * side * 3; k++) {
        size_t x = k / 3 % side, y = k / 3 / side;
        noise = noise * 1664525u + 1013904223u;
        pixels[k] =
            (uint8_t)((x * (1 + k % 3) + y * (3 - k % 3) + 16 * i) / 2 + (noise >> 28));
    }
}

static sim_status write_images(const char *path, size_t side)
{
    sim_status st = SIM_OK;
    const sim_dataset_spec spec = {.h = side,
                                   .w = side,
                                   .c = 3,
                                   .type = SIM_U8,
                                   .source = "bench",
                                   .created_by = sim_cli_build()};
    sim_dataset_writer *w = NULL;
    uint8_t *pixels = NULL;
    char fingerprint[33];

    SIM_TRY(sim_alloc(&pixels, side * side * 3, "cli/bench"));
    SIM_TRY(sim_dataset_create(path, &spec, &w));
    for (size_t i = 0; i < GENERATED_IMAGES; i++) {
        draw_image(i, side, pixels);
        SIM_TRY(sim_dataset_append(w, pixels, side * side * 3, -1, NULL));
    }
    SIM_TRY(sim_dataset_finish(&w, NULL, 0, NULL, fingerprint));
done:
    if (w)
        sim_dataset_abandon(&w);
    sim_free(pixels);
    return st;
}

/* The file is removed when every rank has opened it.  Collective. */
static sim_status open_generated(const sim_comm *c, const sim_bench_loading *spec,
                                 size_t side, sim_dataset **out)
{
    sim_status st = SIM_OK;
    char path[4200];
    bool written = false;

    SIM_TRY(sim_bench_temporary_path(c, spec->dir, path, sizeof path));
    st = c->rank == 0 ? write_images(path, side) : SIM_OK;
    written = c->rank == 0 && st == SIM_OK;
    SIM_TRY(sim_comm_agree(c, st));
    SIM_TRY(sim_comm_agree(c, sim_dataset_open(path, out)));
done:
    if (written)
        SIM_IGNORE(sim_file_remove(path));
    return st;
}

/* ---- the loader ---- */

/* Two views of each image of a step; its images are distributed over the data set. */
static void request_views(const bench *b)
{
    const size_t n_images = sim_dataset_about(b->data)->n_images, batch = b->spec->batch;
    const sim_preprocessing *p = &b->preprocessing;

    for (size_t i = 0; i < b->n_views; i++) {
        const size_t image =
            n_images >= batch ? i / VIEWS * (n_images / batch) : i / VIEWS % n_images;
        b->requests[i] = (sim_view_request){.image = (uint32_t)image,
                                            .sample = (uint32_t)image,
                                            .view = (uint32_t)(i % VIEWS),
                                            .out = b->views + i * p->h * p->w * p->c};
    }
}

static sim_status create_loader(const sim_job *job, bench *b)
{
    sim_status st = SIM_OK;
    const sim_bench_loading *spec = b->spec;
    sim_preprocessing *p = &b->preprocessing;

    *p = sim_preprocessing_of((size_t)job->augment.size, sim_dataset_about(b->data));
    b->n_views = VIEWS * spec->batch;
    SIM_TRY(sim_augment_create(&job->augment, p, &b->augment));
    SIM_TRY(sim_alloc(&b->requests, b->n_views, "cli/bench"));
    SIM_TRY(sim_alloc(&b->views, b->n_views * p->h * p->w * p->c, "cli/bench"));
    SIM_TRY(sim_alloc(&b->elapsed_s, 2 * (size_t)spec->steps, "cli/bench"));
    b->cpu_s = b->elapsed_s + spec->steps;
    request_views(b);
    SIM_TRY(
        sim_loader_create(b->data, b->augment, 0, spec->threads, b->n_views, &b->loader));
done:
    return st;
}

static void destroy_bench(bench *b)
{
    sim_loader_destroy(&b->loader);
    sim_augment_destroy(&b->augment);
    sim_dataset_close(&b->data);
    sim_free(b->requests);
    sim_free(b->views);
    sim_free(b->elapsed_s);
}

/* Step 0 is not recorded: its images and its memory are not in caches. */
static sim_status time_step(const sim_comm *c, const bench *b, int step)
{
    sim_comm_barrier(c);
    double start = sim_clock_s(), cpu_start = sim_clock_cpu_s();
    sim_loader_post(b->loader, b->requests, b->n_views);
    sim_status st = sim_loader_wait(b->loader);
    double times[2] = {sim_clock_s() - start, sim_clock_cpu_s() - cpu_start};
    sim_comm_max_f64(c, times, 2);
    if (step > 0) {
        b->elapsed_s[step - 1] = times[0];
        b->cpu_s[step - 1] = times[1];
    }
    return sim_comm_agree(c, st);
}

static sim_status print_times(const sim_comm *c, const bench *b)
{
    sim_status st = SIM_OK;
    sim_json *j = NULL;
    char *augment = NULL;
    const size_t n = (size_t)b->spec->steps;
    const double views = (double)b->n_views * c->size;

    sim_bench_sort(b->elapsed_s, n);
    sim_bench_sort(b->cpu_s, n);
    SIM_TRY(sim_augment_text(b->augment, 0, &augment));
    SIM_TRY(sim_json_create(&j));
    sim_json_text(j, "bench", "loader");
    sim_json_real(j, "views_per_s", views / b->elapsed_s[0]);
    sim_json_real(j, "views_per_s_median", views / b->elapsed_s[n / 2]);
    sim_json_real(j, "views_per_s_spread",
                  views / b->elapsed_s[0] - views / b->elapsed_s[n - 1]);
    sim_json_real(j, "cpu_us_per_view", 1e6 * b->cpu_s[0] / (double)b->n_views);
    sim_json_int(j, "steps", b->spec->steps);
    sim_json_int(j, "ranks", c->size);
    sim_json_int(j, "threads", b->spec->threads);
    sim_json_text(j, "kernels", sim_kernels_name());
    sim_json_text(j, "data", b->spec->data ? b->spec->data : "generated");
    sim_json_bool(j, "encoded", sim_dataset_about(b->data)->encoded);
    sim_json_text(j, "augment", augment);
    sim_json_int(j, "size", (int64_t)b->preprocessing.h);
    sim_json_int(j, "batch", (int64_t)b->spec->batch);
    SIM_TRY(sim_bench_environment(c, j, NULL));
    SIM_TRY(sim_cli_print_json(c, j, false));
done:
    sim_json_destroy(&j);
    sim_free(augment);
    return st;
}

sim_status sim_bench_loader(const sim_comm *c, const sim_job *job,
                            const sim_bench_loading *spec)
{
    sim_status st = SIM_OK;
    bench b = {.spec = spec};
    const size_t side = job->augment.size ? (size_t)job->augment.size : GENERATED_SIDE;

    if (spec->data)
        SIM_TRY(sim_comm_agree(c, sim_dataset_open(spec->data, &b.data)));
    else
        SIM_TRY(open_generated(c, spec, side, &b.data));
    SIM_TRY(sim_comm_agree(c, create_loader(job, &b)));
    for (int step = 0; step <= spec->steps; step++)
        SIM_TRY(time_step(c, &b, step));
    SIM_TRY(print_times(c, &b));
done:
    destroy_bench(&b);
    return st;
}
