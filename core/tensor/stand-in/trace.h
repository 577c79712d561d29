// Which calls were made: with HEDDLE_STAND_IN_TRACE=file, a line for each launch, product, copy, memset,
// allocation and synchronisation is appended to the file. `cut -d' ' -f1 file | sort | uniq -c` counts them.
#pragma once

namespace stand_in {

void trace(const char* format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace stand_in
