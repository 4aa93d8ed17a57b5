/*
 * memory.h - allocation with tags, and accounting of memory by tag.
 *
 * Module: core
 * Every block is zeroed and aligned to 64 bytes. A tag is a string literal such as
 * "encoder/activations"; the part before the slash is the module. Allocation functions store
 * the tag, not a copy. All functions are thread-safe.
 */
#ifndef SIMILE_MEMORY_H
#define SIMILE_MEMORY_H

#include "simile/status.h"

#include <stdint.h>

/*
 * Allocates `count` elements of `size` bytes, zeroed; the product is checked for overflow.
 * *out becomes the caller's, to be released with sim_free. A count of 0 yields a valid block.
 * Blocks of 1 MiB or more are mapped: freeing returns them to the system, and zeroing is free.
 * Errors: SIM_E_IO if memory is exhausted, with tag and bytes.
 */
SIM_MUST_USE sim_status sim_alloc_bytes(size_t count, size_t size, const char *tag,
                                        void **out);

/*
 * sim_alloc(&p, n, "module/what") allocates n elements of type *p. sim_alloc_to stores the
 * block in *pointer, a pointer to any object type.
 */
SIM_MUST_USE sim_status sim_alloc_to(size_t count, size_t size, const char *tag,
                                     void *pointer);
#define sim_alloc(pointer, count, tag)                                                   \
    sim_alloc_to((count), sizeof **(pointer), (tag), (pointer))

/* sim_new(&p, "module/what") allocates one element of type *p. */
#define sim_new(pointer, tag) sim_alloc(pointer, 1, tag)

/*
 * sim_grow(&p, n, "module/what") reallocates p to n elements and preserves the content; p may be
 * NULL. sim_grow_to does so for *pointer, a pointer to any object type. On failure p is
 * unchanged.
 */
SIM_MUST_USE sim_status sim_grow_to(size_t count, size_t size, const char *tag,
                                    void *pointer);
#define sim_grow(pointer, count, tag)                                                    \
    sim_grow_to((count), sizeof **(pointer), (tag), (pointer))

/* Frees a block; accepts NULL. */
void sim_free(void *block);

/* Frees *pointer, a pointer to any object type, and sets it to NULL. */
void sim_free_at(void *pointer);

/* Frees the block and sets the pointer to NULL. */
#define SIM_FREE(pointer)                                                                \
    do {                                                                                 \
        sim_free(pointer);                                                               \
        (pointer) = NULL;                                                                \
    } while (0)

/* A buffer of an object. Its owner lists all of them in one function; creation, destruction
 * and byte accounting use this list. */
typedef struct {
    void *pointer;      /* address of the owner's pointer to the buffer */
    size_t count, size; /* elements, bytes per element */
} sim_buffer;
#define SIM_BUFFER(pointer_, count_)                                                     \
    (sim_buffer)                                                                         \
    {                                                                                    \
        &(pointer_), (count_), sizeof *(pointer_)                                        \
    }

/* Allocates all n buffers, zeroed; the caller destroys them, also after a failure. */
SIM_MUST_USE sim_status sim_buffers_create(const sim_buffer *list, size_t n,
                                           const char *tag);
size_t sim_buffers_bytes(const sim_buffer *list, size_t n);
/* Frees all buffers and sets their pointers to NULL; counts are not used. */
void sim_buffers_destroy(const sim_buffer *list, size_t n);

/* Copy a text, and format one; *out becomes the caller's. Errors: SIM_E_IO. */
SIM_MUST_USE sim_status sim_text_copy(const char *text, const char *tag, char **out);
SIM_MUST_USE sim_status sim_text_format(const char *tag, char **out, const char *fmt, ...)
    SIM_PRINTF(3, 4);

typedef struct {
    const char *tag;
    size_t bytes; /* allocated now */
    size_t peak_bytes;
    size_t n_blocks; /* allocated now */
} sim_memory_row;

/* Calls `visit` for every tag that was ever used, sorted by name. */
void sim_memory_report(void (*visit)(void *ctx, const sim_memory_row *row), void *ctx);

size_t sim_memory_bytes(void);      /* allocated now, all tags */
size_t sim_memory_peak_bytes(void); /* maximum of sim_memory_bytes */
uint64_t sim_memory_calls(
    void); /* allocations since the start; a training step makes none */
size_t sim_memory_process_peak(void); /* peak resident set size of the process, bytes */

/* For tests: makes the k-th allocation from now on fail (1: the next one); 0 cancels. */
void sim_memory_fail_at(uint64_t k);

#endif
