// A small thread pool. Not OpenMP: torch brings its own OpenMP runtime, whose spinning workers and a
// second runtime's would fight over the same cores.
#pragma once
#include <cstdint>
#include <functional>

namespace nk {

int num_threads();

// Calls body(begin, end, thread) on disjoint chunks that cover [0, n); chunks are handed out in
// order and hold at most `grain` items. `thread` is in [0, num_threads()).
void parallel_for(int64_t n, int64_t grain,
                  const std::function<void(int64_t begin, int64_t end, int thread)>& body);

}  // namespace nk
