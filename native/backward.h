// The sequential part of backpropagation through time.
//
// The loop carries nothing but the cotangent of the carry, and writes down those of the gates. The
// gradients of weights and inputs are large products over all of time, which come after it.
#pragma once

#include "calls.h"
#include "forward.h"
#include "panels.h"
#include "team.h"

namespace rnnjax {
namespace RNNJAX_INSTRUCTIONS {

template <class Cell>
class Backward {
 public:
  Backward(const BackwardCall& call, Team& team)
      : call_(call),
        team_(team),
        steps_(call.sizes.time_steps),
        rows_(call.sizes.rows),
        units_(call.sizes.hidden_size),
        panels_(divided_up(units_, C * kLanes)),
        padded_(panels_ * C * kLanes),
        weights_(panels_ * G * units_ * C * kLanes),
        states_(2 * Cell::kStates * rows_ * padded_) {}

  Outcome run() {
    if (!weights_.data() || !states_.data()) return Outcome::kNoMemory;
    enter();
    team_.together(&pack_all, this);
    const Share share = best_share(call_.sizes, G, panels_, team_.most());
    if (share == Share::kUnits) {
      const long chunk = divided_up(kMostProjectedRows, rows_);
      for (begin_ = 0; begin_ < steps_; begin_ = end_) {
        end_ = begin_ + chunk < steps_ ? begin_ + chunk : steps_;
        team_.together(&chunk_of_units, this);
      }
    } else if (share == Share::kRows) {
      team_.together(&all_of_rows, this);
    } else {
      run_rows(0, rows_);
    }
    leave();
    return Outcome::kDone;
  }

 private:
  static constexpr int G = Cell::kGates;
  static constexpr int C = 4;  // blocks of units in a panel
  static constexpr int R = rows_of_tile(C);

  // The step that ran last is the first here.
  long time(long step) const { return call_.reverse ? step : steps_ - 1 - step; }
  float* cotangent(int state, long row) const {
    return states_.data() + (state * rows_ + row) * padded_;
  }
  float* fresh_cotangent(int state, long row) const {
    return cotangent(Cell::kStates + state, row);
  }
  float* mixed() const { return Cell::kSumOnly ? call_.dz : call_.dm; }

  void enter() {
    memset(states_.data(), 0, 2 * Cell::kStates * rows_ * padded_ * sizeof(float));
    for (int i = 0; i < Cell::kStates; ++i) {
      for (long row = 0; row < rows_; ++row) {
        memcpy(cotangent(i, row), call_.dlast[i] + row * units_, units_ * sizeof(float));
      }
    }
  }

  void leave() {
    for (int i = 0; i < Cell::kStates; ++i) {
      for (long row = 0; row < rows_; ++row) {
        const size_t bytes = units_ * sizeof(float);
        memcpy(call_.dcarry[i] + row * units_, cotangent(i, row), bytes);
        memcpy(call_.dfresh[i] + row * units_, fresh_cotangent(i, row), bytes);
      }
    }
  }

  static void pack_all(void* context, int, int) {
    auto& self = *static_cast<Backward*>(context);
    const long depth = G * self.units_;
    for (long panel; (panel = self.team_.claim()) < self.panels_;) {
      pack_transposed<C>(self.call_.w_h, self.units_, depth, panel,
                         self.weights_.data() + panel * depth * C * kLanes);
    }
  }

  static void chunk_of_units(void* context, int member, int members) {
    auto& self = *static_cast<Backward*>(context);
    const long first = self.panels_ * member / members;
    const long last = self.panels_ * (member + 1) / members;
    for (long step = self.begin_; step < self.end_; ++step) {
      self.gate(first, last, 0, self.rows_, step);
      if (members > 1) self.team_.wait_for_all(member);
      self.mix(first, last, 0, self.rows_, step);
    }
  }

  static void all_of_rows(void* context, int, int) {
    auto& self = *static_cast<Backward*>(context);
    const long groups = self.team_.most();
    for (long group; (group = self.team_.claim()) < groups;) {
      self.run_rows(self.rows_ * group / groups, self.rows_ * (group + 1) / groups);
    }
  }

  void run_rows(long first, long last) const {
    for (long step = 0; step < steps_; ++step) {
      gate(0, panels_, first, last, step);
      mix(0, panels_, first, last, step);
    }
  }

