/*
 * session [OPTION...] CONFDIR SERVICE USER: a PAM application that opens one session and closes it.
 *
 * Prints libpam's answer to pam_open_session, the session's environment, and libpam's answers to
 * pam_close_session and pam_end, one a line. Exits with 0 if it got so far, whatever the answers.
 *
 *   --put=NAME=VALUE     set a variable first, as an earlier module would
 *   --limit=WHAT=N       setrlimit(2) right before pam_open_session, soft and hard, as pam_limits does it:
 *                        as, data, stack, fsize, nofile, nproc, memlock
 *   --left=BYTES         use up all memory but one block of this size, until pam_open_session has answered
 *   --thread=BYTES       call pam_open_session on a thread with a stack of this size
 */
#include <err.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <security/pam_appl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static const struct {
    const char *name;
    int resource;
} LIMITS[] = {
    {"as", RLIMIT_AS},         {"data", RLIMIT_DATA},   {"stack", RLIMIT_STACK},     {"fsize", RLIMIT_FSIZE},
    {"nofile", RLIMIT_NOFILE}, {"nproc", RLIMIT_NPROC}, {"memlock", RLIMIT_MEMLOCK},
};
enum { LIMIT_COUNT = sizeof LIMITS / sizeof *LIMITS };

/* Nothing may be asked: a session that prompts would hang a login. */
static int refuse(int count, const struct pam_message **messages, struct pam_response **answers, void *data)
{
    (void)count, (void)messages, (void)answers, (void)data;
    return PAM_CONV_ERR;
}

static void set_limit(const char *setting)
{
    for (int i = 0; i < LIMIT_COUNT; i++) {
        size_t length = strlen(LIMITS[i].name);
        if (strncmp(setting, LIMITS[i].name, length) == 0 && setting[length] == '=') {
            rlim_t value = strtoull(setting + length + 1, NULL, 10);
            struct rlimit limit = {value, value};
            if (setrlimit(LIMITS[i].resource, &limit) != 0)
                err(2, "setrlimit %s", setting);
            return;
        }
    }
    errx(2, "no such limit: %s", setting);
}

/* All memory, each block pointing to the one before. */
static void **hoard;

static void use_up_memory(size_t left)
{
    /* Freed blocks stay this process's. */
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    void *volatile block = malloc(left);
    set_limit("as=0");
    for (size_t size = 1 << 20; size >= sizeof(void *); size = size > 4096 ? size / 2 : size - 8) {
        void **next;
        while ((next = malloc(size))) {
            *next = hoard;
            hoard = next;
        }
    }
    free(block);
}

static void release_memory(void)
{
    while (hoard) {
        void **next = *hoard;
        free(hoard);
        hoard = next;
    }
}

struct open {
    pam_handle_t *pam;
    /* SIZE_MAX for all that there is. */
    size_t memory;
    int answer;
};

static void *open_session(void *argument)
{
    struct open *open = argument;
    if (open->memory != SIZE_MAX)
        use_up_memory(open->memory);
    open->answer = pam_open_session(open->pam, 0);
    release_memory();
    return NULL;
}

static void on_a_thread(struct open *open, size_t stack)
{
    pthread_attr_t attributes;
    pthread_t thread;
    if ((errno = pthread_attr_init(&attributes)) != 0 ||
        (errno = pthread_attr_setstacksize(&attributes, stack)) != 0 ||
        (errno = pthread_create(&thread, &attributes, open_session, open)) != 0 ||
        (errno = pthread_join(thread, NULL)) != 0)
        err(2, "a thread with %zu bytes of stack", stack);
}

/* The value of an option, or null if the argument is another one. */
static const char *value_of(const char *argument, const char *option)
{
    size_t length = strlen(option);
    return strncmp(argument, option, length) == 0 ? argument + length : NULL;
}

int main(int argc, char **argv)
{
    int first = 1;
    while (first < argc && strncmp(argv[first], "--", 2) == 0)
        first++;
    if (argc - first != 3)
        errx(2, "usage: session [OPTION...] CONFDIR SERVICE USER");

    struct pam_conv conversation = {refuse, NULL};
    struct open open = {NULL, SIZE_MAX, -1};
    int answer = pam_start_confdir(argv[first + 1], argv[first + 2], &conversation, argv[first], &open.pam);
    if (answer != PAM_SUCCESS)
        errx(2, "pam_start_confdir answered %d", answer);

    size_t stack = 0;
    const char *value;
    for (int i = 1; i < first; i++) {
        if ((value = value_of(argv[i], "--put="))) {
            if (pam_putenv(open.pam, value) != PAM_SUCCESS)
                errx(2, "pam_putenv %s", value);
        } else if ((value = value_of(argv[i], "--thread="))) {
            stack = strtoul(value, NULL, 10);
        } else if ((value = value_of(argv[i], "--left="))) {
            open.memory = strtoul(value, NULL, 10);
        } else if (!value_of(argv[i], "--limit=")) {
            errx(2, "no such option: %s", argv[i]);
        }
    }
    for (int i = 1; i < first; i++)
        if ((value = value_of(argv[i], "--limit=")))
            set_limit(value);

    if (stack != 0)
        on_a_thread(&open, stack);
    else
        open_session(&open);
    printf("open %d\n", open.answer);

    char **environment = pam_getenvlist(open.pam);
    for (int i = 0; environment != NULL && environment[i] != NULL; i++) {
        puts(environment[i]);
        free(environment[i]);
    }
    free(environment);

    if (open.answer == PAM_SUCCESS)
        printf("close %d\n", pam_close_session(open.pam, 0));
    printf("end %d\n", pam_end(open.pam, PAM_SUCCESS));
    return 0;
}
