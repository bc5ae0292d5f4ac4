// The scan of one channel tile, compiled once per instruction set by the kernel_*.cpp files.
//
// Everything here has internal linkage and calls no library function: a copy of a shared inline function
// compiled for AVX-512 must never be the one that the linker keeps for a machine without it.
#pragma once

#include "kernel.h"
#include "tile.h"

#if defined(__clang__)
#define SERPENT_UNROLL _Pragma("unroll")
#elif defined(__GNUC__)
#define SERPENT_UNROLL _Pragma("GCC unroll 16")
#else
#define SERPENT_UNROLL
#endif
#if defined(__GNUC__)
#define SERPENT_PREFETCH(address) __builtin_prefetch(address)
#define SERPENT_NOINLINE __attribute__((noinline))  // inner loops that need all registers for themselves
#else
#define SERPENT_NOINLINE
#define SERPENT_PREFETCH(address) static_cast<void>(address)
#endif

namespace serpent {
namespace {

// States whose h stay in registers at once, beside the constants of the exponential: of 16 registers, or of 32.
constexpr int kMostStates = SERPENT_VECTOR_BYTES == 64 ? 8 : 4;

// Tokens between a prefetch and its use. A step along a column is a power of two in many pictures, so that all its
// lines share a few places of the cache: those of a longer way ahead would evict each other.
constexpr int64_t kPrefetchTokens = 4;

// The order in which y_k are added: a direction, then its reverse, whose first pixels are still in the cache.
constexpr int64_t kOrder[] = {0, 2, 1, 3};

// `count` numbers from `from` as Real. Where a whole vector fits, the last one overlaps the one before.
template <class T, class Real>
inline void copy_numbers(const T* from, int64_t count, Real* to) {
  constexpr int64_t kLanes = Vector<Real>::kLanes;
  if (count < kLanes) {
    for (int64_t i = 0; i < count; ++i) {
      to[i] = load(from[i]);
    }
    return;
  }
  for (int64_t i = 0; i + kLanes < count; i += kLanes) {
    load_vector(from + i).store(to + i);
  }
  load_vector(from + count - kLanes).store(to + count - kLanes);
}

template <class T>
inline void prefetch(const T* from, int64_t count) {
  for (int64_t i = 0; i < count; i += 64 / static_cast<int64_t>(sizeof(T))) {
    SERPENT_PREFETCH(from + i);
  }
  SERPENT_PREFETCH(from + count - 1);
}

// The first `count` lanes of a vector, the others 0.
template <class Real, class T>
SERPENT_INLINE Vector<Real> load_lanes(const T* from, int64_t count) {
  constexpr int64_t kLanes = Vector<Real>::kLanes;
  if (count >= kLanes) {
    return load_vector(from);
  }
  Real lanes[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) {
    lanes[i] = load(from[i]);
  }
  return Vector<Real>::load(lanes);
}

template <class Real, class T>
SERPENT_INLINE void store_lanes(Vector<Real> values, T* to, int64_t count) {
  constexpr int64_t kLanes = Vector<Real>::kLanes;
  if (count >= kLanes) {
    store_vector(values, to);
    return;
  }
  Real lanes[kLanes];
  values.store(lanes);
  for (int64_t i = 0; i < count; ++i) {
    store(lanes[i], to[i]);
  }
}

// Step sizes and inputs of one vector for a block whose `out` holds x, four tokens at a time.
template <class Real>
SERPENT_NOINLINE void project(const Tile<Real>& tile, const typename Tile<Real>::Lane& lane, int64_t count) {
  using V = Vector<Real>;
  constexpr int64_t kTogether = 4;
  static_assert(kTokenBlock % kTogether == 0);
  const int64_t columns = tile.dt_rank + 2 * tile.d_state;
  for (int64_t t = 0; t < count; t += kTogether) {
    const Real* dt_r = tile.columns + t * columns;
    V raw[kTogether];
    SERPENT_UNROLL
    for (int64_t i = 0; i < kTogether; ++i) {
      raw[i] = V(Real(0));
    }
    for (int64_t r = 0; r < tile.dt_rank; ++r) {
      const V weight = V::load(lane.dt_weight[r]);
      SERPENT_UNROLL
      for (int64_t i = 0; i < kTogether; ++i) {
        raw[i] = fma(weight, V(dt_r[i * columns + r]), raw[i]);
      }
    }
    SERPENT_UNROLL
    for (int64_t i = 0; i < kTogether; ++i) {
      // The bias comes last: sums near its size would lose what the small terms hold.
      const V dt = softplus(raw[i] + V::load(lane.constant[0]));
      const V x = V::load(lane.out[t + i]);
      min(V::load(lane.constant[2]), dt).store(lane.step[t + i]);
      (dt * x).store(lane.dt_x[t + i]);
      (V::load(lane.constant[1]) * x).store(lane.out[t + i]);
    }
  }
}

// The recurrence of kStates states of one vector over a block; adds their C h to lane.out. `lane` starts at the first
// of these states, and so do B and C, whose rows are `columns` apart.
template <int kStates, class Real>
SERPENT_NOINLINE void scan_states(typename Tile<Real>::Lane lane, const Real* B, const Real* C, int64_t columns,
                                  int64_t count) {
  using V = Vector<Real>;
  const auto* const rate = lane.rate;
  const auto* step = lane.step;
  const auto* dt_x = lane.dt_x;
  auto* out = lane.out;
  V h[kStates];
  SERPENT_UNROLL
  for (int i = 0; i < kStates; ++i) {
    h[i] = V::load(lane.state[i]);
  }
  for (int64_t t = 0; t < count; ++t) {
    const V dt = V::load(*step++);
    const V input = V::load(*dt_x++);
    V y = V::load(*out);
    SERPENT_UNROLL
    for (int i = 0; i < kStates; ++i) {
      h[i] = advance(decay_of(dt * V::load(rate[i])), h[i], input, V(B[i]));
      y = fma(V(C[i]), h[i], y);
    }
    y.store(*out++);
    B += columns;
    C += columns;
  }
  SERPENT_UNROLL
  for (int i = 0; i < kStates; ++i) {
    h[i].store(lane.state[i]);
  }
}

template <int kStates, class Real>
void scan_states_of(int64_t states, const typename Tile<Real>::Lane& lane, const Real* B, const Real* C,
                    int64_t columns, int64_t count) {
  if constexpr (kStates > 1) {
    if (states < kStates) {
      return scan_states_of<kStates - 1>(states, lane, B, C, columns, count);
    }
  }
  scan_states<kStates>(lane, B, C, columns, count);
}

// All states of one vector over a block, in groups whose h stay in registers.
template <class Real>
void scan_block(const Tile<Real>& tile, typename Tile<Real>::Lane lane, int64_t count) {
  const Real* B = tile.columns + tile.dt_rank;
  const int64_t groups = (tile.d_state + kMostStates - 1) / kMostStates;
  for (int64_t group = 0, n = 0; group < groups; ++group) {
    const int64_t states = (tile.d_state - n) / (groups - group);
    scan_states_of<kMostStates>(states, lane, B + n, B + tile.d_state + n, tile.dt_rank + 2 * tile.d_state, count);
    lane.rate += states;
    lane.state += states;
    n += states;
  }
}

// The pixels of the tokens [start, start + count) of direction k.
template <class T, class Real>
inline void list_pixels(const Problem<T, Real>& problem, int64_t k, int64_t start, int64_t count, int64_t* pixels) {
  const int64_t step = k < 2 ? 1 : -1;
  const int64_t first = k < 2 ? start : problem.tokens() - 1 - start;
  int64_t row = first % problem.height;
  int64_t column = first / problem.height;
  for (int64_t t = 0; t < count; ++t) {
    if (k % 2 == 0) {
      pixels[t] = first + t * step;
      continue;
    }
    pixels[t] = row * problem.width + column;
    row += step;
    if (row < 0 || row == problem.height) {
      row = row < 0 ? problem.height - 1 : 0;
      column += step;
    }
  }
}

// Sums over directions, (pixels, stride), or null: nothing to add, or y to be stored.
template <class Real>
struct Sums {
  const Real* before;
  Real* after;
  int64_t stride;
};

template <class T, class Real>
void scan_direction(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors, const ScanTask& task,
                    int64_t k, const Sums<Real>& sums) {
  using V = Vector<Real>;
  constexpr int64_t kLanes = V::kLanes;
  const Problem<T, Real> problem(shape, tensors);
  const Tile<Real> tile(shape, task.channels, task.scratch);
  const int64_t tokens = problem.tokens();
  const int64_t columns = problem.columns();
  const int64_t D = problem.channels;
  const T* const x = problem.x + task.picture * tokens * D + task.first;
  const T* const x_dbl = problem.x_dbl + (task.picture * tokens * kDirections + k) * columns;
  T* const y = problem.y + task.picture * tokens * D + task.first;
  begin_direction(problem, tile, k, task.first, task.channels);

  const int64_t ahead = k == kOrder[0] ? kTokenBlock : kPrefetchTokens;  // hardware follows an ascending direction
  for (int64_t start = 0; start < tokens; start += kTokenBlock) {
    const int64_t count = smaller(kTokenBlock, tokens - start);
    int64_t pixels[kTokenBlock];
    list_pixels(problem, k, start, count, pixels);
    for (int64_t t = 0; t < count; ++t) {
      if (t + ahead < count) {
        prefetch(x + pixels[t + ahead] * D, task.channels);
        prefetch(x_dbl + pixels[t + ahead] * kDirections * columns, columns);
      }
      copy_numbers(x_dbl + pixels[t] * kDirections * columns, columns, tile.columns + t * columns);
      for (int64_t v = 0; v < tile.vectors; ++v) {
        load_lanes<Real>(x + pixels[t] * D + v * kLanes, task.channels - v * kLanes).store(tile.lane(v).out[t]);
      }
    }
    for (int64_t v = 0; v < tile.vectors; ++v) {
      const auto lane = tile.lane(v);
      project(tile, lane, count);
      scan_block(tile, lane, count);
    }
    for (int64_t t = 0; t < count; ++t) {
      if (sums.before != nullptr && t + ahead < count) {
        prefetch(sums.before + pixels[t + ahead] * sums.stride, task.channels);
      }
      for (int64_t v = 0; v < tile.vectors; ++v) {
        const int64_t present = task.channels - v * kLanes;
        const int64_t at = pixels[t] * sums.stride + v * kLanes;
        V sum = V::load(tile.lane(v).out[t]);
        if (sums.before != nullptr) {
          sum = load_lanes<Real>(sums.before + at, present) + sum;
        }
        if (sums.after != nullptr) {
          store_lanes(sum, sums.after + at, present);
        } else {
          store_lanes(sum, y + pixels[t] * D + v * kLanes, present);
        }
      }
    }
  }
}

template <class T, class Real>
void scan_all(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors, const ScanTask& task,
              void* memory) {
  Real* sums = static_cast<Real*>(memory);
  int64_t stride = task.channels;
  if constexpr (sizeof(T) == sizeof(Real)) {
    const int64_t pixels = shape.height * shape.width;
    sums = static_cast<T*>(tensors.y) + task.picture * pixels * shape.channels + task.first;
    stride = shape.channels;
  }
  for (int64_t i = 0; i < kDirections; ++i) {
    const bool into_y = sizeof(T) < sizeof(Real) && i == kDirections - 1;
    scan_direction<T, Real>(shape, tensors, task, kOrder[i],
                            {i == 0 ? nullptr : sums, into_y ? nullptr : sums, stride});
  }
}

template <class T, class Real>
void scan_one(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors, const ScanTask& task, int64_t k,
              void* sums) {
  scan_direction<T, Real>(shape, tensors, task, k, {nullptr, static_cast<Real*>(sums), task.channels});
}

template <class T, class Real>
void merge(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors, const ScanTask& task,
           const void* memory, int64_t begin, int64_t end) {
  const int64_t pixels = shape.height * shape.width;
  const Real* sums = static_cast<const Real*>(memory);
  T* const y = static_cast<T*>(tensors.y) + task.picture * pixels * shape.channels + task.first;
  for (int64_t pixel = begin; pixel < end; ++pixel) {
    for (int64_t i = 0; i < task.channels; ++i) {
      Real sum = sums[(kOrder[0] * pixels + pixel) * task.channels + i];
      for (int64_t j = 1; j < kDirections; ++j) {
        sum += sums[(kOrder[j] * pixels + pixel) * task.channels + i];
      }
      store(sum, y[pixel * shape.channels + i]);
    }
  }
}

template <class T, class Real>
constexpr Kernel make_kernel() {
  return {scan_all<T, Real>,    scan_one<T, Real>, merge<T, Real>,           Tile<Real>::bytes,
          Vector<Real>::kLanes, sizeof(Real),      sizeof(T) == sizeof(Real)};
}

inline Kernel kernel_for(int32_t dtype) {
  switch (dtype) {
    case SERPENT_DTYPE_F32:
      return make_kernel<float, float>();
    case SERPENT_DTYPE_F64:
      return make_kernel<double, double>();
    case SERPENT_DTYPE_F16:
      return make_kernel<Half, float>();
    default:  // check_shape left only bf16
      return make_kernel<BFloat16, float>();
  }
}

}  // namespace
}  // namespace serpent