  // Through the gates: the cotangents of z and m, and of the old carry but for what goes through m.
  void gate(long first_panel, long last_panel, long first_row, long last_row, long step) const {
    const long t = time(step), stride = call_.sizes.saved_units();
    const long first_unit = first_panel * C * kLanes;
    const long last_unit = last_panel * C * kLanes < units_ ? last_panel * C * kLanes : units_;
    for (long row = first_row; row < last_row; ++row) {
      const long place = t * rows_ + row;
      const bool valid = !call_.flags || (call_.flags[place] & kValid);
      for (long unit = first_unit; unit < last_unit; unit += kLanes) {
        const long lanes = units_ - unit;
        Vec dz[G] = {}, dm[G] = {};
        if (valid) {
          Vec saved[Cell::kSaved], d[Cell::kStates];
          const float* from = call_.saved + place * Cell::kSaved * stride + unit;
          RNNJAX_UNROLL for (int s = 0; s < Cell::kSaved; ++s) saved[s] = load(from + s * stride);
          RNNJAX_UNROLL for (int i = 0; i < Cell::kStates; ++i) d[i] = load(cotangent(i, row) + unit);
          d[0] += load_first(call_.dys + place * units_ + unit, lanes);
          Cell::backward(saved, d, dz, dm);
          RNNJAX_UNROLL for (int i = 0; i < Cell::kStates; ++i) store(cotangent(i, row) + unit, d[i]);
        }
        RNNJAX_UNROLL for (int g = 0; g < G; ++g) {
          const long to = place * G * units_ + g * units_ + unit;
          store_first(call_.dz + to, dz[g], lanes);
          if (!Cell::kSumOnly) store_first(call_.dm + to, dm[g], lanes);
        }
      }
    }
  }

  // Through the recurrent weights, dh += dm W_hᵀ; then a reset takes the carry's cotangent away.
  void mix(long first_panel, long last_panel, long first_row, long last_row, long step) const {
    const long t = time(step), depth = G * units_;
    const float* from = mixed() + t * rows_ * depth;
    for (long panel = first_panel; panel < last_panel; ++panel) {
      const float* weights = weights_.data() + panel * depth * C * kLanes;
      for_tiles<R>(first_row, last_row, [&](long first, auto count) {
        constexpr int K = decltype(count)::value;
        const float* dms[K];
        RNNJAX_UNROLL for (int r = 0; r < K; ++r) dms[r] = from + (first + r) * depth;
        Vec sums[K][C];
        clear(sums);
        accumulate<K, C>(sums, dms, weights, depth);
        RNNJAX_UNROLL for (int r = 0; r < K; ++r) {
          finish(panel, first + r, t, sums[r]);
        }
      });
    }
  }

  RNNJAX_INLINE void finish(long panel, long row, long t, const Vec (&sums)[C]) const {
    const uint8_t flag = call_.flags ? call_.flags[t * rows_ + row] : uint8_t{kValid};
    if (!(flag & kValid)) return;
    const long unit = panel * C * kLanes;
    RNNJAX_UNROLL for (int c = 0; c < C; ++c) {
      float* dh = cotangent(0, row) + unit + c * kLanes;
      store(dh, load(dh) + sums[c]);
    }
    if (!(flag & kReset)) return;
    for (int i = 0; i < Cell::kStates; ++i) {
      for (int c = 0; c < C; ++c) {
        float* d = cotangent(i, row) + unit + c * kLanes;
        float* fresh = fresh_cotangent(i, row) + unit + c * kLanes;
        store(fresh, load(fresh) + load(d));
        store(d, Vec{});
      }
    }
  }

  const BackwardCall& call_;
  Team& team_;
  const long steps_, rows_, units_, panels_, padded_;
  const Buffer weights_;  // the recurrent ones transposed: (panel, G H, C, lanes)
  const Buffer states_;   // cotangents of the carry, then of the fresh one: (leaf, B, padded)
  long begin_ = 0, end_ = 0;
};

template <class Cell>
Outcome backward(const BackwardCall& call, Team& team) {
  return Backward<Cell>(call, team).run();
}

}  // namespace RNNJAX_INSTRUCTIONS
}  // namespace rnnjax
