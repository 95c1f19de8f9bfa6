// A packed linear layer, y = act(x W^T + b), in float32.  Layout: retrim/artifact/layout.py.
// Raw pointers and extents only; whoever fills in a Linear has checked them.
#pragma once
#include <cstdint>

namespace retrim {

enum class Activation : int { none = 0, relu = 1, gelu = 2, gelu_tanh = 3 };

struct Linear {
  const int32_t* starts;   // [blocks + 1]
  const int32_t* columns;  // [starts[blocks]], ascending in a block
  const int32_t* rows;     // [packed_rows] output of each packed row (-1: padding), or null: identity
  const float* values;     // panels of 32 rows, [kept][32], block after block
  const float* bias;       // [packed_rows], in packed order
  const int64_t* panel_values;  // [panels + 1] where each panel's values start
  int64_t outputs, inputs, height, packed_rows;
  Activation activation;
};

// Panels [first_panel, last_panel) of all of `tokens` rows of x and y.
using PanelKernel = void (*)(const Linear&, const float* x, int64_t x_stride, float* y, int64_t y_stride,
                             int64_t tokens, int64_t first_panel, int64_t last_panel);

struct Isa {
  const char* name;
  bool (*available)();
  PanelKernel linear;
};

// Fastest first; the last one runs anywhere.
const Isa* isas(int* count);

// The whole layer on as many threads as are worth waking, `threads` at most.
void linear(const Isa&, const Linear&, const float* x, int64_t x_stride, float* y, int64_t y_stride,
            int64_t tokens, int threads);

// The same in `shares` parts, each on a thread; the result does not depend on their number.
void linear_shared(const Isa&, const Linear&, const float* x, int64_t x_stride, float* y, int64_t y_stride,
                   int64_t tokens, int shares);

}  // namespace retrim
