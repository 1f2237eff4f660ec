// Ordered walk of an octree along one ray: no sort, and a stack of node numbers only.
//
// A cell is known by its integer corner and its level, and the t of a face is computed from the
// integer coordinate, in double: cells that share a face share its t, and what comes out is the
// exact t rounded to float. Where a ray starts on a face the difference of the two is exactly 0.
#pragma once
#include <cmath>
#include <cstdint>

namespace nk {

struct Octree {
    const int32_t* children;  // [n_nodes, 8], -1 absent; bits 0, 1, 2 of a column: high x, y, z
    int64_t n_nodes;
    const double* cube;  // low corner x, y, z and edge of the root
    int depth;           // of the leaves
};

namespace octree {

constexpr int MAX_DEPTH = 21;
constexpr double FAR_AWAY = 1e300;   // for infinity, which fast-math does not know
constexpr double PARALLEL = 1e-20;   // direction components below this count as zero

// floor(offset * cells / size), exact although the compiler may turn a division into a product.
inline int64_t cell_index(double offset, double size, int64_t cells) {
    const double scaled = offset * static_cast<double>(cells);
    const double guess = scaled / size;
    if (!(guess > -1.0) || !(guess < static_cast<double>(cells) + 1.0)) return -1;
    int64_t i = static_cast<int64_t>(guess);
    if (static_cast<double>(i) * size > scaled) --i;
    if (static_cast<double>(i + 1) * size <= scaled) ++i;
    return i;
}

// Where an origin lies, in cells: offset / edge, and exactly an integer if it lies on a face, although
// the compiler may turn the division into a product.
inline double in_cells(double offset, double edge) {
    const double guess = offset / edge, nearest = std::floor(guess + 0.5);
    return nearest * edge == offset ? nearest : guess;
}

// One axis of a ray, mirrored so that it points to higher cells: mirrored cell i is cells - 1 - i
// and mirrored face i is cells - i where the direction is negative.
struct Axis {
    double origin, step;  // in cells, mirrored; t from a face to the next, FAR_AWAY if parallel
    int32_t fixed;        // the cell that a parallel ray stays in, else 0

    double face(int32_t i) const { return (static_cast<double>(i) - origin) * step; }
    // The bit of `half` to add to corner `low` of a cell so that its child there holds t.
    int32_t half_at(double t, int32_t low, int32_t half) const {
        return ((face(low | half) <= t ? -1 : 0) | fixed) & half;
    }
};

}  // namespace octree

// Calls emit(leaf, t_start, t_end) front to back; emit returns false to stop.
template <class Emit>
void walk_octree(const Octree& tree, const float* origin, const float* direction, float near,
                 float far, const Emit& emit) {
    using namespace octree;
    if (tree.n_nodes == 0) return;
    const int32_t cells = 1 << tree.depth;
    const double size = tree.cube[3], edge = size / cells;
    Axis axes[3];
    int mirror = 0;
    double t = near, leave = far;
    for (int a = 0; a < 3; ++a) {
        const double d = direction[a], offset = tree.cube[a] - origin[a];
        if (std::fabs(d) < PARALLEL) {
            const int64_t cell = cell_index(-offset, size, cells);
            if (cell < 0 || cell >= cells) return;
            axes[a] = {-1.0, FAR_AWAY, static_cast<int32_t>(cell)};
            continue;
        }
        const double from_low = in_cells(-offset, edge), step = edge / d;
        if (d < 0) {
            mirror |= 1 << a;
            axes[a] = {cells - from_low, -step, 0};
        } else {
            axes[a] = {from_low, step, 0};
        }
        const double enter = axes[a].face(0), exit = axes[a].face(cells);
        t = enter > t ? enter : t;
        leave = exit < leave ? exit : leave;
    }
    if (!(t < leave)) return;
    if (tree.depth == 0) {
        const float t_0 = static_cast<float>(t), t_1 = static_cast<float>(leave);
        if (t_0 < t_1) emit(int64_t(0), t_0, t_1);
        return;
    }
    const Axis x = axes[0], y = axes[1], z = axes[2];
    int32_t node[MAX_DEPTH];  // node[level] has children of edge 1 << level; the path to the cell
    int level = tree.depth - 1;
    node[level] = 0;
    const int32_t half = 1 << level;
    int32_t i = x.half_at(t, 0, half), j = y.half_at(t, 0, half), k = z.half_at(t, 0, half);
    for (;;) {
        const int32_t step = 1 << level;
        const double x_exit = x.face(i + step), y_exit = y.face(j + step), z_exit = z.face(k + step);
        double exit = x_exit < y_exit ? x_exit : y_exit;
        exit = z_exit < exit ? z_exit : exit;
        const int child = (i >> level & 1) | (j >> level & 1) << 1 | (k >> level & 1) << 2;
        const int32_t id = tree.children[int64_t(node[level]) * 8 + (child ^ mirror)];
        if (id >= 0 && id < tree.n_nodes && t < exit) {
            if (level > 0) {
                node[--level] = id;
                const int32_t below = step >> 1;
                i |= x.half_at(t, i, below);
                j |= y.half_at(t, j, below);
                k |= z.half_at(t, k, below);
                continue;
            }
            const float t_0 = static_cast<float>(t);
            const float t_1 = static_cast<float>(exit < leave ? exit : leave);
            if (t_0 < t_1 && !emit(int64_t(id), t_0, t_1)) return;
        }
        t = exit > t ? exit : t;
        if (!(t < leave)) return;
        // Into the neighbour beyond each face that lies at the exit. The highest bit that changes
        // tells the level of the deepest node that holds both cells.
        const int32_t di = x_exit <= exit ? step : 0, dj = y_exit <= exit ? step : 0,
                      dk = z_exit <= exit ? step : 0;
        const int32_t changed = (i ^ (i + di)) | (j ^ (j + dj)) | (k ^ (k + dk));
        if (changed >= cells || changed == 0) return;
        level = 31 - __builtin_clz(static_cast<uint32_t>(changed));
        const int32_t keep = -(1 << level);
        i = (i + di) & keep;
        j = (j + dj) & keep;
        k = (k + dk) & keep;
    }
}

}  // namespace nk
