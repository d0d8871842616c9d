/* host REPORT CONFDIR MODE COUNT SERVICE:USER...
 *
 * A PAM application that opens COUNT sessions of the given services and users, in turn, and writes to
 * REPORT what it is like afterwards compared with before. Each session has a transaction of its own, so
 * that libpam loads and unloads the modules every time. stdout and stderr are never written to: whatever is
 * there came from a module. On every second turn through the list the directory that a session was given is
 * removed, if it is empty but for its tag, so that the next one has to make it again.
 *
 * MODE:
 *   main     one session after the other on the main thread
 *   thread   each on a thread of its own, which then ends; every second one is closed by the main thread
 *            while its thread still lives
 *   crowd    16 threads at once, each with its share
 *   fork     each is forked from in mid-transaction, and both processes go on and close
 */

#define _GNU_SOURCE
#include "state.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <locale.h>
#include <malloc.h>
#include <pthread.h>
#include <pwd.h>
#include <security/pam_appl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#define CROWD 16
#define VARIABLE "CARGO_TARGET_DIR"

static FILE *report;
static const char *confdir;
static char **sessions;
static int session_count, turns;

static atomic_int succeeded, refused, exported, asked, exit_handlers, fork_handlers;

static void fail(const char *what, int code)
{
    fprintf(report, "failed: %s: %d\n", what, code);
    fflush(report);
    _exit(2);
}

#ifndef __SANITIZE_ADDRESS__ /* which has its own */
/* The dynamic linker finds these before libc's own. */
int __cxa_atexit(void (*function)(void *), void *argument, void *object);
int __cxa_atexit(void (*function)(void *), void *argument, void *object)
{
    int (*next)(void (*)(void *), void *, void *);
    *(void **)&next = dlsym(RTLD_NEXT, "__cxa_atexit");
    exit_handlers++;
    return next(function, argument, object);
}

int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *object);
int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *object)
{
    int (*next)(void (*)(void), void (*)(void), void (*)(void), void *);
    *(void **)&next = dlsym(RTLD_NEXT, "__register_atfork");
    fork_handlers++;
    return next(prepare, parent, child, object);
}
#endif

static int conversation(int count, const struct pam_message **messages, struct pam_response **responses, void *data)
{
    (void)count, (void)messages, (void)responses, (void)data;
    asked++;
    return PAM_CONV_ERR;
}

static const struct pam_conv talk = {conversation, NULL};

static pam_handle_t *begin(const char *service_and_user)
{
    char service[64];
    const char *user = strchr(service_and_user, ':') + 1;
    snprintf(service, sizeof service, "%.*s", (int)(user - 1 - service_and_user), service_and_user);
    pam_handle_t *handle = NULL;
    int code = pam_start_confdir(service, user, &talk, confdir, &handle);
    if (code != PAM_SUCCESS)
        fail("pam_start_confdir", code);
    return handle;
}

/* Answers whether the session opened. */
static int open_session(pam_handle_t *handle)
{
    int opened = pam_open_session(handle, 0) == PAM_SUCCESS;
    if (opened)
        succeeded++;
    else
        refused++;
    if (pam_getenv(handle, VARIABLE))
        exported++;
    return opened;
}

static void end(pam_handle_t *handle, int opened, int remove)
{
    const char *directory = pam_getenv(handle, VARIABLE);
    if (remove && directory) {
        char tag[4096];
        snprintf(tag, sizeof tag, "%s/CACHEDIR.TAG", directory);
        unlink(tag);
        rmdir(directory);
    }
    int code = opened ? pam_close_session(handle, 0) : PAM_SUCCESS;
    if (code != PAM_SUCCESS)
        fail("pam_close_session", code);
    if ((code = pam_end(handle, PAM_SUCCESS)) != PAM_SUCCESS)
        fail("pam_end", code);
}

static const char *session_of(int turn) { return sessions[turn % session_count]; }

static int removes(int turn) { return turn / session_count % 2; }

static void whole_session(int turn)
{
    pam_handle_t *handle = begin(session_of(turn));
    int opened = open_session(handle);
    end(handle, opened, removes(turn));
}

/* One session on a thread. Where `left_open` is set, it hands the session to the main thread, and ends only
 * when libpam has unloaded the module. */
struct on_thread {
    int turn, left_open, opened;
    pam_handle_t *handle;
    pthread_barrier_t handed, ended;
};

static void *on_thread(void *argument)
{
    struct on_thread *one = argument;
    if (!one->left_open) {
        whole_session(one->turn);
        return NULL;
    }
    one->handle = begin(session_of(one->turn));
    one->opened = open_session(one->handle);
    pthread_barrier_wait(&one->handed);
    pthread_barrier_wait(&one->ended);
    return NULL;
}

static pthread_t start(void *(*function)(void *), void *argument)
{
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 512 * 1024);
    int code = pthread_create(&thread, &attributes, function, argument);
    pthread_attr_destroy(&attributes);
    if (code != 0)
        fail("pthread_create", code);
    return thread;
}

