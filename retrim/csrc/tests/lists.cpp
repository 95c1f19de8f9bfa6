#include "lists.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <string>

#include "layer.hpp"

using retrim::Activation;
using retrim::kPanel;
using retrim::Precision;
using retrim::Type;

namespace {

struct ListCase {
  Precision precision;
  int64_t height, outputs, inputs, tokens, segments, level;
  double density;
  bool short_columns, residual;
  Activation activation;
  Type x_type, y_type;
  int64_t x_gap, y_gap;
};

// Small whole numbers, so that every sum is exact and results are compared to the bit.
float whole(Random& random) { return float(random.below(17) - 8); }

struct Lists {
  std::vector<int32_t> ends, columns;
  std::vector<uint16_t> short_columns;
  std::vector<float> bias, weights;  // weights: [output][inputs] up to the level that runs
  std::unique_ptr<Buffer> values;
  retrim::Linear view{};

  Lists(const ListCase& c, Random& random) : weights(size_t(c.outputs * c.inputs)) {
    const int64_t packed = (c.outputs + kPanel - 1) / kPanel * kPanel, width = retrim::width_of(c.precision);
    std::vector<uint32_t> lanes;
    for (int64_t row = 0; row < packed; row += c.height) {
      std::vector<int64_t> level(size_t(c.inputs), c.segments);  // the segment that a column is in
      for (int64_t& l : level)
        if (row < c.outputs && double(random.below(1000)) < c.density * 1000) l = random.below(c.segments);
      for (int64_t s = 0; s < c.segments; s++) add_segment(c, random, row, s, level, width, lanes);
    }
    for (int64_t r = 0; r < packed; r++) bias.push_back(r < c.outputs ? whole(random) : 0.0f);
    values = std::make_unique<Buffer>(1, int64_t(lanes.size()) * 4, 0, 0);
    if (!lanes.empty()) std::memcpy(values->row(0), lanes.data(), lanes.size() * 4);
    short_columns.assign(columns.begin(), columns.end());
    short_columns.shrink_to_fit(), columns.shrink_to_fit();
    view.precision = c.precision, view.group = 1, view.list_rows = c.height;
    view.ends = ends.data(), view.segments = c.segments, view.level = c.level;
    view.short_columns = c.short_columns ? short_columns.data() : nullptr;
    view.columns = columns.data();
    view.values = reinterpret_cast<const uint32_t*>(values->row(0));
    view.bias = bias.data();
    view.outputs = c.outputs, view.inputs = c.inputs, view.packed_rows = packed;
    view.activation = c.activation;
  }

 private:
  void add_segment(const ListCase& c, Random& random, int64_t row, int64_t segment, const std::vector<int64_t>& level,
                   int64_t width, std::vector<uint32_t>& lanes) {
    std::vector<int64_t> kept;
    for (int64_t k = 0; k < c.inputs; k++)
      if (level[size_t(k)] == segment) kept.push_back(k);
    for (size_t i = 0; i < kept.size(); i += size_t(width)) {
      for (int64_t j = 0; j < width; j++)
        columns.push_back(int32_t(kept[std::min(i + size_t(j), kept.size() - 1)]));
      for (int64_t r = row; r < row + c.height; r++) {
        uint32_t lane = 0;
        for (int64_t j = 0; j < width && i + size_t(j) < kept.size(); j++) {
          const float w = whole(random);
          uint32_t bits;
          std::memcpy(&bits, &w, 4);
          lane |= width == 1 ? bits : bits >> 16 << 16 * j;
          if (r < c.outputs && segment < c.level) weights[size_t(r * c.inputs + kept[i + size_t(j)])] = w;
        }
        lanes.push_back(lane);
      }
    }
    ends.push_back(int32_t(int64_t(lanes.size()) / c.height));
  }
};

struct ListBench {
  const ListCase& c;
  Lists lists;
  Buffer x, wrong, y, residual;
  std::vector<float> numbers, added;

  ListBench(const ListCase& of, Random& random)
      : c(of), lists(of, random), x(of.tokens, of.inputs * size_of(of.x_type), of.x_gap * size_of(of.x_type), 0),
        wrong(of.tokens, of.inputs * size_of(of.x_type), 0, 0),
        y(of.tokens, of.outputs * size_of(of.y_type), of.y_gap * size_of(of.y_type), 0),
        residual(of.residual ? of.tokens : 0, of.outputs * size_of(of.y_type), 0, 0) {
    for (int64_t m = 0; m < c.tokens; m++) {
      std::memset(wrong.row(m), 0xff, size_t(c.inputs * size_of(c.x_type)));
      for (int64_t k = 0; k < c.inputs; k++) {
        numbers.push_back(whole(random));
        store(numbers.back(), c.x_type, x.row(m) + k * size_of(c.x_type));
      }
      for (int64_t i = 0; c.residual && i < c.outputs; i++) {
        added.push_back(whole(random));
        store(added.back(), c.y_type, residual.row(m) + i * size_of(c.y_type));
      }
    }
  }

