// See memory.h.
#include "memory.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>

namespace stand_in {

std::string (*where_running)() = nullptr;

namespace {

constexpr size_t PAGE = 4096;
constexpr size_t ALIGNMENT = 16;  // of the widest vector access; real allocations start at multiples of 256

std::mutex lock;
std::map<uint64_t, size_t> allocations;  // start to bytes
size_t in_use = 0;

size_t round_up(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }

// A file of nothing but the unset byte. Fresh memory is a private mapping of it, so that filling costs
// nothing and only pages that are written to take up memory.
constexpr size_t UNSET_BYTES = 4 << 20;

int unset_file() {
    static const int file = [] {
        int created = memfd_create("unset", MFD_CLOEXEC);
        std::string fill(UNSET_BYTES, static_cast<char>(UNSET));
        if (created < 0 || write(created, fill.data(), fill.size()) != static_cast<ssize_t>(fill.size()))
            fail("the host has no memory for %zu unset bytes", UNSET_BYTES);
        return created;
    }();
    return file;
}

// At least one byte, so that every allocation has an address of its own.
size_t padded(size_t bytes) { return round_up(bytes ? bytes : 1, ALIGNMENT); }
size_t pages(size_t bytes) { return round_up(padded(bytes), PAGE); }

bool is_unset(const char* start, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if (static_cast<unsigned char>(start[i]) != UNSET) return false;
    return true;
}

// The allocation that holds the address or ends there; callers hold the lock.
std::map<uint64_t, size_t>::const_iterator find(uint64_t address) {
    auto next = allocations.upper_bound(address);
    if (next == allocations.begin()) return allocations.end();
    auto candidate = std::prev(next);
    return address <= candidate->first + candidate->second ? candidate : allocations.end();
}

std::string describe(uint64_t address) {
    char text[160] = "it lies in no allocation";
    auto next = allocations.upper_bound(address);
    if (next != allocations.begin()) {
        auto [start, bytes] = *std::prev(next);
        if (address < start + pages(bytes) + PAGE)
            snprintf(text, sizeof text, "it lies %zu bytes into an allocation of %zu bytes at %#llx",
                     static_cast<size_t>(address - start), bytes, static_cast<unsigned long long>(start));
    }
    return text;
}

void on_fault(int signal_number, siginfo_t* info, void*) {
    signal(signal_number, SIG_DFL);
    auto address = reinterpret_cast<uint64_t>(info->si_addr);
    // The fault may have struck while the lock was held: then the message has to do without the allocation.
    std::string place = lock.try_lock() ? describe(address) : "allocations are being changed";
    fail("fault at address %#llx; %s", static_cast<unsigned long long>(address), place.c_str());
}

}  // namespace

void fail(const char* format, ...) {
    std::string where = where_running ? where_running() : "";
    fprintf(stderr, "\nCUDA stand-in: %s", where.c_str());
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    abort();
}

size_t total_bytes() {
    static const size_t total = [] {
        const char* limit = getenv("HEDDLE_STAND_IN_MEMORY");
        return limit ? strtoull(limit, nullptr, 10) : size_t{4} << 30;
    }();
    return total;
}

size_t free_bytes() {
    std::lock_guard<std::mutex> guard(lock);
    return total_bytes() - in_use;
}

char* map_guarded(size_t bytes) {
    size_t body = pages(bytes);
    void* map = mmap(nullptr, body + PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) fail("the host has no %zu bytes left", body);
    char* start = static_cast<char*>(map);
    for (size_t done = 0; done < body; done += UNSET_BYTES) {
        size_t part = body - done < UNSET_BYTES ? body - done : UNSET_BYTES;
        void* mapped =
            mmap(start + done, part, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, unset_file(), 0);
        if (mapped == MAP_FAILED) fail("the host has no %zu bytes left", body);
    }
    return start + body - padded(bytes);
}

void unmap_guarded(char* start, size_t bytes) {
    munmap(start + padded(bytes) - pages(bytes), pages(bytes) + PAGE);
}

uint64_t allocate(size_t bytes) {
    std::lock_guard<std::mutex> guard(lock);
    if (bytes > total_bytes() - in_use) return 0;
    auto address = reinterpret_cast<uint64_t>(map_guarded(bytes));
    allocations.emplace(address, bytes);
    in_use += bytes;
    return address;
}

bool release(uint64_t address) {
    std::lock_guard<std::mutex> guard(lock);
    auto found = allocations.find(address);
    if (found == allocations.end()) return false;
    size_t bytes = found->second;
    char* start = reinterpret_cast<char*>(address);
    size_t before = pages(bytes) - padded(bytes);
    if (!is_unset(start - before, before))
        fail("written before the start of an allocation of %zu bytes", bytes);
    if (!is_unset(start + bytes, padded(bytes) - bytes))
        fail("written behind the end of an allocation of %zu bytes", bytes);
    unmap_guarded(start, bytes);
    in_use -= bytes;
    allocations.erase(found);
    return true;
}

size_t check_range(uint64_t address, size_t bytes, const std::string& what) {
    std::lock_guard<std::mutex> guard(lock);
    auto found = find(address);
    if (found != allocations.end() && address + bytes <= found->first + found->second)
        return address - found->first;
    fail("%s: %zu bytes at %#llx are not inside device memory; %s", what.c_str(), bytes,
         static_cast<unsigned long long>(address), describe(address).c_str());
}

bool is_device_address(uint64_t address) {
    std::lock_guard<std::mutex> guard(lock);
    return find(address) != allocations.end();
}

void report_faults() {
    static std::once_flag once;
    std::call_once(once, [] {
        struct sigaction action{};
        action.sa_sigaction = on_fault;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK;  // the faulting stack may be the thing that is full
        sigaction(SIGSEGV, &action, nullptr);
        sigaction(SIGBUS, &action, nullptr);
    });
    constexpr size_t STACK = 64 << 10;
    thread_local std::unique_ptr<char[]> own;
    stack_t present{};
    sigaltstack(nullptr, &present);
    if (own || !(present.ss_flags & SS_DISABLE)) return;
    own = std::make_unique<char[]>(STACK);
    stack_t alternate{};
    alternate.ss_sp = own.get();
    alternate.ss_size = STACK;
    sigaltstack(&alternate, nullptr);
}

}  // namespace stand_in
