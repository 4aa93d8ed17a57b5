/*
 * embed_csv.c - embeddings as comma-separated values: a header, then one line per image.
 *
 * Columns are id, name, label, class, the features f0 ..., and the projections p0 ...; what the data
 * set or the model does not have is empty, or left out.  Texts are quoted as in RFC 4180.  Numbers
 * have 9 significant digits, from which the float32 is read exactly.
 */
#include "csv.h"
#include "embed.h"

#include "simile/file.h"
#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

static const char first_columns[] = "id,name,label,class,f0";

static sim_status put_header(csv_writer *w, const embed_content *e)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_csv_bytes(w, first_columns, sizeof first_columns - 1));
    for (size_t j = 1; j < e->features->dims[1]; j++)
        SIM_TRY(sim_csv_format(w, ",f%zu", j));
    for (size_t j = 0; e->projections && j < e->projections->dims[1]; j++)
        SIM_TRY(sim_csv_format(w, ",p%zu", j));
    SIM_TRY(sim_csv_bytes(w, "\n", 1));
done:
    return st;
}

static sim_status put_numbers(csv_writer *w, const sim_tensor *t, size_t row)
{
    sim_status st = SIM_OK;
    const float *x = (const float *)t->data + row * t->dims[1];

    for (size_t j = 0; j < t->dims[1]; j++)
        SIM_TRY(sim_csv_format(w, ",%.9g", (double)x[j]));
done:
    return st;
}

static sim_status put_row(csv_writer *w, const embed_content *e, size_t i)
{
    sim_status st = SIM_OK;
    const char *name = e->names ? e->names + i * e->name_width : "",
               *class = sim_embed_class(e, i);

    SIM_TRY(sim_csv_format(w, "%zu", i));
    SIM_TRY(sim_csv_field(w, name, strnlen(name, e->name_width)));
    SIM_TRY(sim_csv_bytes(w, ",", 1));
    if (e->labels)
        SIM_TRY(sim_csv_format(w, "%d", (int)e->labels[i]));
    SIM_TRY(sim_csv_field(w, class ? class : "", class ? strlen(class) : 0));
    SIM_TRY(put_numbers(w, e->features, i));
    if (e->projections)
        SIM_TRY(put_numbers(w, e->projections, i));
    SIM_TRY(sim_csv_bytes(w, "\n", 1));
done:
    return st;
}

static sim_status write_csv(const embed_content *e, const char *path)
{
    sim_status st = SIM_OK;
    csv_writer w;

    SIM_TRY(sim_csv_begin(path, &w));
    SIM_TRY(put_header(&w, e));
    for (size_t i = 0; i < e->features->dims[0]; i++)
        SIM_TRY(put_row(&w, e, i));
    SIM_TRY(sim_csv_end(&w));
done:
    sim_csv_cancel(&w);
    return st;
}

/* Whether the header is that of embeddings. */
static bool is_own_csv(const char *path)
{
    return sim_file_begins_with(path, first_columns);
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
