// Samples in tiles for threads.
#pragma once
#include <cstdint>

#include "shared/parallel.h"

namespace nk {

// Calls body(first sample, count, thread) on tiles that cover [0, n). All but the last hold as many
// samples, a multiple of `lanes` and at most `most`, which is one too; and there are as many for
// each thread, or nearly: with few tiles a thread with one more would keep the others waiting.
template <class Body>
void for_each_tile(int64_t n, int64_t most, int64_t lanes, const Body& body) {
    if (n == 0) return;
    const int64_t threads = num_threads();
    const int64_t rounds = (n + threads * most - 1) / (threads * most);
    const int64_t even = (n + threads * rounds - 1) / (threads * rounds);
    const int64_t samples = (even + lanes - 1) / lanes * lanes;
    parallel_for((n + samples - 1) / samples, 1, [&](int64_t begin, int64_t end, int thread) {
        for (int64_t first = begin * samples; first < end * samples; first += samples)
            body(first, static_cast<int>(n - first < samples ? n - first : samples), thread);
    });
}

}  // namespace nk
