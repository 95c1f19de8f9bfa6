// Rows in memory of their own.  What lies around and between them is guarded: writes there are found by their
// traces, and under AddressSanitizer reads and writes stop the program.
#pragma once
#include <cstdint>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

class Buffer {
 public:
  static constexpr int64_t kGuard = 64;

  Buffer(int64_t rows, int64_t row_bytes, int64_t gap_bytes, int64_t offset)
      : rows_(rows), row_bytes_(row_bytes), stride_(row_bytes + gap_bytes), first_(kGuard + offset),
        bytes_(size_t(first_ + rows * stride_ + kGuard), kTrace) {
    poison();
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { open(); }

  uint8_t* row(int64_t r) { return bytes_.data() + first_ + r * stride_; }
  int64_t stride() const { return stride_; }

  // Whether no byte outside the rows has changed.
  bool intact() {
    open();
    bool same = true;
    around([&](const uint8_t* from, const uint8_t* to) {
      for (; from < to; from++) same = same && *from == kTrace;
    });
    poison();
    return same;
  }

 private:
  static constexpr uint8_t kTrace = 0xff;  // read by mistake, it is NaN in both kinds of numbers

  template <class Visit>
  void around(const Visit& visit) {
    const uint8_t* from = bytes_.data();
    for (int64_t r = 0; r < rows_; r++) {
      visit(from, row(r));
      from = row(r) + row_bytes_;
    }
    visit(from, bytes_.data() + bytes_.size());
  }

#if defined(__SANITIZE_ADDRESS__)
  void poison() {
    around([](const uint8_t* from, const uint8_t* to) { __asan_poison_memory_region(from, size_t(to - from)); });
  }
  void open() { __asan_unpoison_memory_region(bytes_.data(), bytes_.size()); }
#else
  void poison() {}
  void open() {}
#endif

  int64_t rows_, row_bytes_, stride_, first_;
  std::vector<uint8_t> bytes_;
};
