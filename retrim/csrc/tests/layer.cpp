#include "layer.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

using retrim::Activation;
using retrim::kPanel;
using retrim::Precision;
using retrim::Type;

namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

uint32_t bits_of(float f) {
  uint32_t bits;
  std::memcpy(&bits, &f, 4);
  return bits;
}

float float_of(uint32_t bits) {
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

// The nearer of the two bfloat16 around a number, the even one of equally near ones.
float to_bf16(float f) {
  if (!std::isfinite(f)) return f;
  const float low = float_of(bits_of(f) & 0xffff0000), high = float_of((bits_of(f) & 0xffff0000) + 0x10000);
  const double below = std::fabs(double(f) - low), above = std::fabs(double(high) - f);
  if (below != above) return below < above ? low : high;
  return bits_of(low) >> 16 & 1 ? high : low;
}

float weight_of(const Case& c, Random& random) {
  if (c.precision == Precision::int8) {
    if (c.extreme) return c.whole ? 127.0f : random.one_in(2) ? 127.0f : -127.0f;
    if (c.ties) return float(random.below(5) - 2);
    return float(c.whole ? random.below(17) - 8 : random.below(255) - 127);
  }
  const float w = c.whole ? float(random.below(17) - 8) : random.normal();
  return c.precision == Precision::bf16 ? to_bf16(w) : w;
}

std::vector<int64_t> kept_columns(const Case& c, Random& random) {
  if (!c.keep.empty()) return c.keep;
  std::vector<int64_t> kept;
  if (random.one_in(8)) return kept;
  for (int64_t k = 0; k < c.inputs; k += c.group)
    if (double(random.below(1000)) < c.density * 1000)
      for (int64_t i = 0; i < c.group; i++) kept.push_back(k + i);
  return kept;
}

// A list names outputs once at most, with padding (-1) anywhere.
std::vector<int32_t> row_list(int64_t outputs, int64_t packed_rows, Random& random) {
  std::vector<int32_t> rows(size_t(std::max(outputs, packed_rows)), -1);
  for (int64_t i = 0; i < outputs; i++) rows[size_t(i)] = int32_t(i);
  std::shuffle(rows.begin(), rows.end(), random.bits);
  rows.resize(size_t(packed_rows));
  rows.shrink_to_fit();
  return rows;
}

double activate(double v, Activation activation) {
  if (activation == Activation::none || std::isnan(v)) return v;
  if (activation == Activation::relu) return v < 0 ? 0 : v;
  if (std::isinf(v)) return v < 0 ? 0 : v;
  if (activation == Activation::gelu) return 0.5 * v * std::erfc(-v / std::sqrt(2.0));
  const double u = std::sqrt(2.0 / std::acos(-1.0)) * (v + 0.044715 * v * v * v);
  return v / (1.0 + std::exp(-2.0 * u));
}

float element(const Case& c, Random& random) {
  if (c.extreme && c.x_type == Type::u8) return c.whole || random.one_in(2) ? -128.0f : 127.0f;
  if (c.extreme) return c.whole ? 127.0f : random.one_in(2) ? 1e30f : -1e30f;
  if (c.whole || c.ties) return float(random.below(17) - 8);
  if (c.x_type == Type::u8) return float(random.below(256) - 128);
  return random.normal();
}

// q = x / scale, halves to even, each operation in float32 as the Python oracle has it
void quantize(const Case& c, float fixed, const float* x, float* q, float* scale) {
  float most = 0;
  bool finite = true;
  for (int64_t k = 0; k < c.inputs; k++) {
    finite = finite && std::isfinite(x[k]);
    most = std::max(most, std::fabs(x[k]));
  }
  if (!finite) {
    std::fill(q, q + c.inputs, 0.0f);
    *scale = kNaN;
    return;
  }
  const float inverse = fixed > 0 ? 1.0f / fixed : most > 1e-35f ? 127.0f / most : 0.0f;
  *scale = fixed > 0 ? fixed : most / 127.0f;
  for (int64_t k = 0; k < c.inputs; k++)
    q[k] = std::nearbyint(std::clamp(x[k] * inverse, -127.0f, 127.0f));
}

}  // namespace

