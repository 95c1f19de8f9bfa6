// AMX: tiles of 16 tokens x 16 lanes times tiles of 16 lanes x 16 rows, in bfloat16 and int8.
//
// A panel of a pack, [lanes][32 rows] of 32 bits, is AMX's second factor as it lies: two tiles side by side for
// every 16 lanes.  The first factor are rows of x cut down to the columns of a block, [token][lane].  A unit of
// work is 32 tokens with a group of a block's panels: four tiles of sums, and for each step of 16 lanes two tiles
// of tokens and two of weights.  The rows of the next unit are cut between the products of this one, which
// occupy other parts of the processor, and weights of the next group are fetched into the second-level cache.
//
// Variants `direct` and `compressed`, single tokens and float32 are left to the vector kernels.  A test compiles
// this file with EMULATED_TILES.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif
#include <type_traits>

#include <immintrin.h>

#include "linear.hpp"
#include "tiles.hpp"

#define LANES 16

namespace {

using retrim::Activation;
using retrim::Call;
using retrim::kPanel;
using retrim::Linear;
using retrim::size_of;
using retrim::Type;
using retrim::Variant;

constexpr int64_t kStride = 16;  // of tiles that this kernel does not use

#include "vector.inc"
#include "output.inc"
#include "dot.inc"
#include "input.inc"

#if defined(EMULATED_TILES)
using Tiles = retrim::EmulatedTiles;
#else
using Tiles = retrim::AmxTiles;
#endif

constexpr int64_t kTile = 16;                // tokens, lanes or rows of a tile
constexpr int64_t kUnit = 2 * kTile;         // tokens of a unit
constexpr int64_t kLineBytes = 64;
constexpr int64_t kGroupBytes = 384 << 10;   // weights of a group: they stay in the second-level cache
constexpr int64_t kGroupPanels = 16;         // of a group, at most
constexpr int64_t kChunkBytes = 1 << 20;     // of x at a time: they stay there, too

constexpr int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Holds the tile registers for as long as a call runs.
struct Session {
  explicit Session(int rows) { Tiles::configure(rows); }
  ~Session() { Tiles::release(); }
};

template <int From, int To, class Each>
INLINE void each(const Each& visit) {
  if constexpr (From < To) {
    visit(std::integral_constant<int, From>{});
    each<From + 1, To>(visit);
  }
}

// Some bytes of one vector of a row, and where they go in one vector of the row cut down.
struct Pick {
  __m512i from;      // of each byte
  uint64_t places;   // that are filled
  int64_t source;    // vector of the row
};

// How rows are cut down to the columns of one block: each vector of the result is made of a few picks.
template <class P>
class Cut {
 public:
  typedef typename P::Element Element;
  static constexpr int kSize = int(sizeof(Element)), kPer = 64 / kSize;  // columns of a vector

  static int64_t most_vectors(const Linear& w) { return up(w.most_lanes, kTile) / kTile; }
  static int64_t most_picks(const Linear& w) { return padded(w.inputs) / kPer + most_vectors(w); }
  static int64_t bytes(const Linear& w) {
    return most_picks(w) * int64_t(sizeof(Pick)) + (most_vectors(w) + 1) * 8 + 128;
  }

  explicit Cut(const Linear& w)
      : w_(w), picks_(arena.take<Pick>(most_picks(w))), first_(arena.take<int64_t>(most_vectors(w) + 1)) {}

  void aim(int64_t block) {
    if (block == block_) return;
    block_ = block;
    vectors_ = count_ = 0;
    int64_t done = 0;
    const uint64_t* mask = w_.masks + block * w_.mask_words;
    for (int64_t s = 0; s < padded(w_.inputs) / kPer; s++) {
      const int64_t column = s * kPer;
      const uint64_t kept = kSize == 1 ? mask[s] : mask[column / 64] >> column % 64 & 0xffffffff;
      if (kept == 0) continue;
      const int64_t many = __builtin_popcountll(kept), at = done % kPer, here = std::min(many, kPer - at);
      const __m512i from = compressed(kept);
      add(done / kPer, s, expanded(ones(here) << at, from), ones(here) << at);
      if (many > here) add(done / kPer + 1, s, compressed(~uint64_t(0) << here, from), ones(many - here));
      done += many;
    }
    first_[vectors_] = count_;
  }

