/* Want of memory where nothing may be left half done: what is stored is whole, and starting again is the recovery. */
#ifndef COMMON_MEMORY_H
#define COMMON_MEMORY_H

/* Ends the process with the line and the exit code of every other end that is no crash. Asks for no memory. Any thread.
 */
_Noreturn void memory_exhausted(const char *what);

#endif
