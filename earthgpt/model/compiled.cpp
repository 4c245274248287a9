// A pass of a language model of Llama's kind over a few tokens, straight from its weights.
//
// With one token every weight is used once, so the time of a pass is that of reading the weights from memory. All threads
// stay in one parallel region for the whole pass: each reads its rows of every matrix from front to back, and waits for
// the others five times a layer. Values are rounded where transformers rounds them, and summed up in float32 between.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <thread>

#include <omp.h>
#ifdef __linux__
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#ifdef __AVX512F__
#include <immintrin.h>
#endif

extern "C" {

// y = scale * (W x + bias), with the bias outside where there is a scale, as torchao has it. Null is none.
struct Linear {
    const void *weight;  // [out, in]
    const float *scale, *bias;
    int64_t out, in;
    int32_t kind;  // 0: float32, 1: bfloat16, 2: int8
};

struct Layer {
    Linear query, key, value, output, gate, up, down;
    const float *norm, *query_norm, *key_norm, *middle_norm;  // those of query and key may be null
    void *keys, *values;                                      // [rows, key heads, room, width of a head]
    const void *const *shared_keys, *const *shared_values;    // of each row [key heads, begun, width]; null is none
    int32_t turned;                                           // whether positions turn queries and keys
};

struct Model {
    Layer *layers;
    Linear head;
    const float *norm;
    int64_t depth, hidden, heads, key_heads, width, inner;
    float epsilon, scaling;
    int32_t bfloat16;  // what activations, keys and values are: bfloat16, or float32
};

}  // extern "C"

namespace {

constexpr int LANES = 16, ROWS = 4, TOKENS = 4;

inline float wide(float value) { return value; }
inline float wide(int8_t value) { return value; }
inline float wide(uint16_t value) {
    uint32_t bits = uint32_t(value) << 16;
    float result;
    std::memcpy(&result, &bits, 4);
    return result;
}

// LANES values as float32.
typedef float Floats __attribute__((vector_size(4 * LANES)));

template <class Vector, class Value>
inline Vector taken(const Value *values) {
    Vector result;
    std::memcpy(&result, values, sizeof result);
    return result;
}

inline Floats load(const float *values) { return taken<Floats>(values); }
#ifdef __AVX512F__  // gcc finds these by itself in later versions only
inline Floats load(const int8_t *values) {
    return Floats(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(taken<__m128i>(values))));
}
inline Floats load(const uint16_t *values) {
    return Floats(_mm512_slli_epi32(_mm512_cvtepu16_epi32(taken<__m256i>(values)), 16));
}
inline float total(Floats values) { return _mm512_reduce_add_ps(__m512(values)); }
inline __m256 half(Floats values) {
    __m512 whole(values);
    return _mm256_add_ps(_mm512_castps512_ps256(whole), _mm512_castps512_ps256(_mm512_shuffle_f32x4(whole, whole, 0x4e)));
}
inline void totals(const Floats (&values)[ROWS], float *result) {  // at once: one by one they take as long as the sums
    __m256 pairs = _mm256_hadd_ps(_mm256_hadd_ps(half(values[0]), half(values[1])),
                                  _mm256_hadd_ps(half(values[2]), half(values[3])));
    _mm_storeu_ps(result, _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1)));
}
#else
inline Floats load(const int8_t *values) {
    typedef int8_t Bytes __attribute__((vector_size(LANES)));
    typedef int16_t Shorts __attribute__((vector_size(2 * LANES)));
    return __builtin_convertvector(__builtin_convertvector(taken<Bytes>(values), Shorts), Floats);
}
inline Floats load(const uint16_t *values) {
    typedef uint16_t Shorts __attribute__((vector_size(2 * LANES)));
    typedef uint32_t Words __attribute__((vector_size(4 * LANES)));
    return Floats(__builtin_convertvector(taken<Shorts>(values), Words) << 16);
}
inline float total(Floats values) {
    float sum = 0;
    for (int lane = 0; lane < LANES; lane++) sum += values[lane];
    return sum;
}
inline void totals(const Floats (&values)[ROWS], float *result) {
    for (int row = 0; row < ROWS; row++) result[row] = total(values[row]);
}
#endif

