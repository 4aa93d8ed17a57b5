/*
 * file.h - files, directories and processes.
 *
 * Module: core
 * The system calls go through a table, so that tests can make any of them fail. EINTR and
 * short transfers are retried; EIO, EAGAIN and ESTALE are retried a few times with a pause. A
 * failed fsync is not retried.
 *
 * Errors of all functions, with path and reason in the message: SIM_E_INPUT (does not exist),
 * SIM_E_ACCESS (permission, read-only file system), SIM_E_CREATE (a file to be created is in a
 * directory that does not exist), SIM_E_IO (any other reason). `path` beside an `fd` is used for
 * messages only.
 */
#ifndef SIMILE_FILE_H
#define SIMILE_FILE_H

#include "simile/hash.h"
#include "simile/status.h"

#include <limits.h>
#include <stdint.h>
#include <sys/types.h>

/* The system calls that tests may replace; same contracts as in POSIX, including errno. */
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

/* Selects the table; NULL restores sim_file_posix. `calls` is borrowed until the next call. */
void sim_file_use(const sim_file_calls *calls);

/* ---- open files ---- */

/* Opens a regular file for reading; its length is stored in *n_bytes. */
SIM_MUST_USE sim_status sim_file_open_read(const char *path, int *fd, uint64_t *n_bytes);

/* These two refuse a pipe or device, writing to which could block (SIM_E_CREATE). */
/* Opens an existing file for writing in place. */
SIM_MUST_USE sim_status sim_file_open_update(const char *path, int *fd);

/* Opens for appending; creates the file if it does not exist. */
SIM_MUST_USE sim_status sim_file_open_append(const char *path, int *fd);

/* Read and write exactly n bytes at byte offset `at`. Errors: SIM_E_IO if the file ends before
 * all bytes are read. */
SIM_MUST_USE sim_status sim_file_read_at(int fd, const char *path, uint64_t at,
                                         void *data, size_t n);
SIM_MUST_USE sim_status sim_file_write_at(int fd, const char *path, uint64_t at,
                                          const void *data, size_t n);

/* Appends a text, usually whole lines. */
SIM_MUST_USE sim_status sim_file_append(int fd, const char *path, const char *text);

/* Sets the length: truncates, or extends with zeros that need no disk space. */
SIM_MUST_USE sim_status sim_file_set_length(int fd, const char *path, uint64_t n_bytes);

/* Takes an exclusive advisory lock until the file is closed, without waiting. *locked is false
 * if the file system has no locks. Errors: SIM_E_CREATE if another process holds the lock. */
SIM_MUST_USE sim_status sim_file_lock(int fd, const char *path, bool *locked);

/* Flushes written data to stable storage (fsync). */
SIM_MUST_USE sim_status sim_file_sync(int fd, const char *path);

/* Closes *fd and sets it to -1; -1 is accepted. Reports errors of earlier writes that close
 * returns, such as an exceeded quota. */
SIM_MUST_USE sim_status sim_file_close(int *fd, const char *path);

/* ---- whole files ---- */

/* Reads a file of at most `limit` bytes and appends a zero byte, which *n_bytes does not count.
 * *data becomes the caller's. Errors: SIM_E_DATA if the file is longer. */
SIM_MUST_USE sim_status sim_file_load(const char *path, size_t limit, char **data,
                                      size_t *n_bytes);
/* The same of the last `limit` bytes of a file that is longer. */
SIM_MUST_USE sim_status sim_file_load_end(const char *path, size_t limit, char **data,
                                          size_t *n_bytes);
/* Whether a path is a regular file that begins with this text, of at most 255 bytes.  Clears the error
 * message. */
bool sim_file_begins_with(const char *path, const char *text);
/* Hash of all bytes of a file. */
SIM_MUST_USE sim_status sim_file_hash(const char *path, sim_hash *out);

/*
 * Replaces `path` with the concatenated pieces. After a crash the file has either its old or
 * its complete new content: the pieces are written to a new temporary file in the same directory,
 * which is synced and renamed; then the directory is synced. On failure the temporary file is
 * removed.
 */
typedef struct {
    const void *data;
    size_t n_bytes;
} sim_piece;
SIM_MUST_USE sim_status sim_file_replace(const char *path, const sim_piece *pieces,
                                         size_t n_pieces);

/*
 * The same in steps: begin, add any number of times, end. `cancel` removes the temporary file
 * after a failure or instead of `end`; after `end` has succeeded it does nothing.
 */
