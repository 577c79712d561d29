// See trace.h.
#include "trace.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

namespace stand_in {

void trace(const char* format, ...) {
    static FILE* const file = [] {
        const char* path = getenv("HEDDLE_STAND_IN_TRACE");
        FILE* opened = path ? fopen(path, "a") : nullptr;
        // Whole lines, in the order of the calls, even if the process is ended.
        if (opened) setvbuf(opened, nullptr, _IOLBF, BUFSIZ);
        return opened;
    }();
    if (!file) return;
    va_list arguments;
    va_start(arguments, format);
    vfprintf(file, format, arguments);
    va_end(arguments);
}

}  // namespace stand_in
