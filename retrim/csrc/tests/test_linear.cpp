// Every kernel that it is linked with, against a plain double loop: all edges of tiles, then random layers.
//
//   test_linear [cases [seed [instruction set]]]     exit status 0 if all of them agree
//
// Sums of small whole numbers are compared to the bit; results do not depend on the number of threads, nor, but
// for single tokens, on the variant.
//
// -D"ALSO=KERNELS(wide)" adds kernels fp32_wide, bf16_wide and int8_wide, which the list of instruction sets
// leaves out; those whose name starts with amx need AVX512_BF16.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "../pool.hpp"
#include "layer.hpp"
#include "lists.hpp"
#include "repacked.hpp"

using retrim::Activation;
using retrim::Isa;
using retrim::Precision;
using retrim::Type;
using retrim::Variant;

#ifndef ALSO
#define ALSO
#endif
namespace retrim {
#define KERNELS(name)                                             \
  void fp32_##name(const Linear&, const Call&, int64_t, int64_t); \
  void bf16_##name(const Linear&, const Call&, int64_t, int64_t); \
  void int8_##name(const Linear&, const Call&, int64_t, int64_t);
ALSO
#undef KERNELS
}  // namespace retrim

namespace {

constexpr int64_t kTileEdges[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 130, 513};
constexpr int kVariants = 5;
constexpr int kUnwritten = 0xc3;  // what outputs hold before

struct Bench {  // one case, ready to run
  const Case& c;
  Layer layer;
  Tokens tokens;
  std::vector<Expected> expected, with_idle;
  Buffer x, y, wrong, residual;

  Bench(const Case& of, Random& random)
      : c(of), layer(of, random), tokens(of, layer, random), expected(expect(of, layer, tokens, false)),
        with_idle(expect(of, layer, tokens, true)),
        x(of.x_order ? of.tokens : std::min<int64_t>(of.tokens, 1), of.inputs * size_of(of.x_type),
          of.x_gap * size_of(of.x_type), of.x_offset * size_of(of.x_type)),
        y(of.tokens, of.outputs * size_of(of.y_type), of.y_gap * size_of(of.y_type),
          of.y_offset * size_of(of.y_type)),
        wrong(of.tokens, of.inputs * size_of(of.x_type), 0, 0),
        residual(of.residual ? of.tokens : 0, of.outputs * size_of(of.y_type), 0, 0) {
    const int64_t rows = c.x_order ? c.tokens : std::min<int64_t>(c.tokens, 1);
    for (int64_t m = 0; m < rows; m++)
      for (int64_t k = 0; k < c.inputs; k++)
        store(tokens.x[size_t(m * c.inputs + k)], c.x_type,
              x.row(c.x_order < 0 ? rows - 1 - m : m) + k * size_of(c.x_type));
    for (int64_t m = 0; m < c.tokens; m++) std::memset(wrong.row(m), 0xff, size_t(c.inputs * size_of(c.x_type)));
    if (c.residual) put_residual(residual);
  }

  void put_residual(Buffer& to) {
    for (int64_t m = 0; m < c.tokens; m++)
      for (int64_t i = 0; i < c.outputs; i++)
        store(tokens.residual[size_t(m * c.outputs + i)], c.y_type, to.row(m) + i * size_of(c.y_type));
  }

  retrim::Call call() {
    for (int64_t m = 0; m < c.tokens; m++)
      std::memset(y.row(m), kUnwritten, size_t(c.outputs * size_of(c.y_type)));
    retrim::Call call{};
    call.x = x.row(c.x_order < 0 ? std::max<int64_t>(c.tokens - 1, 0) : 0);
    call.x_stride = c.x_order * x.stride() / size_of(c.x_type);
    call.x_type = c.x_type;
    call.y = y.row(0);
    call.y_stride = y.stride() / size_of(c.y_type);
    call.y_type = c.y_type;
    call.tokens = c.tokens;
    if (c.residual) {
      if (c.in_place) put_residual(y);
      Buffer& from = c.in_place ? y : residual;
      call.residual = from.row(0);
      call.residual_stride = from.stride() / size_of(c.y_type);
    }
    return call;
  }

  // Leave NaN in the memory that kernels keep from call to call.
  void spoil(const Isa& isa, const retrim::Linear& w, int threads) {
    retrim::Call bad = call();
    bad.x = wrong.row(0);
    bad.x_stride = wrong.stride() / size_of(c.x_type);
    retrim::linear_shared(isa, w, bad, threads);
  }

