// Compiled with AVX-512 F, DQ, BW and VL.
#include "backward_impl.h"

namespace serpent {

BackwardKernel avx512_backward_kernel(int32_t dtype) { return backward_kernel_for(dtype); }

}  // namespace serpent
