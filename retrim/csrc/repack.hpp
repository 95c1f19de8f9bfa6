// Packs of row groups (retrim/artifact/lists.py) cut out of a larger one, for a level of a model that is switched to.
#pragma once
#include <cstdint>

namespace retrim {

// All that any level keeps: lists of entries, each a column and the values of all rows of the list in it.
struct Stock {
  int64_t lists, rows;
  bool halves;              // values are bfloat16, else float32
  const int64_t* starts;    // [lists + 1] entries of all lists before
  const uint16_t* short_columns;  // [entries], or null: `columns` has them
  const int32_t* columns;
  const uint8_t* values;    // [entries][rows]
};

// A level: a bit for each entry, those of each list from a word of their own on, and the lanes that it makes.
struct Share {
  const uint64_t* bits;
  const int32_t* ends;  // [lists] lanes of all lists up to there
};

// The sections of a pack of one segment: columns as those of the stock, and values.  False where bits do not
// make the lanes that the share says they do; what is written then lies within those lanes.
bool repack(const Stock&, const Share&, void* columns, uint8_t* values, int threads);

}  // namespace retrim
