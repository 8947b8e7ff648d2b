// A packed row's stretches, who reads them, and where the work on them keeps what it needs.

#pragma once

#include <omp.h>

#include <utility>

#include "softmax.h"

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
    int64_t width, panels, stride, block, room, total;  // numbers of a row of size; panels of a group; of a row of scores
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
