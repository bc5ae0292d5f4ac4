#include "scan_run_impl.h"

template void serpent::cuda::run_scan<float>(const serpent::cuda::ScanRun&);
