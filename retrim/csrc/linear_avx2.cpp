// AVX2 with FMA: 6 tokens x 16 rows fill 12 of 16 registers.
#define LANES 8
#define TILE 6
#define KERNEL linear_avx2
#include "linear_kernel.inc"