typedef struct {
    char path[4096], temporary[4096];
    int fd;
    bool created; /* the temporary file exists and belongs to this replacement */
} sim_replacement;
SIM_MUST_USE sim_status sim_file_replace_begin(const char *path, sim_replacement *out);
SIM_MUST_USE sim_status sim_file_replace_add(sim_replacement *r, const void *data,
                                             size_t n_bytes);
SIM_MUST_USE sim_status sim_file_replace_end(sim_replacement *r);
void sim_file_replace_cancel(sim_replacement *r);

/*
 * Creates a lock file that contains `text`. Other processes never read it half written: it is
 * written under a temporary name and then linked, if the file system has links.
 * Errors: SIM_E_CREATE if `path` exists.
 */
SIM_MUST_USE sim_status sim_file_create_new(const char *path, const char *text);

/* Random text that identifies the holder of a lock, with the terminating zero. */
enum { SIM_LOCK_TOKEN_BYTES = 33 };

/*
 * A lock file: created exclusively, with machine, process, job and cluster of its holder. It needs no
 * locks of the file system. It is taken over if its holder has certainly ended: there is no such
 * process on this machine, or Slurm reports that its job has ended, and is the Slurm of its cluster.
 *   host    of this process
 *   what    that is locked, for messages: "the run"
 *   advice  how to end the holder, for messages: "stop it with simile stop"; "" if there is no way
 *   token   of this holder
 * Errors: SIM_E_CREATE if it is held; the message names the holder.
 */
SIM_MUST_USE sim_status sim_lock_acquire(const char *path, const char *host,
                                         const char *what, const char *advice,
                                         char token[SIM_LOCK_TOKEN_BYTES]);
/*
 * Checks that the lock is still that of the token; it may have been deleted, or replaced, also by
 * renaming its directory and creating another one in its place. Reads the file once. A file that cannot
 * be read for another reason counts as held; so does one whose directory does not exist.
 * Errors: SIM_E_CREATE.
 */
SIM_MUST_USE sim_status sim_lock_check(const char *path, const char *token);
/* Removes the lock if it is that of the token; keeps the error message. */
void sim_lock_release(const char *path, const char *token);
/* True if the lock file exists and its holder may still run. */
bool sim_lock_is_held(const char *path);

SIM_MUST_USE sim_status sim_file_remove(const char *path); /* may be absent */
SIM_MUST_USE sim_status sim_file_rename(const char *from, const char *to);
/* Renames `path`, a file or directory, to the first unused PATH.old-N, which is stored in `out`. */
SIM_MUST_USE sim_status sim_file_set_aside(const char *path, char out[PATH_MAX]);
/* Syncs the directory that contains `path`, which makes a rename durable. */
SIM_MUST_USE sim_status sim_file_sync_directory(const char *path);

/* ---- directories and paths ---- */

/* Creates a directory and its parents; existing ones are accepted. Errors: SIM_E_CREATE if a
 * component exists and is not a directory. */
SIM_MUST_USE sim_status sim_directory_create(const char *path);
/* Removes an empty directory. */
SIM_MUST_USE sim_status sim_directory_remove(const char *path);
SIM_MUST_USE sim_status sim_directory_sync(const char *path);
/* Follows symbolic links: the path of the file that opening `path` would create or replace.
 * Errors: SIM_E_CREATE (a loop, too long). */
SIM_MUST_USE sim_status sim_path_follow(const char *path, char out[PATH_MAX]);

/* Names in a directory, sorted by byte values, without "." and ".."; release them with
 * sim_names_clear. */
typedef struct {
    size_t n;
    char **names;
} sim_names;
SIM_MUST_USE sim_status sim_directory_list(const char *path, sim_names *out);
/* The same for subdirectories only; symbolic links are omitted. */
SIM_MUST_USE sim_status sim_directory_list_subdirectories(const char *path,
                                                          sim_names *out);
void sim_names_clear(sim_names *names);

bool sim_path_exists(const char *path);
bool sim_path_is_directory(const char *path);
bool sim_path_is_same(const char *a, const char *b); /* the same inode */
/* These do not follow a symbolic link: any entry of a directory; a link; a regular file. */
bool sim_path_is_taken(const char *path);
bool sim_path_is_link(const char *path);
bool sim_path_is_file(const char *path);

/* The status of a file or directory that cannot be created because of this errno. */
sim_status sim_creation_status(int error);
/* The reason for messages; of a full disk or quota, whether the space or the number of files ended. */
void sim_creation_reason(int error, const char *path, char out[160]);

