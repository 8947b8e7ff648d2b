// Exponentials of a row of scores, and the way back through a softmax.

#pragma once

#include <algorithm>
#include <limits>

#include "vectors.h"

// The first `count` lanes of a vector, `other` in the rest.
inline Vector first_of(Vector value, int64_t count, float other) {
    Integers lanes;
    for (int lane = 0; lane < LANES; ++lane) lanes[lane] = lane;
    return lanes < static_cast<int32_t>(std::min<int64_t>(count, LANES)) ? value : same(other);
}

// Runs over vectors of `count` numbers; `real` puts another number in the place of lanes after the last.
template <typename Run>
void each_vector(int64_t count, const Run& run) {
    int64_t t = 0;
    for (; t + LANES <= count; t += LANES) run(t, [](Vector value, float) { return value; });
    if (t < count) run(t, [=](Vector value, float other) { return first_of(value, count - t, other); });
}

// 0 after `count` numbers' vectors, up to `width`, a multiple of LANES.
inline void clear_after(float* numbers, int64_t count, int64_t width) {
    for (int64_t t = (count + LANES - 1) / LANES * LANES; t < width; t += LANES) store(numbers + t, Vector{});
}

inline float most_of(const float* scores, int64_t count, float most) {
    Vector found = same(most);
    each_vector(count, [&](int64_t t, auto real) {
        const Vector value = real(load(scores + t), most);
        found = value > found ? value : found;
    });
    for (int lane = 0; lane < LANES; ++lane) most = std::max(most, found[lane]);
    return most;
}

// e^(s - most) in the place of `count` scores, 0 up to `width`; returns their sum.
inline float weigh(float* scores, int64_t count, int64_t width, float most) {
    Vector sums{};
    each_vector(count, [&](int64_t t, auto real) {
        const Vector value = real(exponential(load(scores + t) - most), 0);
        store(scores + t, value);
        sums += value;
    });
    clear_after(scores, count, width);
    return sum_of(sums);
}

// Σ w g of `count`.
inline float dot(const float* weights, const float* gradient, int64_t count) {
    Vector sums{};
    each_vector(count, [&](int64_t t, auto real) { sums += real(load(weights + t) * load(gradient + t), 0); });
    return sum_of(sums);
}

// w (g - mean) in the place of `count` g, 0 up to `width`.
inline void through(const float* weights, float* gradient, int64_t count, int64_t width, float mean) {
    each_vector(count, [&](int64_t t, auto real) {
        store(gradient + t, real(load(weights + t) * (load(gradient + t) - mean), 0));
    });
    clear_after(gradient, count, width);
}
