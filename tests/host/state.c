/* What a process can be asked about itself. Nothing here may change what it looks at: files are read with
 * plain system calls into memory that was there before, and every descriptor is closed again. */

#define _GNU_SOURCE
#include "state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <locale.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

extern char **environ;

static char scratch[256 * 1024];

void state_prepare(struct state *state)
{
    memset(state, 1, sizeof *state);
    memset(scratch, 1, sizeof scratch);
    state->used = 0;
}

void state_add(struct state *state, const char *format, ...)
{
    va_list arguments;
    size_t left = sizeof state->text - state->used;
    va_start(arguments, format);
    int written = vsnprintf(state->text + state->used, left, format, arguments);
    va_end(arguments);
    if (written < 0 || (size_t)written + 1 >= left)
        abort(); /* a harness that forgets something proves nothing */
    state->used += (size_t)written;
    state->text[state->used++] = '\n';
    state->text[state->used] = '\0';
}

/* The content of a file of /proc, or what was wrong with reading it. */
static char *content(const char *path)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        snprintf(scratch, sizeof scratch, "unreadable: %s", strerrorname_np(errno));
        return scratch;
    }
    size_t used = 0;
    ssize_t got;
    while ((got = read(file, scratch + used, sizeof scratch - 1 - used)) > 0)
        used += (size_t)got;
    close(file);
    scratch[used] = '\0';
    return scratch;
}

static void add_lines(struct state *state, const char *what, const char *path)
{
    char *rest, *text = content(path);
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        state_add(state, "%s %s", what, line);
}

static void add_link(struct state *state, const char *what, const char *path)
{
    char target[PATH_MAX];
    ssize_t length = readlink(path, target, sizeof target - 1);
    target[length < 0 ? 0 : length] = '\0';
    state_add(state, "%s %s", what, target);
}

/* Calls `each` with every name in a directory of /proc; the listing's own descriptor is named `own`. */
static int each_entry(const char *path, void (*each)(struct state *, const char *name, int own), struct state *state)
{
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), count = 0;
    char buffer[8192];
    long got;
    while ((got = syscall(SYS_getdents64, directory, buffer, sizeof buffer)) > 0) {
        for (long at = 0; at < got;) {
            struct dirent64 *entry = (struct dirent64 *)(buffer + at);
            at += entry->d_reclen;
            if (entry->d_name[0] == '.')
                continue;
            count++;
            if (each)
                each(state, entry->d_name, directory);
        }
    }
    close(directory);
    return count;
}

static void add_descriptor(struct state *state, const char *name, int own)
{
    char path[64], target[PATH_MAX], *rest;
    if (atoi(name) == own)
        return;
    snprintf(path, sizeof path, "/proc/self/fd/%s", name);
    ssize_t length = readlink(path, target, sizeof target - 1);
    target[length < 0 ? 0 : length] = '\0';
    snprintf(path, sizeof path, "/proc/self/fdinfo/%s", name);
    char *line = strtok_r(content(path), "\n", &rest);
    char *flags = strtok_r(NULL, "\n", &rest);
    state_add(state, "fd %s -> %s (%s, %s)", name, target, line, flags ? flags : "");
}

static void add_namespace(struct state *state, const char *name, int own)
{
    char path[64];
    (void)own;
    snprintf(path, sizeof path, "/proc/self/ns/%s", name);
    add_link(state, "namespace", path);
}

/* Addresses are left out, since a module's own mappings come and go; so are the heap and the stack, which
 * grow with use and are measured as memory. What follows the data of a file without a gap is its .bss. */
static void add_mappings(struct state *state)
{
    char *rest, *text = content("/proc/self/maps");
    const char *data_of = "";
    unsigned long data_end = 0;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        unsigned long start, end;
        char permissions[8];
        int path = 0;
        sscanf(line, "%lx-%lx %7s %*s %*s %*s %n", &start, &end, permissions, &path);
        const char *name = path && line[path] ? line + path : "anonymous";
        int writable = !strcmp(permissions, "rw-p");
        if (name[0] == '/' && writable) {
            data_of = name;
            data_end = end;
        } else if (!strcmp(name, "anonymous") && writable && start == data_end) {
            name = data_of;
        }
        if (name[0] != '[')
            state_add(state, "mapping %s %s %lu kB", name, permissions, (end - start) / 1024);
    }
}

static void add_status(struct state *state)
{
    /* These change by themselves. */
    static const char *const restless[] = {"State:", "Vm", "Rss", "SigQ:", "voluntary_", "nonvoluntary_", "FDSize:"};
    char *rest, *text = content("/proc/self/status");
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        int skip = 0;
        for (size_t i = 0; i < sizeof restless / sizeof *restless; i++)
            skip |= !strncmp(line, restless[i], strlen(restless[i]));
        if (!skip)
            state_add(state, "status %s", line);
    }
}

