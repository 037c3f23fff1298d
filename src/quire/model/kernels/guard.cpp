// What is read from a mapped file that was cut short, or whose disk fails, is zeros, and it is noted: without this the
// system ends the process (SIGBUS), with every request in it.
//
// The handler runs in whichever thread reads, between two of its instructions. It calls mmap alone, takes no lock and
// allocates nothing. Faults outside the ranges go to the handler that was there before.

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <mutex>

#include <sys/mman.h>
#include <unistd.h>

namespace {

constexpr int64_t SLOTS = 1 << 16;

struct Range {
    std::atomic<uintptr_t> begin, end;  // of pages; begin is 0 where the slot is free
};

Range ranges[SLOTS];
std::atomic<int64_t> faults[SLOTS];
std::atomic<int64_t> used;  // slots from the first on that were ever taken
std::mutex changing;        // of the ranges; the handler does not take it
struct sigaction before;
uintptr_t page;

void pass_on(int number, siginfo_t* info, void* context) {
    static std::atomic<bool> passed;
    const bool handled = before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN && !passed.exchange(true);
    if (handled && (before.sa_flags & SA_SIGINFO)) {
        before.sa_sigaction(number, info, context);
    } else if (handled) {
        before.sa_handler(number);
    } else {  // nobody handles it: the instruction faults again when this returns, and ends the process
        struct sigaction standard = {};
        standard.sa_handler = SIG_DFL;
        sigaction(number, &standard, nullptr);
        if (info->si_code <= 0) raise(number);  // no instruction did it: another process sent it
    }
}

void on_fault(int number, siginfo_t* info, void* context) {
    const int error = errno;
    const auto at = reinterpret_cast<uintptr_t>(info->si_addr);
    const int64_t count = info->si_code > 0 ? used.load(std::memory_order_acquire) : 0;
    for (int64_t slot = 0; slot < count; ++slot) {
        const uintptr_t begin = ranges[slot].begin.load(std::memory_order_acquire);
        const uintptr_t end = ranges[slot].end.load(std::memory_order_acquire);
        if (!begin || at < begin || at >= end) continue;
        faults[slot].fetch_add(1);  // before the zeros can be read
        // To the end of the range at once: a file that was cut short has nothing there either.
        const uintptr_t from = at & ~(page - 1);
        void* zeros = mmap(reinterpret_cast<void*>(from), end - from, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
        if (zeros == MAP_FAILED) break;
        errno = error;
        return;
    }
    pass_on(number, info, context);
    errno = error;
}

}  // namespace

extern "C" {

// To be called once. 0, or the errno of what failed.
int64_t quire_guard_install() {
    page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    struct sigaction ours = {};
    ours.sa_sigaction = on_fault;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&ours.sa_mask);
    if (sigaction(SIGBUS, nullptr, &before)) return errno;  // known before ours can run
    return sigaction(SIGBUS, &ours, nullptr) ? errno : 0;
}

// The slot of the range from now on, -1 where all are taken.
int64_t quire_guard_protect(uintptr_t begin, uint64_t size) {
    const std::lock_guard<std::mutex> hold(changing);
    for (int64_t slot = 0; slot < SLOTS; ++slot) {
        if (ranges[slot].begin.load()) continue;
        faults[slot] = 0;
        ranges[slot].end = (begin + size + page - 1) & ~(page - 1);
        ranges[slot].begin = begin & ~(page - 1);
        if (slot >= used.load()) used = slot + 1;
        return slot;
    }
    return -1;
}

// To be called before the memory is unmapped: its addresses may be somebody else's then.
void quire_guard_release(int64_t slot) { ranges[slot].begin = 0; }

// How often each slot's range was read where it could not be: int64 [SLOTS].
int64_t* quire_guard_faults() { return reinterpret_cast<int64_t*>(faults); }

int64_t quire_guard_slots() { return SLOTS; }
}