  retrim::Call call(Buffer& from) {
    retrim::Call call{};
    call.x = from.row(0), call.x_stride = from.stride() / size_of(c.x_type), call.x_type = c.x_type;
    call.y = y.row(0), call.y_stride = y.stride() / size_of(c.y_type), call.y_type = c.y_type;
    call.tokens = c.tokens;
    if (c.residual) call.residual = residual.row(0), call.residual_stride = residual.stride() / size_of(c.y_type);
    for (int64_t m = 0; m < c.tokens; m++) std::memset(y.row(m), 0xc3, size_t(c.outputs * size_of(c.y_type)));
    return call;
  }

  std::string fault() {
    if (!y.intact()) return "writes outside y";
    for (int64_t m = 0; m < c.tokens; m++)
      for (int64_t i = 0; i < c.outputs; i++) {
        double sum = double(lists.bias[size_t(i)]);
        for (int64_t k = 0; k < c.inputs; k++)
          sum += double(lists.weights[size_t(i * c.inputs + k)]) * double(numbers[size_t(m * c.inputs + k)]);
        if (c.activation == Activation::relu) sum = std::max(sum, 0.0);
        if (c.residual) sum += double(added[size_t(m * c.outputs + i)]);
        if (!agrees({sum, 0.0, true}, y.row(m) + i * size_of(c.y_type), c.y_type, 0.0f))
          return "token " + std::to_string(m) + " output " + std::to_string(i) + " should be " + std::to_string(sum);
      }
    return "";
  }
};

ListCase random_list_case(Random& random, int number) {
  ListCase c{};
  const int64_t tokens[] = {0, 1, 2, 3, 4, 5, 8, 9, 16, 17, 31, 32, 33, 48, 64, 65, 97, 130, 257};
  c.precision = Precision(number % 2);
  c.height = int64_t(1) << number / 2 % 4;
  c.outputs = 1 + random.below(random.one_in(5) ? 150 : 70);
  c.inputs = random.one_in(3) ? 64 * (1 + random.below(3)) : 1 + random.below(random.one_in(9) ? 9000 : 200);
  c.tokens = random.one_in(3) ? random.below(40) : tokens[random.below(19)];
  if (c.inputs > 200) c.tokens = std::min<int64_t>(c.tokens, 65), c.outputs = 1 + random.below(40);
  c.segments = random.one_in(2) ? 1 : 1 + random.below(8);
  c.level = 1 + random.below(c.segments);
  const double densities[] = {0.0, 0.05, 0.4, 1.0};
  c.density = densities[random.below(4)];
  c.short_columns = !random.one_in(4);
  c.residual = random.one_in(3);
  c.activation = Activation(random.below(2));
  c.x_type = c.precision == Precision::fp32 ? Type::f32 : Type(random.below(2));
  c.y_type = c.precision == Precision::fp32 ? Type::f32 : Type(random.below(2));
  c.x_gap = random.one_in(2) ? 0 : random.below(5);
  c.y_gap = random.one_in(2) ? 0 : random.below(5);
  return c;
}

std::string run(ListBench& bench, const retrim::Isa& isa) {
  const retrim::Prepared prepared(bench.lists.view);
  retrim::Linear w = prepared.layer();
  if (bench.c.tokens > 0) retrim::linear_shared(isa, w, bench.call(bench.wrong), 2);  // leaves NaN in memory that is kept
  for (int shares = 1; shares <= 3; shares++) {
    retrim::linear_shared(isa, w, bench.call(bench.x), shares);
    const std::string fault = bench.fault();
    if (!fault.empty()) return std::to_string(shares) + " threads: " + fault;
  }
  return "";
}

}  // namespace

bool check_lists(const std::vector<retrim::Isa>& all, int count, uint64_t seed) {
  std::vector<int> bad(all.size());
  for (int i = 0; i < count; i++) {
    Random random;
    random.bits.seed(seed + uint64_t(i));
    const ListCase c = random_list_case(random, i);
    ListBench bench(c, random);
    for (size_t k = 0; k < all.size(); k++) {
      const std::string fault = run(bench, all[k]);
      if (!fault.empty() && bad[k]++ < 10)
        std::printf("%s: list case %d (precision %d height %d outputs %d inputs %d tokens %d level %d of %d): %s\n",
                    all[k].name, i, int(c.precision), int(c.height), int(c.outputs), int(c.inputs), int(c.tokens),
                    int(c.level), int(c.segments), fault.c_str());
    }
    if (!bench.x.intact() || !bench.lists.values->intact()) {
      std::printf("list case %d: x or the weights were written to\n", i);
      return false;
    }
  }
  for (size_t k = 0; k < all.size(); k++) std::printf("%s: %d lists, %d wrong\n", all[k].name, count, bad[k]);
  return std::all_of(bad.begin(), bad.end(), [](int wrong) { return wrong == 0; });
}
