// The gate of a feed-forward part, forward and backward.

#pragma once

#include "vectors.h"

// h = silu(g) u
inline Vector gated(Vector gate, Vector up) { return gate / (1.0f + exponential(-gate)) * up; }

// ∂g, ∂u and h, for ∂h; with σ the logistic function silu(g) = g σ(g), silu'(g) = σ(g) + silu(g) (1 - σ(g)).
inline void gated_backward(Vector gradient, Vector gate, Vector up, Vector& to_gate, Vector& to_up, Vector& product) {
    const Vector share = 1.0f / (1.0f + exponential(-gate)), activated = gate * share;
    to_gate = gradient * up * (share + activated * (1.0f - share));
    to_up = gradient * activated;
    product = activated * up;
}

// What is left of a row that vectors do not divide, as one vector; beyond it 0.
inline Vector load_first(const float* from, int64_t count) {
    Vector value{};
    for (int64_t lane = 0; lane < count; ++lane) value[lane] = from[lane];
    return value;
}

inline void store_first(float* to, Vector value, int64_t count) {
    for (int64_t lane = 0; lane < count; ++lane) to[lane] = value[lane];
}

// h of numbers [begin, end), which begin at a multiple of LANES.
inline void gate_numbers(const float* gate, const float* up, float* product, int64_t begin, int64_t end) {
    int64_t i = begin;
    for (; i + LANES <= end; i += LANES) store(product + i, gated(load(gate + i), load(up + i)));
    const int64_t left = end - i;
    if (left > 0) store_first(product + i, gated(load_first(gate + i, left), load_first(up + i, left)), left);
}

// ∂g in the place of ∂h, ∂u and h of numbers [begin, end).
inline void gate_numbers_backward(float* gradient, const float* gate, const float* up, float* to_up, float* product,
                                  int64_t begin, int64_t end) {
    Vector to_gate, to_up_, product_;
    int64_t i = begin;
    for (; i + LANES <= end; i += LANES) {
        gated_backward(load(gradient + i), load(gate + i), load(up + i), to_gate, to_up_, product_);
        store(gradient + i, to_gate), store(to_up + i, to_up_), store(product + i, product_);
    }
    const int64_t left = end - i;
    if (left <= 0) return;
    gated_backward(load_first(gradient + i, left), load_first(gate + i, left), load_first(up + i, left), to_gate, to_up_,
                   product_);
    store_first(gradient + i, to_gate, left), store_first(to_up + i, to_up_, left);
    store_first(product + i, product_, left);
}
