// Real spherical harmonics as polynomials in the components of a unit direction, and their
// gradient. F is float or nk::vf: the same code serves one direction or one a lane.
// Constants and order are those of instant-ngp and PlenOctrees (Condon-Shortley phase; within band
// l the index runs m = -l..l); the polynomials are instant-ngp's, which assume |d| = 1.
#pragma once

namespace nk {

// Values of the first `bands` bands (1..4) at (x, y, z): out[0 .. bands * bands).
template <class F>
inline void sh_basis(F x, F y, F z, int bands, F* out) {
    out[0] = F{} + 0.28209479177387814f;
    if (bands < 2) return;
    out[1] = -0.48860251190291987f * y;
    out[2] = 0.48860251190291987f * z;
    out[3] = -0.48860251190291987f * x;
    if (bands < 3) return;
    const F xx = x * x, yy = y * y, zz = z * z, xy = x * y;
    out[4] = 1.0925484305920792f * xy;
    out[5] = -1.0925484305920792f * (y * z);
    out[6] = 0.94617469575756008f * zz - 0.31539156525251999f;
    out[7] = -1.0925484305920792f * (x * z);
    out[8] = 0.54627421529603959f * (xx - yy);
    if (bands < 4) return;
    const F edge = 1.f - 5.f * zz;
    out[9] = 0.59004358992664352f * y * (yy - 3.f * xx);
    out[10] = 2.8906114426405538f * xy * z;
    out[11] = 0.45704579946446572f * y * edge;
    out[12] = 0.3731763325901154f * z * (5.f * zz - 3.f);
    out[13] = 0.45704579946446572f * x * edge;
    out[14] = 1.4453057213202769f * z * (xx - yy);
    out[15] = 0.59004358992664352f * x * (3.f * yy - xx);
}

// grad = sum_i g[i] * d out[i] / d(x, y, z): the three partials of the polynomials above.
template <class F>
inline void sh_basis_backward(F x, F y, F z, int bands, const F* g, F& gx, F& gy, F& gz) {
    gx = F{}, gy = F{}, gz = F{};
    if (bands < 2) return;
    gx = -0.48860251190291987f * g[3];
    gy = -0.48860251190291987f * g[1];
    gz = 0.48860251190291987f * g[2];
    if (bands < 3) return;
    gx = gx + 1.0925484305920792f * (y * g[4] - z * g[7] + x * g[8]);
    gy = gy + 1.0925484305920792f * (x * g[4] - z * g[5] - y * g[8]);
    gz = gz + 1.89234939151512016f * z * g[6] - 1.0925484305920792f * (y * g[5] + x * g[7]);
    if (bands < 4) return;
    const F xx = x * x, yy = y * y, zz = z * z, xy = x * y;
    const F g9 = 1.77013076977993056f * g[9], g15 = 1.77013076977993056f * g[15];
    const F g10 = 2.8906114426405538f * g[10], g14 = 1.4453057213202769f * g[14];
    const F g11 = 0.45704579946446572f * g[11], g13 = 0.45704579946446572f * g[13];
    const F edge = 1.f - 5.f * zz;
    gx = gx - 2.f * xy * g9 + y * z * g10 + edge * g13 + 2.f * x * z * g14 + (yy - xx) * g15;
    gy = gy + (yy - xx) * g9 + x * z * g10 + edge * g11 - 2.f * y * z * g14 + 2.f * xy * g15;
    gz = gz + xy * g10 - 10.f * z * (y * g11 + x * g13) +
         0.3731763325901154f * (15.f * zz - 3.f) * g[12] + (xx - yy) * g14;
}

}  // namespace nk
