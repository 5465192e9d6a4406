// A single step of a few rows, as in streaming: there is nothing to pack weights for.
//
// Weights are read once, in the order in which they lie in memory, some of their rows at a time; the sums of
// all gates lie in the nearest cache meanwhile. Threads share columns.
#pragma once

#include "calls.h"
#include "panels.h"
#include "team.h"

namespace rnnjax {
namespace RNNJAX_INSTRUCTIONS {

constexpr long kMostRowsOfAStep = 4;
constexpr long kWeightsOfAMeeting = 1L << 16;  // read between two meetings: who comes late has a share

template <class Cell>
class Step {
 public:
  Step(const ForwardCall& call, Team& team)
      : call_(call),
        team_(team),
        rows_(call.sizes.rows),
        inputs_(call.sizes.input_size),
        units_(call.sizes.hidden_size),
        columns_(G * units_),
        padded_(divided_up(columns_, kLanes) * kLanes),
        depth_of_a_meeting_(depth_of_a_meeting()),
        states_(rows_ * units_),
        sums_((Cell::kSumOnly ? 1 : 2) * rows_ * padded_) {}

  static bool serves(const Sizes& sizes) {
    return sizes.time_steps == 1 && sizes.rows <= kMostRowsOfAStep;
  }

  Outcome run() {
    if (!states_.data() || !sums_.data()) return Outcome::kNoMemory;
    for (long row = 0; row < rows_; ++row) {
      memcpy(states_.data() + row * units_, before(0, row), units_ * sizeof(float));
      memcpy(z(row), call_.b_x, columns_ * sizeof(float));
      if constexpr (!Cell::kSumOnly) memcpy(m(row), call_.b_h, columns_ * sizeof(float));
    }
    add(call_.xs, call_.w_x, inputs_, z(0));
    add(states_.data(), call_.w_h, units_, m(0));
    for (long row = 0; row < rows_; ++row) {
      for (long unit = 0; unit < units_; unit += kLanes) finish(row, unit);
    }
    return Outcome::kDone;
  }

 private:
  static constexpr int G = Cell::kGates;
  static constexpr int K = 8;  // rows of weights that are added together

  // A multiple of K, so that sums do not depend on how many threads there are.
  long depth_of_a_meeting() const {
    if (team_.most() == 1) return inputs_ + units_;
    return divided_up(divided_up(kWeightsOfAMeeting, columns_), K) * K;
  }

  uint8_t flag(long row) const { return call_.flags ? call_.flags[row] : uint8_t{kValid}; }
  float* z(long row) const { return sums_.data() + row * padded_; }
  float* m(long row) const { return sums_.data() + ((Cell::kSumOnly ? 0 : rows_) + row) * padded_; }
  const float* before(int state, long row) const {
    return ((flag(row) & kReset) ? call_.fresh : call_.carry)[state] + row * units_;
  }

  // sums[row] += Σ_k values[row][k] weights[k]
  void add(const float* values, const float* weights, long depth, float* sums) {
    for (long first = 0; first < depth; first += depth_of_a_meeting_) {
      const long last = first + depth_of_a_meeting_ < depth ? first + depth_of_a_meeting_ : depth;
      piece_ = {values, weights, sums, depth, first, last};
      if (team_.most() == 1) {
        add_columns(0, columns_);
      } else {
        team_.together(&add_share, this);
      }
    }
  }

  static void add_share(void* context, int member, int members) {
    const auto& self = *static_cast<Step*>(context);
    const long blocks = self.padded_ / kLanes;
    const long end = blocks * (member + 1) / members * kLanes;
    self.add_columns(blocks * member / members * kLanes, end < self.columns_ ? end : self.columns_);
  }

