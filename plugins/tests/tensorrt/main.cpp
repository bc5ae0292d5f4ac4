// The plugin's classes as TensorRT would call them, with neither TensorRT nor a GPU.
#include <cstdio>

#include "support.h"

int main() {
  plugin_test::listen();
  plugin_test::test_creation();
  plugin_test::test_rules();
  plugin_test::test_runtime();
  plugin_test::test_failures();
  if (plugin_test::failed_checks() > 0) {
    std::fprintf(stderr, "%d checks failed\n", plugin_test::failed_checks());
    return 1;
  }
  return 0;
}
