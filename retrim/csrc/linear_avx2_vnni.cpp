// AVX2 with byte products (VNNI).
#define LANES 8
#define TILE 6
#define DIRECT 4
#define NARROW 4
#define FP32 fp32_avx2_vnni
#define BF16 bf16_avx2_vnni
#define INT8 int8_avx2_vnni
#include "kernels.inc"
