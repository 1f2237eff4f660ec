// Ordered depth-first walk of an octree along one ray: no sort, at most four children a node.
//
// The t of the faces is computed in double from their integer coordinate, once, where the face
// first splits a node; children inherit it. So cells that share a face share its t, and what comes
// out is the exact t rounded to float.
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

// One axis of a ray, mirrored so that it points to higher cells: mirrored cell i is cells - 1 - i
// and mirrored face i is cells - i where the direction is negative.
struct Axis {
    double start, step;  // t of mirrored face i is start + i * step
    int64_t fixed;       // parallel ray: the cell it stays in, else -1
};

struct Node {
    int32_t id;
    int next;          // mirrored child to look at next, 8 when done
    int64_t low[3];    // mirrored integer corner, in leaf cells
    double enter;      // t where the walk stands
    double t_mid[3], t_high[3];
};

// The mid faces of a node of `edge` leaf cells and the child that holds t = node.enter.
inline void open(Node& node, const Axis (&axes)[3], int64_t edge) {
    node.next = 0;
    for (int a = 0; a < 3; ++a) {
        const int64_t mid = node.low[a] + edge / 2;
        const Axis& axis = axes[a];
        if (axis.fixed < 0)
            node.t_mid[a] = axis.start + static_cast<double>(mid) * axis.step;
        else
            node.t_mid[a] = axis.fixed >= mid ? -FAR_AWAY : FAR_AWAY;
        if (node.t_mid[a] <= node.enter) node.next |= 1 << a;
    }
}

}  // namespace octree

// Calls emit(leaf, t_start, t_end) front to back; emit returns false to stop.
template <class Emit>
void walk_octree(const Octree& tree, const float* origin, const float* direction, float near,
                 float far, const Emit& emit) {
    using namespace octree;
    if (tree.n_nodes == 0) return;
    const int64_t cells = int64_t(1) << tree.depth;
    const double size = tree.cube[3], edge = size / static_cast<double>(cells);
    Axis axes[3];
    int mirror = 0;
    Node path[MAX_DEPTH + 1];
    Node& root = path[0];
    double enter = near, leave = far;
    for (int a = 0; a < 3; ++a) {
        const double d = direction[a], offset = tree.cube[a] - origin[a];
        root.low[a] = 0;
        if (std::fabs(d) < PARALLEL) {
            axes[a] = {0.0, 0.0, cell_index(-offset, size, cells)};
            if (axes[a].fixed < 0 || axes[a].fixed >= cells) return;
            root.t_high[a] = FAR_AWAY;
            continue;
        }
        const double inverse = 1.0 / d;
        axes[a] = {offset * inverse, edge * inverse, -1};
        if (d < 0) {
            mirror |= 1 << a;
            axes[a].start += static_cast<double>(cells) * axes[a].step;
            axes[a].step = -axes[a].step;
        }
        root.t_high[a] = axes[a].start + static_cast<double>(cells) * axes[a].step;
        enter = axes[a].start > enter ? axes[a].start : enter;
        leave = root.t_high[a] < leave ? root.t_high[a] : leave;
    }
    if (!(enter < leave)) return;
    if (tree.depth == 0) {
        const float t_0 = static_cast<float>(enter), t_1 = static_cast<float>(leave);
        if (t_0 < t_1) emit(int64_t(0), t_0, t_1);
        return;
    }
    root.id = 0;
    root.enter = enter;
    open(root, axes, cells);
    int level = 0;
    while (level >= 0) {
        Node& node = path[level];
        if (node.next >= 8 || !(node.enter < leave)) {
            --level;
            continue;
        }
        // The child's exit, and the child (or the end) beyond it.
        const int child = node.next;
        double t_exit[3];
        for (int a = 0; a < 3; ++a) t_exit[a] = child >> a & 1 ? node.t_high[a] : node.t_mid[a];
        double exit = t_exit[0] < t_exit[1] ? t_exit[0] : t_exit[1];
        exit = t_exit[2] < exit ? t_exit[2] : exit;
        int crossed = 0;
        for (int a = 0; a < 3; ++a) crossed |= (t_exit[a] <= exit) << a;
        node.next = crossed & child || crossed == 0 ? 8 : child | crossed;
        const double child_enter = node.enter;
        node.enter = exit;
        const int32_t id = tree.children[int64_t(node.id) * 8 + (child ^ mirror)];
        if (id < 0 || id >= tree.n_nodes || !(child_enter < exit)) continue;
        if (level + 1 == tree.depth) {
            const float t_0 = static_cast<float>(child_enter);
            const float t_1 = static_cast<float>(exit < leave ? exit : leave);
            if (t_0 < t_1 && !emit(int64_t(id), t_0, t_1)) return;
            continue;
        }
        const int64_t child_edge = cells >> (level + 1);
        Node& below = path[++level];
        below.id = id;
        below.enter = child_enter;
        for (int a = 0; a < 3; ++a) {
            const bool high = child >> a & 1;
            below.low[a] = node.low[a] + (high ? child_edge : 0);
            below.t_high[a] = high ? node.t_high[a] : node.t_mid[a];
        }
        open(below, axes, child_edge);
    }
}

}  // namespace nk
