// One decoding step of a Llama-shaped model in float32 on a CPU: every product, norm and attention in one call.

#include <omp.h>

#include <cmath>
#include <new>

#include "attention.h"
#include "gate.h"
#include "norm.h"

extern "C" {

struct Layer {
    const float *before_attention, *query_norm, *key_norm, *before_mlp;  // query_norm and key_norm may be null
    Linear query, key, value, out, gate, up, down;
};

struct Model {
    const Layer* layers;
    const float* norm;
    Linear head;
    int64_t count, hidden, heads, groups, size, inner;
    float epsilon;
};

// N rows that continue P prompts; pasts are [layers, N or P, groups, …], as in attention.h.
struct Rows {
    const float *embedded, *cosines, *sines;      // [N, hidden], [N, size], [N, size]
    const int64_t *prompt_of, *lengths;           // [N], [P]
    const float *prompt_keys, *prompt_values;     // room for `width` positions
    float *own_keys, *own_values;                 // room for `room`
    int64_t count, prompts, width, room, step;
};

}  // extern "C"

namespace {

// Everything a step writes to on its way, in one piece of memory.
struct Scratch {
    int64_t x_stride, q_stride, k_stride, i_stride, rank, thread_size, total;
    float *x, *normed, *queries, *keys, *values, *attended, *gates, *ups, *inner[3], *threads;

    Scratch(const Model& model, const Rows& rows, int64_t threads_, float* memory) {
        x_stride = padded(model.hidden), i_stride = padded(model.inner);
        q_stride = padded(model.heads * model.size), k_stride = padded(model.groups * model.size);
        rank = model.head.rank;
        for (int64_t number = 0; number < model.count; ++number) {
            const Layer& layer = model.layers[number];
            for (const Linear* one : {&layer.query, &layer.key, &layer.value, &layer.out, &layer.gate, &layer.up,
                                      &layer.down})
                rank = std::max(rank, one->rank);
        }
        thread_size = model.heads / model.groups * (rows.width + rows.room + model.size);
        float* next = memory;
        const auto take = [&](int64_t size) { return std::exchange(next, next + size); };
        x = take(rows.count * x_stride), normed = take(rows.count * x_stride);
        queries = take(rows.count * q_stride), attended = take(rows.count * q_stride);
        keys = take(rows.count * k_stride), values = take(rows.count * k_stride);
        gates = take(rows.count * i_stride), ups = take(rows.count * i_stride);
        for (float*& one : inner) one = take(rows.count * padded(rank));
        threads = take(threads_ * thread_size);
        total = next - memory;
    }
};

// The queries of one row that read the keys of one group; writes the key and the value of the new token too.
void attend_group(const Model& model, const Layer& layer, const Rows& rows, const Scratch& scratch, int64_t number,
            int64_t n, int64_t group, float* own_scratch) {
    const int64_t size = model.size, shared = model.heads / model.groups, prompt = rows.prompt_of[n];
    const float *cosines = rows.cosines + n * size, *sines = rows.sines + n * size;
    const int64_t own_place = ((number * rows.count + n) * model.groups + group) * size * rows.room;
    const int64_t place = ((number * rows.prompts + prompt) * model.groups + group) * size * rows.width;
    float *own_keys = rows.own_keys + own_place, *own_values = rows.own_values + own_place;
    float* key = scratch.keys + n * scratch.k_stride + group * size;
    if (layer.key_norm != nullptr) norm(key, layer.key_norm, model.epsilon, size, key);
    rotate(key, cosines, sines, size, 1, own_keys + rows.step, rows.room);
    std::copy_n(scratch.values + n * scratch.k_stride + group * size, size, own_values + rows.step * size);
    float *rotated = own_scratch, *found = own_scratch + shared * size;
    float* query = scratch.queries + n * scratch.q_stride + group * shared * size;
    float* out = scratch.attended + n * scratch.q_stride + group * shared * size;
    const float scale = 1 / std::sqrt(static_cast<float>(size));
    for (int64_t q = 0; q < shared; ++q) {
        float* one = query + q * size;
        if (layer.query_norm != nullptr) norm(one, layer.query_norm, model.epsilon, size, one);
        rotate(one, cosines, sines, size, scale, rotated + q * size, 1);
    }
    const Past before{rows.prompt_keys + place, rows.prompt_values + place, rows.width, rows.lengths[prompt]};
    const Past own{own_keys, own_values, rows.room, rows.step + 1};
    int64_t q = 0;
    for (; q + 3 <= shared; q += 3) attend<3>(rotated + q * size, size, before, own, found, out + q * size);
    if (shared - q == 2) attend<2>(rotated + q * size, size, before, own, found, out + q * size);
    if (shared - q == 1) attend<1>(rotated + q * size, size, before, own, found, out + q * size);
}

// What one thread does of a step; where threads read what others wrote, all have waited.
void step(const Model& model, const Rows& rows, const Scratch& s, float* logits, const Member& me) {
    const auto [first, last] = me.share(rows.count);
    const auto [first_head, last_head] = me.share(rows.count * model.groups);
    const auto normalise_own = [&, first = first, last = last](const float* weight) {
        for (int64_t n = first; n < last; ++n)
            norm(s.x + n * s.x_stride, weight, model.epsilon, model.hidden, s.normed + n * s.x_stride);
        me.team.wait();
    };
    for (int64_t n = first; n < last; ++n) {
        std::fill_n(s.x + n * s.x_stride, s.x_stride, 0.0f);
        std::copy_n(rows.embedded + n * model.hidden, model.hidden, s.x + n * s.x_stride);
    }
    for (int64_t number = 0; number < model.count; ++number) {
        const Layer& layer = model.layers[number];
        normalise_own(layer.before_attention);
        linear<3>(s.normed, s.x_stride, rows.count,
                  {{layer.query, s.queries, s.q_stride, s.inner[0]},
                   {layer.key, s.keys, s.k_stride, s.inner[1]},
                   {layer.value, s.values, s.k_stride, s.inner[2]}},
                  false, me);
        // Rows of a prompt come one after the other for each group: its keys stay in the cache.
        for (int64_t item = first_head; item < last_head; ++item)
            attend_group(model, layer, rows, s, number, item % rows.count, item / rows.count,
                   s.threads + me.number * s.thread_size);
        me.team.wait();
        linear<1>(s.attended, s.q_stride, rows.count, {{layer.out, s.x, s.x_stride, s.inner[0]}}, true, me);
        normalise_own(layer.before_mlp);
        linear<2>(s.normed, s.x_stride, rows.count,
                  {{layer.gate, s.gates, s.i_stride, s.inner[0]}, {layer.up, s.ups, s.i_stride, s.inner[1]}}, false,
                  me);
        for (int64_t n = first; n < last; ++n) {
            float* gate = s.gates + n * s.i_stride;
            gate_numbers(gate, s.ups + n * s.i_stride, gate, 0, s.i_stride);
        }
        me.team.wait();
        linear<1>(s.gates, s.i_stride, rows.count, {{layer.down, s.x, s.x_stride, s.inner[0]}}, true, me);
    }
    normalise_own(model.norm);
    linear<1>(s.normed, s.x_stride, rows.count, {{model.head, logits, padded(model.head.outputs), s.inner[0]}}, false,
              me);
}

// Runs work on so many threads, or fewer if there are not so many.
template <typename Work>
void together(int threads, const Work& work) {
    Team* team = nullptr;
    alignas(Team) unsigned char room[sizeof(Team)];
#pragma omp parallel num_threads(threads)
    {
#pragma omp single
        team = new (room) Team(omp_get_num_threads());
        work(Member{*team, omp_get_thread_num(), omp_get_num_threads()});
    }
}

// One number of 32 bits to one of 16; tells whether that lost something.
inline bool shortened(float value, int64_t kind, uint16_t& to) {
    if (kind == BFLOAT16) {
        uint32_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        to = bits >> 16;
        return bits & 0xffff;
    }
#ifdef __F16C__
    to = _cvtss_sh(value, 0);
    return _cvtsh_ss(to) != value;
#else
    return true;
#endif
}

}  // namespace

