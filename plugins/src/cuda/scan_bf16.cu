#include "scan_run_impl.h"

template void serpent::cuda::run_scan<serpent::cuda::BFloat16>(const serpent::cuda::ScanRun&);
