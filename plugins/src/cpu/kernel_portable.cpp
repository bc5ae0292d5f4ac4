// Whatever instruction set the compiler targets by default.
#include "kernel_impl.h"

namespace serpent {

Kernel portable_kernel(int32_t dtype) { return kernel_for(dtype); }

}  // namespace serpent
