// VL neighbouring rays through a baked scene, a lattice point of each at a time.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "baked_render/tile.h"
#include "shared/simd.h"

namespace nk::baked {

// Two neighbouring densities in one load.
inline vi load_pairs(const int16_t* density, vi corner) {
    vi pairs;
    for (int i = 0; i < VL; ++i) {
        int32_t pair;
        std::memcpy(&pair, density + corner[i], 4);
        pairs[i] = pair;
    }
    return pairs;
}

inline vf blend(vi pairs, vf fx) {
    const vf low = to_float((pairs << 16) >> 16), high = to_float(pairs >> 16);
    return low + fx * (high - low);
}

struct Seen {
    vf transmittance = splat(1.f), depth{}, opacity{};
};

// Rays i .. i + VL - 1 of a tile, that meet nothing before t = `start`. For every sample of ray i + l
// that weighs more than weight_min shades[l](place, voxel, corner, weight, fx, fy, fz) is called:
// `corner` is its voxel's lowest in the block at `place`.
template <class Shade>
class March {
  public:
    March(const Scene& s, const Tile& tile, int64_t i, Shade* shades) : s_(s), shades_(shades) {
        const float top = static_cast<float>(s.resolution);
        for (int l = 0; l < VL; ++l) t_out_[l] = i + l < tile.count ? s.far : 0.f;
        for (int a = 0; a < 3; ++a) {
            o_[a] = nk::load(tile.o[a] + i), d_[a] = nk::load(tile.d[a] + i);
            const vi up = d_[a] > vf{}, still = max(d_[a], -d_[a]) < splat(1e-12f);
            const vi outside = (o_[a] < vf{}) | (o_[a] >= splat(top));
            inverse_[a] = 1.f / select(still, splat(1.f), d_[a]);
            const vf t0 = -o_[a] * inverse_[a], t1 = (top - o_[a]) * inverse_[a];
            t_in_ = max(t_in_, select(still, select(outside, splat(3e38f), vf{}), min(t0, t1)));
            t_out_ = min(t_out_, select(still, splat(3e38f), max(t0, t1)));
            // Of the far face of a cube: its coordinate is ahead + 4 block + behind * reach. No face
            // is ahead of a ray along it.
            ahead_[a] = select(still, splat(1e30f), select(up, vf{}, splat(4.f)) - o_[a]);
            behind_[a] = select(up, splat(4.f), splat(-4.f));
        }
    }

    Seen run(float start) {
        const float per_step = 1.f / s_.step, top = static_cast<float>(s_.resolution) - 0.5f;
        // Floats count up to 2^24, so that a march ends whatever the ray: NaN, infinite, of no
        // direction.
        vf last = points(t_out_ * per_step), k = points(max(t_in_, splat(start)) * per_step);
        last = select(last < splat(16777216.f), last, vf{});
        for (vi active = k < last; lane_bits(active); active &= k < last) {
            const vf t = (k + 0.5f) * s_.step;
            vf f[3];
            vi c[3], block[3];
            for (int a = 0; a < 3; ++a) {
                f[a] = o_[a] + t * d_[a];
                c[a] = to_int(min(max(f[a], vf{}), splat(top)));
                f[a] -= to_float(c[a]), block[a] = c[a] >> 2, c[a] &= 3;
            }
            const vi flat = (block[2] * s_.n + block[1]) * s_.n + block[0];
            vi distance;
            for (int l = 0; l < VL; ++l) distance[l] = s_.distances[flat[l]];
            const vi empty = distance > vi{};
            vf next = k + 1.f;
            if (lane_bits(active & empty)) {  // to the far faces of the cube of empty blocks
                vf t_exit = splat(3e38f);
                for (int a = 0; a < 3; ++a) {
                    const vf face = ahead_[a] + to_float(block[a] << 2) + behind_[a] * to_float(distance);
                    t_exit = min(t_exit, face * inverse_[a]);
                }
                // A hair less, so that a point on the face is looked at itself.
                next = select(empty, max(points(t_exit * per_step - 1e-3f), next), next);
            }
            if (lane_bits(active & ~empty)) active &= samples(active, gather(s_.places, flat), c, f, t);
            k = next;
        }
        return seen_;
    }

  private:
    // The first lattice point at or behind t = `steps` steps.
    static vf points(vf steps) { return -floor(0.5f - min(max(steps, vf{}), splat(1e9f))); }

