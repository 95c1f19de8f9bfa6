// The tile registers of AMX: eight of up to 16 rows of 64 bytes.  Two implementations of one interface:
//
//   configure(rows)       tiles 0 to 4 have `rows` rows, the others 16; all are zeroed
//   release()             give the registers back: a thread that holds them is switched more slowly
//   load<T>(p, stride)    row r of tile T from the 64 bytes at p + r * stride
//   store<T>(p, stride)   the reverse
//   dot_bf16<C, A, B>()   C[m][n] += sum over k of the pair A[m][k] times the pair B[k][n], float32
//   dot_int8<C, A, B>()   the same of four unsigned bytes of A and four signed ones of B, int32
//
// `AmxTiles` are the instructions, `EmulatedTiles` what the manual says that they do (Intel 64 and IA-32
// Architectures Software Developer's Manual, volume 2, LDTILECFG, TILELOADD, TDPBF16PS, TDPBUSD), for tests.
#pragma once
#include <cstdint>

#if defined(EMULATED_TILES)
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#endif

namespace retrim {

// What LDTILECFG loads.
struct alignas(64) TileConfig {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];

  explicit TileConfig(int count) : palette(1), start_row(0), reserved{}, row_bytes{}, rows{} {
    for (int t = 0; t < 8; t++) {
      row_bytes[t] = 64;
      rows[t] = uint8_t(t < 5 ? count : 16);
    }
  }
};
static_assert(sizeof(TileConfig) == 64, "the processor reads 64 bytes");

#if defined(__x86_64__) && !defined(EMULATED_TILES)
// By hand: the intrinsics take literal numbers of tiles alone, and g++'s do not say that they read memory.
struct AmxTiles {
  static void configure(int rows) {
    const TileConfig config(rows);
    asm volatile("ldtilecfg %0" ::"m"(config));
  }
  static void release() { asm volatile("tilerelease"); }
  template <int T>
  static void load(const void* p, int64_t stride) {
    asm volatile("tileloadd (%1,%2,1), %%tmm%c0" ::"i"(T), "r"(p), "r"(stride) : "memory");
  }
  template <int T>
  static void store(void* p, int64_t stride) {
    asm volatile("tilestored %%tmm%c0, (%1,%2,1)" ::"i"(T), "r"(p), "r"(stride) : "memory");
  }
  template <int C, int A, int B>
  static void dot_bf16() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(C), "i"(A), "i"(B));
  }
  template <int C, int A, int B>
  static void dot_int8() {
    asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(C), "i"(A), "i"(B));
  }
};
#endif

#if defined(EMULATED_TILES)
class EmulatedTiles {
 public:
  static void configure(int rows) {
    if (configured_ || rows < 1 || rows > 16) fail("configured twice, or wrongly");
    config_ = TileConfig(rows);
    std::memset(tile_, 0, sizeof tile_);
    configured_ = true;
  }
  static void release() { configured_ = false; }
  template <int T>
  static void load(const void* p, int64_t stride) {
    check();
    for (int r = 0; r < config_.rows[T]; r++) std::memcpy(tile_[T][r], static_cast<const char*>(p) + r * stride, 64);
  }
  template <int T>
  static void store(void* p, int64_t stride) {
    check();
    for (int r = 0; r < config_.rows[T]; r++) std::memcpy(static_cast<char*>(p) + r * stride, tile_[T][r], 64);
  }

  // each half of the pairs is summed for itself, from zero; subnormal numbers count as zeros
  template <int C, int A, int B>
  static void dot_bf16() {
    check<C, A, B>();
    for (int m = 0; m < config_.rows[C]; m++) {
      float low[16] = {}, high[16] = {};
      for (int k = 0; k < 16; k++) {
        const uint32_t a = tile_[A][m][k];
        const float a_low = normal(float_of(a << 16)), a_high = normal(float_of(a & 0xffff0000));
        for (int n = 0; n < 16; n++) {
          const uint32_t b = tile_[B][k][n];
          low[n] = normal(std::fma(a_low, normal(float_of(b << 16)), low[n]));
          high[n] = normal(std::fma(a_high, normal(float_of(b & 0xffff0000)), high[n]));
        }
      }
      for (int n = 0; n < 16; n++) {
        const float sum = normal(normal(float_of(tile_[C][m][n])) + normal(low[n] + high[n]));
        std::memcpy(&tile_[C][m][n], &sum, 4);
      }
    }
  }

  template <int C, int A, int B>
  static void dot_int8() {
    check<C, A, B>();
    for (int m = 0; m < config_.rows[C]; m++)
      for (int k = 0; k < 16; k++)
        for (int n = 0; n < 16; n++)
          for (int j = 0; j < 32; j += 8)
            tile_[C][m][n] += (tile_[A][m][k] >> j & 255) * uint32_t(int32_t(int8_t(tile_[B][k][n] >> j)));
  }

 private:
  static float float_of(uint32_t bits) {
    float f;
    std::memcpy(&f, &bits, 4);
    return f;
  }
  static float normal(float f) { return std::fabs(f) < 1.17549435e-38f ? std::copysign(0.0f, f) : f; }
  [[noreturn]] static void fail(const char* what) {
    std::fprintf(stderr, "tiles: %s\n", what);
    std::abort();
  }
  static void check() {
    if (!configured_) fail("used without a configuration");
  }
  // what the processor refuses (#UD)
  template <int C, int A, int B>
  static void check() {
    static_assert(C != A && C != B && A != B, "the tiles of a product are three");
    check();
    if (config_.rows[C] != config_.rows[A] || config_.rows[B] != 16) fail("shapes do not fit");
  }

  static inline thread_local bool configured_ = false;
  static inline thread_local TileConfig config_{16};
  static inline thread_local uint32_t tile_[8][16][16];
};
#endif

}  // namespace retrim
