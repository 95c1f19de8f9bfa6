// Any processor: four lanes, which are SSE2 on x86-64 and NEON on aarch64.
#define LANES 4
#if defined(__aarch64__)
#define TILE 12
#define DIRECT 8
#define NARROW 8
#else
#define TILE 6
#define DIRECT 4
#define NARROW 4
#endif
#define FP32 fp32_portable
#define BF16 bf16_portable
#define INT8 int8_portable
#include "kernels.inc"