struct Float32 {
    using Stored = float;
    static float rounded(float value) { return value; }
    static Stored stored(float value) { return value; }
};

struct BFloat16 {
    using Stored = uint16_t;
    static Stored stored(float value) {
        uint32_t bits;
        std::memcpy(&bits, &value, 4);
        return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);  // to the nearest, ties to even
    }
    static float rounded(float value) { return wide(stored(value)); }
};

// e^x to a relative 2e-7, in a form that compilers make vectors of.
inline float exponential(float x) {
    x = std::min(std::max(x, -87.0f), 88.0f) * 1.44269504f;
    float whole = (x + 12582912.0f) - 12582912.0f, rest = (x - whole) * 0.693147181f;
    float sum = 1 + rest * (1 + rest * (0.5f + rest * (1 / 6.0f + rest * (1 / 24.0f + rest * (1 / 120.0f + rest / 720)))));
    int32_t bits = (int32_t(whole) + 127) << 23;
    float power;
    std::memcpy(&power, &bits, 4);
    return sum * power;
}

class Barrier {
public:
    void wait(int threads) {
        int now = phase.load(std::memory_order_relaxed);
        if (arrived.fetch_add(1, std::memory_order_acq_rel) == threads - 1) {
            arrived.store(0, std::memory_order_relaxed);
            phase.store(now + 1, std::memory_order_release);
        } else {
            for (int tries = 0; phase.load(std::memory_order_acquire) == now; tries++)
                if (tries > 10000) std::this_thread::yield();
        }
    }

private:
    alignas(64) std::atomic<int> arrived{0};
    alignas(64) std::atomic<int> phase{0};
};

// Asks for what is read soon, into the second cache: a core has far more such requests under way than for the first.
inline void fetch(const void *place) { __builtin_prefetch(place, 0, 2); }

// Sums of weight * x for N rows of a matrix [N, length] and T of x [T, length], to result [T, apart]. The rows that come
// after the next N are fetched meanwhile, where one asks for it.
template <int N, int T = 1, class Weight>
inline void sums(const Weight *weight, const float *x, int64_t length, float *result, int64_t apart = 0,
                 bool ahead = N > 1) {
    constexpr int LINE = 64 / sizeof(Weight);  // of the cache
    Floats parts[T][N] = {};
    int64_t i = 0;
    for (; i + LINE <= length; i += LINE) {
        for (int row = 0; ahead && row < N; row++) fetch(weight + (2 * N + row) * length + i);
        for (int64_t j = i; j < i + LINE; j += LANES) {
            Floats loaded[N];
            for (int row = 0; row < N; row++) loaded[row] = load(weight + row * length + j);
            for (int token = 0; token < T; token++)
                for (int row = 0; row < N; row++) parts[token][row] += loaded[row] * load(x + token * length + j);
        }
    }
    for (int token = 0; token < T; token++) {
        float *own = result + token * apart;
        if constexpr (N == ROWS) totals(parts[token], own);
        else own[0] = total(parts[token][0]);
        for (int64_t j = i; j < length; j++)
            for (int row = 0; row < N; row++) own[row] += wide(weight[row * length + j]) * x[token * length + j];
    }
}

#if defined(__AMX_BF16__) && defined(__linux__)
#define MATRIX_UNIT
// The tiles of a processor's matrix unit, of a thread as long as this lives: 16 rows of 64 bytes each. Who had others in
// use before finds them so again.
class Tiles {
public:
    static constexpr int SIDE = 16, DEEP = 32;  // tokens or rows of weights of a tile, and its values in bfloat16
    explicit Tiles(bool wanted) : used(wanted && allowed()) {
        if (!used) return;
        _tile_storeconfig(before);
        alignas(64) char shape[64] = {1};
        for (int tile = 0; tile < 3; tile++) shape[16 + 2 * tile] = 64, shape[48 + tile] = SIDE;
        _tile_loadconfig(shape);
    }
    ~Tiles() {
        if (used) _tile_loadconfig(before);
    }
    static bool allowed() {
        static const bool may = !syscall(SYS_arch_prctl, 0x1023, 18);  // ARCH_REQ_XCOMP_PERM for tiles
        return may;
    }

private:
    const bool used;
    alignas(64) char before[64];
};

