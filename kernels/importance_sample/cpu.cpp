// Inverse-CDF sampling: a merge of the sorted targets with the running sum of the weights.
#include <algorithm>
#include <vector>

#include "shared/export.h"
#include "shared/parallel.h"

// u of ray r is at u + r * u_stride; a stride of 0 shares one row among all rays.
NK_EXPORT void nk_importance_sample(const float* t_edges, const float* weights, const float* u,
                                    int64_t n_rays, int64_t n_bins, int64_t n_samples,
                                    int64_t u_stride, float padding, float* t) {
    nk::parallel_for(n_rays, 64, [&](int64_t begin, int64_t end, int) {
        std::vector<float> cdf(n_bins + 1), target(n_samples);
        std::vector<int32_t> bin(n_samples + 1);
        for (int64_t ray = begin; ray < end; ++ray) {
            const float* w = weights + ray * n_bins;
            const float* edge = t_edges + ray * (n_bins + 1);
            float* out = t + ray * n_samples;
            float sum = 0.f;
            for (int64_t b = 0; b < n_bins; ++b) {
                cdf[b] = sum;
                sum += w[b] + padding;
            }
            cdf[n_bins] = sum;
            std::copy_n(u + ray * u_stride, n_samples, target.begin());
            if (!std::is_sorted(target.begin(), target.end()))
                std::sort(target.begin(), target.end());
            for (int64_t k = 0; k < n_samples; ++k) target[k] *= sum;

            // Each step either settles a sample or moves to the next bin. Which of the two is
            // unpredictable, hence arithmetic and not a branch; a wrong bin[k] is overwritten.
            int64_t b = 0, k = 0;
            while (k < n_samples && b < n_bins - 1) {
                bin[k] = static_cast<int32_t>(b);
                const bool settled = target[k] < cdf[b + 1];
                k += settled;
                b += !settled;
            }
            std::fill(bin.begin() + k, bin.end(), static_cast<int32_t>(n_bins - 1));

            for (k = 0; k < n_samples; ++k) {
                const int32_t at = bin[k];
                const float inside = (target[k] - cdf[at]) / (w[at] + padding);
                const float clamped = std::min(std::max(inside, 0.f), 1.f);
                // Rounding must not carry a sample past its bin: the samples stay in order.
                out[k] = std::min(edge[at] + clamped * (edge[at + 1] - edge[at]), edge[at + 1]);
            }
        }
    });
}
