// AVX-512: 12 tokens x 32 rows fill 24 of 32 registers.
#define LANES 16
#define TILE 12
#define KERNEL linear_avx512
#include "linear_kernel.inc"
