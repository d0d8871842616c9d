/* A PAM module that leaves in its host what its argument names: the control by which the tests of the host
 * process show that they would see it. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <locale.h>
#include <pthread.h>
#include <pwd.h>
#include <security/pam_ext.h>
#include <security/pam_modules.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <syslog.h>
#include <unistd.h>

static void *at_once(void *argument) { return argument; }

static void at_exit(void) {}

/* Its thread runs nothing of this module, which will not be there. */
static void thread(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, (void *(*)(void *))(void (*)(void))pause, NULL);
}

static void brief_thread(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, at_once, NULL) == 0)
        pthread_join(thread, NULL);
}

static void child(void)
{
    if (fork() == 0)
        _exit(0);
}

static void no_capability(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2];
    syscall(SYS_capget, &header, sets);
    sets[CAP_SYS_TIME / 32].effective &= ~(1u << CAP_SYS_TIME % 32);
    syscall(SYS_capset, &header, sets);
}

static void limit(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur--;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void mask(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static void alternate_stack(void)
{
    static char memory[65536];
    stack_t stack = {.ss_sp = memory, .ss_size = sizeof memory};
    sigaltstack(&stack, NULL);
}

static void timer(void)
{
    struct itimerval far = {.it_value = {.tv_sec = 3600}};
    setitimer(ITIMER_REAL, &far, NULL);
}

/* What runs when a thread ends that held something of ours: in unmapped memory, unless the module stays. */
static void drop(void *held) { (void)held; }

static void thread_destructor(void)
{
    pthread_key_t key;
    if (pthread_key_create(&key, drop) == 0)
        pthread_setspecific(key, "held");
}

static void memory(void)
{
    static char *volatile kept;
    kept = malloc(512);
    memset(kept, 1, 512);
}

static void brief_umask(void) { umask(umask(077)); }

static void leak(void)
{
    void *volatile lost = malloc(100);
    lost = NULL;
    (void)lost;
}

/* For memory checkers. */
static void read_freed(void)
{
    char *volatile text = strdup("freed");
    free(text);
    if (text[0] == 'x')
        abort();
}

static void blocking_log(void) { syslog(LOG_AUTHPRIV | LOG_INFO, "waits for whoever reads the log"); }

static void leave(pam_handle_t *handle, const char *what)
{
    int unused = 0;
#define IF(word, statement) else if (!strcmp(what, word)) statement
    if (!strcmp(what, "nothing"))
        return;
    IF("descriptor", open("/dev/null", O_RDONLY | O_CLOEXEC));
    IF("closed", close(0));
    IF("thread", thread());
    IF("brief-thread", brief_thread());
    IF("child", child());
    IF("mapping", mmap(NULL, 3 * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    IF("memory", memory());
    IF("umask", umask(0123));
    IF("brief-umask", brief_umask());
    IF("cwd", unused = chdir("/tmp"));
    IF("uid", unused = setresuid((uid_t)-1, (uid_t)-1, 5));
    IF("gid", unused = setresgid((gid_t)-1, (gid_t)-1, 5));
    IF("groups", setgroups(1, (gid_t[]){5}));
    IF("capability", no_capability());
    IF("signal", signal(SIGPIPE, SIG_IGN));
    IF("mask", mask());
    IF("alternate-stack", alternate_stack());
    IF("timer", timer());
    IF("environ", setenv("LEFT_BEHIND", "1", 1));
    IF("limit", limit());
    IF("name", prctl(PR_SET_NAME, "other"));
    IF("priority", unused = nice(1));
    IF("stdout", unused = (int)write(1, "hello\n", 6));
    IF("stderr", unused = (int)write(2, "hello\n", 6));
    IF("printf", printf("hello\n"));
    IF("offset", lseek(0, 1, SEEK_CUR));
    IF("prompt", pam_info(handle, "hello"));
    IF("log", openlog("somebody-else", LOG_NDELAY, LOG_AUTHPRIV));
    IF("log-mask", setlogmask(LOG_MASK(LOG_ERR)));
    IF("locale", setlocale(LC_ALL, "C"));
    IF("exit-handler", atexit(at_exit));
    IF("fork-handler", pthread_atfork(at_exit, NULL, NULL));
    IF("thread-key", pthread_key_create(&(pthread_key_t){0}, NULL));
    IF("thread-destructor", thread_destructor());
    IF("held-user", getpwnam("nobody"));
    IF("leak", leak());
    IF("read-freed", read_freed());
    IF("blocking-log", blocking_log());
    else abort();
    (void)unused;
}

int pam_sm_open_session(pam_handle_t *handle, int flags, int argc, const char **argv)
{
    (void)flags;
    for (int i = 0; i < argc; i++)
        leave(handle, argv[i]);
    return PAM_SUCCESS;
}

int pam_sm_close_session(pam_handle_t *handle, int flags, int argc, const char **argv)
{
    (void)handle, (void)flags, (void)argc, (void)argv;
    return PAM_SUCCESS;
}
