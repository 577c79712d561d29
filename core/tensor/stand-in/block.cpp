// See block.h.
//
// A fibre runs one thread after the other for as long as none of them waits, so a kernel without barriers
// costs a call per thread. A thread that waits keeps its fibre; the next thread starts on another one.
#include "block.h"

#include "fibre.h"
#include "memory.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>
#include <vector>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace stand_in {
namespace {

constexpr int MAX_THREADS = 1024;
constexpr size_t STACK = 64 << 10;
constexpr size_t GUARD = 4096;

struct Fibre {
    Context context;
    char* bottom;
    char* top;
};

struct Thread {
    uint3 index;
    Fibre* fibre;  // null before it starts and after it ended
    const Site* waits_at;
    bool ended;
};

// The lanes that can go on, and the exchange that the others wait for.
struct Warp {
    unsigned members, runnable, arrived;
    Site site;
    unsigned exchanges;  // so far; consecutive ones use different slots
    Slot slots[2][WARP];
};

Launch now;
bool running = false;
Context host;
Thread threads[MAX_THREADS];
Warp warps[MAX_THREADS / WARP];
int thread_count, warp_count, ended, at_barrier, current;
Site barrier;
std::vector<Fibre*> idle;
bool synchronises;  // whether a thread of this launch has waited for another
char* dynamic = nullptr;
size_t dynamic_size = 0;

std::string where() {
    if (!running) return "";
    char text[200];
    snprintf(text, sizeof text, "kernel %s, block (%u, %u, %u), thread (%u, %u, %u): ", now.kernel->name,
             blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
    return text;
}

bool same(const Site& a, const Site& b) {
    return a.line == b.line && strcmp(a.what, b.what) == 0 && strcmp(a.file, b.file) == 0;
}

// Says who waits where.
[[noreturn]] void fail_apart() {
    std::string report =
        std::to_string(ended) + " of " + std::to_string(thread_count) + " threads have ended";
    std::set<std::string> seen;
    for (int i = 0; i < thread_count; i++) {
        const Site* site = threads[i].waits_at;
        if (!site) continue;
        std::string place = std::string(site->what) + " at " + site->file + ":" + std::to_string(site->line);
        if (!seen.insert(place).second) continue;
        int count = 0;
        for (int j = 0; j < thread_count; j++)
            if (threads[j].waits_at && same(*threads[j].waits_at, *site)) count++;
        report +=
            "; " + std::to_string(count) + " wait in " + place + " (thread " + std::to_string(i) + " first)";
    }
    fail("the threads do not meet: %s", report.c_str());
}

Fibre* new_fibre() {
    static size_t made = 0;
    void* map = mmap(nullptr, GUARD + STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || mprotect(map, GUARD, PROT_NONE) != 0)
        fail("no memory for the stack of a thread");
    char* bottom = static_cast<char*>(map) + GUARD;
    // Stacks that all start at the same offset in their page would compete for the same lines of the cache.
    return new Fibre{{}, bottom, bottom + STACK - made++ % 64 * 64};
}

// Threads and blocks run in the order of their numbers, or, with HEDDLE_STAND_IN_ORDER=reverse, against it. A
// kernel that lacks a barrier may come out right in one order; hardly in both.
bool reversed() {
    static const bool set = [] {
        const char* order = getenv("HEDDLE_STAND_IN_ORDER");
        return order && strcmp(order, "reverse") == 0;
    }();
    return set;
}

// The next thread that can go on: of the same warp first, then of the others, in order; -1 if there is none.
int next_runnable() {
    int own = current / WARP, lane = current % WARP;
    unsigned ahead = reversed() ? (1u << lane) - 1 : ~1u << lane;
    for (int step = 0; step < warp_count; step++) {
        int w = (own + (reversed() ? warp_count - step : step)) % warp_count;
        unsigned candidates = warps[w].runnable;
        if (!candidates) continue;
        if (step == 0 && (candidates & ahead)) candidates &= ahead;
        return w * WARP + (reversed() ? 31 - __builtin_clz(candidates) : __builtin_ctz(candidates));
    }
    return -1;
}

void make_current(int next) {
    current = next;
    threadIdx = threads[next].index;
}

void end_current() {
    Thread& thread = threads[current];
    thread.fibre = nullptr;
    thread.ended = true;
    warps[current / WARP].runnable &= ~(1u << current % WARP);
    ended++;
}

void fibre_main() {
    for (;;) {
        Fibre* own = threads[current].fibre;
        now.kernel->call(now.arguments);
        end_current();
        int next = next_runnable();
        if (next < 0 && ended < thread_count) fail_apart();
        if (next >= 0) make_current(next);
        if (next >= 0 && !threads[next].fibre) {
            threads[next].fibre = own;
            continue;
        }
        idle.push_back(own);
        change(own->context, next < 0 ? host : threads[next].fibre->context);
    }
}

Fibre* start_fibre() {
    if (idle.empty()) idle.push_back(new_fibre());
    Fibre* fibre = idle.back();
    idle.pop_back();
    prepare(fibre->context, fibre->bottom, fibre->top, fibre_main);
    return fibre;
}

// Leaves the processor to another thread until somebody makes this one runnable.
void give_way() {
    Context& own = threads[current].fibre->context;
    warps[current / WARP].runnable &= ~(1u << current % WARP);
    int next = next_runnable();
    if (next < 0) fail_apart();
    make_current(next);
    if (!threads[next].fibre) threads[next].fibre = start_fibre();
    change(own, threads[next].fibre->context);
}

void release_warp(Warp& warp, int first) {
    warp.runnable = warp.members;
    for (int i = first; i < first + WARP && i < thread_count; i++) threads[i].waits_at = nullptr;
}

uint3 place(unsigned long long number, dim3 size) {
    return {static_cast<unsigned>(number % size.x), static_cast<unsigned>(number / size.x % size.y),
            static_cast<unsigned>(number / size.x / size.y)};
}

void prepare_threads(dim3 block) {
    thread_count = static_cast<int>(block.x * block.y * block.z);
    warp_count = (thread_count + WARP - 1) / WARP;
    for (int i = 0; i < thread_count; i++) threads[i].index = place(static_cast<unsigned>(i), block);
    for (int w = 0; w < warp_count; w++) {
        int lanes = thread_count - w * WARP;
        warps[w].members = lanes >= WARP ? ~0u : (1u << lanes) - 1;
    }
}

void unset_shared() {
    memset(now.program->shared_begin, UNSET,
           static_cast<size_t>(now.program->shared_end - now.program->shared_begin));
    if (dynamic) memset(dynamic, UNSET, dynamic_size);
}

void run_block() {
    for (int i = 0; i < thread_count; i++) threads[i] = {threads[i].index, nullptr, nullptr, false};
    for (int w = 0; w < warp_count; w++) {
        warps[w].runnable = warps[w].members;
        warps[w].arrived = 0;
    }
    ended = at_barrier = 0;
    // Threads that never wait have no use for shared memory: what the block before left there may stay.
    if (synchronises) unset_shared();
    make_current(reversed() ? thread_count - 1 : 0);
    Fibre* first = threads[current].fibre = start_fibre();
    change(host, first->context);
}

void prepare_dynamic(size_t bytes) {
    if (bytes == dynamic_size) return;
    if (dynamic) unmap_guarded(dynamic, dynamic_size);
    dynamic = bytes ? map_guarded(bytes) : nullptr;
    dynamic_size = bytes;
}

}  // namespace

void wait_for_block(Site site) {
    synchronises = true;
    if (at_barrier == 0) barrier = site;
    threads[current].waits_at = &site;
    if (!same(barrier, site)) fail_apart();
    if (++at_barrier < thread_count) return give_way();
    at_barrier = 0;
    for (int w = 0; w < warp_count; w++) release_warp(warps[w], w * WARP);
}

const Slot* exchange(Slot own, unsigned mask, Site site, void (*last)(const Slot*)) {
    synchronises = true;
    Warp& warp = warps[current / WARP];
    if ((mask & warp.members) != warp.members)
        fail("%s at %s:%d: the mask %#x leaves out lanes of the warp, which the stand-in cannot do",
             site.what, site.file, site.line, mask);
    if (!warp.arrived) warp.site = site;
    threads[current].waits_at = &site;
    if (!same(warp.site, site)) fail_apart();
    Slot* slots = warp.slots[warp.exchanges % 2];
    slots[current % WARP] = own;
    warp.arrived |= 1u << current % WARP;
    if (warp.arrived != warp.members) {
        give_way();
        return slots;
    }
    if (last) last(slots);
    warp.arrived = 0;
    warp.exchanges++;
    release_warp(warp, current / WARP * WARP);
    return slots;
}

int lane() { return current % WARP; }

void* dynamic_shared() { return dynamic; }

void run_grid(const Launch& launch) {
    now = launch;
    where_running = where;
    running = true;
    synchronises = false;
    blockDim = launch.block;
    gridDim = launch.grid;
    prepare_threads(launch.block);
    prepare_dynamic(launch.dynamic_bytes);
    unset_shared();
    unsigned long long blocks = 1ull * launch.grid.x * launch.grid.y * launch.grid.z;
    for (unsigned long long i = 0; i < blocks; i++) {
        blockIdx = place(reversed() ? blocks - 1 - i : i, launch.grid);
        run_block();
    }
    running = false;
}

}  // namespace stand_in
