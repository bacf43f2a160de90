#define _GNU_SOURCE
#include "csystem.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

int csystem_eventfd(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

void csystem_eventfd_signal(int fd) {
    int saved = errno;
    uint64_t one = 1;
    ssize_t written = write(fd, &one, sizeof one);
    (void)written; /* a full counter is already signalled */
    errno = saved;
}

void csystem_eventfd_drain(int fd) {
    uint64_t value;
    ssize_t got = read(fd, &value, sizeof value);
    (void)got; /* EAGAIN: nothing was pending */
}

short csystem_poll_hangup(void) { return POLLRDHUP; }

int csystem_pidfd_open(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

int csystem_pipe(int ends[2]) {
    if (pipe2(ends, O_CLOEXEC) != 0) return -1;
    for (int i = 0; i < 2; i++) {
        if (ends[i] > 2) continue;
        int moved = fcntl(ends[i], F_DUPFD_CLOEXEC, 3);
        close(ends[i]);
        ends[i] = moved;
    }
    if (ends[0] >= 0 && ends[1] >= 0) return 0;
    int saved = errno;
    for (int i = 0; i < 2; i++)
        if (ends[i] >= 0) close(ends[i]);
    errno = saved;
    return -1;
}

int csystem_flock(int fd, int operation) { return flock(fd, operation); }

static volatile int signal_pipe = -1;

static void forward(int number) {
    int saved = errno;
    unsigned char byte = (unsigned char)number;
    ssize_t written = write(signal_pipe, &byte, 1);
    (void)written; /* a full pipe already holds more signals than are needed */
    errno = saved;
}

int csystem_forward_signals(int write_fd, const int *signals, int count) {
    signal_pipe = write_fd;
    struct sigaction action = {0};
    action.sa_handler = forward;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < count; i++) {
        struct sigaction before;
        if (sigaction(signals[i], NULL, &before) != 0) return -1;
        if (before.sa_handler == SIG_IGN && signals[i] != SIGTERM) continue;
        if (sigaction(signals[i], &action, NULL) != 0) return -1;
    }
    return 0;
}

static int redirect(posix_spawn_file_actions_t *actions, int fd, int target) {
    if (fd < 0)
        return posix_spawn_file_actions_addopen(actions, target, "/dev/null",
                                                target == 0 ? O_RDONLY : O_WRONLY, 0);
    return posix_spawn_file_actions_adddup2(actions, fd, target);
}

int csystem_spawn(pid_t *pid, const char *path, char *const argv[], char *const envp[],
                  const struct csystem_spawn_options *options) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int error = posix_spawn_file_actions_init(&actions);
    if (error) return error;
    if ((error = posix_spawnattr_init(&attributes))) {
        posix_spawn_file_actions_destroy(&actions);
        return error;
    }
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    flags |= options->new_session ? POSIX_SPAWN_SETSID : POSIX_SPAWN_SETPGROUP;
    if (!error) error = posix_spawnattr_setflags(&attributes, flags);
    if (!error) error = posix_spawnattr_setsigmask(&attributes, &none);
    if (!error) error = posix_spawnattr_setsigdefault(&attributes, &all);
    if (!error) error = posix_spawnattr_setpgroup(&attributes, 0);
    if (!error) error = redirect(&actions, options->stdin_fd, 0);
    if (!error) error = redirect(&actions, options->stdout_fd, 1);
    if (!error) error = redirect(&actions, options->stderr_fd, 2);
    if (!error) error = posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    if (!error)
        error = posix_spawn_file_actions_addchdir_np(&actions, options->directory);
    if (!error) error = posix_spawn(pid, path, &actions, &attributes, argv, envp);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return error;
}

void csystem_lower_priority(pid_t group, int nice) {
    enum { who_pgrp = 2, class_idle = 3, class_shift = 13 }; /* linux/ioprio.h */
    setpriority(PRIO_PGRP, (id_t)group, nice);
    syscall(SYS_ioprio_set, who_pgrp, group, class_idle << class_shift);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/oom_score_adj", (int)group);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;
    ssize_t written = write(fd, "500", 3);
    (void)written;
    close(fd);
}

int csystem_rename_new(const char *from, const char *to) {
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE);
}

int csystem_rename_exchange(const char *one, const char *other) {
    return renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE);
}
