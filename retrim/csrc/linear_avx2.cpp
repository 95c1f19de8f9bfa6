// AVX2 with FMA: 6 tokens x 16 rows fill 12 of 16 registers.
#define LANES 8
#define TILE 6
#define DIRECT 4
#define NARROW 4
#define FP32 fp32_avx2
#define BF16 bf16_avx2
#define INT8 int8_avx2
#include "kernels.inc"
