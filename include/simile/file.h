/*
 * file.h - file I/O behind a small table, so that tests can make any call fail.
 *
 * Module: core
 * All functions retry EINTR and short transfers, and transient EIO, EAGAIN and ESTALE
 * a few times; but an fsync that failed stays failed.  Messages name path and reason.
 * Codes: SIM_E_INPUT (does not exist), SIM_E_ACCESS (permission, read only), SIM_E_IO
 * (else); what is to be made in a folder that is gone fails with SIM_E_CREATE.
 */
#ifndef SIMILE_FILE_H
#define SIMILE_FILE_H

#include "simile/status.h"

#include <stdint.h>
#include <sys/types.h>

/* The calls that tests may replace.  Same contracts as POSIX, errno included. */
typedef struct {
    int (*open)(const char *path, int flags, mode_t mode);
    ssize_t (*pread)(int fd, void *data, size_t n, off_t at);
    ssize_t (*write)(int fd, const void *data, size_t n);
    ssize_t (*pwrite)(int fd, const void *data, size_t n, off_t at);
    int (*fsync)(int fd);
    int (*close)(int fd);
    int (*rename)(const char *from, const char *to);
    int (*unlink)(const char *path);
    int (*link)(const char *from, const char *to);
} sim_file_calls;

extern const sim_file_calls sim_file_posix;

/* Uses `calls` from now on; NULL restores POSIX.  Keeps: calls. */
void sim_file_use(const sim_file_calls *calls);

/* Opens for reading.  A directory or device is refused. */
SIM_MUST_USE sim_status sim_file_open_read(const char *path, int *fd, uint64_t *n_bytes);

/* Reads exactly n bytes at an offset.  Fails: SIM_E_IO naming path on a short file. */
SIM_MUST_USE sim_status sim_file_read_at(int fd, const char *path, uint64_t at,
                                         void *data, size_t n);
SIM_MUST_USE sim_status sim_file_write_at(int fd, const char *path, uint64_t at,
                                          const void *data, size_t n);

/* Opens an existing file for writing in place (prepare's bulk bytes). */
SIM_MUST_USE sim_status sim_file_open_update(const char *path, int *fd);

/* Makes it `n_bytes` long: cut, or with a hole at the end. */
SIM_MUST_USE sim_status sim_file_set_length(int fd, const char *path, uint64_t n_bytes);

/* Holds the file against other processes until it is closed; they are refused at once.
 * Where the file system has no locks it does nothing.  Fails: SIM_E_CREATE, held. */
SIM_MUST_USE sim_status sim_file_hold(int fd, const char *path);

/* Makes what was written durable. */
SIM_MUST_USE sim_status sim_file_sync(int fd, const char *path);

/* Closes; the error that close reports (quota) counts.  fd -1 is fine. */
SIM_MUST_USE sim_status sim_file_close(int *fd, const char *path);

/* The whole file, at most `limit` bytes; one zero byte follows.  Caller's. */
SIM_MUST_USE sim_status sim_file_load(const char *path, size_t limit, char **data,
                                      size_t *n_bytes);

/*
 * Replaces `path` by the pieces, so that after a crash either the old or the whole new
 * file is there: create-exclusive temporary beside it (O_NOFOLLOW), write, fsync,
 * rename, fsync of the directory.  On failure the temporary is gone.
 */
typedef struct {
    const void *data;
    size_t n_bytes;
} sim_piece;
SIM_MUST_USE sim_status sim_file_replace(const char *path, const sim_piece *pieces,
                                         size_t n_pieces);

/*
 * The same with pieces that come one after the other: begin, add ..., end.  When one of
 * them fails, or before `end`, `drop` removes the temporary; after `end` it does nothing.
 */
typedef struct {
    char path[4096], temporary[4096];
    int fd;
    bool made; /* the temporary stands there, and it is ours */
} sim_replacement;
SIM_MUST_USE sim_status sim_file_replace_begin(const char *path, sim_replacement *out);
SIM_MUST_USE sim_status sim_file_replace_add(sim_replacement *r, const void *data,
                                             size_t n_bytes);
SIM_MUST_USE sim_status sim_file_replace_end(sim_replacement *r);
void sim_file_replace_drop(sim_replacement *r);

/* Opens (creates) for appending, and appends whole lines. */
SIM_MUST_USE sim_status sim_file_open_append(const char *path, int *fd);
SIM_MUST_USE sim_status sim_file_append(int fd, const char *path, const char *text);

/*
 * Creates exclusively with this text (locks), which nobody sees in part: written beside
 * it, then linked.  Fails: SIM_E_CREATE when it exists.
 */
SIM_MUST_USE sim_status sim_file_create_new(const char *path, const char *text);

SIM_MUST_USE sim_status sim_file_remove(const char *path); /* absent is fine */
SIM_MUST_USE sim_status sim_file_rename(const char *from, const char *to);
/* Makes a rename durable: syncs the folder that `path` is in. */
SIM_MUST_USE sim_status sim_file_sync_directory(const char *path);
/* With parents; it may be there.  Fails: SIM_E_CREATE where something is in the way */
SIM_MUST_USE sim_status sim_directory_make(const char *path);
/* An empty one. */
SIM_MUST_USE sim_status sim_directory_remove(const char *path);
SIM_MUST_USE sim_status sim_directory_sync(const char *path);
bool sim_path_exists(const char *path);
bool sim_path_is_directory(const char *path);
bool sim_path_is_same(const char *a, const char *b); /* one file of two names */
/*
 * Can a result go to `out`, and is it another file than `in`?  Asked before the work, which
 * may be long.  Fails: SIM_E_USAGE (the same file), SIM_E_CREATE, SIM_E_ACCESS.
 */
SIM_MUST_USE sim_status sim_path_check_output(const char *out, const char *in);

/* Names in a directory, sorted by bytes, without "." and ".."; release with
 * sim_names_clear.  Fails: as above. */
typedef struct {
    size_t n;
    char **names;
} sim_names;
SIM_MUST_USE sim_status sim_directory_list(const char *path, sim_names *out);
void sim_names_clear(sim_names *names);

/* Number of this process, and name of its host. */
long sim_process_id(void);
void sim_host_name(char *out, size_t out_bytes);

/*
 * What the system says of a process of this host; false when there is none of that number.
 * Numbers are used again, so `began` (ticks of the kernel) tells two processes apart; and
 * they mean nothing to who sees other processes, as from another container: `space` says
 * which ones this process sees ("" where the system does not tell).
 */
typedef struct {
    char state; /* 'R', 'S', 'D', 'T' (stopped), 't' (traced), 'Z' and 'X' (dead) ... */
    char began[32];
} sim_process;
bool sim_process_query(long pid, sim_process *out);
void sim_process_space(char *out, size_t out_bytes);

/*
 * What a program of PATH prints (stdout and stderr, cut to fit) and its exit code; no shell,
 * nothing on its stdin.  It is killed when it says nothing for wait_ms.
 * Fails: SIM_E_INSTALL (it cannot be started), SIM_E_IO (no answer).
 */
SIM_MUST_USE sim_status sim_process_answer(const char *const *argv, int wait_ms,
                                           char *out, size_t out_bytes, int *code);

/* Free bytes on the file system of `path`. */
SIM_MUST_USE sim_status sim_path_free_bytes(const char *path, uint64_t *n_bytes);

#endif
