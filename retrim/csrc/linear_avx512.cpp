// AVX-512: 12 tokens x 32 rows fill 24 of 32 registers.
#define LANES 16
#define TILE 12
#define DIRECT 8
#define NARROW 8
#define FP32 fp32_avx512
#define BF16 bf16_avx512
#define INT8 int8_avx512
#include "kernels.inc"
