// Float32 on a CPU, forward and backward: what a decoder block computes besides products of large matrices.

#include <omp.h>

#include <algorithm>

#include "gate.h"
#include "norm.h"

namespace {

// The part of so many pieces of work that is this thread's; work(begin, end) is its own.
template <class Work>
void share(int64_t pieces, int threads, const Work& work) {
#pragma omp parallel num_threads(threads)
    {
        const int64_t number = omp_get_thread_num(), count = omp_get_num_threads();
        work(pieces * number / count, pieces * (number + 1) / count);
    }
}

}  // namespace

extern "C" {

// h = silu(g) u
void rairl_gate(const float* gate, const float* up, float* product, int64_t count, int threads) {
    share((count + LANES - 1) / LANES, threads, [=](int64_t begin, int64_t end) {
        gate_numbers(gate, up, product, begin * LANES, std::min(end * LANES, count));
    });
}

// ∂g in the place of ∂h; ∂u and h.
void rairl_gate_backward(float* gradient, const float* gate, const float* up, float* to_up, float* product,
                         int64_t count, int threads) {
    share((count + LANES - 1) / LANES, threads, [=](int64_t begin, int64_t end) {
        gate_numbers_backward(gradient, gate, up, to_up, product, begin * LANES, std::min(end * LANES, count));
    });
}

// y = x f w of every row; f to factors.
void rairl_norm(const float* x, const float* weight, float epsilon, int64_t rows, int64_t width, float* y,
                float* factors, int threads) {
    share(rows, threads, [=](int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n)
            factors[n] = norm(x + n * width, weight, epsilon, width, y + n * width);
    });
}

// ∂x, for what rairl_norm took and gave.
void rairl_norm_backward(const float* gradient, const float* x, const float* weight, const float* factors,
                         int64_t rows, int64_t width, float* to_x, int threads) {
    share(rows, threads, [=](int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n)
            norm_backward(gradient + n * width, x + n * width, weight, factors[n], width, to_x + n * width);
    });
}

}  // extern "C"
