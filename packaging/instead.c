/* Given to the linker in place of functions of the C library and of the unwinder that would bring 30 kB of others
   with them, on every machine.

   The first: what a thread that names itself needs of pthread_setname_np. Rust's library names no other thread; for
   that one musl prints a path, and so the whole of printf would be here. */

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/prctl.h>

int pthread_setname_np(pthread_t thread, const char *name) {
  if (strnlen(name, 16) > 15)
    return ERANGE;
  if (thread != pthread_self())
    return ENOTSUP;
  return prctl(PR_SET_NAME, name, 0UL, 0UL, 0UL) ? errno : 0;
}

/* The rest is for stack traces, and a panic ends the process without unwinding: Rust's library was built to print
   none, but the linker cannot know that nobody asks. Whoever does (in the full size a part keeps one with each error
   of its own, if the environment says so) hears that there are no frames, so nothing is asked about one. */

int _Unwind_Backtrace(void *each, void *argument) {
  (void)each;
  (void)argument;
  return 5; /* _URC_END_OF_STACK */
}

#define NOTHING(name)                                                                                                  \
  unsigned long name(void *context) {                                                                                  \
    (void)context;                                                                                                     \
    return 0;                                                                                                          \
  }

NOTHING(_Unwind_GetLanguageSpecificData)
NOTHING(_Unwind_GetRegionStart)
NOTHING(_Unwind_GetDataRelBase)
NOTHING(_Unwind_GetTextRelBase)
NOTHING(_Unwind_GetCFA)
NOTHING(_Unwind_FindEnclosingFunction)
#ifdef __arm__
NOTHING(_Unwind_VRS_Get)
NOTHING(_Unwind_VRS_Set)
NOTHING(__gnu_unwind_frame)
/* Named in the tables of the C library's functions. */
NOTHING(__aeabi_unwind_cpp_pr0)
NOTHING(__aeabi_unwind_cpp_pr1)
NOTHING(__aeabi_unwind_cpp_pr2)
#else
NOTHING(_Unwind_GetIP)
NOTHING(_Unwind_GetIPInfo)
NOTHING(_Unwind_SetGR)
NOTHING(_Unwind_SetIP)
#endif
