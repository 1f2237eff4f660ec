// Portable vectors: GCC/clang vector types, as wide as the instruction set this file is compiled for.
// Arithmetic operators and comparisons work on them directly; a comparison gives a lane mask (vi).
#pragma once
#include <cstdint>
#include <cstring>

namespace nk {

#if defined(__AVX512F__)
constexpr int VL = 16;
#elif defined(__AVX2__)
constexpr int VL = 8;
#else
constexpr int VL = 4;
#endif

typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));

// Eight lanes whatever the instruction set: one a corner of a voxel.
typedef float vf8 __attribute__((vector_size(32)));
typedef int32_t vi8 __attribute__((vector_size(32)));

inline vf splat(float x) { return vf{} + x; }
inline vi splat(int32_t x) { return vi{} + x; }

inline vf load(const float* p) {
    vf v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
inline void store(float* p, vf v) { std::memcpy(p, &v, sizeof v); }

// The first `count` lanes from memory, zeros in the others.
inline vf load_first(const float* p, int count) {
    vf v{};
    std::memcpy(&v, p, sizeof(float) * static_cast<size_t>(count < VL ? count : VL));
    return v;
}
inline void store_first(float* p, vf v, int count) {
    std::memcpy(p, &v, sizeof(float) * static_cast<size_t>(count < VL ? count : VL));
}

inline vf select(vi mask, vf a, vf b) { return mask ? a : b; }
inline vf max(vf a, vf b) { return a > b ? a : b; }
inline vf min(vf a, vf b) { return a < b ? a : b; }

inline vi8 gather8(const int32_t* base, vi8 index) {
    vi8 v;
    for (int i = 0; i < 8; ++i) v[i] = base[index[i]];
    return v;
}

inline float hsum(vf v) {
    float lanes[VL], sum = 0.f;
    store(lanes, v);
    for (int i = 0; i < VL; ++i) sum += lanes[i];
    return sum;
}

inline vi to_int(vf v) { return __builtin_convertvector(v, vi); }  // truncates towards zero
inline vf to_float(vi v) { return __builtin_convertvector(v, vf); }
inline vf floor(vf v) {
    const vf truncated = to_float(to_int(v));
    return truncated - select(truncated > v, splat(1.f), splat(0.f));
}

// Keeps fast-math from reordering across v: the two parts of a constant must not be folded into one.
#if defined(__has_builtin) && __has_builtin(__builtin_assoc_barrier)
inline vf ordered(vf v) { return __builtin_assoc_barrier(v); }
#else
inline vf ordered(vf v) { return v; }
#endif

// exp(x), relative error below 2e-7 on [-87, 88]; clamped outside.
inline vf exp(vf x) {
    x = min(max(x, splat(-87.3f)), splat(88.3f));
    const vf n = floor(x * 1.44269504088896341f + 0.5f);
    vf r = ordered(x - n * 0.693359375f);
    r = r - n * -2.12194440e-4f;
    vf p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.f;
    const vi exponent = (to_int(n) + 127) << 23;
    vf scale;
    std::memcpy(&scale, &exponent, sizeof scale);
    return p * scale;
}

// log(x) for normal positive x, absolute error below 2e-7 near 1.
inline vf log(vf x) {
    vi bits;
    std::memcpy(&bits, &x, sizeof bits);
    vi exponent = (bits >> 23) - 126;
    const vi mantissa_bits = (bits & 0x007fffff) | 0x3f000000;
    vf m;
    std::memcpy(&m, &mantissa_bits, sizeof m);
    const vi low = m < splat(0.707106781186547524f);
    exponent = exponent + low;  // a true lane is -1
    m = m + select(low, m, vf{}) - 1.f;
    const vf z = m * m;
    vf p = splat(7.0376836292e-2f);
    p = p * m - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    const vf e = to_float(exponent);
    return m + (m * z * p - e * 2.12194440e-4f - 0.5f * z) + e * 0.693359375f;
}

inline vf sigmoid(vf x) { return 1.f / (1.f + exp(-x)); }

// Plain loads: the gather instructions measured no faster (Zen 3).
inline vf gather(const float* base, vi index) {
    vf v;
    for (int i = 0; i < VL; ++i) v[i] = base[index[i]];
    return v;
}
inline vi gather(const int32_t* base, vi index) {
    vi v;
    for (int i = 0; i < VL; ++i) v[i] = base[index[i]];
    return v;
}

}  // namespace nk
