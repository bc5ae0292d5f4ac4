// Compiled with AVX2 and FMA.
#include "kernel_impl.h"

namespace serpent {

Kernel avx2_kernel(int32_t dtype) { return kernel_for(dtype); }

}  // namespace serpent
