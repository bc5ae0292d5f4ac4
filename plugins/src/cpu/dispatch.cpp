// Chooses a kernel at run time. SERPENT_X86 is defined where the AVX kernels are built.
#if defined(SERPENT_X86)
#include <cpuid.h>
#endif

#include <cstdlib>
#include <string>

#include "backward_kernel.h"
#include "failure.h"
#include "kernel.h"

namespace serpent {
namespace {

struct Isa {
  const char* name;
  Kernel (*kernel)(int32_t);
  BackwardKernel (*backward_kernel)(int32_t);
  bool runs_here;
};

#if defined(SERPENT_X86)
bool has_f16c() {  // __builtin_cpu_supports does not know that name in older Clang
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
#endif

Isa choose_isa() {
#if defined(SERPENT_X86)
  const bool runs_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
#endif
  const Isa fastest_first[] = {
#if defined(SERPENT_X86)
      {"avx512", avx512_kernel, avx512_backward_kernel,
       __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl")},
      {"avx2", avx2_kernel, avx2_backward_kernel, runs_avx2},
#endif
      {"portable", portable_kernel, portable_backward_kernel, true}};
  const char* forced = std::getenv("SERPENT_ISA");
  if (forced != nullptr && *forced == '\0') {
    forced = nullptr;  // empty counts as unset
  }
  for (const Isa& isa : fastest_first) {
    if (forced == nullptr ? isa.runs_here : isa.name == std::string(forced)) {
      if (!isa.runs_here) {
        fail(SERPENT_STATUS_UNSUPPORTED, std::string("SERPENT_ISA=") + forced + ": this processor lacks it");
      }
      return isa;
    }
  }
  fail(SERPENT_STATUS_INVALID_ARGUMENT,
       std::string("SERPENT_ISA=") + forced + " is not in this build; known are avx512, avx2 (x86 only) and portable");
}

}  // namespace

Kernel choose_kernel(int32_t dtype) { return choose_isa().kernel(dtype); }

BackwardKernel choose_backward_kernel(int32_t dtype) { return choose_isa().backward_kernel(dtype); }

}  // namespace serpent