// As ``multiply``, of as many rows as tiles are full of; the first row that is left. ``pairs`` has room for [in / 2, SIDE].
int64_t multiply_tiles(const Linear &linear, const float *x, int tokens, int64_t from, int64_t to, float *y,
                       uint32_t *pairs) {
    constexpr int SIDE = Tiles::SIDE;
    if (linear.in % Tiles::DEEP || tokens > SIDE || !Tiles::allowed()) return from;
    std::memset(pairs, 0, linear.in / 2 * SIDE * sizeof *pairs);
    for (int token = 0; token < tokens; token++)
        for (int64_t i = 0; i < linear.in / 2; i++) {
            uint32_t both[2];  // values that are rounded to bfloat16 are the upper half of their bits
            std::memcpy(both, x + token * linear.in + 2 * i, sizeof both);
            pairs[i * SIDE + token] = both[0] >> 16 | (both[1] & 0xffff0000);
        }
    alignas(64) float sums[SIDE][SIDE];  // [rows, tokens]
    for (; from + SIDE <= to; from += SIDE) {
        const uint16_t *weight = static_cast<const uint16_t *>(linear.weight) + from * linear.in;
        _tile_zero(0);
        for (int64_t i = 0; i < linear.in; i += Tiles::DEEP) {
            _tile_loadd(1, weight + i, 2 * linear.in);
            _tile_loadd(2, pairs + i / 2 * SIDE, 4 * SIDE);
            _tile_dpbf16ps(0, 1, 2);
        }
        _tile_stored(0, sums, 4 * SIDE);
        for (int token = 0; token < tokens; token++)
            for (int row = 0; row < SIDE; row++) y[token * linear.out + from + row] = sums[row][token];
    }
    return from;
}
#else
struct Tiles {
    explicit Tiles(bool) {}
};
#endif

#ifdef __AVX512BF16__
#define PAIRS
// As ``sums`` of ROWS rows, where both are bfloat16: two products at a time.
template <int T>
inline void sums_of_pairs(const uint16_t *weight, const uint16_t *x, int64_t length, float *result, int64_t apart,
                          bool ahead) {
    constexpr int LINE = 2 * LANES;
    Floats parts[T][ROWS] = {};
    for (int64_t i = 0; i < length; i += LINE) {
        for (int row = 0; ahead && row < ROWS; row++) fetch(weight + (2 * ROWS + row) * length + i);
        __m512bh loaded[ROWS];
        for (int row = 0; row < ROWS; row++) loaded[row] = taken<__m512bh>(weight + row * length + i);
        for (int token = 0; token < T; token++)
            for (int row = 0; row < ROWS; row++)
                parts[token][row] = Floats(_mm512_dpbf16_ps(__m512(parts[token][row]), loaded[row],
                                                            taken<__m512bh>(x + token * length + i)));
    }
    for (int token = 0; token < T; token++) totals(parts[token], result + token * apart);
}

// As ``multiply``, of as many rows as go together; the first row that is left. ``halves`` has room for [tokens, in].
int64_t multiply_pairs(const Linear &linear, const float *x, int tokens, int64_t from, int64_t to, float *y,
                       uint16_t *halves) {
    if (linear.in % (2 * LANES)) return from;
    for (int64_t i = 0; i < tokens * linear.in; i++) halves[i] = BFloat16::stored(x[i]);
    for (; from + ROWS <= to; from += ROWS) {
        const uint16_t *weight = static_cast<const uint16_t *>(linear.weight) + from * linear.in;
        int token = 0;
        for (; token + TOKENS <= tokens; token += TOKENS)
            sums_of_pairs<TOKENS>(weight, halves + token * linear.in, linear.in, y + token * linear.out + from,
                                  linear.out, token == 0);
        for (; token < tokens; token++)
            sums_of_pairs<1>(weight, halves + token * linear.in, linear.in, y + token * linear.out + from, 0, token == 0);
    }
    return from;
}
#endif