    // One lattice point a ray, in voxels c of blocks at `place`: which rays go on.
    vi samples(vi active, vi place, const vi* c, const vf* f, vf t) {
        const vi voxel = c[0] + (c[1] << 2) + (c[2] << 4), half = place * 2 + (voxel >> 5);
        vi word;
        for (int l = 0; l < VL; ++l) word[l] = half_word(half[l]);
        const vi met = active & -((word >> (voxel & 31)) & 1);
        if (!lane_bits(met)) return active;
        const vi corner = c[0] + c[1] * 5 + c[2] * 25;
        const vi at = place * static_cast<int32_t>(ROW) + corner;
        const vf x00 = blend(load_pairs(s_.density, at), f[0]),
                 x10 = blend(load_pairs(s_.density + 5, at), f[0]),
                 x01 = blend(load_pairs(s_.density + 25, at), f[0]),
                 x11 = blend(load_pairs(s_.density + 30, at), f[0]);
        const vf y0 = x00 + f[1] * (x10 - x00), y1 = x01 + f[1] * (x11 - x01);
        const vf keep = select(met, s_.transparency.of(y0 + f[2] * (y1 - y0)), splat(1.f));
        const vf weight = seen_.transmittance * (1.f - keep);
        seen_.transmittance *= keep;
        const vi stopped = met & (seen_.transmittance < splat(s_.early_stop));
        // What is left is not seen to pass.
        const vf caught = weight + select(stopped, seen_.transmittance, vf{});
        seen_.depth += caught * t;
        seen_.opacity += caught;
        if (s_.max_weights)
            for (uint32_t bits = lane_bits(met); bits; bits &= bits - 1) {
                const int l = __builtin_ctz(bits);
                float& most = s_.max_weights[place[l] * int64_t{64} + voxel[l]];
                most = std::max(most, weight[l]);
            }
        uint32_t bits = lane_bits(met & (weight > splat(s_.weight_min)));
        if (!bits) return ~stopped;
        float weights[VL], x[VL], y[VL], z[VL];
        nk::store(weights, weight), nk::store(x, f[0]), nk::store(y, f[1]), nk::store(z, f[2]);
        int32_t places[VL], voxels[VL], corners[VL];
        std::memcpy(places, &place, sizeof place), std::memcpy(voxels, &voxel, sizeof voxel);
        std::memcpy(corners, &corner, sizeof corner);
        for (; bits; bits &= bits - 1) {
            const int l = __builtin_ctz(bits);
            shades_[l](places[l], voxels[l], corners[l], weights[l], x[l], y[l], z[l]);
        }
        return ~stopped;
    }

    int32_t half_word(int32_t at) const {
        int32_t word;
        std::memcpy(&word, reinterpret_cast<const char*>(s_.words) + int64_t{4} * at, sizeof word);
        return word;
    }

    const Scene& s_;
    Shade* shades_;
    vf o_[3], d_[3], inverse_[3], ahead_[3], behind_[3];  // voxels, and per t
    vf t_in_ = splat(s_.near), t_out_;
    Seen seen_;
};

typedef uint8_t u8x8 __attribute__((vector_size(8)));

inline vf8 load_bytes(const uint8_t* p) {
#if defined(__AVX2__)  // GCC 12 converts one by one
    const __m256i whole = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    return reinterpret_cast<vf8>(_mm256_cvtepi32_ps(whole));
#else
    u8x8 bytes;
    std::memcpy(&bytes, p, sizeof bytes);
    return __builtin_convertvector(__builtin_convertvector(bytes, vi8), vf8);
#endif
}

// The weights of the four pairs of corners that differ in x, at a place in a cell.
struct Pairs {
    Pairs(float weight, float fy, float fz) {
        const float z1 = weight * fz, z0 = weight - z1;
        y[1] = z0 * fy, y[0] = z0 - y[1], y[3] = z1 * fy, y[2] = z1 - y[3];
    }
    float y[4];
};

// The weights of a voxel's corners at a place in it.
inline vf8 shares(float weight, float fx, float fy, float fz) {
    const Pairs p(weight, fy, fz);
    const float x0 = 1.f - fx;
    return vf8{p.y[0], p.y[0], p.y[1], p.y[1], p.y[2], p.y[2], p.y[3], p.y[3]} *
           vf8{x0, fx, x0, fx, x0, fx, x0, fx};
}

// The half voxel at a place in a voxel: its lowest corner in the brick, and the place in it.
struct Half {
    Half() = default;
    Half(float fx, float fy, float fz) : f{2.f * fx, 2.f * fy, 2.f * fz} {
        constexpr int32_t stride[3] = {1, 3, 9};
        for (int a = 0; a < 3; ++a)
            if (f[a] >= 1.f) corner += stride[a], f[a] -= 1.f;
    }
    static constexpr int32_t PAIR[4] = {0, 3, 9, 12};  // the lower corner of each
    int32_t corner = 0;
    float f[3];
};

inline int64_t brick_of(const Scene& s, int64_t place, int32_t voxel) {
    return s.first_brick[place] + __builtin_popcountll(s.words[place] & ((uint64_t{1} << voxel) - 1));
}

}  // namespace nk::baked
