// The frequency encoding of points and directions, written into the rows of a panel.
#pragma once
#include "encodings/frequency.h"
#include "nerf_mlp/panel_gemm.h"

namespace nk {

constexpr int encoded_rows(int frequencies) { return 3 + 6 * frequencies; }

// Rows x, sin x, cos x, sin 2x, ..., three each, of VL rows of a [*, 3] matrix.
inline void encode_rows(const float* values, const int64_t* rows, int frequencies, float* to) {
    for (int c = 0; c < 3; ++c) {
        int64_t turns[VL];
        vf x;
        for (int lane = 0; lane < VL; ++lane) {
            x[lane] = values[3 * rows[lane] + c];
            turns[lane] = quarter_turns(x[lane]);
        }
        store(to + c * panel::LANES, x);
        for (int k = 0; k < frequencies; ++k) {
            vi sine, cosine;
            for (int lane = 0; lane < VL; ++lane) {
                sine[lane] = angle(turns[lane], k);
                cosine[lane] = cosine_angle(sine[lane]);
            }
            store(to + (3 + 6 * k + c) * panel::LANES, sin_of(sine));
            store(to + (6 + 6 * k + c) * panel::LANES, sin_of(cosine));
        }
    }
}

}  // namespace nk
