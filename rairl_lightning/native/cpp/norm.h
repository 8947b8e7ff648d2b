// The norm of a row by its root mean square, forward and backward.

#pragma once

#include <cmath>

#include "vectors.h"

// Σ a b c of a row; c may be null.
inline float sum_of_products(const float* a, const float* b, const float* c, int64_t width) {
    Vector sums[2] = {};
    const auto product = [&](int64_t i) {
        const Vector two = load(a + i) * load(b + i);
        return c == nullptr ? two : two * load(c + i);
    };
    int64_t i = 0;
    for (; i + 2 * LANES <= width; i += 2 * LANES) sums[0] += product(i), sums[1] += product(i + LANES);
    for (; i + LANES <= width; i += LANES) sums[0] += product(i);
    float sum = sum_of(sums[0] + sums[1]);
    for (; i < width; ++i) sum += a[i] * b[i] * (c == nullptr ? 1.0f : c[i]);
    return sum;
}

// y = x f w; returns f = 1 / √(mean x² + ε).
inline float norm(const float* x, const float* weight, float epsilon, int64_t width, float* y) {
    const float factor = 1 / std::sqrt(sum_of_products(x, x, nullptr, width) / width + epsilon);
    for (int64_t i = 0; i < width; ++i) y[i] = x[i] * factor * weight[i];
    return factor;
}

// ∂x = f (w ∂y - x f² mean(w ∂y x)).
inline void norm_backward(const float* gradient, const float* x, const float* weight, float factor, int64_t width,
                          float* to_x) {
    const float along = factor * factor * (sum_of_products(gradient, weight, x, width) / width);
    for (int64_t i = 0; i < width; ++i) to_x[i] = factor * (gradient[i] * weight[i] - x[i] * along);
}
