/* Somebody who works in a tree while root makes it another user's.
 *
 * usage: migrate link|swap DIR VICTIM_FILE VICTIM_DIR
 *        migrate hold DIR FILE
 *
 * Goes into DIR, and from then on names nothing but what is in it: whatever becomes of DIR's own path, this
 * process stays there. `link` gives VICTIM_FILE new names, and takes them away again; `swap` exchanges its own
 * files and directories for symbolic links to the victim's, as fast as it can. On SIGTERM it says how often
 * that worked, and ends.
 *
 * `hold` opens FILE of DIR in every way that lasts, and DIR itself, and waits. On SIGTERM it writes through all
 * of these, and tries what else they may be good for: each line it prints is a thing that root would have to
 * regret. The writing itself always works, so that is for the caller to look at: the file's new owner must not
 * see it. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NAMES = 24 };

static volatile sig_atomic_t told_to_end;

static void end(int signal)
{
	(void)signal;
	told_to_end = 1;
}

static int linked(const char *victim, int i)
{
	char name[32];
	snprintf(name, sizeof name, "link-%d", i);
	if (unlink(name) == 0)
		return 1;
	return link(victim, name) == 0;
}

static void prepare_swap(const char *victim, const char *victim_dir)
{
	for (int i = 0; i < NAMES; i++) {
		char name[32];
		snprintf(name, sizeof name, "file-%d", i);
		int fd = open(name, O_WRONLY | O_CREAT, 0664);
		if (fd >= 0)
			close(fd);
		snprintf(name, sizeof name, "to-file-%d", i);
		symlink(victim, name);
		snprintf(name, sizeof name, "dir-%d", i);
		mkdir(name, 0775);
		snprintf(name, sizeof name, "dir-%d/inner", i);
		fd = open(name, O_WRONLY | O_CREAT, 0664);
		if (fd >= 0)
			close(fd);
		snprintf(name, sizeof name, "to-dir-%d", i);
		symlink(victim_dir, name);
	}
}

static int swapped(int i)
{
	char mine[32], other[32];
	snprintf(mine, sizeof mine, "file-%d", i);
	snprintf(other, sizeof other, "to-file-%d", i);
	int done = renameat2(AT_FDCWD, mine, AT_FDCWD, other, RENAME_EXCHANGE) == 0;
	snprintf(mine, sizeof mine, "dir-%d", i);
	snprintf(other, sizeof other, "to-dir-%d", i);
	return done + (renameat2(AT_FDCWD, mine, AT_FDCWD, other, RENAME_EXCHANGE) == 0);
}

/* Sends a descriptor to a socket of our own, and keeps none: no /proc/PID/fd shows it until it is received. */
static void hide(int sockets[2], int fd)
{
	char byte = 0, control[CMSG_SPACE(sizeof fd)] = { 0 };
	struct iovec data = { &byte, 1 };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(header), &fd, sizeof fd);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) != 0 || sendmsg(sockets[0], &message, 0) != 1)
		perror("migrate: hide");
	close(fd);
}

static int found_again(int sockets[2])
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec data = { &byte, 1 };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	int fd = -1;
	if (recvmsg(sockets[1], &message, 0) == 1 && CMSG_FIRSTHDR(&message) != NULL)
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
	return fd;
}

static void regret(const char *what, int code)
{
	if (code >= 0)
		printf("%s\n", what);
}

static int hold(const char *name)
{
	char again[64];
	int sockets[2];
	/* In one way alone, so that each must be found. */
	int is_mapped = strstr(name, "mapped") != NULL, is_path = strstr(name, "path") != NULL,
	    is_leased = strstr(name, "leased") != NULL;
	int fd = open(name, is_path ? O_PATH : O_RDWR);
	int directory = open(".", O_RDONLY | O_DIRECTORY);
	char *map = MAP_FAILED;
	if (is_mapped) {
		map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		/* A page that is dirty already: writing to it changes no time of the file's. */
		map[0] = map[0];
		close(fd);
	} else if (is_leased) {
		/* A lease that is not given up when it is asked for. */
		signal(SIGIO, SIG_IGN);
		if (fcntl(fd, F_SETLEASE, F_WRLCK) != 0)
			perror("migrate: lease");
	} else if (!is_path) {
		hide(sockets, fd);
	}
	puts("ready");
	fflush(stdout);
	sigset_t none;
	sigemptyset(&none);
	while (!told_to_end)
		sigsuspend(&none);

	if (is_mapped) {
		memcpy(map, "EVIL", 4);
	} else if (is_path) {
		snprintf(again, sizeof again, "/proc/self/fd/%d", fd);
		regret("opened the file anew", open(again, O_WRONLY));
	} else if (is_leased) {
		return 0;
	} else {
		fd = found_again(sockets);
		if (pwrite(fd, "EVIL", 4, 0) != 4)
			perror("migrate: pwrite");
		regret("changed the mode", fchmod(fd, 04777));
	}
	regret("made a file by the directory", openat(directory, "planted", O_WRONLY | O_CREAT, 0666));
	regret("made a file in the current directory", open("planted-too", O_WRONLY | O_CREAT, 0666));
	regret("opened a file for writing by the directory", openat(directory, name, O_WRONLY));
	regret("removed a file by the directory", unlinkat(directory, name, 0));
	regret("renamed a file by the directory", renameat(directory, name, directory, "renamed"));
	regret("made a directory", mkdirat(directory, "planted-dir", 0777));
	regret("linked into the directory", symlinkat("/etc/shadow", directory, "planted-link"));
	regret("changed the directory's mode", fchmod(directory, 0777));
	regret("changed the directory's owner", fchown(directory, getuid(), -1));
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "hold") == 0 && chdir(argv[2]) == 0) {
		/* A signal that comes between the look and the wait waits too. */
		sigset_t end_only;
		sigemptyset(&end_only);
		sigaddset(&end_only, SIGTERM);
		sigprocmask(SIG_BLOCK, &end_only, NULL);
		signal(SIGTERM, end);
		umask(0);
		return hold(argv[3]);
	}
	if (argc != 5 || chdir(argv[2]) != 0) {
		perror("migrate");
		return 2;
	}
	signal(SIGTERM, end);
	umask(002);
	int swap = strcmp(argv[1], "swap") == 0;
	if (swap)
		prepare_swap(argv[3], argv[4]);
	puts("ready");
	fflush(stdout);

	long done = 0;
	for (int i = 0; !told_to_end; i = (i + 1) % NAMES)
		done += swap ? swapped(i) : linked(argv[3], i);
	printf("%ld\n", done);
	return 0;
}
