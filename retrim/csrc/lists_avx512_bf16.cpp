// Row groups with AVX-512 and bfloat16 products.
#define LANES 16
#define LISTS_FP32 lists_fp32_avx512_bf16
#define LISTS_BF16 lists_bf16_avx512_bf16
#include "lists.inc"
