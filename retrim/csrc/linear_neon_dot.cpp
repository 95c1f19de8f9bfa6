// NEON with byte products.
#define LANES 4
#define TILE 12
#define DIRECT 8
#define NARROW 8
#define FP32 fp32_neon_dot
#define BF16 bf16_neon_dot
#define INT8 int8_neon_dot
#include "kernels.inc"