// Rows ``from`` to ``to`` of y [tokens, out]. Each row is read from memory once for all tokens.
template <class Weight>
void multiply(const Linear &linear, const float *x, int tokens, int64_t from, int64_t to, float *y) {
    const Weight *weight = static_cast<const Weight *>(linear.weight);
    int64_t row = from;
    for (; row + ROWS <= to; row += ROWS) {
        const Weight *these = weight + row * linear.in;
        int token = 0;
        for (; token + TOKENS <= tokens; token += TOKENS)
            sums<ROWS, TOKENS>(these, x + token * linear.in, linear.in, y + token * linear.out + row, linear.out,
                               token == 0);
        for (; token < tokens; token++)
            sums<ROWS>(these, x + token * linear.in, linear.in, y + token * linear.out + row, 0, token == 0);
    }
    for (; row < to; row++)
        for (int token = 0; token < tokens; token++)
            sums<1>(weight + row * linear.in, x + token * linear.in, linear.in, y + token * linear.out + row);
}

// ``room`` [in * 8] is for what the sums are made of.
template <class Kind>
void apply(const Linear &linear, const float *x, int tokens, int64_t from, int64_t to, float *result, float *room) {
    int64_t left = from;
#ifdef MATRIX_UNIT
    if (linear.kind == 1)
        left = multiply_tiles(linear, x, tokens, from, to, result, reinterpret_cast<uint32_t *>(room));
#endif
#ifdef PAIRS
    if (linear.kind == 1)
        left = multiply_pairs(linear, x, tokens, left, to, result, reinterpret_cast<uint16_t *>(room));
#endif
    if (linear.kind == 0) multiply<float>(linear, x, tokens, from, to, result);
    if (linear.kind == 1) multiply<uint16_t>(linear, x, tokens, left, to, result);
    if (linear.kind == 2) multiply<int8_t>(linear, x, tokens, from, to, result);
    for (int token = 0; token < tokens; token++) {
        float *y = result + token * linear.out;
        if (linear.scale)
            for (int64_t row = from; row < to; row++) y[row] = Kind::rounded(y[row]) * linear.scale[row];
        if (linear.scale && linear.bias)
            for (int64_t row = from; row < to; row++) y[row] = Kind::rounded(y[row]);
        if (linear.bias)
            for (int64_t row = from; row < to; row++) y[row] += linear.bias[row];
        for (int64_t row = from; row < to; row++) y[row] = Kind::rounded(y[row]);
    }
}

template <class Kind>
void normalise(const float *x, const float *weight, int64_t length, float epsilon, float *result) {
    float sum;
    sums<1>(x, x, length, &sum);
    float factor = 1 / std::sqrt(sum / length + epsilon);
    for (int64_t i = 0; i < length; i++) result[i] = Kind::rounded(weight[i] * Kind::rounded(x[i] * factor));
}

template <class Kind>
void turn(float *x, const float *cosines, const float *sines, int64_t width) {
    int64_t half = width / 2;
    for (int64_t i = 0; i < half; i++) {
        float first = x[i], second = x[i + half];
        x[i] = Kind::rounded(Kind::rounded(first * cosines[i]) - Kind::rounded(second * sines[i]));
        x[i + half] =
            Kind::rounded(Kind::rounded(second * cosines[i + half]) + Kind::rounded(first * sines[i + half]));
    }
}

// Keys and values [length, width] of a head, one after the other.
template <class Stored>
struct Seen {
    const Stored *keys, *values;
    int64_t length;
};

