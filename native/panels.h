// Packed weights, and the product of rows with them that everything else is made of.
//
// A panel is a block of C vectors of columns, all of its depth one after another: (depth, C, lanes).
// A tile is R rows times one panel; its sums stay in registers over the whole depth.
#pragma once

#include <stdlib.h>

#include "memory.h"
#include "vector.h"

namespace rnnjax {
namespace RNNJAX_INSTRUCTIONS {

inline long divided_up(long a, long b) { return (a + b - 1) / b; }

// How many vectors of sums fit beside those of a panel's row and a broadcast number.
constexpr int kMostSums = kRegisters == 32 ? 24 : 9;

constexpr int rows_of_tile(int columns) { return kMostSums / columns; }

// Short tiles sum even and odd depths apart, lest each sum wait for the one before.
constexpr int parts_of(int sums) {
  return 4 * sums <= kMostSums ? 4 : 2 * sums <= kMostSums ? 2 : 1;
}

template <int R, int C>
RNNJAX_INLINE void clear(Vec (&sums)[R][C]) {
  RNNJAX_UNROLL for (int r = 0; r < R; ++r) {
    RNNJAX_UNROLL for (int c = 0; c < C; ++c) sums[r][c] = Vec{};
  }
}

// What is brought nearer while a panel is used: kLinesAhead cache lines for each number of its depth; none
// where a tile is short, for there loads are what is waited for.
constexpr int kLinesAhead = 2;
constexpr long kLine = 16;  // numbers

// Where the next panel begins that a tile brings nearer. The first tiles of a panel bring the whole next
// one, the others what is near already. The processor's own prefetching covers a fifth of the time that a
// panel takes to come from the third level of a large cache, where weights too large for the second lie.
inline const float* ahead_of_tile(const float* next, long tile, long depth, int columns,
                                  const float* panel) {
  const long from = tile * depth * kLinesAhead * kLine;
  return from < depth * columns * kLanes ? next + from : panel;
}

// sums[r][c] += Σ_k rows[r][k] panel[k][c]
template <int R, int C>
RNNJAX_INLINE void accumulate(Vec (&sums)[R][C], const float* const (&rows)[R], const float* panel,
                              long depth, const float* ahead) {
  constexpr int P = parts_of(R * C);
  Vec parts[P][R][C];
  RNNJAX_UNROLL for (int r = 0; r < R; ++r) {
    RNNJAX_UNROLL for (int c = 0; c < C; ++c) {
      parts[0][r][c] = sums[r][c];
      RNNJAX_UNROLL for (int p = 1; p < P; ++p) parts[p][r][c] = Vec{};
    }
  }
  long k = 0;
  for (; k + P <= depth; k += P) {
    RNNJAX_UNROLL for (int p = 0; p < P; ++p) {
      if constexpr (P == 1) {
        RNNJAX_UNROLL for (int line = 0; line < kLinesAhead; ++line, ahead += kLine) {
          __builtin_prefetch(ahead, 0, 2);
        }
      }
      Vec w[C];
      RNNJAX_UNROLL for (int c = 0; c < C; ++c) w[c] = load(panel + (p * C + c) * kLanes);
      RNNJAX_UNROLL for (int r = 0; r < R; ++r) {
        const float a = rows[r][k + p];
        RNNJAX_UNROLL for (int c = 0; c < C; ++c) parts[p][r][c] += a * w[c];
      }
    }
    panel += P * C * kLanes;
  }
  for (; k < depth; ++k, panel += C * kLanes) {
    RNNJAX_UNROLL for (int r = 0; r < R; ++r) {
      const float a = rows[r][k];
      RNNJAX_UNROLL for (int c = 0; c < C; ++c) parts[0][r][c] += a * load(panel + c * kLanes);
    }
  }
  RNNJAX_UNROLL for (int r = 0; r < R; ++r) {
    RNNJAX_UNROLL for (int c = 0; c < C; ++c) {
      Vec sum = parts[0][r][c];
      RNNJAX_UNROLL for (int p = 1; p < P; ++p) sum += parts[p][r][c];
      sums[r][c] = sum;
    }
  }
}

// sums[r][c] += Σ_k columns[k][r] panel[k][c], of a tile of columns as `put_in_tiles` leaves it.
template <int R, int C>
RNNJAX_INLINE void accumulate_outer(Vec (&sums)[R][C], const float* columns, const float* panel,
                                    long depth) {
  for (long k = 0; k < depth; ++k, columns += rows_of_tile(C), panel += C * kLanes) {
    Vec w[C];
    RNNJAX_UNROLL for (int c = 0; c < C; ++c) w[c] = load(panel + c * kLanes);
    RNNJAX_UNROLL for (int r = 0; r < R; ++r) {
      const float a = columns[r];
      RNNJAX_UNROLL for (int c = 0; c < C; ++c) sums[r][c] += a * w[c];
    }
  }
}

// One row of a matrix into tiles (tile of columns, row, columns of a tile): then what a tile reads of
// all rows lies side by side. A null row is zeros.
template <int Columns>
inline void put_in_tiles(const float* row, long size, long number, long rows, float* tiles) {
  for (long first = 0; first < size; first += Columns) {
    float* to = tiles + first * rows + number * Columns;
    const long count = size - first < Columns ? size - first : Columns;
    for (long i = 0; i < Columns; ++i) to[i] = row && i < count ? row[first + i] : 0.0f;
  }
}

template <int N>
struct Int {
  static constexpr int value = N;
};

// f(Int<rows>) for 1 <= rows <= Most.
template <int Most, class F>
RNNJAX_INLINE void with_constant(long rows, const F& f) {
  if constexpr (Most > 1) {
    if (rows < Most) {
      with_constant<Most - 1>(rows, f);
      return;
    }
  }
  f(Int<Most>{});
}

// f(first, Int<count>) over rows [begin, end) in tiles of about equal height, at most Most.
template <int Most, class F>
RNNJAX_INLINE void for_tiles(long begin, long end, const F& f) {
  const long rows = end - begin, tiles = (rows + Most - 1) / Most;
  for (long tile = 0; tile < tiles; ++tile) {
    const long first = begin + tile * rows / tiles, last = begin + (tile + 1) * rows / tiles;
    with_constant<Most>(last - first, [&](auto count) { f(first, count); });
  }
}

// Panels [first, last) of weights (depth, gates H), whose columns are (block of units, gate, lanes). Row by
// row of the weights: what several panels take of one lies side by side.
template <int G, int N>
inline void pack(const float* weights, long depth, long hidden_size, long first, long last,
                 float* panels) {
  for (long k = 0; k < depth; ++k) {
    for (long panel = first; panel < last; ++panel) {
      float* to = panels + ((panel - first) * depth + k) * G * N * kLanes;
      for (int n = 0; n < N; ++n) {
        const long unit = (panel * N + n) * kLanes, lanes = hidden_size - unit;
        for (int g = 0; g < G; ++g, to += kLanes) {
          const float* from = weights + (k * G + g) * hidden_size + unit;
          store(to, lanes > 0 ? load_first(from, lanes) : Vec{});
        }
      }
    }
  }
}

// Panel `number` of the transpose of weights (rows, gates H): its depth is their columns in the order
// of packed panels, (panel, block of units, gate, lanes), its columns are C vectors of their rows.
template <int G, int N, int C>
inline void pack_transposed(const float* weights, long rows, long hidden_size, long number,
                            float* panel) {
  const long blocks = (hidden_size + N * kLanes - 1) / (N * kLanes) * N;
  const long first_row = number * C * kLanes;
  const long count = rows - first_row < C * kLanes ? rows - first_row : C * kLanes;
  memset(panel, 0, blocks * G * kLanes * C * kLanes * sizeof(float));
  for (long block = 0; block < blocks; ++block) {
    const long unit = block * kLanes;
    const long lanes = hidden_size - unit < kLanes ? hidden_size - unit : kLanes;
    for (int g = 0; g < G; ++g) {
      const float* from = weights + (first_row * G + g) * hidden_size + unit;
      float* to = panel + (block * G + g) * kLanes * C * kLanes;
      for (long row = 0; row < count; ++row, from += G * hidden_size) {
        for (long i = 0; i < lanes; ++i) to[i * C * kLanes + row] = from[i];
      }
    }
  }
}

// Memory for one call, taken before its loops begin.
class Buffer {
 public:
  explicit Buffer(long floats) {
    const size_t wanted = floats * sizeof(float);
    const size_t alignment = wanted >= 2 * kLargePage ? kLargePage : 64;
    const size_t bytes = wanted == 0 ? alignment : (wanted + alignment - 1) / alignment * alignment;
    data_ = static_cast<float*>(aligned_alloc(alignment, bytes));
    if (data_) ask_for_large_pages(data_, bytes);
  }
  ~Buffer() { free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  float* data() const { return data_; }

 private:
  float* data_;
};

}  // namespace RNNJAX_INSTRUCTIONS
}  // namespace rnnjax