  void add_columns(long begin, long end) const {
    for_tiles<int{kMostRowsOfAStep}>(0, rows_, [&](long, auto count) {
      constexpr int R = decltype(count)::value;
      long k = piece_.first;
      for (; k + K <= piece_.last; k += K) add_rows<R, K>(k, begin, end);
      for (; k < piece_.last; ++k) add_rows<R, 1>(k, begin, end);
    });
  }

  // Rows [k, k + Rows) of the weights, in some columns.
  template <int R, int Rows>
  RNNJAX_INLINE void add_rows(long k, long begin, long end) const {
    Vec values[R][Rows];
    RNNJAX_UNROLL for (int r = 0; r < R; ++r) {
      RNNJAX_UNROLL for (int i = 0; i < Rows; ++i) {
        values[r][i] = broadcast(piece_.values[r * piece_.depth + k + i]);
      }
    }
    const float* weights = piece_.weights + k * columns_;
    long column = begin;
    for (; column + kLanes <= end; column += kLanes) {
      add_vector<R, Rows>(values, weights + column, column, [](const float* w) { return load(w); });
    }
    if (column < end) {
      const long lanes = end - column;
      add_vector<R, Rows>(values, weights + column, column,
                          [lanes](const float* w) { return load_first(w, lanes); });
    }
  }

  template <int R, int Rows, class Load>
  RNNJAX_INLINE void add_vector(const Vec (&values)[R][Rows], const float* weights, long column,
                                const Load& load_weights) const {
    Vec w[Rows];
    RNNJAX_UNROLL for (int i = 0; i < Rows; ++i) w[i] = load_weights(weights + i * columns_);
    RNNJAX_UNROLL for (int r = 0; r < R; ++r) {
      float* to = piece_.sums + r * padded_ + column;
      Vec even = load(to), odd = {};
      RNNJAX_UNROLL for (int i = 0; i < Rows; i += 2) {
        even += values[r][i] * w[i];
        if constexpr (Rows > 1) odd += values[r][i + 1] * w[i + 1];
      }
      store(to, even + odd);
    }
  }

  void finish(long row, long unit) const {
    const long lanes = units_ - unit;
    Vec zs[G], ms[G], in[Cell::kStates], out[Cell::kStates], saved[Cell::kSaved];
    RNNJAX_UNROLL for (int g = 0; g < G; ++g) {
      zs[g] = load_first(z(row) + g * units_ + unit, lanes);
      ms[g] = Cell::kSumOnly ? Vec{} : load_first(m(row) + g * units_ + unit, lanes);
    }
    RNNJAX_UNROLL for (int i = 0; i < Cell::kStates; ++i) {
      in[i] = load_first(before(i, row) + unit, lanes);
    }
    Cell::forward(zs, ms, in, out, saved);
    float* ys = call_.ys + row * units_ + unit;
    if (flag(row) & kValid) {
      store_first(ys, out[0], lanes);
      if (call_.saved) {
        const long stride = call_.sizes.saved_units();
        float* to = call_.saved + row * Cell::kSaved * stride + unit;
        RNNJAX_UNROLL for (int s = 0; s < Cell::kSaved; ++s) store(to + s * stride, saved[s]);
      }
    } else {
      store_first(ys, Vec{}, lanes);
      RNNJAX_UNROLL for (int i = 0; i < Cell::kStates; ++i) out[i] = in[i];
    }
    RNNJAX_UNROLL for (int i = 0; i < Cell::kStates; ++i) {
      store_first(call_.last[i] + row * units_ + unit, out[i], lanes);
    }
  }

  struct Piece {
    const float* values;
    const float* weights;
    float* sums;
    long depth, first, last;
  };

  const ForwardCall& call_;
  Team& team_;
  const long rows_, inputs_, units_, columns_, padded_, depth_of_a_meeting_;
  const Buffer states_;  // h before the step: (B, H)
  const Buffer sums_;    // z, then m: (B, padded)
  Piece piece_ = {};
};

}  // namespace RNNJAX_INSTRUCTIONS
}  // namespace rnnjax
