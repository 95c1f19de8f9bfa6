// Random layers and tokens, and what the kernels must make of them: a plain double loop.
#pragma once
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "../linear.hpp"
#include "buffer.hpp"

// What a case is made of; the rest is drawn.
struct Case {
  retrim::Precision precision;
  int64_t group, height, outputs, inputs, tokens;
  double density;      // of columns in a block
  bool row_list;       // packed rows go to outputs by a list, some to none
  bool whole;          // small whole numbers: every sum is exact, so results are compared to the bit
  bool extreme;        // int8: weights and activations at the ends of their ranges
  bool ties;           // int8: every second result lies between two bytes, where its last bit decides
  bool broken;         // some tokens hold NaN or infinity
  bool residual;
  bool in_place;       // the residual is y
  bool fixed_scale;    // int8: one scale for x
  retrim::Activation activation;
  retrim::Type x_type, y_type;
  int64_t x_gap, x_offset, y_gap, y_offset;  // elements between rows and before the first
  int x_order;         // of the rows of x in memory: 1 as they are, -1 reversed, 0 all tokens one row
  std::vector<int64_t> keep;  // if not empty, the columns of every block
};

struct Random {
  std::mt19937_64 bits;
  int64_t below(int64_t n) { return int64_t(bits() % uint64_t(n)); }
  bool one_in(int64_t n) { return below(n) == 0; }
  float normal() { return std::normal_distribution<float>()(bits); }
};

struct Layer {
  Layer(const Case&, Random&);

  std::vector<int32_t> starts, columns, rows, idle;
  std::vector<float> scales, bias, idle_values;
  std::vector<float> weights;  // [packed row][kept in its block], row after row; int8 without its scale
  std::vector<int64_t> weight_starts;
  std::unique_ptr<Buffer> values;
  retrim::Linear view;
};

struct Tokens {
  Tokens(const Case&, const Layer&, Random&);

  std::vector<float> x;         // [tokens][inputs] as given; of uint8 the int8
  std::vector<float> residual;  // [tokens][outputs] or empty
  std::vector<float> met;       // x as weights meet it: rounded to bfloat16, or whole numbers
  std::vector<float> scales;    // [tokens] int8
};

struct Expected {
  double value, tolerance;  // tolerance 0: to the bit
  bool written = false;
};

// [tokens][outputs]; outputs that no packed row computes are written where `idle`.
std::vector<Expected> expect(const Case&, const Layer&, const Tokens&, bool idle);

// Whether an output in memory is what it should be.
bool agrees(const Expected&, const void* y, retrim::Type, float output_scale);

bool is_nan(const void* y, retrim::Type);

// Elements of a type from floats that it holds exactly.
void store(float value, retrim::Type, uint8_t* to);
