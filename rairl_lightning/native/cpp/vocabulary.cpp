// A softmax over a vocabulary that is seen in blocks, so that logits never leave the caches.

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "vectors.h"

extern "C" {

// What is known of softmax(z) of M rows after some of the vocabulary, shares being e^(z - most).
struct Folded {
    float* most;             // the largest z
    float *total, *dot;      // Σ share and Σ share · (z - most), without the target's
    float* chosen;           // z of the target, once seen
    const int64_t* targets;
    int64_t rows;
};

}  // extern "C"

namespace {

constexpr float NOTHING = -1e4f;  // its exponential is 0, and 0 times it too, unlike that of -∞

float largest(const float* z, int64_t count, float scale, float most) {
    Vector found = same(most);
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        const Vector value = load(z + i) * scale;
        found = value > found ? value : found;
    }
    for (int lane = 0; lane < LANES; ++lane) most = std::max(most, found[lane]);
    for (; i < count; ++i) most = std::max(most, z[i] * scale);
    return most;
}

// z to shares; adds to total and dot.
void shares(float* z, int64_t count, float scale, float most, float& total, float& dot) {
    Vector totals{}, dots{};
    int64_t i = 0;
    const auto part = [&](Vector logits) {
        Vector shifted = logits * scale - most;
        shifted = shifted < NOTHING ? same(NOTHING) : shifted;
        const Vector share = exponential(shifted);
        return std::pair{share, share * shifted};
    };
    for (; i + LANES <= count; i += LANES) {
        const auto [share, product] = part(load(z + i));
        store(z + i, share);
        totals += share, dots += product;
    }
    if (i < count) {
        Vector rest = same(-INFINITY);
        for (int64_t lane = 0; i + lane < count; ++lane) rest[lane] = z[i + lane];
        const auto [share, product] = part(rest);
        for (int64_t lane = 0; i + lane < count; ++lane) z[i + lane] = share[lane];
        totals += share, dots += product;
    }
    total += sum_of(totals), dot += sum_of(dots);
}

}  // namespace

extern "C" {

// Folds logits [M, count] of the vocabulary from `first` on, times scale, into what is known. In their place it leaves
// shares, 0 at the target, and in factors what sums of earlier shares are to be multiplied by.
void rairl_fold(const Folded* known, float* logits, int64_t count, int64_t first, float scale, float* factors,
                int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t m = 0; m < known->rows; ++m) {
        float *z = logits + m * count, &most = known->most[m], &total = known->total[m], &dot = known->dot[m];
        const float before = most;
        const int64_t target = known->targets[m] - first;
        const bool here = target >= 0 && target < count;
        if (here) known->chosen[m] = z[target] * scale;
        most = largest(z, count, scale, before);
        const float factor = std::exp(before - most);
        dot = factor * (dot + (before - most) * total), total *= factor, factors[m] = factor;
        if (here) z[target] = -INFINITY;  // apart: if it is nearly certain, the others' sum would be lost in the whole
        shares(z, count, scale, most, total, dot);
    }
}

}  // extern "C"
