/*
 * writer.c - the arrays of a data set writer and the buffered bytes of its images.
 */
#include "writer.h"

#include "simile/file.h"
#include "simile/h5.h"
#include "simile/memory.h"

#include <string.h>

sim_status sim_writer_flush(sim_dataset_writer *w)
{
    sim_status st = SIM_OK;
    SIM_TRY(sim_file_write_at(w->fd, w->part, SIM_H5_BULK_AT + w->bytes - w->buffered,
                              w->buffer, w->buffered));
    w->buffered = 0;
done:
    return st;
}

sim_status sim_writer_write(sim_dataset_writer *w, const uint8_t *bytes, size_t n)
{
    sim_status st = SIM_OK;
    while (n > 0) {
        size_t k =
            SIM_WRITER_BUFFER - w->buffered < n ? SIM_WRITER_BUFFER - w->buffered : n;
        memcpy(w->buffer + w->buffered, bytes, k);
        w->buffered += k;
        w->bytes += k;
        bytes += k;
        n -= k;
        if (w->buffered == SIM_WRITER_BUFFER)
            SIM_TRY(sim_writer_flush(w));
    }
done:
    return st;
}

sim_status sim_writer_reserve(sim_dataset_writer *w)
{
    sim_status st = SIM_OK;
    if (w->n < w->capacity)
        goto done;
    w->capacity = w->capacity ? 2 * w->capacity : 4096;
    SIM_TRY(sim_grow(&w->digest, 2 * w->capacity, "data/writer"));
    SIM_TRY(sim_grow(&w->labels, w->capacity, "data/writer"));
    SIM_TRY(sim_grow(&w->groups, w->capacity, "data/writer"));
    SIM_TRY(sim_grow(&w->source, w->capacity, "data/writer"));
    SIM_TRY(sim_grow(&w->offset, w->capacity + 1, "data/writer"));
done:
    return st;
}