static void add_signals(struct state *state)
{
    for (int number = 1; number < NSIG; number++) {
        struct sigaction action;
        memset(&action, 0, sizeof action);
        if (sigaction(number, NULL, &action) == 0)
            state_add(state, "signal %d handler %p flags %x mask %lx", number, (void *)action.sa_handler,
                      (unsigned)action.sa_flags, *(unsigned long *)&action.sa_mask);
    }
    stack_t stack;
    memset(&stack, 0, sizeof stack);
    sigaltstack(NULL, &stack);
    state_add(state, "signal stack %p %zu %d", stack.ss_sp, stack.ss_size, stack.ss_flags);
    for (int which = ITIMER_REAL; which <= ITIMER_PROF; which++) {
        struct itimerval timer;
        getitimer((__itimer_which_t)which, &timer);
        state_add(state, "timer %d %s", which, timer.it_value.tv_sec || timer.it_value.tv_usec ? "runs" : "off");
    }
}

static void add_process_settings(struct state *state)
{
    int value = 0;
    char name[32] = "";
    prctl(PR_GET_NAME, name);
    state_add(state, "prctl name %s", name);
    prctl(PR_GET_PDEATHSIG, &value);
    state_add(state, "prctl death signal %d", value);
    prctl(PR_GET_CHILD_SUBREAPER, &value);
    state_add(state, "prctl subreaper %d", value);
    state_add(state, "prctl dumpable %d", prctl(PR_GET_DUMPABLE));
    state_add(state, "prctl keepcaps %d securebits %d", prctl(PR_GET_KEEPCAPS), prctl(PR_GET_SECUREBITS));
    state_add(state, "prctl timerslack %d", prctl(PR_GET_TIMERSLACK));
    state_add(state, "personality %d", personality(0xffffffff));
    state_add(state, "priority %d scheduler %d", getpriority(PRIO_PROCESS, 0), sched_getscheduler(0));
    state_add(state, "session %d group %d", getsid(0), getpgrp());
    add_lines(state, "oom_score_adj", "/proc/self/oom_score_adj");
    add_lines(state, "loginuid", "/proc/self/loginuid");
    add_lines(state, "limit", "/proc/self/limits");
}

/* How many thread-specific keys are left: each process has 1,024, and none that is lost comes back. */
static void add_thread_keys(struct state *state)
{
    static pthread_key_t keys[PTHREAD_KEYS_MAX];
    int count = 0;
    while (count < PTHREAD_KEYS_MAX && pthread_key_create(&keys[count], NULL) == 0)
        count++;
    for (int i = 0; i < count; i++)
        pthread_key_delete(keys[i]);
    state_add(state, "thread keys left %d", count);
}

static long anonymous_kb(void)
{
    const char *found = strstr(content("/proc/self/smaps_rollup"), "\nAnonymous:");
    return found ? atol(found + strlen("\nAnonymous:")) : -1;
}

void state_take(struct state *state)
{
    state->used = 0;
    each_entry("/proc/self/fd", add_descriptor, state);
    state_add(state, "threads %d", each_entry("/proc/self/task", NULL, state));
    errno = 0;
    siginfo_t child;
    int waited = waitid(P_ALL, 0, &child, WEXITED | WNOHANG | WNOWAIT | __WALL);
    state_add(state, "children %s", waited < 0 && errno == ECHILD ? "none" : "some");
    add_mappings(state);
    add_status(state);
    add_link(state, "cwd", "/proc/self/cwd");
    add_link(state, "root", "/proc/self/root");
    each_entry("/proc/self/ns", add_namespace, state);
    add_signals(state);
    add_process_settings(state);
    state_add(state, "environ at %p", (void *)environ);
    for (char **variable = environ; *variable; variable++)
        state_add(state, "environ %p %s", (void *)*variable, *variable);
    state_add(state, "locale %s, of the thread %p", setlocale(LC_ALL, NULL), (void *)uselocale((locale_t)0));
    state_add(state, "log mask %x", setlogmask(0));
    state_add(state, "unflushed stdout %zu stderr %zu", __fpending(stdout), __fpending(stderr));
    add_thread_keys(state);
    state->anonymous_kb = anonymous_kb();
}

static int occurrences(const struct state *state, const char *line, size_t length)
{
    int count = 0;
    const char *at = state->text, *end = state->text + state->used;
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        count += (size_t)(newline - at) == length && !memcmp(at, line, length);
        at = newline + 1;
    }
    return count;
}

static void only_in(FILE *report, const char *when, char sign, const struct state *these, const struct state *those)
{
    const char *at = these->text, *end = these->text + these->used;
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t length = (size_t)(newline - at);
        if (occurrences(these, at, length) > occurrences(those, at, length))
            fprintf(report, "%s %c %.*s\n", when, sign, (int)length, at);
        at = newline + 1;
    }
}

void state_compare(FILE *report, const char *when, const struct state *before, const struct state *now)
{
    only_in(report, when, '-', before, now);
    only_in(report, when, '+', now, before);
}
