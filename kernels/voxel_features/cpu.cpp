// Multi-level trilinear interpolation at points, and its gradients. One channel: points across
// lanes. Sixteen channels: one point at a time, channels across lanes.
#include <algorithm>
#include <cstring>

#include "first_hit/march.h"
#include "shared/export.h"
#include "shared/parallel.h"
#include "voxel_features/voxel_grid.h"

namespace {

using nk::vf;
using nk::vi;
using nk::VL;

constexpr int64_t GRAIN = 1024;  // points

// Up to VL points in grid units; lanes that are outside, unoccupied or beyond the end are dead and
// stand at the corner of voxel 0, so that their addresses are good.
struct Lanes {
    nk::Points at;
    float live[VL];  // 1 or 0
    bool any;
};

struct Query {
    const float* points;  // [N, 3] world
    int64_t n;
    float box_min[3];
    float voxel;
    nk::VoxelGrid grid;
    nk::Occupancy occupancy;

    Lanes load(int64_t first, nk::NodeFinder& nodes) const {
        float p[3][VL];
        int32_t cell[3][VL];
        Lanes lanes{};
        const int32_t last = occupancy.resolution - 1;
        for (int i = 0; i < VL; ++i) {
            bool live = first + i < n;
            for (int a = 0; a < 3; ++a) {
                const float x = live ? (points[(first + i) * 3 + a] - box_min[a]) / voxel : -1.f;
                const int32_t c = static_cast<int32_t>(x);
                live = live && x >= 0.f && c >= 0 && c <= last;
                p[a][i] = live ? x : 0.f;
                cell[a][i] = live ? c : 0;
            }
            live = live && nodes.empty_node(cell[0][i], cell[1][i], cell[2][i]) < 0;
            if (!live)
                for (int a = 0; a < 3; ++a) p[a][i] = 0.f, cell[a][i] = 0;
            lanes.live[i] = live ? 1.f : 0.f;
            lanes.any |= live;
        }
        lanes.at.x = nk::load(p[0]), lanes.at.y = nk::load(p[1]), lanes.at.z = nk::load(p[2]);
        std::memcpy(&lanes.at.cx, cell[0], sizeof(vi));
        std::memcpy(&lanes.at.cy, cell[1], sizeof(vi));
        std::memcpy(&lanes.at.cz, cell[2], sizeof(vi));
        return lanes;
    }
};

// d weight / d point of the corners' weights, in units of the level's voxels.
struct Slopes {
    vf x[8], y[8], z[8];
};
Slopes corner_slopes(const nk::GridLevel& level, const nk::Points& p) {
    const vf fx = p.x * level.scale - nk::to_float(p.cx >> level.shift),
             fy = p.y * level.scale - nk::to_float(p.cy >> level.shift),
             fz = p.z * level.scale - nk::to_float(p.cz >> level.shift);
    const vf wx[2] = {1.f - fx, fx}, wy[2] = {1.f - fy, fy}, wz[2] = {1.f - fz, fz};
    Slopes s;
    for (int c = 0; c < 8; ++c) {
        const vf &x = wx[c & 1], &y = wy[c >> 1 & 1], &z = wz[c >> 2];
        s.x[c] = c & 1 ? y * z : -y * z;
        s.y[c] = c & 2 ? x * z : -x * z;
        s.z[c] = c & 4 ? x * y : -x * y;
    }
    return s;
}

// A record of FEATURES channels in vectors.
constexpr int VECTORS = nk::FEATURES / VL;
struct Record {
    vf v[VECTORS];
};
Record load_record(const float* values, int64_t row) {
    Record r;
    std::memcpy(r.v, values + row * nk::FEATURES, sizeof r.v);
    return r;
}
float dot(const Record& a, const Record& b) {
    vf sum = a.v[0] * b.v[0];
    for (int i = 1; i < VECTORS; ++i) sum += a.v[i] * b.v[i];
    return nk::hsum(sum);
}

void forward_one(const Query& q, const float* values, int64_t begin, int64_t end, float* out) {
    nk::NodeFinder nodes(q.occupancy);
    for (int64_t first = begin; first < end; first += VL) {
        const Lanes lanes = q.load(first, nodes);
        vf sum{};
        if (lanes.any)
            sum = nk::interpolate_values(q.grid, lanes.at, values) * nk::load(lanes.live);
        nk::store_first(out + first, sum, static_cast<int>(std::min<int64_t>(VL, end - first)));
    }
}

void forward_many(const Query& q, const float* values, int64_t begin, int64_t end, float* out) {
    nk::NodeFinder nodes(q.occupancy);
    for (int64_t first = begin; first < end; first += VL) {
        const Lanes lanes = q.load(first, nodes);
        Record sum[VL] = {};
        for (int l = 0; lanes.any && l < q.grid.n_levels; ++l) {
            nk::Corners corners;
            nk::find_corners(q.grid.level[l], lanes.at, corners);
            for (int i = 0; i < VL; ++i) {
                if (lanes.live[i] == 0.f) continue;
                for (int c = 0; c < 8; ++c) {
                    const Record r = load_record(values, corners.index[c][i]);
                    const float weight = corners.weight[c][i];
                    for (int v = 0; v < VECTORS; ++v) sum[i].v[v] += weight * r.v[v];
                }
            }
        }
        std::memcpy(out + first * nk::FEATURES, sum,
                    sizeof(Record) * std::min<int64_t>(VL, end - first));
    }
}

// out [N, 3] = d (g . f) / d point.
void backward_points(const Query& q, const float* values, int channels, const float* g,
                     int64_t begin, int64_t end, float* out) {
    nk::NodeFinder nodes(q.occupancy);
    for (int64_t first = begin; first < end; first += VL) {
        const Lanes lanes = q.load(first, nodes);
        const int count = static_cast<int>(std::min<int64_t>(VL, end - first));
        vf dx{}, dy{}, dz{};
        for (int l = 0; lanes.any && l < q.grid.n_levels; ++l) {
            nk::Corners corners;
            nk::find_corners(q.grid.level[l], lanes.at, corners);
            const Slopes slopes = corner_slopes(q.grid.level[l], lanes.at);
            vf lx{}, ly{}, lz{};
            for (int c = 0; c < 8; ++c) {
                vf along;  // g . value of the corner
                if (channels == 1) {
                    along = nk::gather(values, corners.index[c]) * nk::load_first(g + first, count);
                } else {
                    float dots[VL] = {};
                    for (int i = 0; i < count; ++i)
                        if (lanes.live[i] != 0.f)
                            dots[i] = dot(load_record(values, corners.index[c][i]),
                                          load_record(g, first + i));
                    along = nk::load(dots);
                }
                lx += slopes.x[c] * along, ly += slopes.y[c] * along, lz += slopes.z[c] * along;
            }
            const float per_unit = q.grid.level[l].scale / q.voxel;
            dx += lx * per_unit, dy += ly * per_unit, dz += lz * per_unit;
        }
        for (int i = 0; i < count; ++i) {
            const float live = lanes.live[i];
            float* d = out + (first + i) * 3;
            d[0] = live * dx[i], d[1] = live * dy[i], d[2] = live * dz[i];
        }
    }
}

// Adds to the rows whose brick belongs to `part` of `parts`: parts write disjoint rows, and each
// row's terms come in the order of the points, however many parts there are.
void backward_values(const Query& q, int channels, const float* g, int part, int parts,
                     float* out) {
    nk::NodeFinder nodes(q.occupancy);
    for (int64_t first = 0; first < q.n; first += VL) {
        const Lanes lanes = q.load(first, nodes);
        if (!lanes.any) continue;
        for (int l = 0; l < q.grid.n_levels; ++l) {
            nk::Corners corners;
            nk::find_corners(q.grid.level[l], lanes.at, corners);
            for (int i = 0; i < VL; ++i) {
                if (lanes.live[i] == 0.f) continue;
                const float* from = g + (first + i) * channels;
                for (int c = 0; c < 8; ++c) {
                    const int32_t row = corners.index[c][i];
                    if (parts > 1 && (row >> 6) % parts != part) continue;
                    const float weight = corners.weight[c][i];
                    float* to = out + static_cast<int64_t>(row) * channels;
                    if (channels == 1) {
                        to[0] += weight * from[0];
                    } else {
                        for (int k = 0; k < nk::FEATURES; ++k) to[k] += weight * from[k];
                    }
                }
            }
        }
    }
}

Query make_query(const float* points, int64_t n, const uint64_t* words, const int64_t* resolutions,
                 int64_t n_levels, const int32_t* tables, const float* box) {
    Query q{points, n, {box[0], box[1], box[2]}, box[3], {}, {}};
    const auto finest = static_cast<int64_t>(box[4]);
    q.grid = nk::make_grid(resolutions, n_levels, tables, finest);
    q.occupancy = nk::make_occupancy(words, finest);
    return q;
}

}  // namespace

