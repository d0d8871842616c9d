/*
 * A PAM module that asks NSS what a session of pam_cargo_target asks, and does nothing else: getpwnam_r(3); without the
 * argument "user", getgrnam_r(3) too; and with "all", as for a user whom the group does not list, getgrouplist(3).
 */
#include <grp.h>
#include <pwd.h>
#include <security/pam_modules.h>
#include <string.h>

int pam_sm_open_session(pam_handle_t *pam, int flags, int argc, const char **argv)
{
    static char buffer[1024 * 1024];
    struct passwd user, *found_user = NULL;
    struct group group, *found_group = NULL;
    const void *name = NULL;
    gid_t gids[1024];
    int count = 1024;
    (void)flags;
    if (pam_get_item(pam, PAM_USER, &name) != PAM_SUCCESS ||
        getpwnam_r(name, &user, buffer, sizeof buffer, &found_user) != 0 || !found_user)
        return PAM_SESSION_ERR;
    gid_t gid = user.pw_gid;
    if (argc == 0 || strcmp(argv[0], "user") != 0)
        getgrnam_r("workspace", &group, buffer, sizeof buffer, &found_group);
    if (argc == 1 && strcmp(argv[0], "all") == 0)
        getgrouplist(name, gid, gids, &count);
    return PAM_SUCCESS;
}

int pam_sm_close_session(pam_handle_t *pam, int flags, int argc, const char **argv)
{
    (void)pam, (void)flags, (void)argc, (void)argv;
    return PAM_SUCCESS;
}
