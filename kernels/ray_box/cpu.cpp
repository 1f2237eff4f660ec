// Slab test, a ray at a time, in double: the result is then the exact one, rounded.
#include <cmath>

#include "shared/export.h"
#include "shared/parallel.h"

namespace {

constexpr double PARALLEL = 1e-20;  // direction components below this count as zero
constexpr double FAR_AWAY = 1e300;  // for infinity, which fast-math does not know

}  // namespace

NK_EXPORT void nk_ray_box(const float* origins, const float* directions, const float* box_min,
                          const float* box_max, float near, int64_t n, float* t_near,
                          float* t_far) {
    nk::parallel_for(n, 4096, [&](int64_t begin, int64_t end, int) {
        for (int64_t r = begin; r < end; ++r) {
            double enter = -FAR_AWAY, leave = FAR_AWAY;
            for (int axis = 0; axis < 3; ++axis) {
                const double o = origins[3 * r + axis], d = directions[3 * r + axis];
                const double low = box_min[axis], high = box_max[axis];
                const bool parallel = std::fabs(d) < PARALLEL;
                const double inverse = 1.0 / (parallel ? 1.0 : d);
                const double a = (low - o) * inverse, b = (high - o) * inverse;
                // A parallel ray is inside the slab for ever or never.
                const double outside = low <= o && o < high ? FAR_AWAY : -FAR_AWAY;
                const double first = parallel ? -outside : (a < b ? a : b);
                const double last = parallel ? outside : (a < b ? b : a);
                enter = first > enter ? first : enter;
                leave = last < leave ? last : leave;
            }
            const float t_0 = enter > near ? static_cast<float>(enter < 1e38 ? enter : 1e38) : near;
            const float t_1 = static_cast<float>(leave > near ? (leave < 1e38 ? leave : 1e38) : near);
            const bool hit = t_0 < t_1;
            t_near[r] = hit ? t_0 : near;
            t_far[r] = hit ? t_1 : near;
        }
    });
}
