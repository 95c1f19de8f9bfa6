// Row groups with AVX2 and FMA.
#define LANES 8
#define LISTS_FP32 lists_fp32_avx2
#define LISTS_BF16 lists_bf16_avx2
#include "lists.inc"