Layer::Layer(const Case& c, Random& random) : starts(1, 0), weight_starts(1, 0) {
  const int64_t width = retrim::width_of(c.precision), all = (c.outputs + kPanel - 1) / kPanel * kPanel;
  const int64_t packed_rows = c.row_list ? kPanel * random.below(all / kPanel + 2) : all;
  std::vector<uint32_t> lanes;
  for (int64_t first = 0; first < packed_rows; first += c.height) {
    const std::vector<int64_t> kept = kept_columns(c, random);
    const int64_t count = int64_t(kept.size()), high = std::min(c.height, packed_rows - first);
    columns.insert(columns.end(), kept.begin(), kept.end());
    starts.push_back(int32_t(columns.size()));
    for (int64_t r = 0; r < high; r++) {
      for (int64_t i = 0; i < count; i++) weights.push_back(weight_of(c, random));
      weight_starts.push_back(int64_t(weights.size()));
    }
    for (int64_t panel = first; panel < first + high; panel += kPanel)
      for (int64_t lane = 0; lane < (count + width - 1) / width; lane++)
        for (int64_t r = 0; r < kPanel; r++) {
          uint32_t bits = 0;
          for (int64_t j = 0; j < width && lane * width + j < count; j++) {
            const float w = weights[size_t(weight_starts[size_t(panel + r)] + lane * width + j)];
            bits |= width == 1   ? bits_of(w)
                    : width == 2 ? bits_of(w) >> 16 << 16 * j
                                 : uint32_t(uint8_t(int8_t(w))) << 8 * j;
          }
          lanes.push_back(bits);
        }
  }
  values = std::make_unique<Buffer>(1, int64_t(lanes.size()) * 4, 0, 0);
  if (!lanes.empty()) std::memcpy(values->row(0), lanes.data(), lanes.size() * 4);
  columns.shrink_to_fit();
  if (c.row_list) rows = row_list(c.outputs, packed_rows, random);
  for (int64_t r = 0; r < packed_rows; r++) {
    bias.push_back(c.extreme || c.ties || random.one_in(4) ? 0.0f : c.whole ? float(random.below(33) - 16) : random.normal());
    if (c.precision == Precision::int8)
      scales.push_back(c.whole ? 1.0f : c.ties ? 0.007f : 0.001f * float(1 + random.below(20)));
  }
  std::vector<bool> computed(size_t(c.outputs), !c.row_list);
  for (const int32_t out : rows)
    if (out >= 0) computed[size_t(out)] = true;
  for (int64_t out = 0; out < c.outputs; out++)
    if (!computed[size_t(out)]) {
      idle.push_back(int32_t(out));
      idle_values.push_back(c.whole ? float(random.below(17)) : random.normal());
    }
  view = {};
  view.precision = c.precision;
  view.group = c.group;
  view.starts = starts.data();
  view.columns = columns.data();
  view.rows = c.row_list ? rows.data() : nullptr;
  view.scales = c.precision == Precision::int8 ? scales.data() : nullptr;
  view.values = reinterpret_cast<const uint32_t*>(values->row(0));
  if (c.broken)
    for (auto* values : {&bias, &idle_values})
      if (!values->empty()) (*values)[size_t(random.below(int64_t(values->size())))] = kNaN;
  view.bias = bias.data();
  view.idle = idle.data();
  view.idle_values = idle_values.data();
  view.idle_count = int64_t(idle.size());
  view.outputs = c.outputs;
  view.inputs = c.inputs;
  view.height = c.height;
  view.packed_rows = packed_rows;
  view.activation = c.activation;
  view.input_scale = c.precision != Precision::int8 || !c.fixed_scale ? 0 : c.whole ? 1.0f : 0.02f;
  view.output_scale = c.precision != Precision::int8 || c.y_type != Type::u8 ? 0 : c.whole ? 64.0f : c.ties ? 0.00028f : 0.05f;
}

Tokens::Tokens(const Case& c, const Layer& layer, Random& random) {
  const int64_t physical = c.x_order == 0 ? std::min<int64_t>(c.tokens, 1) : c.tokens;
  for (int64_t m = 0; m < physical; m++) {
    const int kind = int(random.below(40));  // of all its elements alike
    const float size = kind == 0 ? 0.0f : kind == 1 ? 1e-38f : kind == 2 ? 1e-36f : 1.0f;
    for (int64_t k = 0; k < c.inputs; k++) {
      float f = element(c, random);
      if (c.x_type != Type::u8 && !c.whole && !c.extreme) f *= size;
      x.push_back(c.x_type == Type::bf16 ? to_bf16(f) : f);
    }
    if (c.broken && c.x_type != Type::u8 && random.one_in(2)) {
      const float wrong[] = {kNaN, kInfinity, -kInfinity};
      for (int64_t i = 1 + random.below(2); i > 0; i--)
        x[size_t(m * c.inputs + random.below(c.inputs))] = wrong[random.below(3)];
    }
  }
  for (int64_t m = physical; m < c.tokens; m++)
    for (int64_t k = 0; k < c.inputs; k++) x.push_back(x[size_t(k)]);
  if (c.residual)
    for (int64_t i = 0; i < c.tokens * c.outputs; i++) {
      const float add = c.whole ? float(random.below(33) - 16) : random.normal();
      residual.push_back(c.y_type == Type::bf16 ? to_bf16(add) : add);
    }
  met = x;
  scales.assign(size_t(c.tokens), 1.0f);
  if (c.precision == Precision::bf16)
    for (float& f : met) f = to_bf16(f);
  if (c.precision == Precision::int8)
    for (int64_t m = 0; m < c.tokens; m++) {
      if (c.x_type == Type::u8)
        scales[size_t(m)] = layer.view.input_scale;
      else
        quantize(c, layer.view.input_scale, &x[size_t(m * c.inputs)], &met[size_t(m * c.inputs)],
                 &scales[size_t(m)]);
    }
}

