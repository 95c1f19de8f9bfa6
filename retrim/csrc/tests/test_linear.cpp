// Every kernel variant that it is linked with, against a plain double loop over random layers.
//
//   test_linear [cases [seed]]     exit status 0 if all of them agree
//
// -DALSO=linear_avx512 adds a kernel that this processor's list of instruction sets leaves out:
// compiled for other vectors, its logic runs anywhere.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "linear.hpp"

#ifdef ALSO
namespace retrim {
void ALSO(const Linear&, const float*, int64_t, float*, int64_t, int64_t, int64_t, int64_t);
}
#endif

namespace {

using retrim::Activation;
constexpr int kPanel = 32;
constexpr float kGuard = -12345.5f;  // what the kernels must leave alone in y

std::mt19937_64 random_bits;

int64_t below(int64_t n) { return int64_t(random_bits() % uint64_t(n)); }
float normal() { return std::normal_distribution<float>()(random_bits); }

struct Layer {
  std::vector<int32_t> starts{0}, columns, rows;
  std::vector<float> values, bias;
  std::vector<int64_t> panel_values{0};
  std::vector<double> dense;   // [packed_rows][inputs]
  retrim::Linear view;
};

// A list of rows names outputs once at most, with padding (-1) anywhere.
std::vector<int32_t> row_list(int64_t outputs, int64_t packed_rows) {
  std::vector<int32_t> rows(size_t(std::max(outputs, packed_rows)), -1);
  for (int64_t i = 0; i < outputs; i++) rows[size_t(i)] = int32_t(i);
  std::shuffle(rows.begin(), rows.end(), random_bits);
  rows.resize(size_t(packed_rows));
  return rows;
}

void fill(Layer& layer, int64_t inputs, int64_t height, int64_t packed_rows, double density) {
  layer.dense.assign(size_t(packed_rows * inputs), 0.0);
  for (int64_t first = 0; first < packed_rows; first += height) {
    std::vector<int32_t> kept;
    const bool empty = below(8) == 0;
    for (int64_t c = 0; c < inputs; c++)
      if (!empty && double(below(1000)) < density * 1000) kept.push_back(int32_t(c));
    layer.columns.insert(layer.columns.end(), kept.begin(), kept.end());
    layer.starts.push_back(int32_t(layer.columns.size()));
    for (int64_t panel = first; panel < std::min(first + height, packed_rows); panel += kPanel) {
      for (int32_t c : kept)
        for (int64_t r = 0; r < kPanel; r++) {
          const float value = normal();
          layer.values.push_back(value);
          layer.dense[size_t((panel + r) * inputs + c)] = double(value);
        }
      layer.panel_values.push_back(int64_t(layer.values.size()));
    }
  }
}

Layer random_layer(int64_t outputs, int64_t inputs) {
  Layer layer;
  const int64_t height = kPanel << below(3);
  const bool listed = below(2) == 0;
  const int64_t whole = (outputs + kPanel - 1) / kPanel * kPanel;
  const int64_t packed_rows = listed ? kPanel * below(whole / kPanel + 2) : whole;
  const double densities[] = {0.05, 0.33, 0.7, 1.0};
  fill(layer, inputs, height, packed_rows, densities[below(4)]);
  if (listed) layer.rows = row_list(outputs, packed_rows);
  for (int64_t r = 0; r < packed_rows; r++) layer.bias.push_back(below(4) ? normal() : 0.0f);
  // an empty vector may have no address: give the kernel one that is never read
  layer.columns.reserve(1), layer.values.reserve(1), layer.rows.reserve(1);
  layer.view = {layer.starts.data(), layer.columns.data(), listed ? layer.rows.data() : nullptr,
                layer.values.data(), layer.bias.data(), layer.panel_values.data(), outputs, inputs, height,
                packed_rows, Activation(below(4))};
  return layer;
}

double activate(double v, Activation activation) {
  switch (activation) {
    case Activation::relu: return v < 0 ? 0 : v;
    case Activation::gelu: return 0.5 * v * std::erfc(-v / std::sqrt(2.0));
    case Activation::gelu_tanh: {
      const double u = std::sqrt(2.0 / std::acos(-1.0)) * (v + 0.044715 * v * v * v);
      return v / (1.0 + std::exp(-2.0 * u));
    }
    default: return v;
  }
}

struct Expected {
  std::vector<double> y;  // [tokens][stride], kGuard where no row writes
  double tolerance = 0;
};

Expected oracle(const Layer& layer, const std::vector<float>& x, int64_t x_stride, int64_t y_stride,
                int64_t tokens) {
  Expected expected;
  expected.y.assign(size_t(tokens * y_stride), double(kGuard));
  double largest = 0, terms = 0;
  const retrim::Linear& w = layer.view;
  for (int64_t t = 0; t < tokens; t++)
    for (int64_t r = 0; r < w.packed_rows; r++) {
      const int64_t out = w.rows ? w.rows[r] : r;
      if (out < 0 || out >= w.outputs) continue;
      double sum = layer.bias[size_t(r)], size = std::fabs(sum);
      for (int64_t c = 0; c < w.inputs; c++) {
        const double weight = layer.dense[size_t(r * w.inputs + c)];
        if (weight == 0) continue;
        const double product = weight * double(x[size_t(t * x_stride + c)]);
        sum += product, size += std::fabs(product);
      }
      const double y = activate(sum, w.activation);
      expected.y[size_t(t * y_stride + out)] = y;
      largest = std::max(largest, std::fabs(y)), terms = std::max(terms, size);
    }
  // where a small layer's sums cancel, no float32 sum is nearer than a few roundings of its terms
  expected.tolerance = std::max(1e-5 * largest, std::ldexp(terms, -22));
  return expected;
}

// Error over tolerance, or infinity where a guard was overwritten.
double worst_of(const Expected& expected, const std::vector<float>& y) {
  double worst = 0;
  for (size_t i = 0; i < y.size(); i++) {
    const double error = std::fabs(double(y[i]) - expected.y[i]);
    if (expected.y[i] == double(kGuard) ? error != 0 : !(error <= expected.tolerance)) return INFINITY;
    if (error > 0) worst = std::max(worst, error / expected.tolerance);
  }
  return worst;
}

double run_case(const retrim::Isa& isa, int64_t outputs, int64_t inputs, int64_t tokens) {
  const Layer layer = random_layer(outputs, inputs);
  const int64_t x_stride = inputs + below(4), y_stride = outputs + below(4);
  // NaN between the rows of x: whoever reads there shows it
  std::vector<float> x(size_t(tokens * x_stride + 1), NAN);
  for (int64_t t = 0; t < tokens; t++)
    for (int64_t c = 0; c < inputs; c++) x[size_t(t * x_stride + c)] = normal();
  const Expected expected = oracle(layer, x, x_stride, y_stride, tokens);
  std::vector<float> first;
  double worst = 0;
  for (int shares : {1, 2, 3, 5, 16}) {
    std::vector<float> y(size_t(tokens * y_stride), kGuard);
    retrim::linear_shared(isa, layer.view, x.data(), x_stride, y.data(), y_stride, tokens, shares);
    worst = std::max(worst, worst_of(expected, y));
    if (shares == 1) first = y;
    if (!y.empty() && std::memcmp(first.data(), y.data(), y.size() * sizeof(float)) != 0) {
      std::printf("%s: %d shares give other bits than one\n", isa.name, shares);
      return INFINITY;
    }
  }
  if (!(worst <= 1))
    std::printf("%s: outputs %lld inputs %lld tokens %lld height %lld rows %d activation %d: wrong\n",
                isa.name, (long long)outputs, (long long)inputs, (long long)tokens,
                (long long)layer.view.height, layer.view.rows != nullptr, int(layer.view.activation));
  return worst;
}

bool check(const retrim::Isa& isa, int cases, uint64_t seed) {
  random_bits.seed(seed);
  double worst = 0;
  int bad = 0;
  for (int i = 0; i < cases; i++) {
    // every seventh case is large enough for groups of panels
    const bool large = i % 7 == 0;
    const int64_t outputs = 1 + below(large ? 300 : 100), inputs = 1 + below(large ? 300 : 70);
    const int64_t tokens = large ? 20 + below(40) : below(27);
    const double found = run_case(isa, outputs, inputs, tokens);
    if (!(found <= 1)) bad++;
    else worst = std::max(worst, found);
  }
  std::printf("%s: %d cases, %d wrong, largest error %.3f of the tolerance\n", isa.name, cases, bad, worst);
  return bad == 0;
}

bool always() { return true; }

}  // namespace

int main(int argc, char** argv) {
  const int cases = argc > 1 ? std::atoi(argv[1]) : 200;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  int count = 0;
  const retrim::Isa* all = retrim::isas(&count);
  std::vector<retrim::Isa> here;
  for (int i = 0; i < count; i++)
    if (all[i].available()) here.push_back(all[i]);
#ifdef ALSO
  here.push_back({"also", always, retrim::ALSO});
#else
  (void)always;
#endif
  bool good = true;
  for (const retrim::Isa& isa : here) good = check(isa, cases, seed) && good;
  return good ? 0 : 1;
}
