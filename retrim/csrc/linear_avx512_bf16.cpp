// AVX-512 with bfloat16 products, VNNI and VBMI2, which cuts rows down.
#define LANES 16
#define TILE 12
#define DIRECT 8
#define NARROW 12
#define FP32 fp32_avx512_bf16
#define BF16 bf16_avx512_bf16
#define INT8 int8_avx512_bf16
#include "kernels.inc"
