// Values of all levels summed, level by level, and the transpose of that; in place.
// See README.md for why the sum at the finest vertices is exact.
#include <cstring>

#include "shared/export.h"
#include "shared/parallel.h"

namespace {

// Where a level's bricks lie: places [first, last), the table of the level and its size.
struct Level {
    int64_t first, last;
    const int32_t* table;
    int32_t n;
};

Level level_at(int64_t l, const int64_t* resolutions, const int64_t* starts, const int32_t* tables) {
    for (int64_t i = 0; i < l; ++i) {
        const int64_t n = resolutions[i] / 4 + 1;
        tables += n * n * n;
    }
    return {starts[l], starts[l + 1], tables, static_cast<int32_t>(resolutions[l] / 4 + 1)};
}

// Place of the brick (x, y, z) of a level's table; of the brick of zeros where none is stored.
inline int64_t place(const Level& level, int32_t x, int32_t y, int32_t z) {
    if (x < 0 || y < 0 || z < 0 || x >= level.n || y >= level.n || z >= level.n) return 0;
    return level.table[(static_cast<int64_t>(z) * level.n + y) * level.n + x];
}

inline int64_t row(int64_t place, int32_t x, int32_t y, int32_t z) {
    return place * 64 + (x & 3) + 4 * (y & 3) + 16 * (z & 3);
}

inline void mean(const float* a, const float* b, int n, float* out) {
    for (int i = 0; i < n; ++i) out[i] = 0.5f * (a[i] + b[i]);
}
inline void add_mean(const float* a, const float* b, int n, float* out) {
    for (int i = 0; i < n; ++i) out[i] += 0.5f * (a[i] + b[i]);
}
// Of three consecutive rows of n: half the first, the second, half the third.
inline void gather_three(const float* a, int n, float* out) {
    for (int i = 0; i < n; ++i) out[i] = a[n + i] + 0.5f * (a[i] + a[2 * n + i]);
}

// fine += interpolation of coarse. A brick's 4 vertices along an axis lie on and between 3 of the
// coarser level: 4 = {a, (a + b) / 2, b, (b + c) / 2}.
template <int C>
void prolong(const Level& coarse, const Level& fine, const int32_t* coords, float* values) {
    nk::parallel_for(fine.last - fine.first, 64, [&](int64_t begin, int64_t end, int) {
        float a[27 * C], b[36 * C], c[48 * C];  // x: 3 3 3, 3 3 4, then 3 4 4 (z, y, x)
        for (int64_t brick = fine.first + begin; brick < fine.first + end; ++brick) {
            const int32_t* at = coords + brick * 3;
            // the 3 vertices along an axis lie in one brick or in two
            const int32_t x = 2 * at[0], y = 2 * at[1], z = 2 * at[2];
            int64_t places[2][2][2];
            for (int k = 0; k < 2; ++k)
                for (int j = 0; j < 2; ++j)
                    for (int i = 0; i < 2; ++i)
                        places[k][j][i] =
                            place(coarse, (x + 2 * i) >> 2, (y + 2 * j) >> 2, (z + 2 * k) >> 2);
            for (int k = 0; k < 3; ++k)
                for (int j = 0; j < 3; ++j)
                    for (int i = 0; i < 3; ++i)
                        std::memcpy(
                            a + ((k * 3 + j) * 3 + i) * C,
                            values + row(places[k >> 1][j >> 1][i >> 1], x + i, y + j, z + k) * C,
                            sizeof(float) * C);
            for (int kj = 0; kj < 9; ++kj)
                for (int i = 0; i < 4; ++i)
                    mean(a + (kj * 3 + (i >> 1)) * C, a + (kj * 3 + ((i + 1) >> 1)) * C, C,
                         b + (kj * 4 + i) * C);
            for (int k = 0; k < 3; ++k)
                for (int j = 0; j < 4; ++j)
                    mean(b + (k * 3 + (j >> 1)) * 4 * C, b + (k * 3 + ((j + 1) >> 1)) * 4 * C,
                         4 * C, c + (k * 4 + j) * 4 * C);
            float* out = values + brick * 64 * C;
            for (int k = 0; k < 4; ++k)
                add_mean(c + (k >> 1) * 16 * C, c + ((k + 1) >> 1) * 16 * C, 16 * C,
                         out + k * 16 * C);
        }
    });
}

// coarse += transpose of the interpolation: a vertex gathers from its 27 finer neighbours.
template <int C>
void restrict_to(const Level& coarse, const Level& fine, const int32_t* coords, float* values) {
    nk::parallel_for(coarse.last - coarse.first, 16, [&](int64_t begin, int64_t end, int) {
        static thread_local float a[729 * C], b[324 * C], c[144 * C];  // 9 9 9, 9 9 4, 9 4 4
        for (int64_t brick = coarse.first + begin; brick < coarse.first + end; ++brick) {
            const int32_t* at = coords + brick * 3;
            const int32_t x = 2 * at[0] - 1, y = 2 * at[1] - 1, z = 2 * at[2] - 1;
            int64_t places[3][3][3];
            for (int k = 0; k < 3; ++k)
                for (int j = 0; j < 3; ++j)
                    for (int i = 0; i < 3; ++i) places[k][j][i] = place(fine, x + i, y + j, z + k);
            // along each axis the last vertex of one brick, then two whole bricks: row i is of brick
            // (i + 3) / 4, whose vertex it is the (i + 3) % 4 th
            for (int k = 0; k < 9; ++k)
                for (int j = 0; j < 9; ++j) {
                    const int64_t* along = places[(k + 3) >> 2][(j + 3) >> 2];
                    float* line = a + (k * 9 + j) * 9 * C;
                    std::memcpy(line, values + row(along[0], 3, j + 3, k + 3) * C, sizeof(float) * C);
                    for (int i = 1; i < 3; ++i)
                        std::memcpy(line + (4 * i - 3) * C,
                                    values + row(along[i], 0, j + 3, k + 3) * C,
                                    sizeof(float) * 4 * C);
                }
            for (int kj = 0; kj < 81; ++kj)
                for (int i = 0; i < 4; ++i)
                    gather_three(a + (kj * 9 + 2 * i) * C, C, b + (kj * 4 + i) * C);
            for (int k = 0; k < 9; ++k)
                for (int j = 0; j < 4; ++j)
                    gather_three(b + (k * 9 + 2 * j) * 4 * C, 4 * C, c + (k * 4 + j) * 4 * C);
            float* out = values + brick * 64 * C;
            for (int k = 0; k < 4; ++k) {
                float sum[16 * C];
                gather_three(c + 2 * k * 16 * C, 16 * C, sum);
                for (int i = 0; i < 16 * C; ++i) out[k * 16 * C + i] += sum[i];
            }
        }
    });
}

template <int C>
void sum(float* values, const int64_t* resolutions, int64_t n_levels, const int64_t* starts,
         const int32_t* tables, const int32_t* coords, bool transposed) {
    for (int64_t i = 1; i < n_levels; ++i) {
        const int64_t l = transposed ? n_levels - i : i;
        const Level coarse = level_at(l - 1, resolutions, starts, tables),
                    fine = level_at(l, resolutions, starts, tables);
        if (transposed)
            restrict_to<C>(coarse, fine, coords, values);
        else
            prolong<C>(coarse, fine, coords, values);
    }
}

}  // namespace

NK_EXPORT void nk_level_sum(float* values, int64_t channels, const int64_t* resolutions,
                            int64_t n_levels, const int64_t* starts, const int32_t* tables,
                            const int32_t* coords, int64_t transposed) {
    if (channels == 1)
        sum<1>(values, resolutions, n_levels, starts, tables, coords, transposed);
    else
        sum<16>(values, resolutions, n_levels, starts, tables, coords, transposed);
}
