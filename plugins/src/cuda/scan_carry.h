// The states that enter the chunks, from what each chunk makes of a zero state.
#pragma once

#include "scan_arguments.h"

namespace serpent::cuda {

// In place: chunk_states of each chunk becomes the state that enters it. That of a direction's last chunk, which no
// other needs, is not read.
void launch_scan_carry(const ScanSizes& sizes, void* stream);

}  // namespace serpent::cuda
