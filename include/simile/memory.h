/*
 * memory.h - memory with a tag, so that the ledger can say who holds how much.
 *
 * Module: core
 * Every block is zeroed and aligned to 64 bytes.  A tag is a string literal such as
 * "encoder/activations"; the part before the slash is the room.
 */
#ifndef SIMILE_MEMORY_H
#define SIMILE_MEMORY_H

#include "simile/status.h"

#include <stdint.h>

/*
 * `count` items of `size` bytes, zeroed, 64-byte aligned; the product is checked.
 * *out becomes the caller's, release with sim_free.  count 0 gives a valid block.
 * Large blocks are mapped, so that freeing gives them back and zeroing costs nothing.
 * Fails: SIM_E_IO "out of memory", naming tag and bytes.  Keeps: tag.
 */
SIM_MUST_USE sim_status sim_alloc_bytes(size_t count, size_t size, const char *tag,
                                        void **out);

/*
 * sim_alloc(&p, n, "module/what"): n zeroed elements of *p.  sim_alloc_to stores the
 * pointer in *pointer, a pointer to any object type.
 */
SIM_MUST_USE sim_status sim_alloc_to(size_t count, size_t size, const char *tag,
                                     void *pointer);
#define sim_alloc(pointer, count, tag)                                                   \
    sim_alloc_to((count), sizeof **(pointer), (tag), (pointer))

/* sim_new(&p, "module/what"): one zeroed *p. */
#define sim_new(pointer, tag) sim_alloc(pointer, 1, tag)

/*
 * sim_grow(&p, n, "module/what"): grows *p to n elements and keeps its content; p may be
 * NULL.  sim_grow_to reads and stores *pointer, a pointer to any object type.
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

/* A buffer of an object: its owner lists all of them in one function, from which creation,
 * destruction and byte accounting follow. */
typedef struct {
    void *pointer;      /* to the owner's pointer to the buffer */
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
/* Releases all buffers and sets their pointers to NULL; counts are not read. */
void sim_buffers_destroy(const sim_buffer *list, size_t n);

/* A copy of a text.  Fails: SIM_E_IO. */
SIM_MUST_USE sim_status sim_text_copy(const char *text, const char *tag, char **out);

/* A formatted text, the caller's.  Fails: SIM_E_IO. */
SIM_MUST_USE sim_status sim_text_format(const char *tag, char **out, const char *fmt, ...)
    SIM_PRINTF(3, 4);

typedef struct {
    const char *tag;
    size_t bytes; /* held now */
    size_t peak_bytes;
    size_t n_blocks; /* held now */
} sim_memory_row;

/* Calls `see` for every tag ever used, in order of name. */
void sim_memory_report(void (*see)(void *ctx, const sim_memory_row *row), void *ctx);

size_t sim_memory_bytes(void);        /* held now, all tags */
size_t sim_memory_peak_bytes(void);   /* highest so far */
uint64_t sim_memory_calls(void);      /* allocations ever made: a step adds none */
size_t sim_memory_process_peak(void); /* the process's peak resident bytes */

/* Tests: the k-th allocation from now fails (1: the next); 0 switches it off. */
void sim_memory_fail_at(uint64_t k);

#endif
