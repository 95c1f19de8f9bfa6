// Which instruction sets this build has and this processor runs.
#include "linear.hpp"

namespace retrim {

#define DECLARE(name)                                                                               \
  void name(const Linear&, const float*, int64_t, float*, int64_t, int64_t, int64_t, int64_t)
DECLARE(linear_portable);
#if defined(__x86_64__)
DECLARE(linear_avx2);
DECLARE(linear_avx512);
#endif

namespace {
bool always() { return true; }
#if defined(__x86_64__)
// the builtins look at the operating system's register state as well as at CPUID
bool avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool avx512() { return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl"); }
#endif

const Isa kIsas[] = {
#if defined(__x86_64__)
    {"avx512", avx512, linear_avx512},
    {"avx2", avx2, linear_avx2},
#endif
#if defined(__aarch64__)
    {"neon", always, linear_portable},
#endif
    {"portable", always, linear_portable},
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
