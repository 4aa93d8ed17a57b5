/*
 * writer.h - a data set being made: what dataset_write.c and journal.c share.
 */
#ifndef SIMILE_DATA_WRITER_H
#define SIMILE_DATA_WRITER_H

#include "simile/data.h"

#include <limits.h>

struct sim_dataset_writer {
    sim_dataset_spec spec;
    char path[PATH_MAX], part[PATH_MAX], journal[PATH_MAX];
    int fd, journal_fd;
    bool held; /* the temporaries are ours */
    size_t n, room;
    uint64_t bytes;            /* of images, spooled or in the buffer */
    uint64_t *digest, *offset; /* [n][2], [n + 1] */
    int32_t *labels;
    size_t n_labels;
    sim_moments moments;
    sim_dataset_mark mark;  /* of the last commit */
    size_t n_committed;     /* images in the journal */
    uint64_t journal_bytes; /* of whole records */
    uint8_t *buffer;        /* gathers small writes, [SIM_WRITER_BUFFER] */
    size_t buffered;
};

enum { SIM_WRITER_BUFFER = 4 << 20 };

/* Room for one image more in the arrays. */
SIM_MUST_USE sim_status sim_writer_make_room(sim_dataset_writer *w);

/*
 * Opens PATH.journal, holds it against other processes, and takes up what it tells of the
 * images in PATH.part, as far as they have their digests.  Nothing fits: begins anew.
 */
SIM_MUST_USE sim_status sim_writer_journal_open(sim_dataset_writer *w);
/* Adds a record of the images since the last one; those must be in PATH.part. */
SIM_MUST_USE sim_status sim_writer_journal_add(sim_dataset_writer *w,
                                               const sim_dataset_mark *mark);

#endif
