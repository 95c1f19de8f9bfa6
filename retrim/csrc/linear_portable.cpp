// Any processor: four lanes, which are SSE2 on x86-64 and NEON on aarch64.
#define LANES 4
#if defined(__aarch64__)
#define TILE 12
#else
#define TILE 6
#endif
#define KERNEL linear_portable
#include "linear_kernel.inc"
