// Products of small matrices whose sums stay in registers.

#pragma once

#include <algorithm>
#include <cstdint>

#include "vectors.h"

constexpr int64_t COLUMNS = 2 * LANES;
constexpr int64_t ROWS = 6;  // ROWS · 2 sums, two columns' vectors and a weight fill the registers

inline int64_t columns_up(int64_t count) { return (count + COLUMNS - 1) / COLUMNS * COLUMNS; }

// Weights whose number for output i and term j lies at i · output + j · term.
struct Weights {
    const float* at;
    int64_t output, term;

    Weights from(int64_t outputs, int64_t terms) const { return {at + outputs * output + terms * term, output, term}; }
};

// Rows of numbers, `stride` apart.
template <typename Number>
struct Table {
    Number* at;
    int64_t stride;

    Number* operator[](int64_t row) const { return at + row * stride; }
};

template <int R, bool ADD>
void tile(Weights weights, const float* x, int64_t x_stride, int64_t terms, float* y, int64_t y_stride) {
    Vector sums[R][2];
    for (int r = 0; r < R; ++r)
        for (int i = 0; i < 2; ++i) sums[r][i] = ADD ? load(y + r * y_stride + i * LANES) : Vector{};
    for (int64_t j = 0; j < terms; ++j) {
        const Vector first = load(x + j * x_stride), second = load(x + j * x_stride + LANES);
        for (int r = 0; r < R; ++r) {
            const Vector weight = same(weights.at[r * weights.output + j * weights.term]);
            sums[r][0] += weight * first;
            sums[r][1] += weight * second;
        }
    }
    for (int r = 0; r < R; ++r)
        for (int i = 0; i < 2; ++i) store(y + r * y_stride + i * LANES, sums[r][i]);
}

// y_i = Σ_j w_ij x_j for rows i, with ADD on top of what is there; rows have `width` numbers, a multiple of COLUMNS.
template <bool ADD>
void product(Weights weights, Table<const float> x, int64_t terms, Table<float> y, int64_t rows, int64_t width) {
    using Run = void (*)(Weights, const float*, int64_t, int64_t, float*, int64_t);
    static constexpr Run runs[ROWS] = {tile<1, ADD>, tile<2, ADD>, tile<3, ADD>,
                                       tile<4, ADD>, tile<5, ADD>, tile<6, ADD>};
    const int64_t parts = (rows + ROWS - 1) / ROWS;
    for (int64_t part = 0; part < parts; ++part) {
        const int64_t begin = rows * part / parts, count = rows * (part + 1) / parts - begin;
        for (int64_t column = 0; column < width; column += COLUMNS)
            runs[count - 1](weights.from(begin, 0), x.at + column, x.stride, terms, y[begin] + column, y.stride);
    }
}
