// A whole layer over threads: tokens are shared out, or panels where there are few tokens.
#include "linear.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "pool.hpp"

namespace retrim {
namespace {

constexpr int64_t kWorthAThread = 1 << 20;  // lanes times tokens: 8 microseconds of AVX-512
constexpr int64_t kLoad = 8;                // tokens' work in the time that a weight takes from memory
constexpr int64_t kShare = 32;              // tokens that are worth a thread's own reading of all weights

int64_t worthwhile(const Linear& w, int64_t tokens, int threads) {
  const int64_t work = (tokens + kLoad) * w.panel_values[w.panels()];
  return std::clamp<int64_t>(work / kWorthAThread, 1, std::max(threads, 1));
}

float float_of(uint16_t bits) {
  const uint32_t wide = uint32_t(bits) << 16;
  float f;
  std::memcpy(&f, &wide, 4);
  return f;
}

uint16_t bf16_of(float f) {
  uint32_t u;
  std::memcpy(&u, &f, 4);
  if ((u & 0x7fffffff) > 0x7f800000) return uint16_t(u >> 16 | 0x40);
  return uint16_t((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

// The activation nearest to f, which is in units of the scale; -128 stands for NaN too.
uint8_t u8_of(float f) {
  f = f > -128.0f ? f : -128.0f;
  f = f < 127.0f ? f : 127.0f;
  return uint8_t(int(std::nearbyint(f)) + 128);
}

// Outputs that no packed row computes.
void fill_idle(const Linear& w, const Call& c) {
  for (int64_t m = 0; m < c.tokens; m++)
    for (int64_t i = 0; i < w.idle_count; i++) {
      const int64_t at = m * c.y_stride + w.idle[i], beside = m * c.residual_stride + w.idle[i];
      const float value = w.idle_values[i];
      if (c.y_type == Type::f32)
        static_cast<float*>(c.y)[at] =
            value + (c.residual ? static_cast<const float*>(c.residual)[beside] : 0.0f);
      else if (c.y_type == Type::bf16)
        static_cast<uint16_t*>(c.y)[at] =
            bf16_of(value + (c.residual ? float_of(static_cast<const uint16_t*>(c.residual)[beside]) : 0.0f));
      else
        static_cast<uint8_t*>(c.y)[at] = u8_of(value * (1.0f / w.output_scale));
    }
}

}  // namespace

Prepared::Prepared(const Linear& from) : layer_(from) {
  Linear& w = layer_;
  if (w.list_rows) {  // kernels read these packs as they are
    panel_values_.assign(1, 0);
    for (int64_t p = 1; p <= w.panels(); p++)
      panel_values_.push_back(w.list_rows * w.ends[p * kPanel / w.list_rows * w.segments - 1]);
    w.panel_values = panel_values_.data();
    return;
  }
  const int64_t width = width_of(w.precision), blocks = w.blocks();
  lane_starts_.assign(1, 0);
  panel_values_.assign(1, 0);
  w.most_lanes = 0;
  for (int64_t b = 0; b < blocks; b++) {
    const int64_t lanes = (w.kept(b) + width - 1) / width;
    lane_starts_.push_back(lane_starts_.back() + lanes);
    w.most_lanes = std::max(w.most_lanes, lanes);
    const int64_t panels = std::min(w.height, w.packed_rows - b * w.height) / kPanel;
    for (int64_t p = 0; p < panels; p++) panel_values_.push_back(panel_values_.back() + lanes * kPanel);
  }
  w.lane_starts = lane_starts_.data();
  w.panel_values = panel_values_.data();
  w.mask_words = (w.inputs + 63) / 64;
  w.listed = w.group % width == 0;
  if (width == 1) {
    w.lanes = w.columns;
  } else if (w.listed) {
    for (int64_t b = 0; b < blocks; b++)
      for (int64_t i = w.starts[b]; i < w.starts[b + 1]; i += width)
        lanes_.push_back(int32_t(w.columns[i] / width));
    w.lanes = lanes_.data();
  }
  if (width > 1) {
    masks_.assign(size_t(blocks * w.mask_words), 0);
    for (int64_t b = 0; b < blocks; b++)
      for (int64_t i = w.starts[b]; i < w.starts[b + 1]; i++)
        masks_[size_t(b * w.mask_words + w.columns[i] / 64)] |= uint64_t(1) << (w.columns[i] % 64);
  }
  w.masks = masks_.data();
  if (w.precision == Precision::int8) {
    compensation_.assign(size_t(w.packed_rows), 0);
    const auto* value = reinterpret_cast<const int8_t*>(w.values);
    for (int64_t p = 0; p < w.panels(); p++)
      for (int64_t i = panel_values_[size_t(p)]; i < panel_values_[size_t(p) + 1]; i++)
        for (int j = 0; j < 4; j++) compensation_[size_t(p * kPanel + i % kPanel)] -= 128 * value[4 * i + j];
  }
  w.compensation = compensation_.data();
}

void linear(const Isa& isa, const Linear& w, const Call& call, int threads) {
  linear_shared(isa, w, call, int(worthwhile(w, call.tokens, threads)));
  fill_idle(w, call);
}

void linear_shared(const Isa& isa, const Linear& w, const Call& call, int shares) {
  const int64_t panels = w.panels(), tokens = call.tokens;
  if (tokens == 0 || panels == 0) return;
  const Kernel kernel = isa.kernel(w);
  // a sum runs over a whole list of columns in either split, so the result is the same to the last bit;
  // one token alone would be summed by another kernel, so a share of tokens has at least two
  const bool by_panels = tokens < int64_t(shares) * 2 || (tokens < shares * kShare && panels >= shares);
  const int64_t extent = by_panels ? panels : tokens;
  const int64_t count = std::min<int64_t>(shares, extent);
  run_parallel(int(count), [&](int share) {
    const int64_t from = extent * share / count, to = extent * (share + 1) / count;
    if (by_panels)
      kernel(w, call, from, to);
    else
      kernel(w, part_of(call, from, to), 0, panels);
  });
}

}  // namespace retrim
