/*
 * A name service that answers with another name than it was asked for, as directory services do that do not
 * tell upper from lower case, and with names that no sane one has; and that cannot be asked about one group. For
 * tests/integration/names.rs.
 */
#include <errno.h>
#include <grp.h>
#include <nss.h>
#include <pwd.h>
#include <stddef.h>
#include <string.h>

static const struct {
    const char *typed, *canonical;
    uid_t uid;
    gid_t gid;
} users[] = {
    { "JO.DOE", "jo.doe", 3301, 4000 },
    { "jo.doe", "jo.doe", 3301, 4000 },
    { "LISTED", "listed", 3302, 3302 },
    { "TYPED", "canonical", 3303, 3303 },
    { "latin1", "caf\xe9", 3304, 4000 },
    { "newline", "a\nb", 3305, 4000 },
    { "above", "../bob", 3306, 4000 },
    { "dots", "..", 3307, 4000 },
    { "nothing", "", 3308, 4000 },
    { "slash", "/", 3309, 4000 },
    { "mark", "caf\xef\xbf\xbd", 3310, 4000 },
};

enum nss_status _nss_hostile_getpwnam_r(const char *name, struct passwd *found, char *buffer, size_t size, int *error)
{
    (void)buffer, (void)size;
    for (size_t i = 0; i < sizeof users / sizeof *users; i++) {
        if (strcmp(name, users[i].typed) != 0)
            continue;
        *found = (struct passwd){
            .pw_name = (char *)users[i].canonical,
            .pw_passwd = "x",
            .pw_uid = users[i].uid,
            .pw_gid = users[i].gid,
            .pw_gecos = "",
            .pw_dir = "/nonexistent",
            .pw_shell = "/bin/bash",
        };
        return NSS_STATUS_SUCCESS;
    }
    *error = ENOENT;
    return NSS_STATUS_NOTFOUND;
}

enum nss_status _nss_hostile_getgrnam_r(const char *name, struct group *found, char *buffer, size_t size, int *error)
{
    (void)found, (void)buffer, (void)size;
    *error = ENOENT;
    return strcmp(name, "unreachable") == 0 ? NSS_STATUS_UNAVAIL : NSS_STATUS_NOTFOUND;
}
