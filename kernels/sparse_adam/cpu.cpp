// Adam on the touched rows of a table. What counts is memory traffic: a task first lists its
// touched rows (eight flags a load), then updates them while the rows ahead are being fetched.
#include <cmath>
#include <cstring>

#include "shared/export.h"
#include "shared/parallel.h"

namespace {

constexpr int64_t kRowsPerTask = 4096;
constexpr int64_t kAhead = 8;  // rows between prefetch and use
constexpr float kSmallest = 1.17549435e-38f;  // the fast square root of denormals is infinite

struct Adam {
    float *params, *grads, *exp_avg, *exp_avg_sq;
    const float* rates;  // a column; divided by the first bias correction
    float blend1, blend2, eps, root_scale;  // 1 - b1, 1 - b2, eps, 1 / sqrt(second correction)

    void update(int64_t i, float rate) const {
        const float g = grads[i];
        const float m = exp_avg[i] + blend1 * (g - exp_avg[i]);
        const float v = exp_avg_sq[i] + blend2 * (g * g - exp_avg_sq[i]);
        const float root = std::sqrt(v > kSmallest ? v : kSmallest);
        params[i] -= rate * m / (root * root_scale + eps);
        exp_avg[i] = m;
        exp_avg_sq[i] = v;
        grads[i] = 0.f;
    }

    // A fixed number of columns becomes straight vector code; C = 0 stands for any number.
    template <int C, bool Shared>
    void row(int64_t row, int64_t columns) const {
        const int64_t n = C ? C : columns, at = row * n;
        if (Shared) return shared_row<C>(row, columns);
#pragma GCC ivdep
        for (int64_t c = 0; c < n; ++c) update(at + c, rates[c]);
    }

    // The same with one mean square for the row.
    template <int C>
    void shared_row(int64_t row, int64_t columns) const {
        const int64_t n = C ? C : columns, at = row * n;
        float square = 0.f;
        for (int64_t c = 0; c < n; ++c) square += grads[at + c] * grads[at + c];
        float& v = exp_avg_sq[row];
        v += blend2 * (square / static_cast<float>(n) - v);
        const float scale = 1.f / (std::sqrt(v > kSmallest ? v : kSmallest) * root_scale + eps);
#pragma GCC ivdep
        for (int64_t c = 0; c < n; ++c) {
            const float m = exp_avg[at + c] + blend1 * (grads[at + c] - exp_avg[at + c]);
            params[at + c] -= rates[c] * m * scale;
            exp_avg[at + c] = m;
            grads[at + c] = 0.f;
        }
    }

    template <bool Shared>
    void prefetch(int64_t row, int64_t columns) const {
        for (int64_t i = row * columns; i < (row + 1) * columns; i += 16) {
            __builtin_prefetch(params + i, 1);
            __builtin_prefetch(grads + i, 1);
            __builtin_prefetch(exp_avg + i, 1);
            if (!Shared) __builtin_prefetch(exp_avg_sq + i, 1);
        }
        if (Shared) __builtin_prefetch(exp_avg_sq + row, 1);
    }

    // Elements [begin, end) of a table with one rate.
    void run(int64_t begin, int64_t end) const {
        const float rate = rates[0];
#pragma GCC ivdep
        for (int64_t i = begin; i < end; ++i) update(i, rate);
    }
};

// Rows of [begin, end) with a flag, which is cleared; returns how many.
int64_t take_touched(uint8_t* touched, int64_t begin, int64_t end, int64_t* rows) {
    int64_t count = 0, i = begin;
    for (; i + 8 <= end; i += 8) {
        uint64_t flags;
        std::memcpy(&flags, touched + i, 8);
        if (!flags) continue;
        for (int64_t j = i; j < i + 8; ++j) {
            rows[count] = j;
            count += touched[j] != 0;
        }
        std::memset(touched + i, 0, 8);
    }
    for (; i < end; ++i) {
        rows[count] = i;
        count += touched[i] != 0;
        touched[i] = 0;
    }
    return count;
}

template <int C, bool Shared>
void update_rows(const Adam& adam, const int64_t* rows, int64_t count, int64_t columns) {
    for (int64_t k = 0; k < count; ++k) {
        if (k + kAhead < count) adam.prefetch<Shared>(rows[k + kAhead], columns);
        adam.row<C, Shared>(rows[k], columns);
    }
}

template <bool Shared>
void update_table(const Adam& adam, const int64_t* rows, int64_t count, int64_t columns) {
    switch (columns) {
        case 8: return update_rows<8, Shared>(adam, rows, count, columns);
        case 16: return update_rows<16, Shared>(adam, rows, count, columns);
        case 32: return update_rows<32, Shared>(adam, rows, count, columns);
        default: return update_rows<0, Shared>(adam, rows, count, columns);
    }
}

// One column: neighbouring touched rows are neighbours in memory and go together.
void update_runs(const Adam& adam, const int64_t* rows, int64_t count) {
    for (int64_t k = 0, next; k < count; k = next) {
        for (next = k + 1; next < count && rows[next] == rows[next - 1] + 1;) ++next;
        if (next + kAhead < count) adam.prefetch<false>(rows[next + kAhead], 1);
        adam.run(rows[k], rows[next - 1] + 1);
    }
}

}  // namespace

// touched == NULL: all rows, which must then have one column. `squares`: columns of exp_avg_sq.
NK_EXPORT void nk_adam_step(float* params, float* grads, float* exp_avg, float* exp_avg_sq,
                            uint8_t* touched, int64_t n_rows, int64_t columns, int64_t squares,
                            const float* rates, float blend1, float blend2, float eps, float root_scale) {
    const Adam adam{params, grads, exp_avg, exp_avg_sq, rates, blend1, blend2, eps, root_scale};
    nk::parallel_for(n_rows, kRowsPerTask, [=](int64_t begin, int64_t end, int) {
        if (!touched) return adam.run(begin, end);
        int64_t rows[kRowsPerTask];
        const int64_t count = take_touched(touched, begin, end, rows);
        if (columns == 1) return update_runs(adam, rows, count);
        if (squares == 1) return update_table<true>(adam, rows, count, columns);
        update_table<false>(adam, rows, count, columns);
    });
}
