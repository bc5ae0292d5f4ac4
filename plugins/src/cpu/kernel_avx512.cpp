// Compiled with AVX-512 F, DQ, BW and VL.
#include "kernel_impl.h"

namespace serpent {

Kernel avx512_kernel(int32_t dtype) { return kernel_for(dtype); }

}  // namespace serpent