  int64_t vectors() const { return vectors_; }

  // One vector of `count` rows.
  __attribute__((noinline)) void cut(const Natural<P>& x, int64_t from, int64_t count, int64_t vector, Word* to,
                                     int64_t ld) const {
    const Pick* pick = picks_ + first_[vector];
    int64_t left = first_[vector + 1] - first_[vector];
    to += vector * kTile;
    for (bool fresh = true; left > 0; fresh = false) {
      if (left >= 4) merge<4>(x, from, count, pick, to, ld, fresh);
      else if (left == 3) merge<3>(x, from, count, pick, to, ld, fresh);
      else if (left == 2) merge<2>(x, from, count, pick, to, ld, fresh);
      else merge<1>(x, from, count, pick, to, ld, fresh);
      pick += 4, left -= 4;
    }
  }

 private:
  static uint64_t ones(int64_t n) { return n < 64 ? (uint64_t(1) << n) - 1 : ~uint64_t(0); }
  // vectors of the numbers of bytes, moved in whole columns
  static __m512i compressed(uint64_t columns, __m512i v) {
    if constexpr (kSize == 1) return _mm512_maskz_compress_epi8(columns, v);
    else return _mm512_maskz_compress_epi16(uint32_t(columns), v);
  }
  static __m512i expanded(uint64_t columns, __m512i v) {
    if constexpr (kSize == 1) return _mm512_maskz_expand_epi8(columns, v);
    else return _mm512_maskz_expand_epi16(uint32_t(columns), v);
  }
  static __m512i compressed(uint64_t columns) {
    alignas(64) static constexpr uint8_t number[64] = {
        0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
        22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
        44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};
    return compressed(columns, _mm512_load_si512(number));
  }

  void add(int64_t vector, int64_t source, __m512i from, uint64_t columns) {
    const uint64_t bytes = kSize == 1 ? columns : _mm512_movepi8_mask(_mm512_movm_epi16(uint32_t(columns)));
    if (vector == vectors_) first_[vectors_++] = count_;
    picks_[count_++] = {from, bytes, source};
  }

  template <int N>
  INLINE void merge(const Natural<P>& x, int64_t from, int64_t count, const Pick* pick, Word* to, int64_t ld,
                    bool fresh) const {
    __m512i byte[N];
    __mmask64 places[N];
    int64_t source[N];
    UNROLL for (int i = 0; i < N; i++) {
      byte[i] = pick[i].from, places[i] = pick[i].places, source[i] = pick[i].source * kPer;
    }
    for (int64_t m = 0; m < count; m++, to += ld) {
      const Element* row = x.row(from + m);
      __m512i v = fresh ? _mm512_setzero_si512() : _mm512_load_si512(to);
      UNROLL for (int i = 0; i < N; i++)
        v = _mm512_mask_permutexvar_epi8(v, places[i], byte[i], _mm512_loadu_si512(row + source[i]));
      _mm512_store_si512(to, v);
    }
  }

  const Linear& w_;
  Pick* picks_;
  int64_t* first_;  // pick of each vector
  int64_t block_ = -1, vectors_ = 0, count_ = 0;
};

// Cuts the rows of a unit, a tile at a time, beside other work that takes `steps`.
template <class P>
class Beside {
 public:
  Beside(const Cut<P>& cut, const Natural<P>& x, int64_t from, int64_t count, Word* to, int64_t ld, int64_t steps)
      : cut_(cut), x_(x), from_(from), count_(count), ld_(ld), to_(to), halves_((count + kTile - 1) / kTile),
        pieces_(halves_ * cut.vectors()), steps_(steps) {}

  INLINE void step() {
    for (credit_ += pieces_; credit_ >= steps_ && next_ < pieces_; credit_ -= steps_) one();
  }
  INLINE void finish() {
    while (next_ < pieces_) one();
  }
  int64_t pieces() const { return pieces_; }
  void one() {
    if (next_ == pieces_) return;
    const int64_t first = next_ % halves_ * kTile;
    cut_.cut(x_, from_ + first, std::min(kTile, count_ - first), next_ / halves_, to_ + first * ld_, ld_);
    next_++;
  }

