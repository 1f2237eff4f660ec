// compact_sr of one image: strips of columns, all layers row by row while the rows are in the cache.
//
// A layer keeps the last rows that the next one needs. When row t of the head is done, row t - 1 of
// the first convolution can be, row t - 2 of the second, and so on: a strip is read once and written
// once, and only its sides and ends are computed twice.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "shared/export.h"
#include "shared/parallel.h"
#include "shared/simd.h"

namespace {

constexpr int LANES = 8;
constexpr int64_t STRIP = 160, BAND = 288;  // columns and rows of a task: rows of a strip stay in L2
constexpr int64_t SLACK = 16;               // a row's last group of pixels may reach beyond it

struct Layer {
    int64_t side, inputs, vectors;  // inputs as stored; outputs are vectors * LANES
    const float *weights, *bias, *slopes;
};

// `n` pixels of a row: P pixels at a time, NV vectors of channels each, all in registers.
// rows[i] begins side / 2 pixels to the left of the first.
template <int NV, int P>
void convolve(const Layer& layer, const float* const* rows, int64_t n, float* out) {
    const int64_t run = layer.side * layer.inputs;
    for (int64_t x = 0; x < n; x += P) {
        nk::vf8 sums[P][NV];
#pragma GCC unroll 8
        for (int v = 0; v < NV; ++v) {
            nk::vf8 bias;
            std::memcpy(&bias, layer.bias + v * LANES, sizeof bias);
#pragma GCC unroll 8
            for (int p = 0; p < P; ++p) sums[p][v] = bias;
        }
        const float* weights = layer.weights;
        for (int64_t i = 0; i < layer.side; ++i) {
            const float* in = rows[i] + x * layer.inputs;
            for (int64_t j = 0; j < run; ++j, weights += NV * LANES) {
                nk::vf8 w[NV];
#pragma GCC unroll 8
                for (int v = 0; v < NV; ++v) std::memcpy(&w[v], weights + v * LANES, sizeof w[v]);
#pragma GCC unroll 8
                for (int p = 0; p < P; ++p) {
                    const nk::vf8 value = nk::vf8{} + in[p * layer.inputs + j];
#pragma GCC unroll 8
                    for (int v = 0; v < NV; ++v) sums[p][v] += value * w[v];
                }
            }
        }
#pragma GCC unroll 8
        for (int v = 0; v < NV; ++v) {
            nk::vf8 slope;
            std::memcpy(&slope, layer.slopes + v * LANES, sizeof slope);
#pragma GCC unroll 8
            for (int p = 0; p < P; ++p) {
                const nk::vf8 sum = sums[p][v], low = sum * slope;
                const nk::vf8 kept = sum > 0.f ? sum : low;
                std::memcpy(out + ((x + p) * NV + v) * LANES, &kept, sizeof kept);
            }
        }
    }
}

void convolve(const Layer& layer, const float* const* rows, int64_t n, float* out) {
#if defined(__AVX2__)
    switch (layer.vectors) {
        case 1: return convolve<1, 8>(layer, rows, n, out);
        case 2: return convolve<2, 6>(layer, rows, n, out);
        case 3: return convolve<3, 4>(layer, rows, n, out);
        default: return convolve<4, 3>(layer, rows, n, out);
    }
#else
    switch (layer.vectors) {
        case 1: return convolve<1, 4>(layer, rows, n, out);
        case 2: return convolve<2, 3>(layer, rows, n, out);
        case 3: return convolve<3, 2>(layer, rows, n, out);
        default: return convolve<4, 1>(layer, rows, n, out);
    }
#endif
}

struct Network {
    int64_t colours, scale;
    std::vector<Layer> layers;  // head, body, tail

    Network(const float* packed, int64_t colours_, int64_t width, int64_t body, int64_t scale_)
        : colours(colours_), scale(scale_) {
        const auto vectors = [](int64_t channels) { return (channels + LANES - 1) / LANES; };
        const int64_t stored = vectors(width) * LANES;
        for (int64_t i = 0; i < body + 2; ++i) {
            const bool is_tail = i == body + 1;
            Layer layer{i ? 3 : 5, i ? stored : colours,
                        vectors(is_tail ? colours * scale * scale : width), packed, nullptr, nullptr};
            const int64_t outputs = layer.vectors * LANES;
            layer.bias = packed + layer.side * layer.side * layer.inputs * outputs;
            layer.slopes = layer.bias + outputs;
            packed = layer.slopes + outputs;
            layers.push_back(layer);
        }
    }

    int64_t body() const { return static_cast<int64_t>(layers.size()) - 2; }
    int64_t radius() const { return body() + 3; }
};

// The last `depth` rows of one layer, pixels of `channels` values.
class Rows {
  public:
    Rows(int64_t depth, int64_t pixels, int64_t channels)
        : depth_(depth), size_(pixels * channels), values_(depth * size_, 0.f) {}

    float* at(int64_t row) { return values_.data() + (row % depth_ + depth_) % depth_ * size_; }

