#include <cstdint>

#include "shared/export.h"
#if defined(__linux__)
#include <sys/mman.h>
#endif

// Ask for huge pages in the whole ones that lie within [data, data + bytes); a hint, never an error.
NK_EXPORT void nk_advise_huge(void* data, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    constexpr uintptr_t PAGE = uintptr_t{1} << 21;
    const uintptr_t start = reinterpret_cast<uintptr_t>(data);
    const uintptr_t first = (start + PAGE - 1) & ~(PAGE - 1), end = (start + bytes) & ~(PAGE - 1);
    if (end > first) madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE);
#else
    (void)data, (void)bytes;
#endif
}