 private:
  const Cut<P>& cut_;
  const Natural<P>& x_;
  int64_t from_, count_, ld_;
  Word* to_;
  int64_t halves_, pieces_, steps_, next_ = 0, credit_ = 0;
};

// A part `share` of `shares` of the lines that lie as far ahead as `ahead`.
struct Fetch {
  const uint32_t* at;  // of the first step, or null
  int64_t share, shares;
  INLINE void step(int64_t offset) const {
    if (at == nullptr) return;
    for (int64_t i = 32 * share / shares; i < 32 * (share + 1) / shares; i++)
      __builtin_prefetch(at + offset + i * kLine, 0, 2);
  }
};

// The tokens of a unit, cut down.
struct Unit {
  const Word* lanes;
  int64_t ld;
  const float* scales;
  int64_t token, count;
};

// All of a call on one thread.
template <class P>
class Tiled {
 public:
  typedef typename P::Element Element;

  Tiled(const Linear& w, const Call& c, int64_t first_panel, int64_t last_panel)
      : w_(w), c_(c), first_(first_panel), last_(last_panel),
        // an odd number of cache lines, so that rows do not meet in the same places of the cache
        ld_((up(w.most_lanes, kTile) / kTile | 1) * kTile),
        chunk_(std::min(up(c.tokens, kTile), std::max(kUnit, kChunkBytes / row_bytes() / kUnit * kUnit))),
        cut_(begin()), scales_(arena.take<float>(up(chunk_, kUnit))), now_(arena.take<Word>(kUnit * ld_)),
        next_(arena.take<Word>(kUnit * ld_)), tails_(arena.take<uint32_t>(kGroupPanels * kTile * kPanel)),
        sums_(arena.take<uint32_t>(kUnit * kPanel)), room_(arena.take<Element>(0)) {}

  void run() {
    const Session session(int(std::min(c_.tokens, kTile)));
    for (int64_t from = 0; from < c_.tokens; from += chunk_) chunk(from, std::min(chunk_, c_.tokens - from));
  }

 private:
  int64_t row_bytes() const { return padded(w_.inputs) * int64_t(sizeof(Element)); }
  const Linear& begin() const {
    arena.begin(Cut<P>::bytes(w_) + up(chunk_, kUnit) * 4 + 2 * kUnit * ld_ * 4 +
                (kGroupPanels * kTile + kUnit) * kPanel * 4 + natural_bytes<P>(w_, chunk_) + 512);
    return w_;
  }

  int64_t group_end(int64_t panel) const {
    const int64_t block = w_.block_of(panel), bytes = std::max<int64_t>(w_.lanes_of(block), 1) * kPanel * 4;
    const int64_t most = std::clamp<int64_t>(kGroupBytes / bytes, 1, kGroupPanels);
    return std::min({last_, (block + 1) * w_.height / kPanel, panel + most});
  }

  void chunk(int64_t from, int64_t tokens) {
    x_ = natural<P>(w_, c_, from, tokens, room_, scales_);
    const int64_t units = (tokens + kUnit - 1) / kUnit;
    cut_first(std::min(kUnit, tokens), from == 0);
    for (int64_t group = first_, end; group < last_; group = end) {
      end = group_end(group);
      copy_tails(group, end);
      for (int64_t u = 0; u < units; u++) {
        const bool last = u + 1 == units;
        const int64_t at = u * kUnit, then = last ? 0 : at + kUnit;
        // after the last group nothing is left to cut
        const int64_t count = last && end == last_ ? 0 : std::min(kUnit, tokens - then);
        if (count > 0) cut_.aim(w_.block_of(last ? end : group));
        const int64_t steps = (end - group) * ((w_.lanes_of(w_.block_of(group)) + kTile - 1) / kTile);
        Beside<P> beside(cut_, x_, then, count, next_, ld_, steps);
        const Fetch fetch{end < last_ ? w_.values + w_.panel_values[end] : nullptr, u, units};
        unit({now_, ld_, scales_ + at, from + at, std::min(kUnit, tokens - at)}, group, end, fetch, beside);
        beside.finish();
        std::swap(now_, next_);
      }
    }
  }

