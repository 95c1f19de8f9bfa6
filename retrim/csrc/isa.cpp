// Which instruction sets this build has and this processor runs.
#include "linear.hpp"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif
#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace retrim {

#define DECLARE(name)                                             \
  void fp32_##name(const Linear&, const Call&, int64_t, int64_t); \
  void bf16_##name(const Linear&, const Call&, int64_t, int64_t); \
  void int8_##name(const Linear&, const Call&, int64_t, int64_t);
#define DECLARE_LISTS(name)                                             \
  void lists_fp32_##name(const Linear&, const Call&, int64_t, int64_t); \
  void lists_bf16_##name(const Linear&, const Call&, int64_t, int64_t);
DECLARE(portable)
DECLARE_LISTS(portable)
#if defined(__x86_64__)
DECLARE(avx2)
DECLARE(avx2_vnni)
DECLARE(avx512)
DECLARE(avx512_vnni)
DECLARE(avx512_bf16)
DECLARE(amx)
DECLARE_LISTS(avx2)
DECLARE_LISTS(avx512)
DECLARE_LISTS(avx512_bf16)
#elif defined(__aarch64__)
DECLARE(neon_dot)
#endif

namespace {

bool portable() { return true; }

#if defined(__x86_64__)
// the builtins look at the operating system's register state as well as at CPUID
bool avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool avx2_vnni() { return avx2() && __builtin_cpu_supports("avxvnni"); }
bool avx512() {
  return avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}
bool avx512_vnni() { return avx512() && __builtin_cpu_supports("avx512vnni"); }
bool avx512_bf16() {
  return avx512_vnni() && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vbmi") &&
         __builtin_cpu_supports("avx512vbmi2");
}

// Tiles are large, so Linux gives them to a process that asks for them, with all threads that it has.
bool asked_for_tiles() {
#if defined(__linux__)
  constexpr int kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
#else
  return false;
#endif
}

bool amx() {
  static const bool granted = [] {
    constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24, kInt8 = 1u << 25, all = kBf16 | kTile | kInt8;
    unsigned a = 0, b = 0, c = 0, d = 0;
    return avx512_bf16() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & all) == all && asked_for_tiles();
  }();
  return granted;
}
#elif defined(__aarch64__)
bool neon_dot() {
#if defined(__linux__)
  return getauxval(AT_HWCAP) >> 20 & 1;  // HWCAP_ASIMDDP
#else
  return false;
#endif
}
#endif

// the kernels for blocks are those of the name, those for row groups of the nearest set that has its own
#define ENTRY(name, lists) \
  {#name, name, fp32_##name, bf16_##name, int8_##name, lists_fp32_##lists, lists_bf16_##lists}
const Isa kIsas[] = {
#if defined(__x86_64__)
    ENTRY(amx, avx512_bf16),
    ENTRY(avx512_bf16, avx512_bf16),
    ENTRY(avx512_vnni, avx512),
    ENTRY(avx512, avx512),
    ENTRY(avx2_vnni, avx2),
    ENTRY(avx2, avx2),
#elif defined(__aarch64__)
    ENTRY(neon_dot, portable),
    {"neon", portable, fp32_portable, bf16_portable, int8_portable, lists_fp32_portable, lists_bf16_portable},
#endif
    ENTRY(portable, portable),
};

}  // namespace

const Isa* isas(int* count) {
#if defined(__x86_64__)
  __builtin_cpu_init();
#endif
  *count = sizeof kIsas / sizeof *kIsas;
  return kIsas;
}

}  // namespace retrim
