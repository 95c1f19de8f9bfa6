// Entries are copied one by one: whatever the instruction set, memory is what it waits for.
#include "repack.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "pool.hpp"

namespace retrim {
namespace {

constexpr int64_t kWord = 64;

int64_t words_of(const Stock& s, int64_t list) { return (s.starts[list + 1] - s.starts[list] + kWord - 1) / kWord; }

// Bits of a list; -1 where there are some beyond its entries.
int64_t count_of(const Stock& s, int64_t list, const uint64_t* bits) {
  const int64_t entries = s.starts[list + 1] - s.starts[list], words = words_of(s, list);
  int64_t count = 0;
  for (int64_t w = 0; w < words; w++) count += __builtin_popcountll(bits[w]);
  const int64_t last = entries % kWord;
  return last && bits[words - 1] >> last ? -1 : count;
}

template <class Visit>
void each(const uint64_t* bits, int64_t words, const Visit& visit) {
  for (int64_t w = 0; w < words; w++)
    for (uint64_t left = bits[w]; left; left &= left - 1) visit(w * kWord + __builtin_ctzll(left));
}

// float32: a lane is an entry
template <int G, class Place>
void words_list(const Stock& s, const Place* from_columns, int64_t list, const uint64_t* bits, int64_t,
                Place* columns, uint8_t* values) {
  constexpr size_t kBytes = G * 4;
  const Place* at = from_columns + s.starts[list];
  const uint8_t* from = s.values + s.starts[list] * int64_t(kBytes);
  each(bits, words_of(s, list), [&](int64_t i) {
    std::memcpy(values, from + i * int64_t(kBytes), kBytes);
    values += kBytes;
    *columns++ = at[i];
  });
}

// bfloat16: a lane is two entries, their values row by row side by side; the last one may lack its second
template <int G, class Place>
void halves_list(const Stock& s, const Place* from_columns, int64_t list, const uint64_t* bits, int64_t count,
                 Place* columns, uint8_t* values) {
  constexpr size_t kBytes = G * 2;
  const Place* at = from_columns + s.starts[list];
  const uint8_t* from = s.values + s.starts[list] * int64_t(kBytes);
  auto lane = [&](const uint8_t* a, const uint8_t* b) {
    uint16_t first[G], second[G], both[2 * G];
    std::memcpy(first, a, kBytes);
    std::memcpy(second, b, kBytes);
    for (int g = 0; g < G; g++) both[2 * g] = first[g], both[2 * g + 1] = second[g];
    std::memcpy(values, both, sizeof both);
    values += sizeof both;
  };
  const uint8_t* before = nullptr;
  each(bits, words_of(s, list), [&](int64_t i) {
    *columns++ = at[i];
    const uint8_t* entry = from + i * int64_t(kBytes);
    if (before) lane(before, entry);
    before = before ? nullptr : entry;
  });
  if (count % 2) {
    const uint8_t none[kBytes] = {};
    *columns = columns[-1];
    lane(before, none);
  }
}

template <int G, class Place>
bool lists(const Stock& s, const Place* from_columns, const Share& share, Place* columns, uint8_t* values,
           int64_t first, int64_t last) {
  const uint64_t* bits = share.bits;
  for (int64_t list = 0; list < first; list++) bits += words_of(s, list);
  const int64_t width = s.halves ? 2 : 1;
  for (int64_t list = first; list < last; list++) {
    const int64_t count = count_of(s, list, bits), lane = list ? share.ends[list - 1] : 0;
    if (count < 0 || (count + width - 1) / width != share.ends[list] - lane) return false;
    const auto copy = s.halves ? halves_list<G, Place> : words_list<G, Place>;
    copy(s, from_columns, list, bits, count, columns + lane * width, values + lane * G * 4);
    bits += words_of(s, list);
  }
  return true;
}

template <class Place>
bool lists_of(const Stock& s, const Place* from, const Share& share, Place* columns, uint8_t* values, int64_t first,
              int64_t last) {
  if (s.rows == 1) return lists<1>(s, from, share, columns, values, first, last);
  if (s.rows == 2) return lists<2>(s, from, share, columns, values, first, last);
  if (s.rows == 4) return lists<4>(s, from, share, columns, values, first, last);
  return lists<8>(s, from, share, columns, values, first, last);
}

}  // namespace

bool repack(const Stock& s, const Share& share, void* columns, uint8_t* values, int threads) {
  const int64_t parts = std::clamp<int64_t>(threads, 1, std::max<int64_t>(s.lists, 1));
  std::atomic<bool> fits{true};
  run_parallel(int(parts), [&](int part) {
    const int64_t first = s.lists * part / parts, last = s.lists * (part + 1) / parts;
    const bool done = s.short_columns ? lists_of(s, s.short_columns, share, static_cast<uint16_t*>(columns), values,
                                                 first, last)
                                      : lists_of(s, s.columns, share, static_cast<int32_t*>(columns), values, first,
                                                 last);
    if (!done) fits = false;
  });
  return fits;
}

}  // namespace retrim