  private:
    int64_t depth_, size_;
    std::vector<float> values_;
};

class Strip {
  public:
    Strip(const Network& net, const float* x, int64_t height, int64_t width, float* out)
        : net_(net), x_(x), out_(out), height_(height), width_(width) {
        const int64_t pixels = STRIP + 2 * net.radius() + SLACK;
        rows_.emplace_back(5, pixels, net.colours);
        for (size_t i = 0; i < net.layers.size(); ++i) {
            const int64_t depth = i == 0 ? net.body() + 2 : 3;  // the head is added to the last
            rows_.emplace_back(depth, pixels, net.layers[i].vectors * LANES);
        }
    }

    void run(int64_t top, int64_t bottom, int64_t left, int64_t right) {
        left_ = left, right_ = right;
        const int64_t body = net_.body(), first = top - body - 1;
        for (int64_t row = first - 2; row < first + 2; ++row) read(row);
        for (int64_t t = first; t < bottom + body + 1; ++t) {
            read(t + 2);
            for (int64_t i = 0; i <= body; ++i) {
                const int64_t row = t - i;
                if (row >= top - (body + 1 - i)) features(i, row);
            }
            if (t - body - 1 >= top) write(t - body - 1);
        }
    }

  private:
    // Column of the first pixel that a row keeps.
    int64_t origin() const { return left_ - net_.radius(); }
    bool outside(int64_t row) const { return row < 0 || row >= height_; }

    void read(int64_t row) {
        const int64_t n = right_ - left_ + 2 * net_.radius();
        float* to = rows_[0].at(row);
        std::fill(to, to + n * net_.colours, 0.f);
        if (outside(row)) return;
        const int64_t begin = std::max<int64_t>(origin(), 0), end = std::min(origin() + n, width_);
        for (int64_t c = 0; c < net_.colours; ++c) {
            const float* from = x_ + (c * height_ + row) * width_;
            for (int64_t i = begin; i < end; ++i)
                to[(i - origin()) * net_.colours + c] = from[i] - 0.5f;
        }
    }

    // The part of a row of layer i that is inside the image and needed, relative to the origin.
    void extent(int64_t i, int64_t& begin, int64_t& end) const {
        const int64_t more = net_.body() + 1 - i;
        begin = std::max<int64_t>(left_ - more, 0) - origin();
        end = std::min(right_ + more, width_) - origin();
    }

    void apply(int64_t i, int64_t row, int64_t begin, int64_t end, float* to) {
        const Layer& layer = net_.layers[i];
        const float* rows[5];
        for (int64_t k = 0; k < layer.side; ++k)
            rows[k] = rows_[i].at(row + k - layer.side / 2) +
                      (begin - layer.side / 2) * layer.inputs;
        convolve(layer, rows, end - begin, to);
    }

    void features(int64_t i, int64_t row) {
        const int64_t channels = net_.layers[i].vectors * LANES;
        float* to = rows_[i + 1].at(row);
        const int64_t all = right_ - left_ + 2 * net_.radius();
        if (outside(row)) return std::fill(to, to + all * channels, 0.f);
        int64_t begin, end;
        extent(i, begin, end);
        apply(i, row, begin, end, to + begin * channels);
        std::fill(to, to + begin * channels, 0.f);
        std::fill(to + end * channels, to + all * channels, 0.f);
        if (i < net_.body()) return;
        const float* head = rows_[1].at(row);
        for (int64_t j = begin * channels; j < end * channels; ++j) to[j] += head[j];
    }

    void write(int64_t row) {
        const int64_t tail = net_.body() + 1, s = net_.scale;
        const int64_t stored = net_.layers[tail].vectors * LANES;
        float* cells = rows_[tail + 1].at(row);
        int64_t begin, end;
        extent(tail, begin, end);
        apply(tail, row, begin, end, cells);
        for (int64_t k = 0; k < net_.colours * s * s; ++k) {
            const int64_t c = k / (s * s), i = k / s % s, j = k % s;
            float* to = out_ + ((c * height_ + row) * s + i) * width_ * s + left_ * s + j;
            for (int64_t x = 0; x < end - begin; ++x) to[x * s] = cells[x * stored + k];
        }
    }

    const Network& net_;
    const float* x_;
    float* out_;
    int64_t height_, width_, left_ = 0, right_ = 0;
    std::vector<Rows> rows_;  // rows_[i] is what layer i reads
};

}  // namespace

NK_EXPORT void nk_compact_sr(const float* x, int64_t colours, int64_t height, int64_t width,
                             const float* packed, int64_t channels, int64_t body, int64_t scale,
                             float* out) {
    const Network net(packed, colours, channels, body, scale);
    const int64_t strips = (width + STRIP - 1) / STRIP, bands = (height + BAND - 1) / BAND;
    nk::parallel_for(strips * bands, 1, [&](int64_t begin, int64_t end, int) {
        for (int64_t task = begin; task < end; ++task) {
            const int64_t top = task / strips * BAND, left = task % strips * STRIP;
            Strip(net, x, height, width, out)
                .run(top, std::min(top + BAND, height), left, std::min(left + STRIP, width));
        }
    });
}
