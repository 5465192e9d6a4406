// Running a recurrence over all of time.
//
// The inputs of some steps at a time are projected together, which reads the input weights once for
// many rows; then step after step mixes the state and gates. Nothing but the outputs, and what a
// backward pass needs, is written to memory that is not in a cache.
//
// Threads share either rows, and then never meet, or hidden units, and then meet once a step.
#pragma once

#include "calls.h"
#include "panels.h"
#include "step.h"
#include "team.h"

namespace rnnjax {
namespace RNNJAX_INSTRUCTIONS {

constexpr long kCacheOfAThread = 1L << 20;  // bytes of recurrent weights that stay near one core
constexpr long kLeastRowsOfAThread = 3;
constexpr long kBytesOfProjections = 1L << 20;
constexpr long kMostProjectedRows = 512;
constexpr long kPanelsOfAPack = 4;

enum class Share { kNothing, kRows, kUnits };

// blocks: what hidden units are shared in.
inline Share best_share(const Sizes& sizes, int gates, long blocks, int threads) {
  const long weights = sizes.hidden_size * sizes.hidden_size * gates;
  if (threads == 1) return Share::kNothing;
  const bool near = weights * static_cast<long>(sizeof(float)) <= kCacheOfAThread;
  if (sizes.rows >= threads * kLeastRowsOfAThread && (near || blocks < threads)) return Share::kRows;
  if (weights * sizes.rows < kLeastWorkOfAMeeting || blocks < threads) {
    return sizes.rows >= threads && sizes.rows > 1 ? Share::kRows : Share::kNothing;
  }
  return Share::kUnits;
}

template <class Cell>
class Forward {
 public:
  Forward(const ForwardCall& call, Team& team)
      : call_(call),
        team_(team),
        steps_(call.sizes.time_steps),
        rows_(call.sizes.rows),
        inputs_(call.sizes.input_size),
        units_(call.sizes.hidden_size),
        panels_(divided_up(units_, N * kLanes)),
        padded_(panels_ * N * kLanes),
        chunk_(chunk_steps()),
        share_(best_share(call.sizes, G, panels_, team.most())),
        packs_as_used_(steps_ <= chunk_ && share_ != Share::kRows),
        w_x_((packs_as_used_ ? team.most() : panels_) * inputs_ * C * kLanes),
        w_h_(panels_ * units_ * C * kLanes),
        biases_(2 * panels_ * C * kLanes),
        projected_(panels_ * chunk_ * rows_ * C * kLanes),
        states_((2 + Cell::kStates - 1) * rows_ * padded_) {}

  Outcome run() {
    if (!w_x_.data() || !w_h_.data() || !biases_.data() || !projected_.data() || !states_.data()) {
      return Outcome::kNoMemory;
    }
    enter();
    team_.together(&pack_all, this);
    for (begin_ = 0; begin_ < steps_; begin_ += chunk_) {
      // A chunk a call, so that a helper who comes late still has its share of the rest.
      if (share_ == Share::kUnits) {
        team_.together(&chunk_of_units, this);
      } else if (share_ == Share::kRows) {
        team_.together(&chunk_of_rows, this);
      } else {
        run_rows(0, rows_, 0);
      }
    }
    leave();
    return Outcome::kDone;
  }

 private:
  static constexpr int G = Cell::kGates;
  static constexpr int N = 4 / G > 0 ? 4 / G : 1;  // blocks of units in a panel
  static constexpr int C = G * N;
  static constexpr int R = rows_of_tile(C);

  long chunk_steps() const {
    const long bytes_of_a_row = padded_ * G * static_cast<long>(sizeof(float));
    long rows = kBytesOfProjections * team_.most() / bytes_of_a_row;
    rows = rows < kMostProjectedRows ? rows : kMostProjectedRows;
    const long steps = rows / rows_;
    return steps < 1 ? 1 : steps < steps_ ? steps : steps_;
  }

  long time(long step) const { return call_.reverse ? steps_ - 1 - step : step; }
  float* h(long step) const { return states_.data() + (step % 2) * rows_ * padded_; }
  float* other_state(int i) const { return states_.data() + (1 + i) * rows_ * padded_; }
  uint8_t flag(long step, long row) const { return call_.flags[time(step) * rows_ + row]; }

  // The carry before the first step, in padded rows.
  void enter() {
    memset(states_.data(), 0, (2 + Cell::kStates - 1) * rows_ * padded_ * sizeof(float));
    for (int i = 0; i < Cell::kStates; ++i) {
      float* to = i == 0 ? h(0) : other_state(i);
      for (long row = 0; row < rows_; ++row) {
        const bool reset = call_.flags && (flag(0, row) & kReset);
        const float* from = (reset ? call_.fresh : call_.carry)[i] + row * units_;
        memcpy(to + row * padded_, from, units_ * sizeof(float));
      }
    }
  }

