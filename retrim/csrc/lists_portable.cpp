// Row groups on any processor: four lanes, which are SSE2 on x86-64 and NEON on aarch64.
#define LANES 4
#define LISTS_FP32 lists_fp32_portable
#define LISTS_BF16 lists_bf16_portable
#include "lists.inc"
