// Device memory of the stand-in: host memory that notices what a GPU would not forgive.
//
// Every allocation ends at a page that nobody may touch, starts out as NaN (0xFF bytes), and is checked for
// stray writes around it when it is freed. Knows nothing of CUDA's calls.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace stand_in {

// Prints the message and, where a kernel is running, where it was; ends the process.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// The byte that fills fresh memory; four of them are a NaN, two of them are one in either 16-bit format.
constexpr int UNSET = 0xFF;

// A new allocation, aligned to 16 bytes; 0 where the device's memory would not suffice.
uint64_t allocate(size_t bytes);
// False if there is no allocation at this address.
bool release(uint64_t address);

size_t total_bytes();
size_t free_bytes();

// Distance from the start of the allocation that holds the range; ends the process if there is none.
size_t check_range(uint64_t address, size_t bytes, const std::string& what);
// Whether the address lies in an allocation or right behind it.
bool is_device_address(uint64_t address);

// Pages with a guard behind them, for shared memory: `bytes` end within 16 bytes of the guard.
char* map_guarded(size_t bytes);
void unmap_guarded(char* start, size_t bytes);

// Makes a fault of this host thread report what was touched. Called before kernels run.
void report_faults();

// Where the running kernel is, for messages; set by the code that runs blocks.
extern std::string (*where_running)();

}  // namespace stand_in
