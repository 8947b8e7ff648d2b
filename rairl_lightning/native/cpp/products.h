// Products of few rows with weights in panels, several threads together.
//
// A panel holds WIDTH outputs, for each input one after the other; panels lie in blocks of DEPTH inputs. Weights are
// numbers of 16 bits where those hold them without loss, else of 32; they become float32 in the registers, so half as
// much is read and nothing is rounded. A row's sums run over the inputs in one order, whatever the other rows are.

#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <sched.h>
#include <utility>

#include "vectors.h"

constexpr int WIDTH = 2 * LANES;
constexpr int64_t DEPTH = 256;  // a panel's block and that of the rows fit the first cache together
constexpr int64_t TILE = 6;     // rows at once: TILE · 2 sums, two weights and a value fill the registers

enum Kind : int64_t { FLOAT32, BFLOAT16, FLOAT16 };

extern "C" {

// y = x Wᵀ + b + (x Aᵀ) Bᵀ
struct Linear {
    const void* weights;  // panels of W
    const float* bias;    // b, padded to panels; null if there is none
    const float* down;    // panels of A, float32
    const float* up;      // panels of s B, float32
    int64_t inputs, outputs, rank, kind;
};

}  // extern "C"

inline int64_t panels_of(int64_t outputs) { return (outputs + WIDTH - 1) / WIDTH; }

inline int64_t padded(int64_t outputs) { return panels_of(outputs) * WIDTH; }

inline int64_t block_at(int64_t first, int64_t depth, int64_t panel, int64_t panels) {
    return first * panels * WIDTH + panel * depth * WIDTH;
}

// Threads of one region wait for each other. They spin: the next piece of work is microseconds away.
class Team {
   public:
    explicit Team(int threads) : threads_(threads) {}

    void wait() {
        if (threads_ == 1) return;
        const int phase = phase_.load(std::memory_order_relaxed);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
            arrived_.store(0, std::memory_order_relaxed);
            phase_.store(phase + 1, std::memory_order_release);
            return;
        }
        for (int turns = 0; phase_.load(std::memory_order_acquire) == phase; ++turns)
            if (turns > 20000) sched_yield();  // more threads than cores: whom we wait for may need this one
    }

   private:
    const int threads_;
    alignas(64) std::atomic<int> arrived_{0};
    alignas(64) std::atomic<int> phase_{0};
};

struct Member {
    Team& team;
    int number, threads;

    // The part of so many pieces of work that is this thread's.
    std::pair<int64_t, int64_t> share(int64_t pieces) const {
        return {pieces * number / threads, pieces * (number + 1) / threads};
    }
};

template <int KIND>
inline void weights_at(const void* weights, int64_t place, Vector& first, Vector& second) {
    if constexpr (KIND == BFLOAT16) {
        // Two outputs LANES apart share a word.
        const auto both = *reinterpret_cast<const AnyIntegers*>(static_cast<const uint16_t*>(weights) + place);
        first = (Vector)(Integers)(both << 16);
        second = (Vector)(Integers)(both & static_cast<int32_t>(0xffff0000));
    } else if constexpr (KIND == FLOAT16) {
#if defined(__AVX512F__)
        const auto* from = reinterpret_cast<const __m256i*>(static_cast<const uint16_t*>(weights) + place);
        first = (Vector)_mm512_cvtph_ps(_mm256_loadu_si256(from));
        second = (Vector)_mm512_cvtph_ps(_mm256_loadu_si256(from + 1));
#elif defined(__F16C__)
        const auto* from = reinterpret_cast<const __m128i*>(static_cast<const uint16_t*>(weights) + place);
        first = (Vector)_mm256_cvtph_ps(_mm_loadu_si128(from));
        second = (Vector)_mm256_cvtph_ps(_mm_loadu_si128(from + 1));
#endif
    } else {
        first = load(static_cast<const float*>(weights) + place);
        second = load(static_cast<const float*>(weights) + place + LANES);
    }
}

// While R rows use this block, a share of the next one is fetched from memory, `step` bytes for each input.
template <int KIND, int R>
void tile(const float* x, int64_t x_stride, const void* weights, int64_t place, int64_t depth, float* y,
          int64_t y_stride, const char* next, int64_t step) {
    Vector sums[R][2];
    for (int r = 0; r < R; ++r) {
        sums[r][0] = load(y + r * y_stride);
        sums[r][1] = load(y + r * y_stride + LANES);
    }
    for (int64_t k = 0; k < depth; ++k) {
        Vector first{}, second{};
        __builtin_prefetch(next + k * step);
        weights_at<KIND>(weights, place + k * WIDTH, first, second);
        for (int r = 0; r < R; ++r) {
            const Vector value = same(x[r * x_stride + k]);
            sums[r][0] += value * first;
            sums[r][1] += value * second;
        }
    }
    for (int r = 0; r < R; ++r) {
        store(y + r * y_stride, sums[r][0]);
        store(y + r * y_stride + LANES, sums[r][1]);
    }
}

