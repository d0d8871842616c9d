/*
 * Preloaded into a program under valgrind, whose version 3.19 does not know openat2(2): the call, as it comes through
 * syscall(3), answers as openat(2) would. So what is counted is the path that the program takes on a real kernel.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <sys/syscall.h>

long syscall(long number, ...)
{
    static long (*next)(long, ...);
    long arguments[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        arguments[i] = va_arg(list, long);
    va_end(list);

    if (number == SYS_openat2)
        return openat(arguments[0], (const char *)arguments[1], ((const struct open_how *)arguments[2])->flags);
    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "syscall");
    return next(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
}
