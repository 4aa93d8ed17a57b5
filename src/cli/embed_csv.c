/*
 * embed_csv.c - embeddings as comma-separated values: a header, then one line per image.
 *
 * Columns are id, name, label, class, the features f0 ..., and the projections p0 ...; what the data
 * set or the model does not have is empty, or left out.  Texts are quoted as in RFC 4180.  Numbers
 * have 9 significant digits, from which the float32 is read exactly.
 */
#include "embed.h"

#include "simile/file.h"
#include "simile/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { BUFFER_BYTES = 1 << 20, NUMBER_BYTES = 32 };

static const char first_columns[] = "id,name,label,class,f0";

/* Text that is collected before it is written. */
typedef struct {
    sim_replacement file;
    char *buffer; /* [BUFFER_BYTES] */
    size_t used;
} csv_writer;

static sim_status flush_text(csv_writer *w)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_file_replace_add(&w->file, w->buffer, w->used));
    w->used = 0;
done:
    return st;
}

static sim_status put_bytes(csv_writer *w, const char *text, size_t n)
{
    sim_status st = SIM_OK;

    while (n > 0) {
        const size_t left = BUFFER_BYTES - w->used, part = n < left ? n : left;
        memcpy(w->buffer + w->used, text, part);
        w->used += part;
        text += part;
        n -= part;
        if (w->used == BUFFER_BYTES)
            SIM_TRY(flush_text(w));
    }
done:
    return st;
}

static sim_status put_format(csv_writer *w, const char *fmt, ...) SIM_PRINTF(2, 3);
static sim_status put_format(csv_writer *w, const char *fmt, ...)
{
    char text[NUMBER_BYTES];
    va_list args;

    va_start(args, fmt);
    const int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    SIM_ASSERT(n >= 0 && n < NUMBER_BYTES);
    return put_bytes(w, text, (size_t)n);
}

/* A comma and a text, in quotes if it has a comma, quote or line break. */
static sim_status put_text(csv_writer *w, const char *text, size_t n)
{
    sim_status st = SIM_OK;
    bool quotes = false;

    SIM_TRY(put_bytes(w, ",", 1));
    for (size_t i = 0; i < n && !quotes; i++)
        quotes = strchr(",\"\r\n", text[i]) != NULL;
    if (!quotes) {
        SIM_TRY(put_bytes(w, text, n));
        goto done;
    }
    SIM_TRY(put_bytes(w, "\"", 1));
    for (size_t i = 0; i < n; i++)
        SIM_TRY(put_bytes(w, text[i] == '"' ? "\"\"" : text + i, text[i] == '"' ? 2 : 1));
    SIM_TRY(put_bytes(w, "\"", 1));
done:
    return st;
}

static sim_status put_header(csv_writer *w, const embed_content *e)
{
    sim_status st = SIM_OK;

    SIM_TRY(put_bytes(w, first_columns, sizeof first_columns - 1));
    for (size_t j = 1; j < e->features->dims[1]; j++)
        SIM_TRY(put_format(w, ",f%zu", j));
    for (size_t j = 0; e->projections && j < e->projections->dims[1]; j++)
        SIM_TRY(put_format(w, ",p%zu", j));
    SIM_TRY(put_bytes(w, "\n", 1));
done:
    return st;
}

static sim_status put_numbers(csv_writer *w, const sim_tensor *t, size_t row)
{
    sim_status st = SIM_OK;
    const float *x = (const float *)t->data + row * t->dims[1];

    for (size_t j = 0; j < t->dims[1]; j++)
        SIM_TRY(put_format(w, ",%.9g", (double)x[j]));
done:
    return st;
}

static sim_status put_row(csv_writer *w, const embed_content *e, size_t i)
{
    sim_status st = SIM_OK;
    const char *name = e->names ? e->names + i * e->name_width : "",
               *class = sim_embed_class(e, i);

    SIM_TRY(put_format(w, "%zu", i));
    SIM_TRY(put_text(w, name, strnlen(name, e->name_width)));
    SIM_TRY(put_bytes(w, ",", 1));
    if (e->labels)
        SIM_TRY(put_format(w, "%d", (int)e->labels[i]));
    SIM_TRY(put_text(w, class ? class : "", class ? strlen(class) : 0));
    SIM_TRY(put_numbers(w, e->features, i));
    if (e->projections)
        SIM_TRY(put_numbers(w, e->projections, i));
    SIM_TRY(put_bytes(w, "\n", 1));
done:
    return st;
}

static sim_status write_csv(const embed_content *e, const char *path)
{
    sim_status st = SIM_OK;
    csv_writer w = {.file = {.fd = -1}};

    SIM_TRY(sim_alloc(&w.buffer, BUFFER_BYTES, "cli/embeddings"));
    SIM_TRY(sim_file_replace_begin(path, &w.file));
    SIM_TRY(put_header(&w, e));
    for (size_t i = 0; i < e->features->dims[0]; i++)
        SIM_TRY(put_row(&w, e, i));
    SIM_TRY(flush_text(&w));
    SIM_TRY(sim_file_replace_end(&w.file));
done:
    sim_file_replace_cancel(&w.file);
    sim_free(w.buffer);
    return st;
}

/* Whether the header is that of embeddings. */
static bool is_own_csv(const char *path)
{
    char head[sizeof first_columns - 1];
    uint64_t n = 0;
    int fd = -1;
    bool is = sim_file_open_read(path, &fd, &n) == SIM_OK && n >= sizeof head &&
              sim_file_read_at(fd, path, 0, head, sizeof head) == SIM_OK &&
              memcmp(head, first_columns, sizeof head) == 0;

    SIM_IGNORE(sim_file_close(&fd, path));
    sim_error_clear();
    return is;
}

static sim_status check_csv(sim_output out, char target[PATH_MAX])
{
    out.kind = "a table of embeddings";
    out.is_own = is_own_csv(out.path);
    return sim_output_check(&out, target);
}

const embed_format sim_embed_csv = {
    .name = "csv",
    .ending = ".csv",
    .summary = "one line per image: id,name,label,class,f0,...,p0,...",
    .check = check_csv,
    .write = write_csv};