  // The first unit, which no products hide; the first weights come from memory meanwhile.
  void cut_first(int64_t tokens, bool cold) {
    cut_.aim(w_.block_of(first_));
    Beside<P> first(cut_, x_, 0, tokens, now_, ld_, 1);
    const int64_t pieces = std::max<int64_t>(first.pieces(), 1);
    const int64_t lines = cold ? (w_.panel_values[group_end(first_)] - w_.panel_values[first_]) / kLine : 0;
    const uint32_t* weights = w_.values + w_.panel_values[first_];
    for (int64_t i = 0; i < pieces; i++) {
      for (int64_t l = lines * i / pieces; l < lines * (i + 1) / pieces; l++)
        __builtin_prefetch(weights + l * kLine, 0, 2);
      first.one();
    }
  }

  // The last lanes of each panel where they are fewer than a tile's, with zeros behind them.
  void copy_tails(int64_t group, int64_t end) {
    const int64_t lanes = w_.lanes_of(w_.block_of(group)), rest = lanes % kTile;
    if (rest == 0) return;
    uint32_t* to = tails_;
    for (int64_t panel = group; panel < end; panel++, to += kTile * kPanel) {
      std::memcpy(to, w_.values + w_.panel_values[panel] + (lanes - rest) * kPanel, size_t(rest * kPanel * 4));
      std::memset(to + rest * kPanel, 0, size_t((kTile - rest) * kPanel * 4));
    }
  }

  void unit(const Unit& unit, int64_t group, int64_t end, const Fetch& fetch, Beside<P>& beside) {
    for (int64_t panel = group; panel < end;) {
      const uint32_t* tail = tails_ + (panel - group) * kTile * kPanel;
      const int64_t offset = w_.panel_values[panel] - w_.panel_values[group];
      if (unit.count > kTile) products<2, 1>(unit, panel++, tail, offset, fetch, beside);
      else if (panel + 1 < end) products<1, 2>(unit, panel, tail, offset, fetch, beside), panel += 2;
      else products<1, 1>(unit, panel++, tail, offset, fetch, beside);
    }
  }

  // Tile numbers: sums 0 to 3, tokens from 4 on, the others for weights.
  template <int Panels, int B>
  static constexpr int weights_tile() { return Panels == 1 ? 6 + B : 5 + B % 3; }

  // The products of one step: `stride` words from one panel to the next.
  template <int Tokens, int Panels>
  INLINE void step(const Word* lanes, int64_t ld, const uint32_t* values, int64_t stride) const {
    each<0, Tokens>([&](auto a) { Tiles::load<4 + a.value>(lanes + a.value * kTile * ld, ld * 4); });
    each<0, 2 * Panels>([&](auto b) {
      constexpr int kB = decltype(b)::value, kWeights = weights_tile<Panels, kB>();
      Tiles::load<kWeights>(values + kB / 2 * stride + kB % 2 * kTile, kPanel * 4);
      each<0, Tokens>([](auto a) {
        constexpr int kA = decltype(a)::value, kSums = kA * 2 * Panels + kB;
        if constexpr (P::kWidth == 4) Tiles::dot_int8<kSums, 4 + kA, kWeights>();
        else Tiles::dot_bf16<kSums, 4 + kA, kWeights>();
      });
    });
  }