template <int KIND>
void tiles(const float* x, int64_t x_stride, const void* weights, int64_t place, int64_t depth, float* y,
           int64_t y_stride, int64_t rows) {
    using Run = void (*)(const float*, int64_t, const void*, int64_t, int64_t, float*, int64_t, const char*, int64_t);
    static constexpr Run runs[TILE] = {tile<KIND, 1>, tile<KIND, 2>, tile<KIND, 3>,
                                       tile<KIND, 4>, tile<KIND, 5>, tile<KIND, 6>};
    constexpr int64_t bytes = KIND == FLOAT32 ? 4 : 2;
    const int64_t parts = (rows + TILE - 1) / TILE;
    const char* next = static_cast<const char*>(weights) + (place + depth * WIDTH) * bytes;
    for (int64_t part = 0; part < parts; ++part) {
        const int64_t begin = rows * part / parts, count = rows * (part + 1) / parts - begin;
        runs[count - 1](x + begin * x_stride, x_stride, weights, place, depth, y + begin * y_stride, y_stride,
                        next + WIDTH * bytes * depth * part / parts, WIDTH * bytes / parts);
    }
}

// y += x Wᵀ for the panels [begin, end).
inline void add_product(const float* x, int64_t x_stride, const void* weights, int64_t kind, int64_t inputs,
                        int64_t panels, int64_t begin, int64_t end, float* y, int64_t y_stride, int64_t rows) {
    const auto run = kind == BFLOAT16 ? tiles<BFLOAT16> : kind == FLOAT16 ? tiles<FLOAT16> : tiles<FLOAT32>;
    for (int64_t first = 0; first < inputs; first += DEPTH) {
        const int64_t depth = std::min(DEPTH, inputs - first);
        for (int64_t panel = begin; panel < end; ++panel)
            run(x + first, x_stride, weights, block_at(first, depth, panel, panels), depth, y + panel * WIDTH, y_stride,
                rows);
    }
}

// What a linear layer computes, and where it goes.
struct Output {
    const Linear& linear;
    float* y;        // [rows, stride], padded to panels
    int64_t stride;
    float* inner;    // room for x Aᵀ: [rows, rank padded to panels]
};

// x Aᵀ of one layer: pieces [begin, end) of its panels times the tiles of the rows.
inline void adapter_inputs(const float* x, int64_t x_stride, int64_t rows, const Output& output, int64_t begin,
                           int64_t end) {
    const Linear& linear = output.linear;
    const int64_t parts = (rows + TILE - 1) / TILE, panels = panels_of(linear.rank), stride = panels * WIDTH;
    for (int64_t piece = std::max<int64_t>(begin, 0); piece < std::min(end, panels * parts); ++piece) {
        const int64_t panel = piece / parts, part = piece % parts;
        const int64_t row = rows * part / parts, count = rows * (part + 1) / parts - row;
        float* y = output.inner + row * stride;
        for (int64_t n = 0; n < count; ++n) std::fill_n(y + n * stride + panel * WIDTH, WIDTH, 0.0f);
        add_product(x + row * x_stride, x_stride, linear.down, FLOAT32, linear.inputs, panels, panel, panel + 1, y,
                    stride, count);
    }
}

// Panels [begin, end) of one layer, whose x Aᵀ is there.
inline void outputs(const float* x, int64_t x_stride, int64_t rows, const Output& output, int64_t begin, int64_t end,
                    bool add) {
    const Linear& linear = output.linear;
    const int64_t panels = panels_of(linear.outputs), width = (end - begin) * WIDTH;
    for (int64_t n = 0; n < rows; ++n) {
        float* y = output.y + n * output.stride + begin * WIDTH;
        const float* bias = linear.bias == nullptr ? nullptr : linear.bias + begin * WIDTH;
        if (!add) std::fill_n(y, width, 0.0f);
        if (bias != nullptr)
            for (int64_t i = 0; i < width; ++i) y[i] += bias[i];
    }
    add_product(x, x_stride, linear.weights, linear.kind, linear.inputs, panels, begin, end, output.y, output.stride,
                rows);
    if (linear.rank > 0)
        add_product(output.inner, padded(linear.rank), linear.up, FLOAT32, linear.rank, panels, begin, end, output.y,
                    output.stride, rows);
}

// Layers that read the same x, by all threads together; with `add`, on top of what y holds. All are done on return.
template <int COUNT>
void linear(const float* x, int64_t x_stride, int64_t rows, const Output (&all)[COUNT], bool add, const Member& me) {
    const int64_t parts = (rows + TILE - 1) / TILE;
    int64_t pieces = 0, panels = 0;
    for (const Output& one : all) pieces += panels_of(one.linear.rank) * parts, panels += panels_of(one.linear.outputs);
    if (pieces > 0) {
        auto [begin, end] = me.share(pieces);
        for (const Output& one : all) {
            adapter_inputs(x, x_stride, rows, one, begin, end);
            const int64_t own = panels_of(one.linear.rank) * parts;
            begin -= own, end -= own;
        }
        me.team.wait();
    }
    auto [begin, end] = me.share(panels);
    for (const Output& one : all) {
        const int64_t own = panels_of(one.linear.outputs);
        const int64_t first = std::max<int64_t>(begin, 0), last = std::min(end, own);
        if (first < last) outputs(x, x_stride, rows, one, first, last, add);
        begin -= own, end -= own;
    }
    me.team.wait();
}
