// A whole layer over threads: panels are shared out, and tokens where there are few panels.
#include "linear.hpp"

#include <algorithm>

#include "pool.hpp"

namespace retrim {
namespace {

constexpr int64_t kPanel = 32;
constexpr int64_t kWorthAThread = 1 << 17;  // multiplications

}  // namespace

void linear(const Isa& isa, const Linear& w, const float* x, int64_t x_stride, float* y, int64_t y_stride,
            int64_t tokens, int threads) {
  const int64_t panels = w.packed_rows / kPanel;
  if (tokens == 0 || panels == 0) return;
  const int64_t work = tokens * w.panel_values[panels];
  const int64_t useful = std::max<int64_t>(1, work / kWorthAThread);
  const int64_t parts = std::min<int64_t>({int64_t(threads), useful, panels * tokens});
  if (parts <= 1) {
    isa.linear(w, x, x_stride, y, y_stride, tokens, 0, panels);
    return;
  }
  // sums run over whole columns lists in either split, so the result is the same to the last bit;
  // one token more or less would change which kernel runs, so a part keeps at least two
  const bool by_panels = panels >= parts * 4 || tokens < 2 * parts;
  const int64_t shares = by_panels ? std::min(parts, panels) : parts;
  run_parallel(int(shares), [&](int share) {
    const int64_t extent = by_panels ? panels : tokens;
    const int64_t from = extent * share / shares, to = extent * (share + 1) / shares;
    if (by_panels)
      isa.linear(w, x, x_stride, y, y_stride, tokens, from, to);
    else
      isa.linear(w, x + from * x_stride, x_stride, y + from * y_stride, y_stride, to - from, 0, panels);
  });
}

}  // namespace retrim
