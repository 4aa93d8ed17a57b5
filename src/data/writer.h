/*
 * writer.h - the state of a data set writer, shared by dataset_write.c, journal.c and writer.c.
 */
#ifndef SIMILE_DATA_WRITER_H
#define SIMILE_DATA_WRITER_H

#include "simile/data.h"
#include "simile/file.h"

#include <limits.h>

struct sim_dataset_writer {
    sim_dataset_spec spec;
    char path[PATH_MAX], part[PATH_MAX], journal[PATH_MAX];
    char lock_token[SIM_LOCK_TOKEN_BYTES];
    char lock[PATH_MAX]; /* a lock file, where the file system has no locks; else "" */
    int fd, journal_fd;
    bool locked;               /* this process owns the temporary files */
    size_t n, capacity;        /* images; length of the arrays */
    uint64_t bytes;            /* of images, in PATH.part or in the buffer */
    uint64_t *digest, *offset; /* [n][2], [n + 1] */
    int32_t *labels, *groups;  /* [n]; -1: none */
    uint32_t *source;          /* [n]: number of the item in its source */
    size_t n_labels, n_groups; /* images that have one */
    sim_moments moments;
    sim_dataset_mark mark;  /* of the last commit */
    size_t n_committed;     /* images in the journal */
    uint64_t journal_bytes; /* of complete records */
    uint8_t *buffer;        /* [SIM_WRITER_BUFFER], combines small writes */
    size_t buffered;        /* bytes in it */
};

enum { SIM_WRITER_BUFFER = 4 << 20 };

/* Grows the arrays, if needed, to hold one more image. */
SIM_MUST_USE sim_status sim_writer_reserve(sim_dataset_writer *w);
/* Appends bytes of an image to the buffer; writes the buffer to PATH.part when it is full. */
SIM_MUST_USE sim_status sim_writer_write(sim_dataset_writer *w, const uint8_t *bytes,
                                         size_t n);
/* Writes the buffer to PATH.part. */
SIM_MUST_USE sim_status sim_writer_flush(sim_dataset_writer *w);

/*
 * Opens and locks PATH.journal, by PATH.lock where the file system has no locks, and recovers the
 * images that it records, up to the first record with an image in PATH.part that does not match its
 * digest. Restarts the journal if it is of another conversion.
 */
SIM_MUST_USE sim_status sim_writer_journal_open(sim_dataset_writer *w);
/* Appends a record of the images since the last record. They must be in PATH.part. */
SIM_MUST_USE sim_status sim_writer_journal_add(sim_dataset_writer *w,
                                               const sim_dataset_mark *mark);
/* The groups of a complete data set; names [n][width], padded with zeros, or NULL; owned. */
typedef struct {
    size_t n, width;
    char *names;
    sim_hash hash;
} written_groups;
/* Numbers the groups of the images from 0 on, without gaps, and reads their names, if the images
 * have groups; otherwise *out remains zeros. */
SIM_MUST_USE sim_status sim_writer_finish_groups(sim_dataset_writer *w,
                                                 const sim_dataset_names *names,
                                                 written_groups *out);
/* Whether the file is a journal, of any conversion; an empty one was just created. */
bool sim_writer_is_journal(const char *path);

#endif
