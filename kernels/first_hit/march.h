// Marching a ray through an occupancy pyramid, giving the lattice points that lie in occupied voxels.
//
// The finest voxels are bits of 64-bit words, one word a 4x4x4 block; a bit of the next level's word
// says whether a block's word is non-zero, and so on: two octree levels a word. An empty node is
// crossed in one step, however large.
#pragma once
#include <cmath>
#include <cstdint>

#include "shared/simd.h"

namespace nk {

constexpr int MAX_OCCUPANCY = 5;  // 4^5 = 1024 voxels along an axis

struct Occupancy {
    int n_levels;
    int32_t resolution;                       // finest voxels along an axis
    const uint64_t* words[MAX_OCCUPANCY];     // [n, n, n] (z, y, x) blocks, finest level first
    int32_t n[MAX_OCCUPANCY];
};

inline Occupancy make_occupancy(const uint64_t* words, int64_t resolution) {
    Occupancy o{};
    o.resolution = static_cast<int32_t>(resolution);
    for (int64_t n = (resolution + 3) / 4;; n = (n + 3) / 4) {
        o.words[o.n_levels] = words;
        o.n[o.n_levels++] = static_cast<int32_t>(n);
        words += n * n * n;
        if (n == 1 || o.n_levels == MAX_OCCUPANCY) return o;
    }
}

// The node a ray is in: an occupied voxel, or the largest empty node around it. Looks from the top
// down, so that empty space costs loads from the small coarse levels only, and remembers the last
// 4x4x4 block, where a ray stays for several voxels.
class NodeFinder {
  public:
    explicit NodeFinder(const Occupancy& occupancy) : o_(occupancy) {}

    // log2 of the edge of the empty node around a voxel, or -1 if the voxel is occupied.
    int empty_node(int32_t x, int32_t y, int32_t z) {
        if ((x >> 2) != bx_ || (y >> 2) != by_ || (z >> 2) != bz_) {
            for (int l = o_.n_levels - 1; l > 0; --l) {
                const int s = 2 * l;
                const int32_t cx = x >> s, cy = y >> s, cz = z >> s;  // node of 4^l voxels
                if (!(word(l, cx, cy, cz) >> bit(cx, cy, cz) & 1)) return s;
            }
            bx_ = x >> 2, by_ = y >> 2, bz_ = z >> 2;
            block_ = word(0, x, y, z);
        }
        return block_ >> bit(x, y, z) & 1 ? -1 : 0;
    }

  private:
    uint64_t word(int level, int32_t x, int32_t y, int32_t z) const {
        const int64_t n = o_.n[level];
        return o_.words[level][((z >> 2) * n + (y >> 2)) * n + (x >> 2)];
    }
    static int bit(int32_t x, int32_t y, int32_t z) { return (x & 3) + 4 * (y & 3) + 16 * (z & 3); }

    const Occupancy& o_;
    int32_t bx_ = -1, by_ = -1, bz_ = -1;
    uint64_t block_ = 0;
};

// Up to VL points of one ray: distances and voxels; unused lanes repeat a valid point.
struct Batch {
    int count;
    float t[VL];
    int32_t x[VL], y[VL], z[VL];
};

class RayMarcher {
  public:
    // `origin`, `direction` in voxels (per unit of t); lattice points t = (k + jitter) * step.
    RayMarcher(const Occupancy& occupancy, const float* origin, const float* direction, float near,
               float far, float step, float jitter)
        : nodes_(occupancy), last_(occupancy.resolution - 1), step_(step), jitter_(jitter) {
        float t_in = near, t_out = far;
        const float top = static_cast<float>(occupancy.resolution);
        for (int a = 0; a < 3; ++a) {
            origin_[a] = origin[a];
            direction_[a] = direction[a];
            if (std::fabs(direction[a]) < 1e-12f) {
                inverse_[a] = 0.f;
                if (origin[a] < 0.f || origin[a] >= top) t_out = -1.f;
            } else {
                inverse_[a] = 1.f / direction[a];
                const float t0 = -origin[a] * inverse_[a], t1 = (top - origin[a]) * inverse_[a];
                t_in = std::fmax(t_in, std::fmin(t0, t1));
                t_out = std::fmin(t_out, std::fmax(t0, t1));
            }
        }
        t_out_ = t_out;
        k_ = static_cast<int64_t>(std::ceil(t_in / step - jitter));
        if (k_ < 0) k_ = 0;
        // An integer end, so that a march ends whatever the ray: NaN, infinite, of no direction.
        const float end = std::ceil(t_out / step - jitter);
        k_end_ = end < 1e9f ? static_cast<int64_t>(end) + 1 : 0;
    }

    void next(Batch& batch) {
        batch.count = 0;
        while (batch.count < VL && advance()) {
            batch.t[batch.count] = t_;
            batch.x[batch.count] = x_, batch.y[batch.count] = y_, batch.z[batch.count] = z_;
            ++batch.count;
            ++k_;
        }
        for (int i = batch.count; i < VL && batch.count; ++i) {
            batch.t[i] = batch.t[0];
            batch.x[i] = batch.x[0], batch.y[i] = batch.y[0], batch.z[i] = batch.z[0];
        }
    }
    // Distance of the first point, or infinity if there is none.
    float first() { return advance() ? t_ : HUGE_VALF; }

  private:
    // To the next lattice point from k_ on that lies in an occupied voxel; false if there is none.
    bool advance() {
        for (;;) {
            const float t = (static_cast<float>(k_) + jitter_) * step_;
            if (k_ >= k_end_ || !(t < t_out_)) return false;
            const int32_t x = clamp(origin_[0] + t * direction_[0]),
                          y = clamp(origin_[1] + t * direction_[1]),
                          z = clamp(origin_[2] + t * direction_[2]);
            const int edge = nodes_.empty_node(x, y, z);
            if (edge < 0) {
                t_ = t, x_ = x, y_ = y, z_ = z;
                return true;
            }
            // The node's far faces; a hair less, so that a point on the face is looked at itself.
            float t_exit = exit(0, x, edge);
            t_exit = std::fmin(t_exit, exit(1, y, edge));
            t_exit = std::fmin(t_exit, exit(2, z, edge));
            const int64_t k = static_cast<int64_t>(t_exit / step_ - jitter_ - 1e-3f) + 1;
            k_ = k > k_ ? k : k_ + 1;
        }
    }
    int32_t clamp(float p) const {
        const int32_t cell = static_cast<int32_t>(p);  // truncation: -0.1 belongs to voxel 0 too
        return cell < 0 ? 0 : cell > last_ ? last_ : cell;
    }
    float exit(int axis, int32_t cell, int edge) const {
        if (inverse_[axis] == 0.f) return 1e30f;
        const int32_t low = (cell >> edge) << edge;
        const float face = static_cast<float>(direction_[axis] > 0.f ? low + (1 << edge) : low);
        return (face - origin_[axis]) * inverse_[axis];
    }

    NodeFinder nodes_;
    int32_t last_;
    float origin_[3], direction_[3], inverse_[3];
    float step_, jitter_, t_out_;
    int64_t k_, k_end_;
    float t_ = 0.f;
    int32_t x_ = 0, y_ = 0, z_ = 0;
};

}  // namespace nk