  // Tokens of 1 or 2 tiles times 1 or 2 panels.
  template <int Tokens, int Panels>
  void products(const Unit& unit, int64_t panel, const uint32_t* tail, int64_t offset, const Fetch& fetch,
                Beside<P>& beside) {
    const Rows p[2] = {rows_of(w_, panel, 0), rows_of(w_, panel + Panels - 1, 0)};
    each<0, 2 * Panels>([&](auto b) {  // a row for all tokens: what sums begin with
      constexpr int kB = decltype(b)::value;
      const Rows& rows = p[kB / 2];
      const void* start = P::kWidth == 4 ? static_cast<const void*>(rows.compensation) : rows.bias;
      each<0, Tokens>([&](auto a) {
        Tiles::load<decltype(a)::value * 2 * Panels + kB>(static_cast<const char*>(start) + kB % 2 * kLineBytes, 0);
      });
    });
    const int64_t lanes = p[0].lanes, whole = lanes / kTile;
    const auto other_work = [&](int64_t k) {
      for (int64_t q = 0; q < Panels; q++) {
        fetch.step(offset + (q * lanes + k * kTile) * kPanel);
        beside.step();
      }
    };
    for (int64_t k = 0; k < whole; k++) {
      step<Tokens, Panels>(unit.lanes + k * kTile, unit.ld, p[0].values + k * kTile * kPanel, lanes * kPanel);
      other_work(k);
    }
    if (lanes % kTile) {
      step<Tokens, Panels>(unit.lanes + whole * kTile, unit.ld, tail, kTile * kPanel);
      other_work(whole);
    }
    each<0, Panels * Tokens>([&](auto i) {
      constexpr int kQ = decltype(i)::value / Tokens, kA = decltype(i)::value % Tokens;
      constexpr int kSums = 2 * (kA * Panels + kQ);
      uint32_t* to = sums_ + decltype(i)::value * kTile * kPanel;
      Tiles::store<kSums>(to, kPanel * 4);
      Tiles::store<kSums + 1>(to + kTile, kPanel * 4);
    });
    for (int64_t q = 0; q < Panels; q++) finish_panel(unit, p[q], sums_ + q * Tokens * kTile * kPanel);
  }

  void finish_panel(const Unit& unit, const Rows& p, const uint32_t* sums) const {
    constexpr int kAtOnce = 8;
    for (int64_t m = 0; m < unit.count; m += kAtOnce, sums += kAtOnce * kPanel) {
      typename P::Sum sum[kAtOnce][kVectors];
      UNROLL for (int i = 0; i < kAtOnce; i++)
        UNROLL for (int v = 0; v < kVectors; v++)
          sum[i][v] = reinterpret_cast<typename P::Sum>(load_bits(sums + i * kPanel + v * kLanes));
      finish_sums<P, kAtOnce>(sum, P::kWidth == 4 ? unit.scales + m : nullptr,
                              int(std::min<int64_t>(kAtOnce, unit.count - m)), w_, c_, p, unit.token + m);
    }
  }

  const Linear& w_;
  const Call& c_;
  int64_t first_, last_, ld_, chunk_;
  Cut<P> cut_;
  float* scales_;
  Word *now_, *next_;
  uint32_t *tails_, *sums_;
  Element* room_;
  Natural<P> x_{};
};

}  // namespace

namespace retrim {

void fp32_avx512_bf16(const Linear&, const Call&, int64_t, int64_t);
void bf16_avx512_bf16(const Linear&, const Call&, int64_t, int64_t);
void int8_avx512_bf16(const Linear&, const Call&, int64_t, int64_t);

namespace {

bool on_tiles(const Linear& w, const Call& c) {
  return c.tokens > 1 && w.variant != Variant::direct && w.variant != Variant::compressed;
}

}  // namespace

#if defined(EMULATED_TILES)
#define NAMED(precision) precision##_amx_emulated
#else
#define NAMED(precision) precision##_amx
#endif

void NAMED(fp32)(const Linear& w, const Call& c, int64_t first, int64_t last) {
  fp32_avx512_bf16(w, c, first, last);
}

void NAMED(bf16)(const Linear& w, const Call& c, int64_t first, int64_t last) {
  if (!on_tiles(w, c)) return bf16_avx512_bf16(w, c, first, last);
  Tiled<Bf16>(w, c, first, last).run();
}

void NAMED(int8)(const Linear& w, const Call& c, int64_t first, int64_t last) {
  if (!on_tiles(w, c)) return int8_avx512_bf16(w, c, first, last);
  Tiled<Int8>(w, c, first, last).run();
}

}  // namespace retrim
