// sample_placement: one call counts, a second one fills. Cell numbers are computed in double, by one
// function of t alone, so the end of an interval and the start of the next agree on who owns a cell.
#include <cmath>

#include "shared/export.h"
#include "shared/parallel.h"

namespace {

struct Lattice {
    double step, shift;  // cell k is [(k + shift) * step, (k + 1 + shift) * step)

    // The first cell whose centre is not before t.
    int64_t first_from(float t) const {
        return static_cast<int64_t>(std::ceil(static_cast<double>(t) / step - (shift + 0.5)));
    }
    float at(int64_t k) const { return static_cast<float>((static_cast<double>(k) + shift) * step); }
};

}  // namespace

// jitter may be NULL. Where `counts` is not NULL it is written and the outputs are not touched; else
// ray r writes its samples from samples_info[2 r] on.
NK_EXPORT void nk_place_samples(const int64_t* packed_info, const float* t_starts,
                                const float* t_ends, const double* step, const float* jitter,
                                int64_t n, int64_t* counts, const int64_t* samples_info,
                                float* begins, float* ends, int64_t* ray_indices,
                                int64_t* interval_indices) {
    nk::parallel_for(n, 1024, [&](int64_t first_ray, int64_t last_ray, int) {
        for (int64_t r = first_ray; r < last_ray; ++r) {
            const Lattice lattice{*step, jitter ? jitter[r] : 0.0};
            const int64_t first = packed_info[2 * r], last = first + packed_info[2 * r + 1];
            int64_t total = 0;
            int64_t out = counts ? 0 : samples_info[2 * r];
            for (int64_t i = first; i < last; ++i) {
                const int64_t k_0 = lattice.first_from(t_starts[i]);
                const int64_t k_1 = lattice.first_from(t_ends[i]);
                if (counts) {
                    total += k_1 > k_0 ? k_1 - k_0 : 0;
                    continue;
                }
                for (int64_t k = k_0; k < k_1; ++k, ++out) {
                    begins[out] = lattice.at(k);
                    ends[out] = lattice.at(k + 1);
                    ray_indices[out] = r;
                    interval_indices[out] = i;
                }
            }
            if (counts) counts[r] = total;
        }
    });
}