extern "C" {

int64_t rairl_panel_width() { return WIDTH; }

int64_t rairl_key_room() { return KEYS; }

// Writes panels of weights [outputs, inputs], in any layout; says whether the kind holds them without loss. Gives up
// at the first block that it does not hold.
int rairl_pack(const float* weights, int64_t outputs, int64_t inputs, int64_t output_stride, int64_t input_stride,
               int64_t kind, void* to, int threads) {
    const int64_t panels = panels_of(outputs);
    std::atomic<bool> lossless{true};
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t panel = 0; panel < panels; ++panel) {
        for (int64_t first = 0; first < inputs && lossless.load(std::memory_order_relaxed); first += DEPTH) {
            const int64_t depth = std::min(DEPTH, inputs - first), place = block_at(first, depth, panel, panels);
            const int64_t count = std::min<int64_t>(WIDTH, outputs - panel * WIDTH);
            bool lost = false;
            for (int64_t k = 0; k < depth; ++k) {
                const float* from = weights + panel * WIDTH * output_stride + (first + k) * input_stride;
                const int64_t at = place + k * WIDTH;
                for (int64_t column = 0; column < WIDTH; ++column) {
                    const float value = column < count ? from[column * output_stride] : 0.0f;
                    if (kind == FLOAT32) {
                        static_cast<float*>(to)[at + column] = value;
                    } else {
                        // bfloat16's are in pairs, see weights_at.
                        const int64_t own = kind == BFLOAT16 ? 2 * (column % LANES) + column / LANES : column;
                        lost |= shortened(value, kind, static_cast<uint16_t*>(to)[at + own]);
                    }
                }
            }
            if (lost) lossless.store(false, std::memory_order_relaxed);
        }
    }
    return lossless.load();
}

// One layer alone: y [rows, outputs padded] from x [rows, inputs]; inner has room for [rows, rank padded].
void rairl_linear(const Linear* layer, const float* x, int64_t rows, float* inner, float* y, int threads) {
    together(threads, [&](const Member& me) {
        linear<1>(x, layer->inputs, rows, {{*layer, y, padded(layer->outputs), inner}}, false, me);
    });
}

// Numbers of float32 that rairl_step needs room for.
int64_t rairl_scratch(const Model* model, const Rows* rows, int threads) {
    return Scratch(*model, *rows, threads, nullptr).total;
}

// Reads one more token of every row: writes its keys and values, and logits [N, vocabulary padded to panels].
void rairl_step(const Model* model, const Rows* rows, float* memory, float* logits, int threads) {
    const Scratch scratch(*model, *rows, threads, memory);
    together(threads, [&](const Member& me) { step(*model, *rows, scratch, logits, me); });
}

}  // extern "C"
