// Compiled with AVX2 and FMA.
#include "backward_impl.h"

namespace serpent {

BackwardKernel avx2_backward_kernel(int32_t dtype) { return backward_kernel_for(dtype); }

}  // namespace serpent
