#ifndef REEVE_CSYSTEM_H
#define REEVE_CSYSTEM_H

#include <signal.h>
#include <stdint.h>
#include <sys/types.h>

/* Functions and constants of libc that the Glibc module does not import. Functions that can fail return -1 and set errno,
   except csystem_spawn. */

/* eventfd(2), close-on-exec and non-blocking. */
int csystem_eventfd(void);
/* Adds one to an eventfd; safe from any thread and from a signal handler. */
void csystem_eventfd_signal(int fd);
/* Resets an eventfd to zero. */
void csystem_eventfd_drain(int fd);
/* Returns POLLRDHUP, an event of poll(2): the peer has closed the connection, or its sending half. */
short csystem_poll_hangup(void);
/* pidfd_open(2): readable once the process has ended. */
int csystem_pidfd_open(pid_t pid);
/* pipe2(2), close-on-exec: ends[0] is the end for reading, ends[1] the end for writing. Neither descriptor is 0, 1 or 2,
   even if these are closed, because they become the standard streams of a child. */
int csystem_pipe(int ends[2]);
/* flock(2); operation is LOCK_SH, LOCK_EX or LOCK_UN, with LOCK_NB. */
int csystem_flock(int fd, int operation);
/* renameat2(2) with RENAME_NOREPLACE: fails with EEXIST if `to` exists. */
int csystem_rename_new(const char *from, const char *to);
/* renameat2(2) with RENAME_EXCHANGE: exchanges the two files atomically. */
int csystem_rename_exchange(const char *one, const char *other);
/* Installs a handler that writes the number of each listed signal to a pipe, as one byte. The handler is
   async-signal-safe. A signal that the parent ignores, as nohup(1) does, remains ignored, except SIGTERM. */
int csystem_forward_signals(int write_fd, const int *signals, int count);

/* Lowers the priority of a process group: the nice value (setpriority(2)), the I/O class idle (ioprio_set(2)), and for its
   leader and what the leader starts later, an earlier end when memory runs out (proc(5), oom_score_adj). What the system
   refuses is left as it is. */
void csystem_lower_priority(pid_t group, int nice);

/* Options of csystem_spawn. */
struct csystem_spawn_options {
    int stdin_fd, stdout_fd, stderr_fd; /* -1: /dev/null */
    int new_session;                    /* true: setsid(2); false: a new process group */
    const char *directory;
};

/* posix_spawn(3) of the program at path with an empty signal mask, default dispositions and no inherited descriptors beyond the
   three standard ones. Returns 0 and the pid, or an errno. */
int csystem_spawn(pid_t *pid, const char *path, char *const argv[], char *const envp[],
                  const struct csystem_spawn_options *options);

#endif
