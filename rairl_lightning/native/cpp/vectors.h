// Vectors of float32, by the compiler's own types: one source for every instruction set.

#pragma once

#include <cstdint>
#ifdef __F16C__
#include <immintrin.h>
#endif

#ifdef __AVX512F__
constexpr int LANES = 16;
#else
constexpr int LANES = 8;
#endif

typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef int32_t Integers __attribute__((vector_size(4 * LANES)));
typedef float AnyVector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t AnyIntegers __attribute__((vector_size(4 * LANES), aligned(2), may_alias));

inline Vector load(const float* from) { return *reinterpret_cast<const AnyVector*>(from); }

inline void store(float* to, Vector value) { *reinterpret_cast<AnyVector*>(to) = value; }

inline Vector same(float value) { return value - Vector{}; }

inline float sum_of(Vector value) {
    float sum = 0;
    for (int lane = 0; lane < LANES; ++lane) sum += value[lane];
    return sum;
}

// e^x within 2 units in the last place; 0 below -87, and e^88 above 88. What is no number stays none.
inline Vector exponential(Vector x) {
    x = x > 88.0f ? same(88.0f) : x;
    // x = n ln 2 + r: adding 1.5 · 2^23 rounds to the integer n, which is then in the lowest bits.
    const Vector shifted = x * 1.44269504088896341f + 12582912.0f;
    const Vector n = shifted - 12582912.0f;
    const Vector r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    Vector p = r * (1.0f / 5040) + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    const Integers bits = ((Integers)shifted << 23) + (Integers)p;
    return (Vector)(bits & ~(Integers)(x <= -87.0f));
}
