// A packed row's stretches, who reads them, and where the work on them keeps what it needs.

#pragma once

#include <omp.h>

#include <utility>

#include "softmax.h"
#include "tiles.h"

extern "C" {

// Tokens one after the other: a prompt, a completion, or a whole trace.
struct Stretch {
    int64_t start, length;
};

// Queries [first, last) of a stretch. They read their prompt's stretch, if it is not -1, and causally their own.
struct Piece {
    int64_t stretch, first, last, prompt, place;  // place: of its keys among those that pieces read, see Memory::sums
};

struct Attention {
    const Stretch* stretches;  // in the order of their starts
    const Piece* pieces;
    int64_t stretch_count, piece_count;
    int64_t longest, keys;  // most keys that a piece reads, and those of all pieces together
    int64_t tokens, heads, groups, size;
    float scale;
};

}  // extern "C"

// Rows of a block: a row is a token and one of the heads that share keys. A block's scores stay in the second cache.
constexpr int64_t BLOCK = 48;

inline int64_t shared_heads(const Attention& a) { return a.heads / a.groups; }

inline int64_t tokens_at_once(const Attention& a) { return std::max<int64_t>(1, BLOCK / shared_heads(a)); }

// What all threads read, what pieces add up, and what a thread has of its own; in one piece of memory.
struct Memory {
    int64_t width, panels, stride, block, room, total;  // stride: of a row of scores; panels: of a group
    float *key_panels, *value_panels, *rows, *sums, *threads;

    Memory(const Attention& a, bool backward, int64_t thread_count, float* memory) {
        width = columns_up(a.size), panels = a.tokens / COLUMNS + a.stretch_count;
        // An odd number of cache lines from row to row: they do not meet in the same places of the cache.
        stride = columns_up(a.longest + COLUMNS) | 16;
        block = tokens_at_once(a) * shared_heads(a);
        room = block * (3 * width + (backward ? 2 : 1) * stride) + columns_up(block);
        float* next = memory;
        const auto take = [&](int64_t size) { return std::exchange(next, next + size); };
        key_panels = take(a.groups * panels * COLUMNS * a.size);
        value_panels = take(backward ? a.groups * panels * COLUMNS * a.size : 0);
        rows = take(a.groups * a.tokens * width);
        sums = take(backward ? 2 * a.groups * a.keys * width : 0);
        threads = take(thread_count * room);
        total = next - memory;
    }
};

// Keys that a piece reads: `count` of a stretch, whose scores begin at `column`.
struct Keys {
    const float *key_panels, *value_panels, *rows;
    int64_t count, column;
    bool own;
    float *to_keys, *to_values;

    // How many of them a token reads, counted from its stretch's start.
    int64_t read_by(int64_t token) const { return own ? token + 1 : count; }

    // The first token that reads a key.
    int64_t first_reader(int64_t key) const { return own ? key : 0; }
};

// Queries [first, last) of a stretch, for all heads of a group.
struct Block {
    int64_t start, first, last, shared, group;

    int64_t rows() const { return (last - first) * shared; }
    int64_t token(int64_t row) const { return first + row / shared; }
    // The first row that reads a key.
    int64_t row(const Keys& keys, int64_t key) const {
        return std::max<int64_t>(0, keys.first_reader(key) - first) * shared;
    }
};

// Where a stretch's panels begin: a stretch has a panel more than its length needs at most.
inline int64_t panel_of(const Attention& a, int64_t stretch) { return a.stretches[stretch].start / COLUMNS + stretch; }

// [tokens, groups, size] of a stretch and a group to panels: COLUMNS tokens side by side, 0 after the last.
inline void to_panels(const Attention& a, const Memory& m, const float* from, int64_t stretch, int64_t group,
                      float* panels) {
    const auto [start, length] = a.stretches[stretch];
    const int64_t stride = a.groups * a.size;
    float* to = panels + (group * m.panels + panel_of(a, stretch)) * COLUMNS * a.size;
    for (int64_t first = 0; first < length; first += COLUMNS) {
        const float* rows = from + (start + first) * stride + group * a.size;
        const int64_t count = std::min(COLUMNS, length - first);
        for (int64_t d = 0; d < a.size; ++d, to += COLUMNS)
            for (int64_t i = 0; i < COLUMNS; ++i) to[i] = i < count ? rows[i * stride + d] : 0;
    }
}

// `size` numbers, 0 up to `width`.
inline void fill_row(const float* from, int64_t size, int64_t width, float factor, float* to) {
    for (int64_t d = 0; d < size; ++d) to[d] = from[d] * factor;
    std::fill(to + size, to + width, 0.0f);
}

// What products with keys and values read: panels, and rows without other groups' between them.
inline void lay_out(const Attention& a, const Memory& m, const float* keys, const float* values, bool backward) {
#pragma omp for collapse(2) schedule(static)
    for (int64_t stretch = 0; stretch < a.stretch_count; ++stretch)
        for (int64_t group = 0; group < a.groups; ++group) {
            to_panels(a, m, keys, stretch, group, m.key_panels);
            if (backward) to_panels(a, m, values, stretch, group, m.value_panels);
            const auto [start, length] = a.stretches[stretch];
            for (int64_t t = start; t < start + length; ++t)
                fill_row((backward ? keys : values) + (t * a.groups + group) * a.size, a.size, m.width, 1,
                         m.rows + (group * a.tokens + t) * m.width);
        }
}

// Both stretches that a piece reads; the first is empty where there is no prompt.
struct Read {
    Keys both[2];

    Read(const Attention& a, const Memory& m, const Piece& piece, int64_t group) {
        const int64_t before = piece.prompt < 0 ? 0 : a.stretches[piece.prompt].length;
        float* sums = m.sums + 2 * (group * a.keys + piece.place) * m.width;
        both[0] = keys(a, m, piece.prompt < 0 ? piece.stretch : piece.prompt, group, before, 0, false, sums);
        both[1] = keys(a, m, piece.stretch, group, piece.last, columns_up(before), true,
                       sums + 2 * before * m.width);
    }

    static Keys keys(const Attention& a, const Memory& m, int64_t stretch, int64_t group, int64_t count,
                     int64_t column, bool own, float* sums) {
        const int64_t panel = (group * m.panels + panel_of(a, stretch)) * COLUMNS * a.size;
        const int64_t row = (group * a.tokens + a.stretches[stretch].start) * m.width;
        return {m.key_panels + panel, m.value_panels + panel, m.rows + row, count, column, own,
                sums, sums + count * m.width};
    }
};

// What a thread writes to while it is at a block.
struct Room {
    Table<float> queries, out, gradient, scores, to_scores;
    float* factors;

    Room(const Memory& m, int64_t thread) {
        float* next = m.threads + thread * m.room;
        const auto take = [&](int64_t stride) {
            return Table<float>{std::exchange(next, next + m.block * stride), stride};
        };
        factors = std::exchange(next, next + columns_up(m.block));
        queries = take(m.width), out = take(m.width), gradient = take(m.width);
        scores = take(m.stride), to_scores = {next, m.stride};
    }
};
