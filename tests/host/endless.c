// A process of an ordinary user's whose environment, as /proc shows it, is as long as an argument says, in GiB:
// prctl(2) lets it say where its environment lies, and memory that nobody has touched costs nothing.
#define _GNU_SOURCE
#include <linux/prctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

// The fields of /proc/self/stat by their numbers in proc(5); those before the fourth are no numbers.
static int read_stat(unsigned long long field[53])
{
	char line[2048] = "";
	FILE *stat = fopen("/proc/self/stat", "re");

	if (!stat || !fgets(line, sizeof line, stat))
		return -1;
	fclose(stat);
	char *rest = strrchr(line, ')');
	if (!rest)
		return -1;
	rest += strlen(") S ");
	for (int number = 4; number < 53; number++)
		field[number] = strtoull(rest, &rest, 10);
	return 0;
}

int main(int argc, char **argv)
{
	unsigned long long field[53] = { 0 };
	size_t length = argc > 1 ? strtoull(argv[1], NULL, 10) << 30 : 0;
	char *zeros = mmap(NULL, length, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (zeros == MAP_FAILED || read_stat(field) != 0)
		return 1;
	struct prctl_mm_map map = {
		.start_code = field[26],
		.end_code = field[27],
		.start_stack = field[28],
		.start_data = field[45],
		.end_data = field[46],
		.start_brk = field[47],
		.brk = (unsigned long)sbrk(0),
		.arg_start = field[48],
		.arg_end = field[49],
		.env_start = (unsigned long)zeros,
		.env_end = (unsigned long)(zeros + length),
		.exe_fd = -1,
	};
	if (prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0) != 0) {
		perror("prctl");
		return 1;
	}
	puts("ready");
	fflush(stdout);
	pause();
	return 0;
}