  void leave() {
    for (int i = 0; i < Cell::kStates; ++i) {
      const float* from = i == 0 ? h(steps_) : other_state(i);
      for (long row = 0; row < rows_; ++row) {
        memcpy(call_.last[i] + row * units_, from + row * padded_, units_ * sizeof(float));
      }
    }
  }

  static void pack_all(void* context, int, int) {
    auto& self = *static_cast<Forward*>(context);
    for (long first; (first = kPanelsOfAPack * self.team_.claim()) < self.panels_;) {
      const long last = first + kPanelsOfAPack < self.panels_ ? first + kPanelsOfAPack : self.panels_;
      self.pack_panels(self.call_.w_h, self.units_, first, last, self.w_h_.data());
      float* b_x = self.biases_.data();
      float* b_h = b_x + self.panels_ * C * kLanes;
      self.pack_panels(self.call_.b_x, 1, first, last, b_x);
      if (self.call_.b_h) {
        self.pack_panels(self.call_.b_h, 1, first, last, b_h);
      } else {
        memset(b_h + first * C * kLanes, 0, (last - first) * C * kLanes * sizeof(float));
      }
      if (self.packs_as_used_) continue;
      self.pack_panels(self.call_.w_x, self.inputs_, first, last, self.w_x_.data());
    }
  }

  void pack_panels(const float* weights, long depth, long first, long last, float* packed) const {
    pack<G, N>(weights, depth, units_, first, last, packed + first * depth * C * kLanes);
  }

  static void chunk_of_units(void* context, int member, int members) {
    auto& self = *static_cast<Forward*>(context);
    long first = self.panels_ * member / members;
    long last = self.panels_ * (member + 1) / members;
    const long end = self.end_of_chunk();
    self.project(first, last, 0, self.rows_, self.begin_, end, member);
    for (long step = self.begin_; step < end; ++step) {
      self.advance(first, last, 0, self.rows_, step, step - self.begin_);
      if (members == 1 || self.team_.wait_for_all(member)) continue;
      if (member != 0) return;
      members = 1;
      first = 0;
      last = self.panels_;
    }
  }

  static void chunk_of_rows(void* context, int member, int members) {
    auto& self = *static_cast<Forward*>(context);
    // The same tiles, and so the same sums to the bit, whoever has come.
    const long groups = self.team_.most();
    for (long group = member; group < groups; group += members) {
      self.run_rows(self.rows_ * group / groups, self.rows_ * (group + 1) / groups, member);
    }
  }

  void run_rows(long first, long last, int member) const {
    const long end = end_of_chunk();
    project(0, panels_, first, last, begin_, end, member);
    for (long step = begin_; step < end; ++step) {
      advance(0, panels_, first, last, step, step - begin_);
    }
  }

  long end_of_chunk() const { return begin_ + chunk_ < steps_ ? begin_ + chunk_ : steps_; }

  float* projected(long panel, long step_of_chunk, long row) const {
    return projected_.data() + ((panel * chunk_ + step_of_chunk) * rows_ + row) * C * kLanes;
  }

  // z = x W_x + b_x of some panels, rows and steps.
  void project(long first_panel, long last_panel, long first_row, long last_row, long begin, long end,
               int member) const {
    const long width = last_row - first_row;
    for (long panel = first_panel; panel < last_panel; ++panel) {
      float* weights = w_x_.data() + (packs_as_used_ ? member : panel) * inputs_ * C * kLanes;
      if (packs_as_used_) pack<G, N>(call_.w_x, inputs_, units_, panel, panel + 1, weights);
      const float* bias = biases_.data() + panel * C * kLanes;
      const bool has_next = panel + 1 < last_panel && !packs_as_used_;
      const float* next = has_next ? weights + inputs_ * C * kLanes : weights;
      long tile = 0;
      for_tiles<R>(0, (end - begin) * width, [&](long first, auto count) {
        constexpr int K = decltype(count)::value;
        const float* xs[K];
        float* to[K];
        for (int r = 0; r < K; ++r) {
          const long step = (first + r) / width, row = first_row + (first + r) % width;
          xs[r] = call_.xs + (time(begin + step) * rows_ + row) * inputs_;
          to[r] = projected(panel, step, row);
        }
        Vec sums[K][C];
        for (int r = 0; r < K; ++r) {
          RNNJAX_UNROLL for (int c = 0; c < C; ++c) sums[r][c] = load(bias + c * kLanes);
        }
        const float* ahead = ahead_of_tile(next, tile++, inputs_, C, weights);
        accumulate<K, C>(sums, xs, weights, inputs_, ahead);
        for (int r = 0; r < K; ++r) {
          RNNJAX_UNROLL for (int c = 0; c < C; ++c) store(to[r] + c * kLanes, sums[r][c]);
        }
      });
    }
  }

