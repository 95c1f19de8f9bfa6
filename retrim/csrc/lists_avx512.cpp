// Row groups with AVX-512.
#define LANES 16
#define LISTS_FP32 lists_fp32_avx512
#define LISTS_BF16 lists_bf16_avx512
#include "lists.inc"