// What one head of a token makes of two parts of what it sees; ``scores`` has room for both.
template <class Kind>
void attend(const float *query, const Seen<typename Kind::Stored> (&parts)[2], int64_t width, float scaling,
            float *scores, float *result) {
    const int64_t seen = parts[0].length + parts[1].length;
    float largest = -INFINITY, sum = 0, *place = scores;
    for (const auto &part : parts) {
        int64_t key = 0;
        for (; key + ROWS <= part.length; key += ROWS) sums<ROWS>(part.keys + key * width, query, width, place + key);
        for (; key < part.length; key++) sums<1>(part.keys + key * width, query, width, place + key);
        place += part.length;
    }
    for (int64_t i = 0; i < seen; i++) scores[i] *= scaling;
    for (int64_t i = 0; i < seen; i++) largest = std::max(largest, scores[i]);
    for (int64_t i = 0; i < seen; i++) scores[i] = exponential(scores[i] - largest);
    for (int64_t i = 0; i < seen; i++) sum += scores[i];
    for (int64_t j = 0; j < width; j++) result[j] = 0;
    place = scores;
    for (const auto &part : parts) {
        for (int64_t i = 0; i < part.length; i++) {
            float weight = Kind::rounded(place[i]);  // torch multiplies in bfloat16 here, and sums the exact ones
            for (int64_t j = 0; j < width; j++) result[j] += weight * wide(part.values[i * width + j]);
        }
        place += part.length;
    }
    for (int64_t j = 0; j < width; j++) result[j] = Kind::rounded(result[j] / sum);
}

