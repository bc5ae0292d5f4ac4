// Whatever instruction set the compiler targets by default.
#include "backward_impl.h"

namespace serpent {

BackwardKernel portable_backward_kernel(int32_t dtype) { return backward_kernel_for(dtype); }

}  // namespace serpent
