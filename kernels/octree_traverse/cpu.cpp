// octree_traverse over a batch: one call counts, a second one fills.
#include "octree_traverse/traverse.h"
#include "shared/export.h"
#include "shared/parallel.h"

// Where `counts` is not NULL it is written and the outputs are not touched; else ray r writes its
// crossings from packed_info[2 r] on.
NK_EXPORT void nk_octree_traverse(const float* origins, const float* directions,
                                  const int32_t* children, int64_t n_nodes, const double* cube,
                                  int64_t depth, float near, float far, int64_t most, int64_t n,
                                  int64_t* counts, const int64_t* packed_info, int64_t* node_ids,
                                  float* t_starts, float* t_ends) {
    const nk::Octree tree{children, n_nodes, cube, static_cast<int>(depth)};
    nk::parallel_for(n, 256, [&](int64_t begin, int64_t end, int) {
        for (int64_t r = begin; r < end; ++r) {
            const float *o = origins + 3 * r, *d = directions + 3 * r;
            int64_t found = 0;
            if (counts) {
                nk::walk_octree(tree, o, d, near, far,
                                [&](int64_t, float, float) { return ++found < most; });
                counts[r] = found;
                continue;
            }
            const int64_t first = packed_info[2 * r];
            nk::walk_octree(tree, o, d, near, far, [&](int64_t leaf, float t_0, float t_1) {
                node_ids[first + found] = leaf;
                t_starts[first + found] = t_0;
                t_ends[first + found] = t_1;
                return ++found < most;
            });
        }
    });
}
