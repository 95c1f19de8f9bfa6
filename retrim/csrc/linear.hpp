// A packed linear layer, y = act(x W^T + b) + residual.  Layout: retrim/artifact/layout.py.
// Raw pointers and extents only; whoever fills in a Linear has checked them.
#pragma once
#include <cstdint>
#include <vector>

namespace retrim {

constexpr int64_t kPanel = 32;  // rows of a panel

enum class Activation : int { none = 0, relu = 1, gelu = 2, gelu_tanh = 3 };
enum class Precision : int { fp32 = 0, bf16 = 1, int8 = 2 };  // of the weights
enum class Type : int { f32 = 0, bf16 = 1, u8 = 2 };          // of activations; u8 is an int8 plus 128

// How a kernel reads x.  A column is what the weight's column meets; a lane is 32 bits of columns
// (1 float, 2 bf16, 4 int8) that one row of a panel multiplies at once.  On AMX `packed`, `gathered` and, but for
// one token, `automatic` are tiles; the others are vectors there, too.
enum class Variant : int {
  automatic = 0,
  direct = 1,      // lanes by index, out of the natural rows of x
  packed = 2,      // lanes by index, out of tiles of 16 tokens, transposed once
  gathered = 3,    // columns out of transposed tiles, joined to lanes anew for each block
  compressed = 4,  // the natural rows of x cut down to each block's columns: for few tokens
};

// Columns of a lane.
constexpr int width_of(Precision p) { return p == Precision::fp32 ? 1 : p == Precision::bf16 ? 2 : 4; }

// A weight as it lies in its pack.
struct Linear {
  Precision precision;
  int64_t group;           // kept columns come in aligned groups of this many
  const int32_t* starts;   // [blocks + 1]
  const int32_t* columns;  // [starts[blocks]], ascending in a block
  const int32_t* rows;     // [packed_rows] output of each packed row (-1: padding), or null: identity
  const float* scales;     // [packed_rows], int8 only
  const uint32_t* values;  // panels of 32 rows, [lanes][32], block after block
  const float* bias;       // [packed_rows], in packed order
  const int32_t* idle;     // [idle_count] outputs that no packed row computes
  const float* idle_values;  // their activated bias
  int64_t idle_count;
  int64_t outputs, inputs, height, packed_rows;
  Activation activation;
  Variant variant;
  float input_scale;   // of x in int8; 0: each token has its own
  float output_scale;  // of y in int8

  // Packs of row groups (retrim/artifact/lists.py) have these in place of starts, rows and height; a panel is 32
  // of their rows, and values are [lanes][list_rows].
  int64_t list_rows;              // rows that share a list: 1, 2, 4 or 8; 0: this is no such pack
  const int32_t* ends;            // [packed_rows / list_rows][segments] lanes of all lists up to there
  int64_t segments, level;        // of a list; of these, how many run
  const uint16_t* short_columns;  // [lanes * width], or null: `columns` has them

  // derived by Prepared
  const int64_t* panel_values;   // [panels + 1] where each panel's lanes start, in lanes * 32
  bool listed;                   // groups fill lanes
  const int32_t* lanes;          // if so, the index of each; block after block
  const int64_t* lane_starts;    // [blocks + 1]
  const uint64_t* masks;         // but in fp32, [blocks][mask_words] a bit for each kept column
  const int32_t* compensation;   // [packed_rows] -128 * the sum of a row's int8 weights
  int64_t mask_words, most_lanes;

  int64_t panels() const { return packed_rows / kPanel; }
  int64_t blocks() const { return (packed_rows + height - 1) / height; }
  int64_t block_of(int64_t panel) const { return panel * kPanel / height; }
  int64_t lists() const { return packed_rows / list_rows; }
  int64_t kept(int64_t block) const { return starts[block + 1] - starts[block]; }
  int64_t lanes_of(int64_t block) const { return lane_starts[block + 1] - lane_starts[block]; }
};

// A Linear with what is derived from it.
class Prepared {
 public:
  explicit Prepared(const Linear& from);
  Prepared(const Prepared&) = delete;
  Prepared& operator=(const Prepared&) = delete;
  const Linear& layer() const { return layer_; }

 private:
  Linear layer_;
  std::vector<int64_t> panel_values_, lane_starts_;
  std::vector<int32_t> lanes_, compensation_;
  std::vector<uint64_t> masks_;
};

// Tokens that a layer is applied to; strides in elements.
struct Call {
  const void* x;
  int64_t x_stride;
  Type x_type;
  void* y;
  int64_t y_stride;
  Type y_type;
  const void* residual;  // of y's type, or null
  int64_t residual_stride;
  int64_t tokens;
};

// Panels [first_panel, last_panel) for all tokens of a call.
using Kernel = void (*)(const Linear&, const Call&, int64_t first_panel, int64_t last_panel);

struct Isa {
  const char* name;
  bool (*available)();
  Kernel fp32, bf16, int8;
  Kernel lists_fp32, lists_bf16;  // for packs of row groups
  Kernel kernel(const Linear& w) const {
    if (w.list_rows) return w.precision == Precision::fp32 ? lists_fp32 : lists_bf16;
    return w.precision == Precision::fp32 ? fp32 : w.precision == Precision::bf16 ? bf16 : int8;
  }
};

// Fastest first; the last one runs anywhere.
const Isa* isas(int* count);

// The whole layer on as many threads as are worth waking, `threads` at most.
void linear(const Isa&, const Linear&, const Call&, int threads);

// The same in `shares` parts, each on a thread; the result does not depend on their number.
void linear_shared(const Isa&, const Linear&, const Call&, int shares);

constexpr int64_t size_of(Type t) { return t == Type::f32 ? 4 : t == Type::bf16 ? 2 : 1; }

// A call's tokens [from, to).
inline Call part_of(const Call& c, int64_t from, int64_t to) {
  Call part = c;
  part.x = static_cast<const char*>(c.x) + from * c.x_stride * size_of(c.x_type);
  part.y = static_cast<char*>(c.y) + from * c.y_stride * size_of(c.y_type);
  if (c.residual)
    part.residual = static_cast<const char*>(c.residual) + from * c.residual_stride * size_of(c.y_type);
  part.tokens = to - from;
  return part;
}

// Whether kernels of this precision read x and write y of these types.
inline bool takes(Precision p, Type x, Type y) {
  if (p == Precision::fp32) return x == Type::f32 && y == Type::f32;
  return p == Precision::int8 || (x != Type::u8 && y != Type::u8);
}

}  // namespace retrim