  // All bits of y, but one NaN for all: which of two it is, is the compiler's choice.
  std::vector<uint8_t> outputs() {
    std::vector<uint8_t> all;
    const int64_t size = size_of(c.y_type);
    for (int64_t m = 0; m < c.tokens; m++)
      for (int64_t i = 0; i < c.outputs; i++) {
        const uint8_t* at = y.row(m) + i * size;
        if (is_nan(at, c.y_type))
          all.insert(all.end(), size_t(size), 0xff);
        else
          all.insert(all.end(), at, at + size);
      }
    return all;
  }

  // What is wrong with y, or nothing.
  std::string fault(const std::vector<Expected>& wanted) {
    if (!y.intact()) return "writes outside y";
    const int64_t size = size_of(c.y_type);
    for (int64_t m = 0; m < c.tokens; m++)
      for (int64_t i = 0; i < c.outputs; i++) {
        const Expected& e = wanted[size_t(m * c.outputs + i)];
        const uint8_t* at = y.row(m) + i * size;
        const bool untouched = c.in_place || std::all_of(at, at + size, [](uint8_t b) { return b == kUnwritten; });
        if (e.written ? !agrees(e, at, c.y_type, layer.view.output_scale) : !untouched)
          return "token " + std::to_string(m) + " output " + std::to_string(i) + " should be " +
                 (e.written ? std::to_string(e.value) : "left alone");
      }
    return "";
  }
};

// All variants and numbers of threads of one instruction set; what is wrong, or nothing.
std::string run(Bench& bench, const Isa& isa, bool spoiled) {
  // tiles of AMX add products of bfloat16 in an order of their own
  const bool amx = std::strncmp(isa.name, "amx", 3) == 0;
  const bool alike = bench.c.tokens > 1 && !(amx && bench.c.precision == Precision::bf16);
  std::vector<uint8_t> first;
  for (int variant = 0; variant < kVariants; variant++) {
    retrim::Linear view = bench.layer.view;
    view.variant = Variant(variant);
    const retrim::Prepared prepared(view);
    const std::string where = "variant " + std::to_string(variant) + ": ";
    if (spoiled) bench.spoil(isa, prepared.layer(), variant == 0 ? 3 : 1);
    std::vector<uint8_t> alone;
    for (int shares = 1; shares <= 3; shares++) {
      if (variant > 0 && shares == 2 + variant % 2) continue;  // a thread is slow to wake where others compute
      retrim::linear_shared(isa, prepared.layer(), bench.call(), shares);
      const std::string fault = bench.fault(bench.expected);
      if (!fault.empty()) return where + std::to_string(shares) + " threads: " + fault;
      if (shares == 1) alone = bench.outputs();
      if (alone != bench.outputs()) return where + std::to_string(shares) + " threads: other bits than one";
    }
    retrim::linear(isa, prepared.layer(), bench.call(), 2);
    const std::string fault = bench.fault(bench.with_idle);
    if (!fault.empty()) return where + fault;
    if (variant == 0) first = alone;
    if (alike && first != alone) return where + "other bits than variant 0";
  }
  return "";
}

std::string named(const Case& c) {
  char text[400];
  std::snprintf(text, sizeof text,
                "precision %d group %d height %d outputs %d inputs %d tokens %d density %.2f rows %d whole %d "
                "extreme %d ties %d broken %d residual %d in place %d fixed %d activation %d x %d%+d+%d*%d y %d+%d+%d",
                int(c.precision), int(c.group), int(c.height), int(c.outputs), int(c.inputs), int(c.tokens),
                c.density, c.row_list, c.whole, c.extreme, c.ties, c.broken, c.residual, c.in_place, c.fixed_scale,
                int(c.activation), int(c.x_type), int(c.x_gap), int(c.x_offset), c.x_order, int(c.y_type),
                int(c.y_gap), int(c.y_offset));
  return text;
}

Case random_case(Random& random) {
  Case c{};
  c.precision = Precision(random.below(3));
  c.group = int64_t(1) << random.below(3);
  c.height = 32 * (1 + random.below(3));
  const bool large = random.one_in(7);
  c.outputs = 1 + random.below(large ? 300 : 100);
  c.inputs = random.one_in(3) ? 64 * (1 + random.below(large ? 6 : 3))
                              : c.group * (1 + random.below(large ? 300 : 150) / c.group);
  c.tokens = random.one_in(3) ? kTileEdges[random.below(18)] : random.below(large ? 60 : 27);
  const double densities[] = {0.05, 0.33, 0.7, 1.0};
  c.density = densities[random.below(4)];
  c.row_list = random.one_in(2);
  c.whole = random.one_in(2);
  c.broken = random.one_in(6);
  c.activation = Activation(random.below(c.whole ? 2 : 4));
  if (c.precision == Precision::fp32) {
    c.x_type = c.y_type = Type::f32;
  } else {
    const int64_t types = c.precision == Precision::int8 ? 3 : 2;
    c.x_type = Type(random.below(types)), c.y_type = Type(random.below(types));
  }
  c.ties = c.x_type == Type::u8 && c.y_type == Type::u8 && !c.whole && random.one_in(2);
  if (c.ties) c.activation = Activation::none;
  c.fixed_scale = c.whole || c.x_type == Type::u8 || random.one_in(2);
  c.residual = c.y_type != Type::u8 && random.one_in(3);
  c.in_place = c.residual && random.one_in(2);
  c.x_gap = random.one_in(2) ? 0 : random.below(5);
  c.x_offset = random.one_in(2) ? 0 : random.below(5);
  c.y_gap = random.one_in(2) ? 0 : random.below(5);
  c.y_offset = random.one_in(2) ? 0 : random.below(5);
  c.x_order = random.one_in(8) ? int(random.below(2)) - 1 : 1;
  return c;
}

// Every precision and group with every number of tokens around the edges of tiles.
void add_sweep(std::vector<Case>& cases, Random& random) {
  for (int precision = 0; precision < 3; precision++)
    for (int64_t group = 1; group <= 4; group *= 2)
      for (const int64_t tokens : kTileEdges) {
        Case c = random_case(random);
        while (int(c.precision) != precision) c = random_case(random);
        c.group = group;
        c.inputs = (c.inputs + group - 1) / group * group;
        c.tokens = tokens;
        if (tokens > 200) c.outputs = std::min<int64_t>(c.outputs, 65);
        cases.push_back(c);
      }
}

Case plain(Precision precision, int64_t group, int64_t outputs, int64_t inputs, int64_t tokens) {
  Case c{};
  c.precision = precision, c.group = group, c.height = 32, c.outputs = outputs, c.inputs = inputs;
  c.tokens = tokens, c.density = 0.5, c.whole = true, c.fixed_scale = true, c.x_order = 1;
  return c;
}

std::vector<int64_t> range(int64_t from, int64_t to) {
  std::vector<int64_t> all;
  for (int64_t k = from; k < to; k++) all.push_back(k);
  return all;
}

void add_edges(std::vector<Case>& cases) {
  for (int precision = 0; precision < 3; precision++) {
    const auto p = Precision(precision);
    for (const int64_t tokens : {0, 1, 2, 17}) {
      cases.push_back(plain(p, 1, 1, 1, tokens));
      for (const int64_t inputs : {63, 64, 65, 128}) {
        cases.push_back(plain(p, 1, 33, inputs, tokens));
        cases.back().density = 1;
        // the last column alone: nothing to read behind it
        cases.push_back(plain(p, 1, 32, inputs, tokens));
        cases.back().keep = {inputs - 1};
        cases.push_back(plain(p, 1, 32, inputs, tokens));
        cases.back().density = 0;
      }
      // one column and a whole last vector of them: half of the last lane is nobody's
      cases.push_back(plain(p, 1, 32, 64, tokens));
      cases.back().keep = range(32, 64);
      cases.back().keep.insert(cases.back().keep.begin(), 3);
      cases.push_back(plain(p, 1, 32, 128, tokens));
      cases.back().keep = range(64, 128);
      cases.back().keep.insert(cases.back().keep.begin(), 3);
      for (const int64_t lanes : {15, 16, 17, 31, 32, 33}) {  // around tiles of lanes
        cases.push_back(plain(p, 1, 96, 192, tokens));
        cases.back().height = 96;
        cases.back().keep = range(1, 1 + lanes * retrim::width_of(p));
      }
      // no row is stored, or every second
      cases.push_back(plain(p, 1, 40, 70, tokens));
      cases.back().row_list = true;
      // all weights of a model with one list of columns
      cases.push_back(plain(p, 4, 1100, 64, tokens));
      cases.back().height = 1120;
    }
    cases.push_back(plain(p, 1, 96, p == Precision::int8 ? 8192 : 4096, 300));  // more tokens than caches hold
    cases.back().density = 0.01;
  }
  for (const Type x : {Type::f32, Type::bf16, Type::u8})
    for (const bool whole : {true, false})
      for (const int64_t tokens : {1, 2, 33}) {
        cases.push_back(plain(Precision::int8, 4, 64, 512, tokens));
        cases.back().extreme = true, cases.back().whole = whole;
        cases.back().x_type = x, cases.back().fixed_scale = x == Type::u8 || whole;
        cases.back().density = 1;
      }
  for (const int64_t tokens : {5, 9, 13, 64, 130}) {
    cases.push_back(plain(Precision::int8, 4, 96, 192, tokens));
    cases.back().ties = true, cases.back().whole = false, cases.back().density = 1;
    cases.back().x_type = cases.back().y_type = Type::u8;
  }
  for (const Type x : {Type::f32, Type::u8})
    for (const int64_t tokens : {1, 3}) {  // the longest sums that 32 bits hold
      cases.push_back(plain(Precision::int8, 1, 64, 132104, tokens));
      cases.back().height = 64;
      cases.back().extreme = true, cases.back().x_type = x;
      cases.back().keep = range(0, 132104);
    }
}

// One line per instruction set that agrees, or the first fault of each.
bool check(const std::vector<Case>& cases, const std::vector<Isa>& all, uint64_t seed) {
  std::vector<int> bad(all.size());
  for (size_t i = 0; i < cases.size(); i++) {
    Random random;
    random.bits.seed(seed + i);
    Bench bench(cases[i], random);
    const bool spoiled = cases[i].tokens > 0 && (!cases[i].keep.empty() || random.one_in(2));
    for (size_t k = 0; k < all.size(); k++) {
      const std::string fault = run(bench, all[k], spoiled);
      if (fault.empty()) continue;
      if (bad[k]++ < 10)
        std::printf("%s: case %d (%s): %s\n", all[k].name, int(i), named(cases[i]).c_str(), fault.c_str());
    }
    if (!bench.x.intact() || !bench.layer.values->intact()) {
      std::printf("case %d: x or the weights were written to\n", int(i));
      return false;
    }
  }
  for (size_t k = 0; k < all.size(); k++)
    std::printf("%s: %d cases, %d wrong\n", all[k].name, int(cases.size()), bad[k]);
  return std::all_of(bad.begin(), bad.end(), [](int count) { return count == 0; });
}

// What a share throws reaches the caller after all shares are done, and the pool goes on.
bool check_pool() {
  constexpr int kShares = 4, kAll = (1 << kShares) - 1;
  bool good = true;
  for (int throwing = 0; throwing <= kAll; throwing++)
    for (int again = 0; again < 20; again++) {
      std::atomic<int> ran{0};
      bool thrown = false;
      try {
        retrim::run_parallel(kShares, [&](int share) {
          ran += 1 << share;
          if (throwing >> share & 1) throw std::runtime_error("a share");
        });
      } catch (const std::runtime_error&) {
        thrown = true;
      }
      good &= ran == kAll && thrown == (throwing != 0);
    }
  std::printf("pool: %s\n", good ? "what shares throw reaches the caller" : "wrong");
  return good;
}

std::vector<Isa> known_sets() {
  int count = 0;
  const Isa* list = retrim::isas(&count);
  std::vector<Isa> all(list, list + count);
  const auto like = [&](const char* name) {
    const bool amx = std::strncmp(name, "amx", 3) == 0;
    for (int i = 0; i < count; i++)
      if (std::strcmp(list[i].name, amx ? "avx512_bf16" : "portable") == 0) return list[i];
    return list[count - 1];
  };
#define KERNELS(name)                                                                                     \
  all.push_back({#name, like(#name).available, retrim::fp32_##name, retrim::bf16_##name, retrim::int8_##name, \
                 like(#name).lists_fp32, like(#name).lists_bf16});
  ALSO
#undef KERNELS
  (void)like;
  return all;
}

}  // namespace

int main(int argc, char** argv) {
  const int count = argc > 1 ? std::atoi(argv[1]) : 300;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  std::vector<Isa> here;
  for (const Isa& isa : known_sets()) {
    if (!isa.available())
      std::printf("%s: skipped, this processor does not have it\n", isa.name);
    else if (argc <= 3 || std::strcmp(argv[3], isa.name) == 0)
      here.push_back(isa);
  }
  std::vector<Case> cases;
  Random random;
  random.bits.seed(seed);
  add_edges(cases);
  add_sweep(cases, random);
  for (int i = 0; i < count; i++) cases.push_back(random_case(random));
  const bool blocks = check(cases, here, seed), lists = check_lists(here, 2 * count, seed);
  const bool cuts = check_repack(count, seed);
  return check_pool() && blocks && lists && cuts ? 0 : 1;
}
