// Attention of a packed row and its gradients, in float32 on a CPU: softmax(s q Kᵀ) V of each token over its own trace.
//
// A piece of work is some queries of one stretch with all heads that share keys. Gradients of its keys are its own
// until all pieces are done, and are then added in the order of the pieces: no sum depends on threads or their timing.

#include "stretches.h"

namespace {

constexpr int64_t KEYS = 128;  // whose rows stay in the first cache

// Where a stretch's panels begin: a stretch has a panel more than its length needs at most.
int64_t panel_of(const Attention& a, int64_t stretch) { return a.stretches[stretch].start / COLUMNS + stretch; }

// [tokens, groups, size] of a stretch and a group to panels: COLUMNS tokens side by side, 0 after the last.
void to_panels(const Attention& a, const Memory& m, const float* from, int64_t stretch, int64_t group, float* panels) {
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
void fill_row(const float* from, int64_t size, int64_t width, float factor, float* to) {
    for (int64_t d = 0; d < size; ++d) to[d] = from[d] * factor;
    std::fill(to + size, to + width, 0.0f);
}

// What products with keys and values read: panels, and rows without other groups' between them.
void lay_out(const Attention& a, const Memory& m, const float* keys, const float* values, bool backward) {
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
        const auto take = [&](int64_t stride) { return Table<float>{std::exchange(next, next + m.block * stride), stride}; };
        factors = std::exchange(next, next + columns_up(m.block));
        queries = take(m.width), out = take(m.width), gradient = take(m.width);
        scores = take(m.stride), to_scores = {next, m.stride};
    }
};

// x · k of every row and every key that the row's token reads, or others of the same panel.
void dots(const Block& b, const Keys& keys, const float* panels, int64_t size, Table<float> x, Table<float> found) {
    for (int64_t key = 0; key < keys.read_by(b.last - 1); key += COLUMNS) {
        const int64_t row = b.row(keys, key);
        product<false>({x[row], x.stride, 1}, {panels + key * size, COLUMNS}, size,
                {found[row] + keys.column + key, found.stride}, b.rows() - row, COLUMNS);
    }
}

// out += w · rows, where a row's weights of keys that it does not read are 0.
void add_keys(const Block& b, const Keys& keys, Table<float> weights, int64_t width, Table<float> out) {
    const int64_t rows = b.rows(), parts = (rows + ROWS - 1) / ROWS;
    for (int64_t key = 0; key < keys.read_by(b.last - 1); key += KEYS)
        for (int64_t part = 0; part < parts; ++part) {
            const int64_t row = rows * part / parts, end = rows * (part + 1) / parts;
            const int64_t count = std::min(KEYS, keys.read_by(b.token(end - 1)) - key);
            if (count > 0)
                product<true>({weights[row] + keys.column + key, weights.stride, 1}, {keys.rows + key * width, width}, count,
                        {out[row], width}, end - row, width);
        }
}

// sums += wᵀ · x, likewise.
void add_queries(const Block& b, const Keys& keys, Table<float> weights, Table<float> x, float* sums) {
    const int64_t count = keys.read_by(b.last - 1);
    for (int64_t key = 0; key < count; key += ROWS) {
        const int64_t row = b.row(keys, key);
        product<true>({weights[row] + keys.column + key, 1, weights.stride}, {x[row], x.stride}, b.rows() - row,
                {sums + key * x.stride, x.stride}, std::min(ROWS, count - key), x.stride);
    }
}

// Where the numbers of a row lie in [tokens, heads, size].
int64_t place_of(const Attention& a, const Block& b, int64_t row) {
    return ((b.start + b.token(row)) * a.heads + b.group * b.shared + row % b.shared) * a.size;
}

// Probabilities of a block, without the factors that make a row's sum 1; those go to the room too.
void weights_of(const Attention& a, const Memory& m, const Block& b, const Read& read, const float* queries,
                const Room& room) {
    for (int64_t row = 0; row < b.rows(); ++row)
        fill_row(queries + place_of(a, b, row), a.size, m.width, a.scale, room.queries[row]);
    for (const Keys& keys : read.both) dots(b, keys, keys.key_panels, a.size, room.queries, room.scores);
    for (int64_t row = 0; row < b.rows(); ++row) {
        float most = -std::numeric_limits<float>::infinity(), sum = 0;
        for (const Keys& keys : read.both)
            most = most_of(room.scores[row] + keys.column, keys.read_by(b.token(row)), most);
        for (const Keys& keys : read.both)
            sum += weigh(room.scores[row] + keys.column, keys.read_by(b.token(row)),
                         columns_up(keys.read_by(b.last - 1)), most);
        room.factors[row] = 1 / sum;
    }
}

void attend(const Attention& a, const Memory& m, const Block& b, const Read& read, const float* queries,
            const Room& room, float* out) {
    weights_of(a, m, b, read, queries, room);
    std::fill_n(room.out.at, b.rows() * m.width, 0.0f);
    for (const Keys& keys : read.both) add_keys(b, keys, room.scores, m.width, room.out);
    for (int64_t row = 0; row < b.rows(); ++row)
        for (int64_t d = 0; d < a.size; ++d)
            out[place_of(a, b, row) + d] = room.out[row][d] * room.factors[row];
}

struct Gradients {
    const float* out;
    float *queries, *keys, *values;
};

void attend_back(const Attention& a, const Memory& m, const Block& b, const Read& read, const float* queries,
                 const Room& room, const Gradients& to) {
    weights_of(a, m, b, read, queries, room);
    // With w = P · Σw and g = ∂y / Σw: ∂V = wᵀ g, and ∂S = w (g Vᵀ - Σ w (g Vᵀ) / Σw).
    for (int64_t row = 0; row < b.rows(); ++row)
        fill_row(to.out + place_of(a, b, row), a.size, m.width, room.factors[row], room.gradient[row]);
    for (const Keys& keys : read.both) {
        dots(b, keys, keys.value_panels, a.size, room.gradient, room.to_scores);
        add_queries(b, keys, room.scores, room.gradient, keys.to_values);
    }
    for (int64_t row = 0; row < b.rows(); ++row) {
        float mean = 0;
        for (const Keys& keys : read.both)
            mean += dot(room.scores[row] + keys.column, room.to_scores[row] + keys.column,
                        keys.read_by(b.token(row)));
        for (const Keys& keys : read.both)
            through(room.scores[row] + keys.column, room.to_scores[row] + keys.column, keys.read_by(b.token(row)),
                    columns_up(keys.read_by(b.last - 1)), mean * room.factors[row]);
    }
    std::fill_n(room.out.at, b.rows() * m.width, 0.0f);
    for (const Keys& keys : read.both) {
        add_keys(b, keys, room.to_scores, m.width, room.out);
        add_queries(b, keys, room.to_scores, room.queries, keys.to_keys);
    }
    for (int64_t row = 0; row < b.rows(); ++row)
        for (int64_t d = 0; d < a.size; ++d)
            to.queries[place_of(a, b, row) + d] = room.out[row][d] * a.scale;
}

// All blocks of all pieces, by whichever thread is free; pieces come in the order of their work, most first.
template <typename Run>
void each_block(const Attention& a, const Memory& m, bool backward, const Run& run) {
    const Room room(m, omp_get_thread_num());
#pragma omp for collapse(2) schedule(dynamic, 1)
    for (int64_t number = 0; number < a.piece_count; ++number)
        for (int64_t group = 0; group < a.groups; ++group) {
            const Piece& piece = a.pieces[number];
            const Read read(a, m, piece, group);
            if (backward)
                for (const Keys& keys : read.both) std::fill_n(keys.to_keys, 2 * keys.count * m.width, 0.0f);
            const int64_t length = piece.last - piece.first, at_once = tokens_at_once(a);
            const int64_t parts = (length + at_once - 1) / at_once;
            for (int64_t part = 0; part < parts; ++part)
                run(Block{a.stretches[piece.stretch].start, piece.first + length * part / parts,
                          piece.first + length * (part + 1) / parts, shared_heads(a), group},
                    read, room);
        }
}

// What pieces found for the keys of each stretch, in the order of the pieces.
void add_pieces(const Attention& a, const Memory& m, const Gradients& to) {
#pragma omp for collapse(2) schedule(static)
    for (int64_t stretch = 0; stretch < a.stretch_count; ++stretch)
        for (int64_t group = 0; group < a.groups; ++group) {
            const auto [start, length] = a.stretches[stretch];
            const int64_t stride = a.groups * a.size, place = start * stride + group * a.size;
            for (int64_t t = 0; t < length; ++t) {
                std::fill_n(to.keys + place + t * stride, a.size, 0.0f);
                std::fill_n(to.values + place + t * stride, a.size, 0.0f);
            }
            for (int64_t number = 0; number < a.piece_count; ++number) {
                const Piece& piece = a.pieces[number];
                if (piece.stretch != stretch && piece.prompt != stretch) continue;
                const Keys& keys = Read(a, m, piece, group).both[piece.stretch == stretch];
                for (int64_t t = 0; t < keys.count; ++t)
                    for (int64_t d = 0; d < a.size; ++d) {
                        to.keys[place + t * stride + d] += keys.to_keys[t * m.width + d];
                        to.values[place + t * stride + d] += keys.to_values[t * m.width + d];
                    }
            }
        }
}

}  // namespace

