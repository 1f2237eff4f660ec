// Memory for a call's work, on a cache line's boundary: a vector that straddles two costs twice.
//
// Some of what is given back is kept for the next call of the same size: megabytes from the system
// come page by page, which took a fifth of the time of a small batch.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

namespace nk {

class AlignedFloats {
  public:
    explicit AlignedFloats(int64_t n) : n_(n), data_(take(n)) {}
    AlignedFloats(const AlignedFloats&) = delete;
    AlignedFloats& operator=(const AlignedFloats&) = delete;
    ~AlignedFloats() { give_back(); }

    // Undefined until written.
    float* data() { return data_; }
    const float* data() const { return data_; }

  private:
    static constexpr int64_t MOST_KEPT = 1 << 24;  // floats, of all threads

    struct Kept {
        std::mutex mutex;
        std::vector<std::pair<int64_t, float*>> blocks;
        int64_t total = 0;
    };
    static Kept& kept() {
        static Kept* all = new Kept;  // outlives every user
        return *all;
    }

    static float* take(int64_t n) {
        Kept& all = kept();
        {
            const std::lock_guard<std::mutex> lock(all.mutex);
            for (auto& block : all.blocks)
                if (block.first == n) {
                    float* data = block.second;
                    block = all.blocks.back();
                    all.blocks.pop_back();
                    all.total -= n;
                    return data;
                }
        }
        const size_t bytes = (static_cast<size_t>(n) * sizeof(float) + 63) / 64 * 64;
        void* data = std::aligned_alloc(64, bytes ? bytes : 64);
        if (!data) throw std::bad_alloc();
        return static_cast<float*>(data);
    }

    void give_back() {
        Kept& all = kept();
        const std::lock_guard<std::mutex> lock(all.mutex);
        if (all.total + n_ > MOST_KEPT) {
            std::free(data_);
            return;
        }
        all.blocks.emplace_back(n_, data_);
        all.total += n_;
    }

    int64_t n_;
    float* data_;
};

}  // namespace nk
