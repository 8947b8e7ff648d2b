// Attention of one new token of a row over its prompt, which other rows read too, and over what it has written itself.

#pragma once

#include "products.h"
#include "softmax.h"

constexpr int64_t KEYS = 4 * LANES;  // room for keys is a multiple of it

// For each of Q queries and t in [0, count): q · k_t. Keys are [size, room]: their positions lie side by side.
template <int Q>
void scores(const float* queries, const float* keys, int64_t room, int64_t size, int64_t count, float* found,
            int64_t stride) {
    for (int64_t t = 0; t < count; t += KEYS) {
        Vector sums[Q][4] = {};
        for (int64_t d = 0; d < size; ++d) {
            const float* at = keys + d * room + t;
            for (int q = 0; q < Q; ++q)
                for (int i = 0; i < 4; ++i) sums[q][i] += queries[q * size + d] * load(at + i * LANES);
        }
        for (int q = 0; q < Q; ++q)
            for (int i = 0; i < 4; ++i) store(found + q * stride + t + i * LANES, sums[q][i]);
    }
}

// For each of Q queries: out += Σ_t w_t v_t, for C · LANES numbers of the values [count, size].
template <int Q, int C>
void add_values(const float* weights, int64_t stride, const float* values, int64_t size, int64_t count, float* out) {
    Vector sums[Q][C];
    for (int q = 0; q < Q; ++q)
        for (int i = 0; i < C; ++i) sums[q][i] = load(out + q * size + i * LANES);
    for (int64_t t = 0; t < count; ++t)
        for (int q = 0; q < Q; ++q)
            for (int i = 0; i < C; ++i) sums[q][i] += weights[q * stride + t] * load(values + t * size + i * LANES);
    for (int q = 0; q < Q; ++q)
        for (int i = 0; i < C; ++i) store(out + q * size + i * LANES, sums[q][i]);
}

// Keys [size, room] and values [room, size] of which the first `length` count.
struct Past {
    const float *keys, *values;
    int64_t room, length;
};

// softmax([q · K_prompt | q · K_own]) [V_prompt; V_own] for Q queries [Q, size] of one row; found has room for both.
template <int Q>
void attend(const float* queries, int64_t size, const Past& prompt, const Past& own, float* found, float* out) {
    const int64_t stride = prompt.room + own.room;
    scores<Q>(queries, prompt.keys, prompt.room, size, prompt.length, found, stride);
    scores<Q>(queries, own.keys, own.room, size, own.length, found + prompt.room, stride);
    float sums[Q];
    for (int q = 0; q < Q; ++q) {
        float *first = found + q * stride, *second = first + prompt.room;
        float most = most_of(first, prompt.length, -std::numeric_limits<float>::infinity());
        most = most_of(second, own.length, most);
        sums[q] = weigh(first, prompt.length, prompt.length, most) + weigh(second, own.length, own.length, most);
    }
    std::fill_n(out, Q * size, 0.0f);
    int64_t d = 0;
    for (; d + 4 * LANES <= size; d += 4 * LANES) {
        add_values<Q, 4>(found, stride, prompt.values + d, size, prompt.length, out + d);
        add_values<Q, 4>(found + prompt.room, stride, own.values + d, size, own.length, out + d);
    }
    for (; d + LANES <= size; d += LANES) {
        add_values<Q, 1>(found, stride, prompt.values + d, size, prompt.length, out + d);
        add_values<Q, 1>(found + prompt.room, stride, own.values + d, size, own.length, out + d);
    }
    for (int q = 0; q < Q; ++q) {
        const float *first = found + q * stride, *second = first + prompt.room;
        for (int64_t i = d; i < size; ++i) {  // of sizes that vectors do not divide
            for (int64_t t = 0; t < prompt.length; ++t) out[q * size + i] += first[t] * prompt.values[t * size + i];
            for (int64_t t = 0; t < own.length; ++t) out[q * size + i] += second[t] * own.values[t * size + i];
        }
        for (int64_t i = 0; i < size; ++i) out[q * size + i] /= sums[q];
    }
}

// x cos + rotate_half(x) sin, scaled, to every `stride`-th place.
inline void rotate(const float* x, const float* cosines, const float* sines, int64_t size, float scale, float* out,
                   int64_t stride) {
    const int64_t half = size / 2;
    for (int64_t d = 0; d < half; ++d) {
        out[d * stride] = (x[d] * cosines[d] - x[d + half] * sines[d]) * scale;
        out[(d + half) * stride] = (x[d + half] * cosines[d + half] + x[d] * sines[d + half]) * scale;
    }
}