  // One step of some panels and rows.
  void advance(long first_panel, long last_panel, long first_row, long last_row, long step,
               long step_of_chunk) const {
    const float* state = h(step);
    for (long panel = first_panel; panel < last_panel; ++panel) {
      const float* weights = w_h_.data() + panel * units_ * C * kLanes;
      const float* bias = biases_.data() + (panels_ + panel) * C * kLanes;
      const long following = panel + 1 < last_panel ? panel + 1 : first_panel;  // of the next step
      const float* next = w_h_.data() + following * units_ * C * kLanes;
      long tile = 0;
      for_tiles<R>(first_row, last_row, [&](long first, auto count) {
        constexpr int K = decltype(count)::value;
        const float* states[K];
        RNNJAX_UNROLL for (int r = 0; r < K; ++r) states[r] = state + (first + r) * padded_;
        Vec sums[K][C];
        RNNJAX_UNROLL for (int r = 0; r < K; ++r) {
          RNNJAX_UNROLL for (int c = 0; c < C; ++c) {
            sums[r][c] = Cell::kSumOnly ? Vec{} : load(bias + c * kLanes);
          }
        }
        const float* ahead = ahead_of_tile(next, tile++, units_, C, weights);
        accumulate<K, C>(sums, states, weights, units_, ahead);
        RNNJAX_UNROLL for (int r = 0; r < K; ++r) {
          finish(panel, first + r, step, projected(panel, step_of_chunk, first + r), sums[r]);
        }
      });
    }
  }

  // Gate one row of one panel, and write down what comes of it.
  RNNJAX_INLINE void finish(long panel, long row, long step, const float* zs,
                            const Vec (&sums)[C]) const {
    const long t = time(step);
    uint8_t here = kValid, next = kValid;
    if (call_.flags) {
      here = flag(step, row);
      if (step + 1 < steps_) next = flag(step + 1, row);
    }
    RNNJAX_UNROLL for (int n = 0; n < N; ++n) {
      const long unit = (panel * N + n) * kLanes;
      if (unit >= units_) continue;
      const long lanes = units_ - unit;
      Vec z[G], m[G], in[Cell::kStates], out[Cell::kStates], saved[Cell::kSaved];
      RNNJAX_UNROLL for (int g = 0; g < G; ++g) {
        z[g] = load(zs + (n * G + g) * kLanes);
        m[g] = sums[n * G + g];
      }
      float* places[Cell::kStates];
      in[0] = load(h(step) + row * padded_ + unit);
      places[0] = h(step + 1) + row * padded_ + unit;
      RNNJAX_UNROLL for (int i = 1; i < Cell::kStates; ++i) {
        places[i] = other_state(i) + row * padded_ + unit;
        in[i] = load(places[i]);
      }
      Cell::forward(z, m, in, out, saved);
      float* ys = call_.ys + (t * rows_ + row) * units_ + unit;
      if (here & kValid) {
        store_first(ys, out[0], lanes);
        if (call_.saved) {
          const long stride = call_.sizes.saved_units();
          float* to = call_.saved + (t * rows_ + row) * Cell::kSaved * stride + unit;
          RNNJAX_UNROLL for (int s = 0; s < Cell::kSaved; ++s) store(to + s * stride, saved[s]);
        }
      } else {
        store_first(ys, Vec{}, lanes);
        RNNJAX_UNROLL for (int i = 0; i < Cell::kStates; ++i) out[i] = in[i];
      }
      if (next & kReset) {
        RNNJAX_UNROLL for (int i = 0; i < Cell::kStates; ++i) {
          out[i] = load_first(call_.fresh[i] + row * units_ + unit, lanes);
        }
      }
      RNNJAX_UNROLL for (int i = 0; i < Cell::kStates; ++i) store(places[i], out[i]);
    }
  }

  const ForwardCall& call_;
  Team& team_;
  const long steps_, rows_, inputs_, units_, panels_, padded_, chunk_;
  const Share share_;
  const bool packs_as_used_;  // input weights, where no other chunk needs them again
  const Buffer w_x_, w_h_;    // (panel, depth, C, lanes); of w_x one panel a member if packed as used
  const Buffer biases_;     // of z, then of m: (panel, C, lanes)
  const Buffer projected_;  // (panel, step of a chunk, row, C, lanes)
  const Buffer states_;     // h before and after a step by turns, then the other leaves: (B, padded)
  long begin_ = 0;
};

template <class Cell>
Outcome forward(const ForwardCall& call, Team& team) {
  if (Step<Cell>::serves(call.sizes)) return Step<Cell>(call, team).run();
  return Forward<Cell>(call, team).run();
}

}  // namespace RNNJAX_INSTRUCTIONS
}  // namespace rnnjax