// `box`: lowest corner, edge of a voxel, voxels along an axis. `channels` is 1 or 16.
NK_EXPORT void nk_voxel_features_forward(const float* points, int64_t n, const uint64_t* words,
                                         const int64_t* resolutions, int64_t n_levels,
                                         const int32_t* tables, const float* box,
                                         const float* values, int64_t channels, float* out) {
    const Query q = make_query(points, n, words, resolutions, n_levels, tables, box);
    nk::parallel_for(n, GRAIN, [&](int64_t begin, int64_t end, int) {
        if (channels == 1)
            forward_one(q, values, begin, end, out);
        else
            forward_many(q, values, begin, end, out);
    });
}

// Writes d_points (or NULL), adds to d_values (or NULL).
NK_EXPORT void nk_voxel_features_backward(const float* points, int64_t n, const uint64_t* words,
                                          const int64_t* resolutions, int64_t n_levels,
                                          const int32_t* tables, const float* box,
                                          const float* values, int64_t channels, const float* g,
                                          float* d_points, float* d_values) {
    const Query q = make_query(points, n, words, resolutions, n_levels, tables, box);
    const int c = static_cast<int>(channels);
    if (d_points)
        nk::parallel_for(n, GRAIN, [&](int64_t begin, int64_t end, int) {
            backward_points(q, values, c, g, begin, end, d_points);
        });
    if (d_values) {
        const int parts = nk::num_threads();
        nk::parallel_for(parts, 1, [&](int64_t begin, int64_t end, int) {
            for (int64_t part = begin; part < end; ++part)
                backward_values(q, c, g, static_cast<int>(part), parts, d_values);
        });
    }
}
