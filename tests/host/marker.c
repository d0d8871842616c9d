/*
 * A PAM module that writes its argument to no file: in a trace of system calls, what lies between two of
 * these is what the module between them in the stack did. It answers PAM_IGNORE, so that the other decides.
 */
#include <security/pam_modules.h>
#include <string.h>
#include <unistd.h>

int pam_sm_open_session(pam_handle_t *pam, int flags, int argc, const char **argv)
{
    (void)pam, (void)flags;
    if (argc == 1 && write(-1, argv[0], strlen(argv[0])) >= 0)
        return PAM_SESSION_ERR;
    return PAM_IGNORE;
}

int pam_sm_close_session(pam_handle_t *pam, int flags, int argc, const char **argv)
{
    (void)pam, (void)flags, (void)argc, (void)argv;
    return PAM_IGNORE;
}
