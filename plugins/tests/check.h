/* What the C tests share. */
#pragma once

#include <stdio.h>

static int failures = 0;

/* assert() is gone from release builds, which are the ones to test. */
#define CHECK(condition)                                                                  \
  do {                                                                                    \
    if (!(condition)) {                                                                   \
      (void)fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
      ++failures;                                                                         \
    }                                                                                     \
  } while (0)

static const double kLn2 = 0.69314718055994530942; /* softplus(0) */
