// A baked scene (layout: grid.py), and how tiles of rays go through its empty space together.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "shared/simd.h"

namespace nk::baked {

constexpr int64_t TILE = 64, SMALL_TILE = 16;  // rays
constexpr int64_t ROW = 128;                   // corners a block takes in memory
constexpr int BRICK = 27, DETAIL = 8;          // corners of half voxels in a voxel, values of each
constexpr int BANDS = 4, HARMONICS = 16, COLOURED = 4;
constexpr int GREYS = 3;                                     // of a detail, after R, G, B
constexpr int RECORD = 3 * COLOURED + HARMONICS - COLOURED;  // values a corner
constexpr int32_t OFFSET[8] = {0, 1, 5, 6, 25, 26, 30, 31};  // a voxel's corners in a block

// exp(-sigma step) by raw density, linear between entries: faster than exp, log and exp. The error
// is below 2e-6 where a step of raw density 0 is 0.2 thick or more.
class Transparency {
  public:
    void tabulate(float density_scale, float step, float raw_low, float raw_scale) {
        // Below LOW softplus(x) is exp(x), 3e-6 at most; above `high` nothing passes.
        const float thick = density_scale * step, high = std::max(16.f / thick, 1.f) + 1.f;
        per_raw_ = (SIZE - 1) / (high - LOW);
        for (int i = 0; i <= SIZE; ++i) {
            const double x = LOW + i / static_cast<double>(per_raw_);
            keep_[i] = static_cast<float>(std::exp(-thick * (x > 30 ? x : std::log1p(std::exp(x)))));
        }
        base_ = (raw_low - LOW) * per_raw_, scale_ = raw_scale * per_raw_;
    }
    // Of stored densities q.
    vf of(vf q) const {
        const vf place = min(max(base_ + scale_ * q, vf{}), splat(static_cast<float>(SIZE) - 1.001f));
        const vi i = to_int(place);
        const vf low = gather(keep_, i);
        return low + (place - to_float(i)) * (gather(keep_ + 1, i) - low);
    }

  private:
    static constexpr int SIZE = 4096;  // 16 kB: the rest of L1 is for the scene
    static constexpr float LOW = -13.f;
    float keep_[SIZE + 1], per_raw_, base_, scale_;
};

struct Scene {
    int32_t resolution, n;  // voxels, blocks along an axis
    const int32_t* places;
    const uint8_t* distances;
    const uint64_t* words;
    const int16_t* density;
    const uint8_t* ranks;
    const int32_t *first, *first_brick;
    float box_min[3], voxel;
    float step, near, far, early_stop, weight_min;
    float* max_weights;  // or null
    Transparency transparency;

    int64_t flat(const int32_t* block) const {
        return (static_cast<int64_t>(block[2]) * n + block[1]) * n + block[0];
    }
    int32_t cell(float p) const {
        return static_cast<int32_t>(std::min(std::max(p, 0.f), static_cast<float>(resolution) - 0.5f));
    }
};

// Bit i: the lowest bit of lane i.
inline uint32_t lane_bits(vi v) {
#if defined(__AVX2__) && !defined(__AVX512F__)
    vf sign;
    v <<= 31;
    std::memcpy(&sign, &v, sizeof sign);
    return static_cast<uint32_t>(__builtin_ia32_movmskps256(sign));
#else
    uint32_t bits = 0;
    for (int i = 0; i < VL; ++i) bits |= static_cast<uint32_t>(v[i] & 1) << i;
    return bits;
#endif
}

// Rays in voxels from the lowest corner.
struct Tile {
    float o[3][TILE], d[3][TILE];
    int64_t count;

    Tile(const Scene& s, const float* origins, int64_t stride, const float* directions, int64_t n)
        : count(n) {
        const float per_voxel = 1.f / s.voxel;
        for (int a = 0; a < 3; ++a) {
            for (int64_t i = 0; i < n; ++i) {
                o[a][i] = (origins[i * stride + a] - s.box_min[a]) * per_voxel;
                d[a][i] = directions[i * 3 + a] * per_voxel;
            }
            std::fill(o[a] + n, o[a] + TILE, 0.f), std::fill(d[a] + n, d[a] + TILE, 0.f);
        }
    }

    // No ray of begin .. end - 1 meets anything from t = `start` to the distance returned.
    //
    // All are as close to their mean ray as a + b t, and the distances are of whole blocks.
    float skip(const Scene& s, int64_t begin, int64_t end, float start) const {
        const float top = static_cast<float>(s.resolution);
        float t = std::max(start, s.near), last = s.far;
        float origin[3], direction[3], a = 0.f, b = 0.f, fastest = 0.f;
        for (int x = 0; x < 3; ++x) {
            const Range from = range(o[x] + begin, end - begin), to = range(d[x] + begin, end - begin);
            origin[x] = 0.5f * (from.low + from.high), direction[x] = 0.5f * (to.low + to.high);
            a = std::max(a, 0.5f * (from.high - from.low));
            b = std::max(b, 0.5f * (to.high - to.low));
            fastest = std::max(fastest, std::fabs(direction[x]));
            // The first that may come into the cube, and the last to leave it.
            if (from.high < 0.f) t = std::max(t, to.high > 0.f ? -from.high / to.high : 3e38f);
            if (from.low > top) t = std::max(t, to.low < 0.f ? (top - from.low) / to.low : 3e38f);
            if (to.low > 0.f) last = std::min(last, (top - from.low) / to.low);
            if (to.high < 0.f) last = std::min(last, -from.high / to.high);
        }
        const float least = 2.f / fastest, speed = 1.f / (fastest + b);
        for (int64_t n = 0; n < s.resolution; ++n) {
            if (!(t < last)) return 3e38f;
            int32_t block[3];
            for (int x = 0; x < 3; ++x) block[x] = s.cell(origin[x] + t * direction[x]) >> 2;
            const float room = static_cast<float>(s.distances[s.flat(block)] * 4 - 4) - 0.01f;
            const float ahead = (room - a - b * t) * speed;
            if (!(ahead > least)) return t;
            t += ahead;
        }
        return t;
    }

  private:
    struct Range {
        float low, high;
    };
    static Range range(const float* values, int64_t count) {
        Range found{values[0], values[0]};
        for (int64_t i = 1; i < count; ++i) {
            found.low = std::min(found.low, values[i]);
            found.high = std::max(found.high, values[i]);
        }
        return found;
    }
};

}  // namespace nk::baked
