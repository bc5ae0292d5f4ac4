// The launches of one scan, for one storage type. Each type has a source file of its own, so that they compile side by
// side.
#pragma once

#include "scan_arguments.h"
#include "serpent/scan.h"
#include "variants.h"

namespace serpent::cuda {

struct ScanRun {
  ScanSizes sizes;  // but for what follows from the variant
  serpent_scan_tensors tensors;
  ScanPlan plan;
  void* stream;
};

// T is float, Half or BFloat16.
template <class T>
void run_scan(const ScanRun& run);

}  // namespace serpent::cuda
