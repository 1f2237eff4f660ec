// photo_details of one source: rows of small pixels over threads, a colour triple as one vector.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "shared/export.h"
#include "shared/parallel.h"

namespace {

constexpr int64_t GRAIN = 8;  // rows

typedef uint8_t Bytes4 __attribute__((vector_size(4)));
typedef float Float4 __attribute__((vector_size(16)));

struct Photo {
    const uint8_t* pixels;
    int64_t height, width, last;  // last: where the last four bytes begin

    // Red, green, blue and what follows.
    Float4 at(int64_t row, int64_t column) const {
        const int64_t offset = 3 * (row * width + column);
        Bytes4 four;
        if (offset > last) {
            four = Bytes4{pixels[offset], pixels[offset + 1], pixels[offset + 2], 0};
        } else {
            std::memcpy(&four, pixels + offset, sizeof four);
        }
        return __builtin_convertvector(four, Float4);
    }

    Float4 bilinear(float x, float y) const {
        x = std::min(std::max(x, 0.f), static_cast<float>(width - 1));
        y = std::min(std::max(y, 0.f), static_cast<float>(height - 1));
        const int64_t column = std::min(static_cast<int64_t>(x), width - 2);
        const int64_t row = std::min(static_cast<int64_t>(y), height - 2);
        const float right = x - static_cast<float>(column), below = y - static_cast<float>(row);
        const Float4 upper = at(row, column) * (1 - right) + at(row, column + 1) * right;
        const Float4 lower = at(row + 1, column) * (1 - right) + at(row + 1, column + 1) * right;
        return upper * (1 - below) + lower * below;
    }
};

// The limited change along a line of n values, `stride` apart, at value i.
float slope(const float* line, int64_t stride, int64_t i, int64_t n) {
    if (n < 2) return 0.f;
    const float* before = line + stride * std::max<int64_t>(i, 1);
    const float* after = line + stride * std::min(i, n - 2);
    const float a = before[0] - before[-stride], b = after[stride] - after[0];
    if (a * b <= 0) return 0.f;
    return std::abs(a) < std::abs(b) ? a : b;
}

}  // namespace

NK_EXPORT void nk_photo_details(const uint8_t* pixels, int64_t photo_height, int64_t photo_width,
                                const float* positions, const float* hints, int64_t n_hints,
                                const float* enlarged, int64_t height, int64_t width,
                                int64_t scale, float* out) {
    const Photo photo{pixels, photo_height, photo_width, 3 * photo_height * photo_width - 4};
    const int64_t places_a_cell = scale * scale, cell = 3 * places_a_cell;
    std::vector<float> steps(scale);
    for (int64_t i = 0; i < scale; ++i)
        steps[i] = (static_cast<float>(i) + 0.5f) / static_cast<float>(scale) - 0.5f;
    const auto do_row = [&](int64_t row) {
        for (int64_t column = 0; column < width; ++column) {
            const int64_t pixel = row * width + column;
            float* detail = out + pixel * (cell + n_hints);
            std::memcpy(detail + cell, hints + pixel * n_hints, sizeof(float) * n_hints);
            const float usable = hints[pixel * n_hints];
            if (!(usable > 0)) {
                std::fill(detail, detail + cell, 0.f);
                continue;
            }
            float across[2], down[2], middle[2];
            for (int axis = 0; axis < 2; ++axis) {
                middle[axis] = positions[2 * pixel + axis];
                across[axis] = slope(positions + 2 * row * width + axis, 2, column, width);
                down[axis] = slope(positions + 2 * column + axis, 2 * width, row, height);
            }
            const float* known = enlarged + pixel * cell;
            for (int64_t i = 0; i < scale; ++i)
                for (int64_t j = 0; j < scale; ++j) {
                    float xy[2];
                    for (int axis = 0; axis < 2; ++axis)
                        xy[axis] = (middle[axis] + steps[i] * down[axis] + steps[j] * across[axis]) *
                                       static_cast<float>(scale) -
                                   0.5f;
                    const Float4 colour = photo.bilinear(xy[0], xy[1]) * (1.f / 255.f);
                    for (int c = 0; c < 3; ++c) {
                        const int64_t k = c * places_a_cell + i * scale + j;
                        detail[k] = (colour[c] - known[k]) * usable;
                    }
                }
        }
    };
    nk::parallel_for(height, GRAIN, [&](int64_t begin, int64_t end, int) {
        for (int64_t row = begin; row < end; ++row) do_row(row);
    });
}
