// Vertices of a multi-level sparse voxel grid, and trilinear interpolation between them.
//
// A level of resolution r has (r + 1)^3 vertices in bricks of 4x4x4; a table gives the place of each
// stored brick. Points come in grid units of the finest level together with their finest cell, so
// all levels agree on which cell a point is in.
#pragma once
#include <cstdint>

#include "shared/simd.h"

namespace nk {

constexpr int MAX_LEVELS = 8;
constexpr int FEATURES = 16;  // channels a vertex: one 64-byte cache line

struct GridLevel {
    const int32_t* bricks;  // [n, n, n] (z, y, x): place of a brick
    int32_t n;              // bricks along an axis
    int32_t shift;          // cell of this level = finest cell >> shift
    float scale;            // grid units of this level = finest grid units * scale
};

struct VoxelGrid {
    int n_levels;
    GridLevel level[MAX_LEVELS];
};

// `resolutions` [n_levels] ascending powers of two; `bricks` their tables one after the other.
inline VoxelGrid make_grid(const int64_t* resolutions, int64_t n_levels, const int32_t* bricks,
                           int64_t finest) {
    VoxelGrid grid{};
    grid.n_levels = static_cast<int>(n_levels);
    for (int l = 0; l < grid.n_levels; ++l) {
        const int64_t n = resolutions[l] / 4 + 1;
        grid.level[l].bricks = bricks;
        grid.level[l].n = static_cast<int32_t>(n);
        grid.level[l].scale = static_cast<float>(resolutions[l]) / static_cast<float>(finest);
        while ((resolutions[l] << grid.level[l].shift) < finest) ++grid.level[l].shift;
        bricks += n * n * n;
    }
    return grid;
}

// A vertex coordinate along one axis, split into the brick's and the vertex's share of the address.
struct AxisShare {
    vi brick, local;
};
inline AxisShare axis_share(vi vertex, int32_t brick_stride, int32_t local_stride) {
    return {(vertex >> 2) * brick_stride, (vertex & 3) * local_stride};
}

// The eight corners of one point a lane: vertex indices and trilinear weights, x fastest.
struct Corners {
    vi index[8];
    vf weight[8];
};

inline void corner_indices(const GridLevel& level, vi x, vi y, vi z, vi* index) {
    const AxisShare xs[2] = {axis_share(x, 1, 1), axis_share(x + 1, 1, 1)};
    const AxisShare ys[2] = {axis_share(y, level.n, 4), axis_share(y + 1, level.n, 4)};
    const AxisShare zs[2] = {axis_share(z, level.n * level.n, 16),
                             axis_share(z + 1, level.n * level.n, 16)};
    for (int c = 0; c < 8; ++c) {
        const AxisShare &ax = xs[c & 1], &ay = ys[(c >> 1) & 1], &az = zs[c >> 2];
        const vi place = gather(level.bricks, ax.brick + ay.brick + az.brick);
        index[c] = (place << 6) + (ax.local + ay.local + az.local);
    }
}

inline void corner_weights(vf fx, vf fy, vf fz, vf* weight) {
    const vf gx = 1.f - fx, gy = 1.f - fy, gz = 1.f - fz;
    const vf y0z0 = gy * gz, y1z0 = fy * gz, y0z1 = gy * fz, y1z1 = fy * fz;
    weight[0] = gx * y0z0, weight[1] = fx * y0z0, weight[2] = gx * y1z0, weight[3] = fx * y1z0;
    weight[4] = gx * y0z1, weight[5] = fx * y0z1, weight[6] = gx * y1z1, weight[7] = fx * y1z1;
}

struct Points {
    vf x, y, z;     // finest grid units
    vi cx, cy, cz;  // finest cell
};

inline void find_corners(const GridLevel& level, const Points& p, Corners& corners) {
    const vi x = p.cx >> level.shift, y = p.cy >> level.shift, z = p.cz >> level.shift;
    corner_indices(level, x, y, z, corners.index);
    corner_weights(p.x * level.scale - to_float(x), p.y * level.scale - to_float(y),
                   p.z * level.scale - to_float(z), corners.weight);
}

// Sum over the levels of the trilinear interpolation of one value a vertex.
inline vf interpolate_values(const VoxelGrid& grid, const Points& p, const float* values) {
    vf sum{};
    for (int l = 0; l < grid.n_levels; ++l) {
        Corners corners;
        find_corners(grid.level[l], p, corners);
        for (int c = 0; c < 8; ++c) sum += corners.weight[c] * gather(values, corners.index[c]);
    }
    return sum;
}

}  // namespace nk
