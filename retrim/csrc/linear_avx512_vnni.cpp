// AVX-512 with byte products (VNNI).
#define LANES 16
#define TILE 12
#define DIRECT 8
#define NARROW 12
#define FP32 fp32_avx512_vnni
#define BF16 bf16_avx512_vnni
#define INT8 int8_avx512_vnni
#include "kernels.inc"