/* ---- outputs ---- */

/* An output of a command. */
typedef struct {
    const char *path;   /* of a file; links are followed */
    const char *option; /* of the command line, for messages: "--out" */
    const char *kind;   /* expected of an existing file, for the message: "a data set" */
    bool is_own;        /* an existing file at `path` is of this kind, by its content */
    bool force;         /* given by the user: other files are replaced too */
    const char *const
        *inputs; /* [n_inputs] files and directories that the command reads; NULL and
                                  "" are skipped */
    size_t n_inputs;
} sim_output;

/*
 * Checks before a long computation that the output can be created and that writing it replaces
 * nothing but an earlier output of the same kind or an empty file:
 *   - never, also with `force`, an input: one of the list, a file in a directory of the list, or a
 *     file of a run in the list;
 *   - without `force` neither another file nor a file with a name that a run uses.
 * Removes the temporary files of killed processes that wrote to the same path.
 *   target  the path without symbolic links, to be written
 * Errors: SIM_E_USAGE (an input), SIM_E_CREATE, SIM_E_ACCESS.
 */
SIM_MUST_USE sim_status sim_output_check(const sim_output *o, char target[PATH_MAX]);

/* The temporary file "PATH.tmp.HOST.PID" of this process, beside the file that it replaces. */
SIM_MUST_USE sim_status sim_temporary_path(const char *path, char *out, size_t out_bytes);
/* True for the path of a temporary file or directory whose process has ended: there is none on this
 * host, or, of another host, it was not changed for a day. */
bool sim_temporary_is_stale(const char *path);
/* Removes the stale temporary files that were to replace `path`; failures are ignored. */
void sim_temporary_remove_stale(const char *path);

/* Bytes available on the file system of `path`. */
SIM_MUST_USE sim_status sim_path_free_bytes(const char *path, uint64_t *n_bytes);

/* ---- processes ---- */

long sim_process_id(void);
void sim_host_name(char *out, size_t out_bytes);

/* State of a process of this host, from /proc. Process ids are reused; id and start time
 * together identify a process. */
typedef struct {
    char state; /* 'R', 'S', 'D', 'T' (stopped), 't' (traced), 'Z' and 'X' (dead) ... */
    char start_ticks[32]; /* clock ticks after boot, decimal */
} sim_process;
/* False if no process has this id, or /proc hides those of other users. */
bool sim_process_query(long pid, sim_process *out);
/* Whether a process has this id, of whatever user. */
bool sim_process_exists(long pid);

/* Name of the PID namespace of this process, "" if unknown. Process ids of different
 * namespaces, such as those of two containers, are unrelated. */
void sim_process_namespace(char *out, size_t out_bytes);

/* Identify the machine since its start (boot) and its installation (machine), "" if unknown.  Nodes
 * that are started from one image may have the same `machine`. */
void sim_process_machine(char boot[64], char machine[64]);

/*
 * Runs a program from PATH without a shell and with empty standard input; stores its exit code
 * and its output (stdout and stderr, truncated to out_bytes). It is killed if it prints nothing
 * for wait_ms.
 *   argv  terminated by NULL
 * Errors: SIM_E_INSTALL if it cannot be started, SIM_E_IO if it was killed.
 */
SIM_MUST_USE sim_status sim_process_output(const char *const *argv, int wait_ms,
                                           char *out, size_t out_bytes, int *code);

/*
 * From now on USR1, TERM and INT are recorded, and passed on to the program that sim_process_run
 * runs.
 *   first_as_usr1  the first one is passed on as USR1, because launchers such as mpirun kill a
 *                  parallel program at TERM and INT
 */
void sim_process_watch_signals(bool first_as_usr1);
/* The last of these signals that this process received; 0: none. */
int sim_process_last_signal(void);

/*
 * Runs a program from PATH without a shell and with empty standard input, in a process group of its
 * own, and waits for its end; stdout and stderr are appended to the file `output`.  It receives USR1
 * if this process ends before it.
 *   argv  terminated by NULL
 *   code  its exit code, or 128 + the number of the signal that ended it; -1 if it was not started,
 *         because one of the signals above had been received
 * Errors: SIM_E_INSTALL if it cannot be started, those of sim_file_open_append.
 */
SIM_MUST_USE sim_status sim_process_run(const char *const *argv, const char *output,
                                        int *code);

/* Path of the program of this process. */
SIM_MUST_USE sim_status sim_process_program(char out[PATH_MAX]);

#endif