extern "C" {

// Numbers of float32 that the calls below need room for.
int64_t rairl_attend_room(const Attention* a, int backward, int threads) {
    return Memory(*a, backward, threads, nullptr).total;
}

// Writes [tokens, heads, size] from queries of that size and keys and values [tokens, groups, size].
void rairl_attend(const Attention* a, const float* queries, const float* keys, const float* values, float* memory,
                  float* out, int threads) {
    const Memory m(*a, false, threads, memory);
#pragma omp parallel num_threads(threads)
    {
        lay_out(*a, m, keys, values, false);
        each_block(*a, m, false, [&](const Block& block, const Read& read, const Room& room) {
            attend(*a, m, block, read, queries, room, out);
        });
    }
}

// Writes the gradients of queries, keys and values, given that of what rairl_attend writes.
void rairl_attend_back(const Attention* a, const float* queries, const float* keys, const float* values,
                       const float* gradient, float* memory, float* to_queries, float* to_keys, float* to_values,
                       int threads) {
    const Memory m(*a, true, threads, memory);
    const Gradients to{gradient, to_queries, to_keys, to_values};
#pragma omp parallel num_threads(threads)
    {
        lay_out(*a, m, keys, values, true);
        each_block(*a, m, true, [&](const Block& block, const Read& read, const Room& room) {
            attend_back(*a, m, block, read, queries, room, to);
        });
        add_pieces(*a, m, to);
    }
}

}  // extern "C"
