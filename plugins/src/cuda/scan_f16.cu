#include "scan_run_impl.h"

template void serpent::cuda::run_scan<serpent::cuda::Half>(const serpent::cuda::ScanRun&);