std::vector<Expected> expect(const Case& c, const Layer& layer, const Tokens& tokens, bool idle) {
  std::vector<Expected> expected(size_t(c.tokens * c.outputs));
  const retrim::Linear& w = layer.view;
  const auto put = [&](int64_t m, int64_t out, double activated, double terms) {
    const size_t at = size_t(m * c.outputs + out);
    const double add = c.residual ? double(tokens.residual[at]) : 0.0, y = activated + add;
    // rounding of sums, of activations, of the last sum
    const double tolerance = std::ldexp(terms, -21) + 2e-6 * std::fabs(activated) + std::ldexp(std::fabs(y), -22);
    expected[at] = {y, c.whole ? 0.0 : tolerance + 1e-30, true};
  };
  for (int64_t m = 0; m < c.tokens; m++) {
    for (int64_t r = 0; r < w.packed_rows; r++) {
      const int64_t out = w.rows ? w.rows[r] : r;
      if (out < 0 || out >= c.outputs) continue;
      const int32_t* column = w.columns + w.starts[r / w.height];
      const float* weight = layer.weights.data() + layer.weight_starts[size_t(r)];
      double sum = 0, terms = 0;
      for (int64_t i = 0; i < w.kept(r / w.height); i++) {
        const double product = double(weight[i]) * double(tokens.met[size_t(m * c.inputs + column[i])]);
        sum += product, terms += std::fabs(product);
      }
      if (c.precision == Precision::int8) {
        const double scale = double(w.scales[r]) * double(tokens.scales[size_t(m)]);
        sum *= scale, terms = std::fabs(sum);  // the sum itself is exact
      }
      const double bias = double(w.bias[r]);
      put(m, out, activate(sum + bias, c.activation), terms + std::fabs(bias));
    }
    if (idle)
      for (int64_t i = 0; i < w.idle_count; i++) put(m, w.idle[i], double(w.idle_values[i]), 0);
  }
  return expected;
}

namespace {

double number(const void* y, Type type) {
  if (type == Type::u8) return double(*static_cast<const uint8_t*>(y)) - 128;
  uint32_t bits = 0;
  if (type == Type::bf16) {
    uint16_t half;
    std::memcpy(&half, y, 2);
    bits = uint32_t(half) << 16;
  } else {
    std::memcpy(&bits, y, 4);
  }
  return double(float_of(bits));
}

}  // namespace

bool is_nan(const void* y, Type type) { return std::isnan(number(y, type)); }

bool agrees(const Expected& expected, const void* y, Type type, float output_scale) {
  const double got = number(y, type);
  double wanted = expected.value, tolerance = expected.tolerance;
  const bool exact = tolerance == 0;
  if (type == Type::u8) {
    if (std::isnan(wanted)) return got == -128;
    const double unit = wanted / double(output_scale);
    wanted = std::clamp(exact ? std::nearbyint(unit) : unit, -128.0, 127.0);
    if (!exact) tolerance = 0.5 + tolerance / double(output_scale) + 1e-6 * std::fabs(wanted);
  } else if (exact) {
    wanted = double(type == Type::bf16 ? to_bf16(float(wanted)) : float(wanted));
  } else if (type == Type::bf16) {
    tolerance += std::ldexp(std::fabs(wanted), -8);
  }
  if (std::isnan(wanted)) return std::isnan(got);
  if (std::isinf(wanted)) return got == wanted;
  return std::fabs(got - wanted) <= tolerance;
}

void store(float value, Type type, uint8_t* to) {
  if (type == Type::u8) {
    *to = uint8_t(int(value) + 128);
    return;
  }
  const uint32_t bits = bits_of(value);
  if (type == Type::f32) std::memcpy(to, &bits, 4);
  const auto half = uint16_t(bits >> 16);
  if (type == Type::bf16) std::memcpy(to, &half, 2);
}
