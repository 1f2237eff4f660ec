#include "first_hit/march.h"
#include "shared/export.h"
#include "shared/parallel.h"

// Distance of the first lattice point in an occupied voxel, or infinity.
NK_EXPORT void nk_first_hit(const float* origins, const float* directions, int64_t n_rays,
                            const uint64_t* words, int64_t resolution, const float* box_min,
                            float voxel, float step, float* t) {
    const nk::Occupancy occupancy = nk::make_occupancy(words, resolution);
    nk::parallel_for(n_rays, 256, [&](int64_t begin, int64_t end, int) {
        for (int64_t r = begin; r < end; ++r) {
            float origin[3], direction[3];
            for (int a = 0; a < 3; ++a) {
                origin[a] = (origins[r * 3 + a] - box_min[a]) / voxel;
                direction[a] = directions[r * 3 + a] / voxel;
            }
            nk::RayMarcher marcher(occupancy, origin, direction, 0.f, 3e38f, step, 0.5f);
            t[r] = marcher.first();
        }
    });
}
