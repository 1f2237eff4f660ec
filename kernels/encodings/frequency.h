// Sines of 2^k x by integer angles.
//
// An angle is an integer, 2^32 to the turn, so the wrap-around of the integer is the periodicity of
// the sine, and there is no subtraction of nearly equal floats for fast-math to rearrange. A
// coordinate is held in quarter turns with kFraction bits behind the point; doubling is a shift.
#pragma once
#include <cmath>
#include <cstdint>

#include "shared/simd.h"

namespace nk {

constexpr int kFraction = 40, kQuarter = 30;
constexpr double kQuarterTurns = 0.63661977236758134308;  // 2 / pi

inline int64_t quarter_turns(float x) {
    return static_cast<int64_t>(
        std::floor(x * (kQuarterTurns * (int64_t{1} << kFraction)) + 0.5));
}

// Of 2^k x.
inline int32_t angle(int64_t quarter_turns, int k) {
    return static_cast<int32_t>((static_cast<uint64_t>(quarter_turns) << k) >>
                                (kFraction - kQuarter));
}

// cos(a) = sin(a + a quarter turn).
inline int32_t cosine_angle(int32_t angle) {
    return static_cast<int32_t>(static_cast<uint32_t>(angle) + (1u << kQuarter));
}

// sin of angle * (one turn / 2^32), absolute error below 2e-7.
inline vf sin_of(vi angle) {
    typedef uint32_t vu __attribute__((vector_size(VL * 4)));
    const vu nearest = ((vu)angle + (1u << (kQuarter - 1))) >> kQuarter;  // quadrant 0..3
    const vf r = to_float((vi)((vu)angle - (nearest << kQuarter))) *
                 static_cast<float>(1.57079632679489661923 / (1 << kQuarter));
    const vf z = r * r;
    const vf s = r + r * z * (-1.6666654611e-1f + z * (8.3321608736e-3f - z * 1.9515295891e-4f));
    const vf tail = 4.1666645683e-2f + z * (-1.3887316255e-3f + z * 2.4433157118e-5f);
    const vf c = 1.f - 0.5f * z + z * z * tail;
    const vf value = select((vi)(nearest & 1u) != 0, c, s);
    return select((vi)(nearest & 2u) != 0, -value, value);
}

}  // namespace nk
