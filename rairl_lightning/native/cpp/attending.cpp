// Attention of a packed row and its gradients, in float32 on a CPU: softmax(s q Kᵀ) V of a token over its own trace.
//
// A piece of work is some queries of one stretch with all heads that share keys. Gradients of its keys are its own
// until all pieces are done, and are then added in the order of the pieces: no sum depends on threads or their timing.

#include "stretches.h"

namespace {

constexpr int64_t KEYS = 128;  // whose rows stay in the first cache

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
                product<true>({weights[row] + keys.column + key, weights.stride, 1},
                              {keys.rows + key * width, width}, count, {out[row], width}, end - row, width);
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

// Runs for every row: its number, its token, and where its numbers lie in [tokens, heads, size].
template <typename Run>
void each_row(const Attention& a, const Block& b, const Run& run) {
    int64_t row = 0;
    for (int64_t token = b.first; token < b.last; ++token)
        for (int64_t head = 0; head < b.shared; ++head, ++row)
            run(row, token, ((b.start + token) * a.heads + b.group * b.shared + head) * a.size);
}

// Probabilities of a block, without the factors that make a row's sum 1; those go to the room too.
void weights_of(const Attention& a, const Memory& m, const Block& b, const Read& read, const float* queries,
                const Room& room) {
    each_row(a, b, [&](int64_t row, int64_t, int64_t place) {
        fill_row(queries + place, a.size, m.width, a.scale, room.queries[row]);
    });
    for (const Keys& keys : read.both) dots(b, keys, keys.key_panels, a.size, room.queries, room.scores);
    each_row(a, b, [&](int64_t row, int64_t token, int64_t) {
        float most = -std::numeric_limits<float>::infinity(), sum = 0;
        for (const Keys& keys : read.both)
            most = most_of(room.scores[row] + keys.column, keys.read_by(token), most);
        for (const Keys& keys : read.both)
            sum += weigh(room.scores[row] + keys.column, keys.read_by(token), columns_up(keys.read_by(b.last - 1)),
                         most);
        room.factors[row] = 1 / sum;
    });
}

// out = factor · Σ w k for every row, to its place in [tokens, heads, size].
template <typename Factor>
void write_sums(const Attention& a, const Memory& m, const Block& b, const Read& read, Table<float> weights,
                const Room& room, const Factor& factor, float* out) {
    std::fill_n(room.out.at, b.rows() * m.width, 0.0f);
    for (const Keys& keys : read.both) add_keys(b, keys, weights, m.width, room.out);
    each_row(a, b, [&](int64_t row, int64_t, int64_t place) {
        for (int64_t d = 0; d < a.size; ++d) out[place + d] = room.out[row][d] * factor(row);
    });
}

void attend(const Attention& a, const Memory& m, const Block& b, const Read& read, const float* queries,
            const Room& room, float* out) {
    weights_of(a, m, b, read, queries, room);
    write_sums(a, m, b, read, room.scores, room, [&](int64_t row) { return room.factors[row]; }, out);
}

struct Gradients {
    const float* out;
    float *queries, *keys, *values;
};

void attend_back(const Attention& a, const Memory& m, const Block& b, const Read& read, const float* queries,
                 const Room& room, const Gradients& to) {
    weights_of(a, m, b, read, queries, room);
    // With w = P · Σw and g = ∂y / Σw: ∂V = wᵀ g, and ∂S = w (g Vᵀ - Σ w (g Vᵀ) / Σw).
    each_row(a, b, [&](int64_t row, int64_t, int64_t place) {
        fill_row(to.out + place, a.size, m.width, room.factors[row], room.gradient[row]);
    });
    for (const Keys& keys : read.both) {
        dots(b, keys, keys.value_panels, a.size, room.gradient, room.to_scores);
        add_queries(b, keys, room.scores, room.gradient, keys.to_values);
    }
    each_row(a, b, [&](int64_t row, int64_t token, int64_t) {
        const float *weights = room.scores[row], *gradient = room.to_scores[row];
        float mean = 0;
        for (const Keys& keys : read.both)
            mean += dot(weights + keys.column, gradient + keys.column, keys.read_by(token));
        for (const Keys& keys : read.both)
            through(weights + keys.column, room.to_scores[row] + keys.column, keys.read_by(token),
                    columns_up(keys.read_by(b.last - 1)), mean * room.factors[row]);
    });
    for (const Keys& keys : read.both) add_queries(b, keys, room.to_scores, room.queries, keys.to_keys);
    write_sums(a, m, b, read, room.to_scores, room, [&](int64_t) { return a.scale; }, to.queries);
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
