// Levels cut out of a stock against a loop over its entries; what is read and written has its exact size.
#include "repacked.hpp"

#include <algorithm>
#include <cstdio>
#include <memory>

#include "../repack.hpp"
#include "layer.hpp"

namespace {

// Memory of a size that sanitizers know: a vector may hold more.
template <class T>
std::unique_ptr<T[]> exactly(const std::vector<T>& from) {
  std::unique_ptr<T[]> found(new T[from.size()]);
  std::copy(from.begin(), from.end(), found.get());
  return found;
}

struct Cut {
  std::vector<int64_t> starts{0};
  std::vector<uint16_t> short_columns;
  std::vector<int32_t> columns;
  std::vector<uint8_t> values;
  std::vector<uint64_t> bits;
  std::vector<int32_t> ends;
  std::vector<int32_t> wanted_columns;  // of the level
  std::vector<uint8_t> wanted_values;
};

// One entry after another, as the layout says.
Cut random_cut(Random& random, int64_t rows, bool halves) {
  Cut c;
  const int64_t width = halves ? 2 : 1, bytes = 4 / width;
  const int64_t lists = 1 + random.below(40), lengths[] = {0, 1, 63, 64, 65, 128, random.below(300)};
  const int64_t keeps = random.below(5);  // of 4 entries
  for (int64_t list = 0; list < lists; list++) {
    const int64_t entries = lengths[random.below(7)];
    std::vector<int64_t> kept;
    c.bits.resize(c.bits.size() + size_t((entries + 63) / 64));
    uint64_t* word = c.bits.data() + c.bits.size() - (entries + 63) / 64;
    for (int64_t i = 0; i < entries; i++) {
      c.columns.push_back(int32_t(random.below(60000)));
      c.short_columns.push_back(uint16_t(c.columns.back()));
      for (int64_t b = 0; b < rows * bytes; b++) c.values.push_back(uint8_t(random.below(256)));
      if (random.below(4) >= keeps) continue;
      word[i / 64] |= uint64_t(1) << (i % 64);
      kept.push_back(c.starts.back() + i);
    }
    for (size_t i = 0; i < kept.size(); i += size_t(width)) {
      for (int64_t k = 0; k < width; k++) c.wanted_columns.push_back(c.columns[size_t(kept[std::min(i + size_t(k), kept.size() - 1)])]);
      for (int64_t g = 0; g < rows; g++)
        for (int64_t k = 0; k < width; k++)
          for (int64_t b = 0; b < bytes; b++)
            c.wanted_values.push_back(i + size_t(k) < kept.size()
                                          ? c.values[size_t((kept[i + size_t(k)] * rows + g) * bytes + b)]
                                          : 0);
    }
    c.starts.push_back(c.starts.back() + entries);
    c.ends.push_back(int32_t(c.wanted_columns.size() / size_t(width)));
  }
  return c;
}

template <class Place>
bool agrees(const Cut& c, int64_t rows, bool halves, int threads, bool spoilt) {
  const auto starts = exactly(c.starts);
  const auto short_columns = exactly(c.short_columns);
  const auto columns = exactly(c.columns);
  const auto values = exactly(c.values);
  auto bits = exactly(c.bits);
  const auto ends = exactly(c.ends);
  std::unique_ptr<Place[]> to_columns(new Place[c.wanted_columns.size()]);
  std::unique_ptr<uint8_t[]> to_values(new uint8_t[c.wanted_values.size()]);
  const bool narrow = sizeof(Place) == 2;
  const retrim::Stock stock{int64_t(c.ends.size()), rows, halves, starts.get(), narrow ? short_columns.get() : nullptr,
                            narrow ? nullptr : columns.get(), values.get()};
  if (spoilt && !c.bits.empty()) bits[c.bits.size() / 2] = ~bits[c.bits.size() / 2];
  const bool done = retrim::repack(stock, {bits.get(), ends.get()}, to_columns.get(), to_values.get(), threads);
  if (spoilt) return true;  // refused, or alike in number: nothing but its own memory may be touched
  if (!done) return false;
  for (size_t i = 0; i < c.wanted_columns.size(); i++)
    if (int32_t(to_columns[i]) != c.wanted_columns[i]) return false;
  return std::equal(c.wanted_values.begin(), c.wanted_values.end(), to_values.get());
}

}  // namespace

bool check_repack(int count, uint64_t seed) {
  int bad = 0;
  for (int i = 0; i < count; i++) {
    Random random;
    random.bits.seed(seed + uint64_t(i));
    const int64_t rows = int64_t(1) << i % 4;
    const bool halves = i / 4 % 2;
    const Cut c = random_cut(random, rows, halves);
    for (int threads : {1, 3})
      for (bool spoilt : {false, true})
        bad += !agrees<uint16_t>(c, rows, halves, threads, spoilt) || !agrees<int32_t>(c, rows, halves, threads, spoilt);
  }
  std::printf("repacked: %d cuts, %d wrong\n", count, bad);
  return bad == 0;
}