template <class Kind>
void read(const Model &model, int tokens, const int64_t *rows, const int64_t *places, const int64_t *begun,
          int64_t furthest, int64_t room, const float *cosines, const float *sines, float *hidden, float *logits,
          float *space, int threads) {
    using Stored = typename Kind::Stored;
    const int64_t width = model.width, wide_query = model.heads * width, wide_key = model.key_heads * width;
    const int64_t group = model.heads / model.key_heads;
    float *queries = space, *keys = queries + tokens * wide_query, *values = keys + tokens * wide_key;
    float *mixed = values + tokens * wide_key, *gates = mixed + tokens * wide_query, *inner = gates + tokens * model.inner;
    float *changes = inner + tokens * model.inner;
    float *own = changes + tokens * model.hidden;  // of each thread: normed tokens, scores, room for sums
    const int64_t each = tokens * model.hidden + furthest + 8 * std::max({model.hidden, wide_query, model.inner});
    Barrier barrier;

#pragma omp parallel num_threads(threads)
    {
        const int count = omp_get_num_threads(), me = omp_get_thread_num();
        float *normed = own + me * each, *scores = normed + tokens * model.hidden, *room_of_sums = scores + furthest;
        Tiles tiles(model.bfloat16);
        auto from = [&](int64_t length) { return length * me / count; };
        auto to = [&](int64_t length) { return length * (me + 1) / count; };
        auto norm = [&](const float *weight) {
            for (int token = 0; token < tokens; token++)
                normalise<Kind>(hidden + token * model.hidden, weight, model.hidden, model.epsilon,
                                normed + token * model.hidden);
        };
        auto project = [&](const Linear &linear, const float *x, float *result) {
            apply<Kind>(linear, x, tokens, from(linear.out), to(linear.out), result, room_of_sums);
        };
        auto add = [&](const Linear &linear, const float *x) {
            project(linear, x, changes);
            for (int token = 0; token < tokens; token++)
                for (int64_t i = token * model.hidden + from(model.hidden); i < token * model.hidden + to(model.hidden); i++)
                    hidden[i] = Kind::rounded(hidden[i] + changes[i]);
        };
        for (int64_t depth = 0; depth < model.depth; depth++) {
            const Layer &layer = model.layers[depth];
            norm(layer.norm);
            project(layer.query, normed, queries);
            project(layer.key, normed, keys);
            project(layer.value, normed, values);
            barrier.wait(count);
            for (int64_t head = from(model.key_heads); head < to(model.key_heads); head++) {
                for (int token = 0; token < tokens; token++) {
                    float *key = keys + token * wide_key + head * width, *value = values + token * wide_key + head * width;
                    if (layer.key_norm) normalise<Kind>(key, layer.key_norm, width, model.epsilon, key);
                    if (layer.turned) turn<Kind>(key, cosines + token * width, sines + token * width, width);
                    int64_t place = places[token] - begun[token];
                    int64_t at = ((rows[token] * model.key_heads + head) * room + place) * width;
                    for (int64_t i = 0; i < width; i++) {
                        static_cast<Stored *>(layer.keys)[at + i] = Kind::stored(key[i]);
                        static_cast<Stored *>(layer.values)[at + i] = Kind::stored(value[i]);
                    }
                }
                for (int token = 0; token < tokens; token++)
                    for (int64_t i = head * group; i < (head + 1) * group; i++) {
                        float *query = queries + token * wide_query + i * width;
                        if (layer.query_norm) normalise<Kind>(query, layer.query_norm, width, model.epsilon, query);
                        if (layer.turned) turn<Kind>(query, cosines + token * width, sines + token * width, width);
                        int64_t at = (rows[token] * model.key_heads + head) * room * width;
                        auto shared = [&](const void *const *states) {
                            if (!begun[token]) return static_cast<const Stored *>(nullptr);
                            return static_cast<const Stored *>(states[rows[token]]) + head * begun[token] * width;
                        };
                        const Seen<Stored> parts[2] = {
                            {shared(layer.shared_keys), shared(layer.shared_values), begun[token]},
                            {static_cast<Stored *>(layer.keys) + at, static_cast<Stored *>(layer.values) + at,
                             places[token] + 1 - begun[token]}};
                        attend<Kind>(query, parts, width, model.scaling, scores, mixed + token * wide_query + i * width);
                    }
            }
            barrier.wait(count);
            add(layer.output, mixed);
            barrier.wait(count);
            norm(layer.middle_norm);
            project(layer.gate, normed, gates);
            project(layer.up, normed, inner);
            for (int token = 0; token < tokens; token++)
                for (int64_t i = token * model.inner + from(model.inner); i < token * model.inner + to(model.inner); i++)
                    inner[i] *= Kind::rounded(gates[i] / (1 + exponential(-gates[i]))), inner[i] = Kind::rounded(inner[i]);
            barrier.wait(count);
            add(layer.down, inner);
            barrier.wait(count);
        }
        norm(model.norm);
        project(model.head, normed, logits);
    }
}

}  // namespace

// Has Linux (6.1 and later) hold so many bytes in pages of 2 MB, where they lie: one look-up of an address is then good for
// 512 times as much. What it does not do stays as it was.
extern "C" void earthgpt_enlarge_pages(void *start, int64_t bytes) {
#ifdef __linux__
    const uintptr_t page = 1 << 21, from = uintptr_t(start) / page * page;
    const uintptr_t to = (uintptr_t(start) + bytes + page - 1) / page * page;
    const int collapse = 25;  // MADV_COLLAPSE, which older headers do not name
    madvise(reinterpret_cast<void *>(from), to - from, collapse);
#endif
}

// hidden [tokens, hidden]: the embeddings, written over. rows, places: of each token, where its keys and values go and up
// to where it sees; the first ``begun`` places are those of its row's shared keys and values. furthest: more places than
// any token sees. cosines, sines [tokens, width]. logits [tokens, words]. space: see ``compiled.py``.
extern "C" void earthgpt_read(const Model *model, int32_t tokens, const int64_t *rows, const int64_t *places,
                              const int64_t *begun, int64_t furthest, int64_t room, const float *cosines,
                              const float *sines, float *hidden, float *logits, float *space, int32_t threads) {
    auto pass = model->bfloat16 ? read<BFloat16> : read<Float32>;
    pass(*model, tokens, rows, places, begun, furthest, room, cosines, sines, hidden, logits, space, threads);
}
