// Threads that help the caller, and memory that a thread keeps.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <type_traits>

namespace {

struct Scratch {
    float* data = nullptr;
    size_t size = 0;
    float* need(size_t floats) {
        if (floats > size) {
            std::free(data);
            size = (floats + 1023) / 1024 * 1024;
            data = static_cast<float*>(std::aligned_alloc(64, size * sizeof(float)));
            if (!data) std::abort();
        }
        return data;
    }
    ~Scratch() { std::free(data); }
};

// Workers that help the caller through numbered items. The caller waits for items begun, never for workers: one that
// the system has put aside costs nothing, where a barrier would wait for its next turn, milliseconds later.
class Team {
  public:
    template <class F> void each(int64_t count, int64_t threads, F&& item) {
        std::unique_lock<std::mutex> alone(calling_, std::try_to_lock);
        if (!alone || threads < 2 || count < 2) {
            for (int64_t i = 0; i < count; i++) item(i);
            return;
        }
        hire(std::min(threads, count) - 1);
        context_ = &item;
        run_ = [](void* context, int64_t i) { (*static_cast<std::remove_reference_t<F>*>(context))(i); };
        count_ = count;
        helpers_.store(std::min(threads, count) - 1, std::memory_order_relaxed);
        done_.store(0, std::memory_order_relaxed);
        const uint64_t job = (ticket_.load() >> 32) + 1;
        ticket_.store(job << 32 | uint64_t(count));
        if (sleeping_.load()) {
            std::lock_guard<std::mutex> lock(bed_);
            woken_.notify_all();
        }
        work(job);
        for (int spins = 0; done_.load(std::memory_order_acquire) < count; spins++) pause(spins);
    }

  private:
    static constexpr uint64_t LEFT = 0xffffffff;
    static constexpr int SPINS = 20000;  // about the time between two kernels of a step, several times over

    static void pause(int spins) {
        if (spins % 4096 == 4095) std::this_thread::yield();
#if defined(__x86_64__)
        else __builtin_ia32_pause();
#endif
    }

    // Takes items of `job` until there are none. The ticket holds the job and how many of its items nobody has taken, and
    // only who has taken one may look at the rest: until that one is done there is no other job. A worker that was away
    // for a while finds another job's ticket, whatever it remembers.
    void work(uint64_t job) {
        for (uint64_t ticket = ticket_.load(); ticket >> 32 == job && (ticket & LEFT);) {
            if (!ticket_.compare_exchange_weak(ticket, ticket - 1)) continue;
            run_(context_, count_ - int64_t(ticket & LEFT));
            done_.fetch_add(1, std::memory_order_release);
            ticket = ticket_.load();
        }
    }

    void hire(int64_t wanted) {
        for (; hired_ < wanted; hired_++) std::thread([this, me = hired_] { serve(me); }).detach();
    }

    void serve(int64_t me) {
        uint64_t last = 0;
        for (int spins = 0;; spins++) {
            const uint64_t job = ticket_.load() >> 32;
            if (job != last) {
                last = job;
                spins = 0;
                if (me < helpers_.load(std::memory_order_relaxed)) work(job);
            } else if (spins < SPINS) {
                pause(spins);
            } else {
                std::unique_lock<std::mutex> lock(bed_);
                sleeping_++;
                woken_.wait(lock, [&] { return ticket_.load() >> 32 != last; });
                sleeping_--;
            }
        }
    }

    std::mutex calling_, bed_;
    std::condition_variable woken_;
    std::atomic<uint64_t> ticket_{0};  // job << 32 | items left
    std::atomic<int64_t> helpers_{0}, done_{0};
    std::atomic<int> sleeping_{0};
    int64_t count_ = 0;
    void* context_ = nullptr;
    void (*run_)(void*, int64_t) = nullptr;
    int64_t hired_ = 0;
};

Team& team() {
    static Team* everyone = new Team;  // never destroyed: its threads outlive the end of main
    return *everyone;
}

}  // namespace
