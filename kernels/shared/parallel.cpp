#include "shared/parallel.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "shared/export.h"

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace nk {
namespace {

using Body = std::function<void(int64_t, int64_t, int)>;

struct Job {
    const Body* body = nullptr;
    int64_t n = 0, grain = 1;
    std::atomic<int64_t> next{0};
    void work(int thread) {
        for (int64_t begin; (begin = next.fetch_add(grain, std::memory_order_relaxed)) < n;)
            (*body)(begin, begin + grain < n ? begin + grain : n, thread);
    }
};

struct Pool {
    std::mutex mutex, one_caller;
    std::condition_variable start, done;
    std::vector<std::thread> workers;
    Job job;
    uint64_t generation = 0;
    int busy = 0, wanted = 1;
    bool stopping = false;

    void run_worker(int thread, uint64_t seen) {
        for (;;) {
            std::unique_lock<std::mutex> lock(mutex);
            start.wait(lock, [&] { return stopping || generation != seen; });
            if (stopping) return;
            seen = generation;
            lock.unlock();
            job.work(thread);
            lock.lock();
            if (--busy == 0) done.notify_one();
        }
    }
    void resize(int threads) {
        stop();
        stopping = false;
        wanted = threads < 1 ? 1 : threads;
    }
    void ensure_started() {
        while (static_cast<int>(workers.size()) < wanted - 1) {
            const int thread = static_cast<int>(workers.size()) + 1;
            workers.emplace_back(&Pool::run_worker, this, thread, generation);
        }
    }
    void stop() {
        {
            std::lock_guard<std::mutex> lock(mutex);
            stopping = true;
        }
        start.notify_all();
        for (auto& worker : workers) worker.join();
        workers.clear();
    }
    void run(int64_t n, int64_t grain, const Body& body) {
        std::lock_guard<std::mutex> caller(one_caller);
        ensure_started();
        {
            std::lock_guard<std::mutex> lock(mutex);
            job.body = &body;
            job.n = n;
            job.grain = grain;
            job.next.store(0, std::memory_order_relaxed);
            busy = static_cast<int>(workers.size());
            ++generation;
        }
        start.notify_all();
        job.work(0);
        std::unique_lock<std::mutex> lock(mutex);
        done.wait(lock, [&] { return busy == 0; });
    }
};

Pool* pool = nullptr;

Pool& the_pool() {
    if (!pool) {
        pool = new Pool;  // never destroyed: workers may outlive static destructors at exit
#if !defined(_WIN32)
        // A forked child has no worker threads: it starts with a pool of its own.
        pthread_atfork(nullptr, nullptr, [] {
            const int wanted = pool->wanted;
            pool = new Pool;
            pool->wanted = wanted;
        });
#endif
    }
    return *pool;
}

}  // namespace

int num_threads() { return the_pool().wanted; }

void parallel_for(int64_t n, int64_t grain, const Body& body) {
    if (n <= 0) return;
    if (grain < 1) grain = 1;
    Pool& workers = the_pool();
    if (workers.wanted == 1 || n <= grain) {
        for (int64_t begin = 0; begin < n; begin += grain)
            body(begin, begin + grain < n ? begin + grain : n, 0);
        return;
    }
    workers.run(n, grain, body);
}

}  // namespace nk

NK_EXPORT int64_t nk_num_threads() { return nk::num_threads(); }
NK_EXPORT void nk_set_num_threads(int64_t threads) { nk::the_pool().resize(static_cast<int>(threads)); }
