// A multi-layer perceptron on one tile of samples, forward and backward, in caller-owned memory.
//
// Activations are feature-major: X[i][s], row stride `stride` floats, n samples (a multiple of VL;
// tile_stride(n) is a good stride, 64-byte aligned buffers are best). Hidden layers have ReLU, the
// output is linear or a sigmoid.
//
// Parameters, packed:  per layer W [out][in], then b [out].
// Gradients, padded:   per layer dW [out][pad_lanes(in)], then db [out][VL] (a sum still to be
//                      taken over lanes); reduce_mlp_gradient brings them to the packed layout.
#pragma once
#include "fused_mlp/micro_gemm.h"

namespace nk {

struct MlpShape {
    static constexpr int MAX_LAYERS = 16;
    int layers = 0;
    int width[MAX_LAYERS + 1] = {};  // input, hidden ..., output
    bool sigmoid_output = false;

    int in(int layer) const { return width[layer]; }
    int out(int layer) const { return width[layer + 1]; }
    int64_t params(int layer) const { return int64_t(out(layer)) * (in(layer) + 1); }
    int64_t grads(int layer) const { return out(layer) * (pad_lanes(in(layer)) + VL); }
    int64_t params() const {
        int64_t n = 0;
        for (int l = 0; l < layers; ++l) n += params(l);
        return n;
    }
    int64_t grads() const {
        int64_t n = 0;
        for (int l = 0; l < layers; ++l) n += grads(l);
        return n;
    }
    int hidden_rows() const {  // rows of all hidden activations together
        int n = 0;
        for (int l = 0; l + 1 < layers; ++l) n += out(l);
        return n;
    }
    int max_width() const {
        int w = 0;
        for (int l = 0; l <= layers; ++l) w = width[l] > w ? width[l] : w;
        return w;
    }
    // Floats that mlp_forward_tile needs in `hidden`.
    int64_t hidden_floats(int64_t stride) const { return hidden_rows() * stride; }
    // Floats that mlp_backward_tile needs in `scratch`.
    int64_t backward_floats(int n, int64_t stride) const {
        return 2 * max_width() * stride + n * tile_stride(max_width());
    }
};

// out [out][stride] from x [in][stride]; keeps the hidden activations for the backward.
inline void mlp_forward_tile(const MlpShape& shape, const float* params, const float* x, int n,
                             int64_t stride, float* hidden, float* out) {
    for (int l = 0; l < shape.layers; ++l) {
        const int rows = shape.out(l), cols = shape.in(l);
        const GemmA weights{params, cols, 1};
        const float* bias = params + int64_t(rows) * cols;
        if (l + 1 < shape.layers) {
            micro_gemm<kBias | kRelu>(weights, x, stride, hidden, stride, rows, n, cols, bias);
            x = hidden;
            hidden += rows * stride;
        } else {
            micro_gemm<kBias>(weights, x, stride, out, stride, rows, n, cols, bias);
            if (shape.sigmoid_output)
                for (int o = 0; o < rows; ++o)
                    for (int s = 0; s < n; s += VL) {
                        float* p = out + o * stride + s;
                        store(p, sigmoid(load(p)));
                    }
        }
        params += shape.params(l);
    }
}

// dx [in][stride] (or NULL) and grads += (or NULL) from d_out [out][stride], which is overwritten
// for a sigmoid output. `hidden` and `out` are what mlp_forward_tile left; samples that are padding
// must have d_out = 0 and finite x. x_samples, if the caller has it, is x sample-major: row s at
// x_samples + s * ld_x_samples, zeros (or anything finite) up to pad_lanes(in).
inline void mlp_backward_tile(const MlpShape& shape, const float* params, const float* x,
                              const float* hidden, const float* out, float* d_out, int n,
                              int64_t stride, float* scratch, float* dx, float* grads,
                              const float* x_samples = nullptr, int64_t ld_x_samples = 0) {
    if (shape.sigmoid_output)
        for (int o = 0; o < shape.width[shape.layers]; ++o)
            for (int s = 0; s < n; s += VL) {
                const vf y = load(out + o * stride + s);
                float* p = d_out + o * stride + s;
                store(p, load(p) * y * (1.f - y));
            }
    float* buffer[2] = {scratch, scratch + shape.max_width() * stride};
    float* sample_major = scratch + 2 * shape.max_width() * stride;
    const float* d = d_out;
    params += shape.params();
    if (grads) grads += shape.grads();
    hidden += shape.hidden_floats(stride);
    for (int l = shape.layers - 1; l >= 0; --l) {
        const int rows = shape.out(l), cols = shape.in(l);
        params -= shape.params(l);
        if (l > 0) hidden -= cols * stride;
        const float* input = l > 0 ? hidden : x;
        if (grads) {
            grads -= shape.grads(l);
            const float* transposed = x_samples;
            int64_t ld = ld_x_samples;
            if (l > 0 || !x_samples) {
                ld = tile_stride(cols);
                transpose(input, stride, cols, n, sample_major, ld);
                transposed = sample_major;
            }
            const int64_t padded = pad_lanes(cols);
            micro_gemm<kAccumulate>({d, stride, 1}, transposed, ld, grads, padded, rows,
                                    static_cast<int>(padded), n);
            float* db = grads + rows * padded;
            for (int o = 0; o < rows; ++o) {
                vf sum = load(db + o * VL);
                for (int s = 0; s < n; s += VL) sum += load(d + o * stride + s);
                store(db + o * VL, sum);
            }
        }
        const GemmA transposed_weights{params, 1, cols};
        if (l > 0) {
            micro_gemm<kMask>(transposed_weights, d, stride, buffer[l & 1], stride, cols, n, rows,
                              hidden);
            d = buffer[l & 1];
        } else if (dx) {
            micro_gemm<kStore>(transposed_weights, d, stride, dx, stride, cols, n, rows);
        }
    }
}

// packed += padded, summing the lanes of the biases.
inline void reduce_mlp_gradient(const MlpShape& shape, const float* padded, float* packed) {
    for (int l = 0; l < shape.layers; ++l) {
        const int rows = shape.out(l), cols = shape.in(l);
        const int64_t ld = pad_lanes(cols);
        for (int o = 0; o < rows; ++o)
            for (int i = 0; i < cols; ++i) packed[int64_t(o) * cols + i] += padded[o * ld + i];
        for (int o = 0; o < rows; ++o)
            packed[int64_t(rows) * cols + o] += hsum(load(padded + rows * ld + o * VL));
        padded += shape.grads(l);
        packed += shape.params(l);
    }
}

}  // namespace nk
