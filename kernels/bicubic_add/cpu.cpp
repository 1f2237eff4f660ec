// bicubic_add: rows are enlarged once, and the last five combined to each row of the result.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "shared/export.h"
#include "shared/parallel.h"

namespace {

constexpr int64_t BAND = 32;  // rows of a task
constexpr int REACH = 2, TAPS = 2 * REACH + 1;

// Index i of a line of n, mirrored at its ends, the last value repeated.
int64_t mirrored(int64_t i, int64_t n) {
    i = ((i % (2 * n)) + 2 * n) % (2 * n);
    return i < n ? i : 2 * n - 1 - i;
}

class Picture {
  public:
    Picture(const uint8_t* pixels, const float* taps, int64_t height, int64_t width,
            int64_t channels, int64_t scale)
        : pixels_(pixels), taps_(taps), height_(height), width_(width), channels_(channels),
          scale_(scale), padded_((width + 2 * REACH) * channels),
          rows_(TAPS * width * scale * channels) {}

    int64_t size() const { return width_ * scale_ * channels_; }
    float* row(int64_t i) { return rows_.data() + (i + TAPS) % TAPS * size(); }

    // Enlarge row i, mirrored beyond the picture, along its columns.
    void enlarge(int64_t i) {
        const uint8_t* from = pixels_ + mirrored(i, height_) * width_ * channels_;
        for (int64_t x = -REACH; x < width_ + REACH; ++x) {
            const uint8_t* pixel = from + mirrored(x, width_) * channels_;
            for (int64_t c = 0; c < channels_; ++c) padded_[(x + REACH) * channels_ + c] = pixel[c];
        }
        float* to = row(i);
        for (int64_t phase = 0; phase < scale_; ++phase) {
            const float* t = taps_ + phase * TAPS;
            for (int64_t x = 0; x < width_; ++x)
                for (int64_t c = 0; c < channels_; ++c) {
                    const float* in = padded_.data() + x * channels_ + c;
                    float sum = 0.f;
                    for (int k = 0; k < TAPS; ++k) sum += t[k] * in[k * channels_];
                    to[(x * scale_ + phase) * channels_ + c] = sum;
                }
        }
    }

    // One row of the result: `phase` of the rows around i.
    void combine(int64_t i, int64_t phase, const float* residual, float* line, uint8_t* out) {
        const float* t = taps_ + phase * TAPS;
        const float *a = row(i - 2), *b = row(i - 1), *c = row(i), *d = row(i + 1), *e = row(i + 2);
        for (int64_t j = 0; j < size(); ++j)
            line[j] = t[0] * a[j] + t[1] * b[j] + t[2] * c[j] + t[3] * d[j] + t[4] * e[j];
        for (int64_t x = 0; x < width_ * scale_; ++x)
            for (int64_t k = 0; k < channels_; ++k) line[x * channels_ + k] += 255.f * residual[x];
        for (int64_t j = 0; j < size(); ++j)
            out[j] = static_cast<uint8_t>(std::min(std::max(line[j] + 0.5f, 0.f), 255.f));
    }

  private:
    const uint8_t* pixels_;
    const float* taps_;
    int64_t height_, width_, channels_, scale_;
    std::vector<float> padded_, rows_;
};

}  // namespace

NK_EXPORT void nk_bicubic_add(const uint8_t* pixels, const float* residual, const float* taps,
                              int64_t height, int64_t width, int64_t channels, int64_t scale,
                              uint8_t* out) {
    nk::parallel_for(height, BAND, [&](int64_t begin, int64_t end, int) {
        Picture picture(pixels, taps, height, width, channels, scale);
        std::vector<float> line(picture.size());
        for (int64_t i = begin - REACH; i < begin + REACH; ++i) picture.enlarge(i);
        for (int64_t i = begin; i < end; ++i) {
            picture.enlarge(i + REACH);
            for (int64_t phase = 0; phase < scale; ++phase) {
                const int64_t row = i * scale + phase;
                picture.combine(i, phase, residual + row * width * scale, line.data(),
                                out + row * picture.size());
            }
        }
    });
}