static void session_on_thread(int turn)
{
    struct on_thread one = {.turn = turn, .left_open = turn % 2};
    pthread_barrier_init(&one.handed, NULL, 2);
    pthread_barrier_init(&one.ended, NULL, 2);
    pthread_t thread = start(on_thread, &one);
    if (one.left_open) {
        pthread_barrier_wait(&one.handed);
        end(one.handle, one.opened, removes(turn));
        pthread_barrier_wait(&one.ended);
    }
    pthread_join(thread, NULL);
}

static pthread_barrier_t crowd_is_there;

static void *in_crowd(void *argument)
{
    pthread_barrier_wait(&crowd_is_there);
    for (int turn = *(int *)argument; turn < turns; turn += CROWD)
        whole_session(turn);
    return NULL;
}

static void crowd(void)
{
    pthread_t threads[CROWD];
    int first[CROWD];
    pthread_barrier_init(&crowd_is_there, NULL, CROWD);
    for (int i = 0; i < CROWD; i++) {
        first[i] = i;
        threads[i] = start(in_crowd, &first[i]);
    }
    for (int i = 0; i < CROWD; i++)
        pthread_join(threads[i], NULL);
}

static void reap(pid_t child)
{
    int status;
    if (waitpid(child, &status, 0) != child || status != 0)
        fail("a child's status", status);
}

/* Before the session is opened, and while it is open: the child goes on with what it inherited. */
static void session_with_forks(int turn)
{
    pam_handle_t *handle = begin(session_of(turn));
    pid_t child = fork();
    if (child == 0) {
        int opened = open_session(handle);
        end(handle, opened, 0);
        _exit(0);
    }
    int opened = open_session(handle);
    pid_t second = fork();
    if (second == 0) {
        end(handle, opened, 0);
        whole_session(turn + session_count * removes(turn));
        _exit(0);
    }
    reap(child);
    reap(second);
    end(handle, opened, removes(turn));
}

/* For whoever traces system calls: sessions begin, or have ended. */
static void mark(const char *where) { access(where, F_OK); }

static void run(const char *mode, int count)
{
    turns = count;
    mark("/sessions/begin");
    if (!strcmp(mode, "crowd"))
        crowd();
    else for (int turn = 0; turn < count; turn++) {
        if (!strcmp(mode, "main"))
            whole_session(turn);
        else if (!strcmp(mode, "thread"))
            session_on_thread(turn);
        else if (!strcmp(mode, "fork"))
            session_with_forks(turn);
        else
            fail("unknown mode", 0);
    }
    mark("/sessions/end");
}

/* Answers of libc that live in its own memory: a module that asks the same way would overwrite them. */
static struct passwd *held_by_name, *held_by_uid;
static struct group *held_group_by_name, *held_group_by_gid;

static void take(struct state *state)
{
    state_take(state);
    state_add(state, "exit handlers %d fork handlers %d", exit_handlers, fork_handlers);
    state_add(state, "held users %s %s", held_by_name->pw_name, held_by_uid->pw_name);
    state_add(state, "held groups %s %s", held_group_by_name->gr_name, held_group_by_gid->gr_name);
    state_add(state, "conversation called %d", asked);
}

static void say_goodbye(void)
{
    fprintf(report, "exited in order\n");
    fclose(report);
}

static struct state before, warm, after;

int main(int argc, char **argv)
{
    if (argc < 6 || !(report = fopen(argv[1], "we")))
        return 2;
    confdir = argv[2];
    const char *mode = argv[3];
    int count = atoi(argv[4]);

    /* What a host may rely on, each different from what a process starts with. */
    mallopt(M_ARENA_MAX, 1);
    setlocale(LC_ALL, "C.UTF-8");
    openlog("host", LOG_PID | LOG_NDELAY, LOG_LOCAL3);
    signal(SIGUSR1, SIG_IGN);
    atexit(say_goodbye);
    held_by_name = getpwnam("root");
    held_by_uid = getpwuid(0);
    held_group_by_name = getgrnam("root");
    held_group_by_gid = getgrgid(0);
    state_prepare(&before);
    state_prepare(&warm);
    state_prepare(&after);

    /* libpam itself, and the host's own threads, leave something behind the first time. */
    char *permit[] = {"permit:root"};
    sessions = permit;
    session_count = 1;
    run(mode, CROWD);
    succeeded = 0;

    sessions = argv + 5;
    session_count = argc - 5;
    take(&before);
    run(mode, count);
    take(&warm);
    succeeded = refused = exported = 0;
    struct timespec begun, ended;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    run(mode, count);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    take(&after);

    state_compare(report, "first", &before, &warm);
    state_compare(report, "later", &warm, &after);
    fprintf(report, "grew %ld kB\n", after.anonymous_kb - warm.anonymous_kb);
    fprintf(report, "succeeded %d refused %d exported %d\n", succeeded, refused, exported);
    fprintf(report, "milliseconds %ld\n",
            (ended.tv_sec - begun.tv_sec) * 1000 + (ended.tv_nsec - begun.tv_nsec) / 1000000);
    fflush(report);
    syslog(LOG_INFO, "still the host's own ident");
    return 0;
}
