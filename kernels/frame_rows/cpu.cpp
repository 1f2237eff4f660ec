// A frame's directions in world axes, and its pixels where they belong.
#include <cstdint>

#include "shared/export.h"
#include "shared/parallel.h"

namespace {

constexpr int64_t GRAIN = 1 << 13;

template <int C>
void put(const float* values, const int64_t* rows, int64_t begin, int64_t end, float* image) {
    for (int64_t i = begin; i < end; ++i)
        for (int c = 0; c < C; ++c) image[rows[i] * C + c] = values[i * C + c];
}

}  // namespace

NK_EXPORT void nk_turned(const float* directions, const float* rotation, int64_t n, float* out) {
    float r[9];
    for (int i = 0; i < 9; ++i) r[i] = rotation[i];
    nk::parallel_for(n, GRAIN, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
            const float x = directions[3 * i], y = directions[3 * i + 1], z = directions[3 * i + 2];
            for (int a = 0; a < 3; ++a)
                out[3 * i + a] = r[3 * a] * x + r[3 * a + 1] * y + r[3 * a + 2] * z;
        }
    });
}

NK_EXPORT void nk_put_rows(const float* values, const int64_t* rows, int64_t n, int64_t columns,
                           float* image) {
    nk::parallel_for(n, GRAIN, [&](int64_t begin, int64_t end, int) {
        if (columns == 1) return put<1>(values, rows, begin, end, image);
        if (columns == 3) return put<3>(values, rows, begin, end, image);
        for (int64_t i = begin; i < end; ++i)
            for (int64_t c = 0; c < columns; ++c)
                image[rows[i] * columns + c] = values[i * columns + c];
    });
}
