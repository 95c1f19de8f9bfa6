// A whole layer over threads: panels are shared out, and tokens where there are few panels.
#include "linear.hpp"

#include <algorithm>

#include "pool.hpp"

namespace retrim {
namespace {

constexpr int64_t kPanel = 32;
constexpr int64_t kWorthAThread = 1 << 20;  // multiplications: 8 microseconds of AVX-512
constexpr int64_t kLoad = 8;                // multiplications in the time that a weight takes from memory

int64_t worthwhile(const Linear& w, int64_t tokens, int threads) {
  const int64_t work = (tokens + kLoad) * w.panel_values[w.packed_rows / kPanel];
  return std::clamp<int64_t>(work / kWorthAThread, 1, std::max(threads, 1));
}

}  // namespace

void linear(const Isa& isa, const Linear& w, const float* x, int64_t x_stride, float* y, int64_t y_stride,
            int64_t tokens, int threads) {
  linear_shared(isa, w, x, x_stride, y, y_stride, tokens, int(worthwhile(w, tokens, threads)));
}

void linear_shared(const Isa& isa, const Linear& w, const float* x, int64_t x_stride, float* y,
                   int64_t y_stride, int64_t tokens, int shares) {
  const int64_t panels = w.packed_rows / kPanel;
  if (tokens == 0 || panels == 0) return;
  // a sum runs over a whole list of columns in either split, so the result is the same to the last bit;
  // one token alone would be summed by another kernel, so a share of tokens has at least two
  const bool by_panels = panels >= int64_t(shares) * 4 || tokens < int64_t(shares) * 2;
  const int64_t extent = by_panels ? panels : tokens;
  const int64_t count = std::min<int64_t>(shares, extent);
  run_parallel(int(count), [&](int share) {
    const int64_t from = extent * share / count, to = extent * (share + 1) / count;
    if (by_panels)
      isa.linear(w, x, x_stride, y, y_stride, tokens, from, to);
    else
      isa.linear(w, x + from * x_stride, x_stride, y + from * y_stride, y_stride, to - from, 0, panels);
  });
}

}  // namespace retrim
