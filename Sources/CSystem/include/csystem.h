#ifndef REEVE_CSYSTEM_H
#define REEVE_CSYSTEM_H

#include <signal.h>
#include <stdint.h>
#include <sys/types.h>

/* The few libc things that the Glibc module does not show. Each returns -1 and sets errno on failure. */

/* eventfd(2), close-on-exec and non-blocking. */
int csystem_eventfd(void);
/* Adds one to an eventfd; safe from any thread and from a signal handler. */
void csystem_eventfd_signal(int fd);
/* Takes an eventfd back to zero. */
void csystem_eventfd_drain(int fd);
/* POLLRDHUP of poll(2): the peer has closed the connection, or its sending half. */
short csystem_poll_hangup(void);
/* pidfd_open(2): readable once the process has ended. */
int csystem_pidfd_open(pid_t pid);
/* pipe2(2), close-on-exec: ends[0] is read from, ends[1] written to. Neither is 0, 1 or 2, also when those are closed:
   a child's standard streams are put there. */
int csystem_pipe(int ends[2]);
/* flock(2); operation is LOCK_SH, LOCK_EX or LOCK_UN, with LOCK_NB. */
int csystem_flock(int fd, int operation);
/* renameat2(2) with RENAME_NOREPLACE: fails with EEXIST when something is there. */
int csystem_rename_new(const char *from, const char *to);
/* renameat2(2) with RENAME_EXCHANGE: both stay, each under the other's name, and at no instant is a name without one. */
int csystem_rename_exchange(const char *one, const char *other);
/* Sends each of the listed signals, as a byte with its number, down a pipe; the handler is async-signal-safe. One that
   is ignored stays so, as the parent wanted (nohup(1)), but for SIGTERM. */
int csystem_forward_signals(int write_fd, const int *signals, int count);

/* What a child gets beyond its arguments; see csystem_spawn. */
struct csystem_spawn_options {
    int stdin_fd, stdout_fd, stderr_fd; /* -1: /dev/null */
    int new_session;                    /* setsid(2), else a process group of its own */
    const char *directory;
};

/* posix_spawn(3) of the program at path with an empty signal mask, default dispositions and no inherited descriptors beyond the
   three standard ones. Returns 0 and the pid, or an errno. */
int csystem_spawn(pid_t *pid, const char *path, char *const argv[], char *const envp[],
                  const struct csystem_spawn_options *options);

#endif
