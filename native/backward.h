// Backpropagation through time.
//
// The loop carries nothing but the cotangent of the carry, and writes those of the gates into a buffer
// of some steps. Then the gradients of weights and inputs take these steps at once, in large products,
// while the buffer is still in a cache; the cotangents of the gates of all time are never in memory.
#pragma once

#include "calls.h"
#include "forward.h"
#include "panels.h"
#include "team.h"

namespace rnnjax {
namespace RNNJAX_INSTRUCTIONS {

// About so many rows of steps and batch share a product: more where the sums of a gradient, which are
// read and written for each, do not stay in the cache of a core.
constexpr long kRowsOfAProduct = 256, kRowsOfALargeProduct = 1024;
constexpr long kLargeGradient = 1 << 18;  // numbers

// Of a panel of transposed weights so much is used for all rows before the rest is touched: a quarter of a
// megabyte, which stays in the cache of a core, where a whole panel of 1024 units does not.
constexpr long kDepthOfABlock = 1024;

template <class Cell>
class Backward {
 public:
  Backward(const BackwardCall& call, Team& team)
      : call_(call),
        team_(team),
        steps_(call.sizes.time_steps),
        rows_(call.sizes.rows),
        inputs_(call.sizes.input_size),
        units_(call.sizes.hidden_size),
        panels_(divided_up(units_, N * kLanes)),
        state_panels_(divided_up(units_, kColumns * kLanes)),
        input_panels_(divided_up(inputs_, kColumns * kLanes)),
        padded_(state_panels_ * kColumns * kLanes),
        depth_(panels_ * C * kLanes),
        chunk_(chunk_steps()),
        share_(best_share(call.sizes, G, state_panels_, team.most())),
        w_h_(state_panels_ * depth_ * kColumns * kLanes),
        packs_as_used_(steps_ <= chunk_),
        w_x_(call.dxs ? (packs_as_used_ ? team.most() : input_panels_) * depth_ * kColumns * kLanes
                      : 0),
        dz_(chunk_ * rows_ * depth_),
        dm_(Cell::kSumOnly ? 0 : chunk_ * rows_ * depth_),
        states_(2 * Cell::kStates * rows_ * padded_),
        entered_(chunk_ * rows_ * divided_up(units_, kTile) * kTile),
        tiled_xs_(chunk_ * rows_ * divided_up(inputs_, kTile) * kTile) {}

  Outcome run() {
    for (const Buffer* buffer : {&w_h_, &w_x_, &dz_, &dm_, &states_, &entered_, &tiled_xs_}) {
      if (!buffer->data()) return Outcome::kNoMemory;
    }
    enter();
    team_.together(&pack_all, this);
    for (long begin = 0; begin < steps_; begin += chunk_) {
      const long end = begin + chunk_ < steps_ ? begin + chunk_ : steps_;
      first_step_ = begin;
      last_step_ = end;
      // In the order of memory.
      first_time_ = call_.reverse ? begin : steps_ - end;
      last_time_ = call_.reverse ? end : steps_ - begin;
      if (share_ == Share::kUnits) {
        team_.together(&steps_of_units, this);
      } else if (share_ == Share::kRows) {
        team_.together(&steps_of_rows, this);
      } else {
        run_rows(0, rows_);
      }
      team_.together(&products, this);
    }
    leave();
    return Outcome::kDone;
  }

 private:
  static constexpr int G = Cell::kGates;
  static constexpr int N = 4 / G > 0 ? 4 / G : 1;  // blocks of units in a panel of gates
  static constexpr int C = G * N;
  static constexpr int kColumns = 4;  // vectors in a panel of states or inputs
  static constexpr int R = rows_of_tile(kColumns);
  static constexpr int kTile = rows_of_tile(C);
  static constexpr long kNumbersOfAPart = C * kLanes * kColumns * kLanes;  // a panel of gates in one of states

  long chunk_steps() const {
    const bool large = (inputs_ + units_) * G * units_ > kLargeGradient;
    const long steps = divided_up(large ? kRowsOfALargeProduct : kRowsOfAProduct, rows_);
    return steps < steps_ ? steps : steps_;
  }

  // The step that ran last is the first here.
  long time(long step) const { return call_.reverse ? step : steps_ - 1 - step; }
  uint8_t flag(long t, long row) const {
    return call_.flags ? call_.flags[t * rows_ + row] : uint8_t{kValid};
  }
  float* cotangent(int state, long row) const {
    return states_.data() + (state * rows_ + row) * padded_;
  }
  float* fresh_cotangent(int state, long row) const {
    return cotangent(Cell::kStates + state, row);
  }
  // Rows of a panel of gates lie side by side: (panel, step of the chunk, row, C, lanes).
  long place(long t, long row) const { return (t - first_time_) * rows_ + row; }
  long panel_stride() const { return chunk_ * rows_ * C * kLanes; }
  const Buffer& mixed() const { return Cell::kSumOnly ? dz_ : dm_; }

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
    const long input_panels = self.call_.dxs && !self.packs_as_used_ ? self.input_panels_ : 0;
    for (long item; (item = self.team_.claim()) < self.state_panels_ + input_panels;) {
      if (item < self.state_panels_) {
        pack_transposed<G, N, kColumns>(self.call_.w_h, self.units_, self.units_, item,
                                        self.panel_of(self.w_h_, item));
      } else {
        const long panel = item - self.state_panels_;
        pack_transposed<G, N, kColumns>(self.call_.w_x, self.inputs_, self.units_, panel,
                                        self.panel_of(self.w_x_, panel));
      }
    }
  }

  float* panel_of(const Buffer& weights, long panel) const {
    return weights.data() + panel * depth_ * kColumns * kLanes;
  }

  static void steps_of_units(void* context, int member, int members) {
    auto& self = *static_cast<Backward*>(context);
    long first = self.state_panels_ * member / members;
    long last = self.state_panels_ * (member + 1) / members;
    for (long step = self.first_step_; step < self.last_step_; ++step) {
      self.gate(first, last, 0, self.rows_, step);
      if (members > 1 && !self.team_.wait_for_all(member)) {
        if (member != 0) return;
        members = 1;
        first = 0;
        last = self.state_panels_;
      }
      self.mix(first, last, 0, self.rows_, step);
    }
  }

  static void steps_of_rows(void* context, int member, int members) {
    auto& self = *static_cast<Backward*>(context);
    // The same tiles, and so the same sums to the bit, whoever has come.
    const long groups = self.team_.most();
    for (long group = member; group < groups; group += members) {
      self.run_rows(self.rows_ * group / groups, self.rows_ * (group + 1) / groups);
    }
  }

  void run_rows(long first, long last) const {
    for (long step = first_step_; step < last_step_; ++step) {
      gate(0, state_panels_, first, last, step);
      mix(0, state_panels_, first, last, step);
    }
  }

  // Through the gates: the cotangents of z and m, and of the old carry but for what goes through m.
  void gate(long first_panel, long last_panel, long first_row, long last_row, long step) const {
    const long t = time(step), stride = call_.sizes.saved_units();
    const long first_block = first_panel * kColumns;
    const long blocks = panels_ * N;
    const long last_block = last_panel * kColumns < blocks ? last_panel * kColumns : blocks;
    for (long block = first_block; block < last_block; ++block) {
      const long unit = block * kLanes, lanes = units_ - unit;
      const long offset = block / N * panel_stride() + (block % N) * G * kLanes;
      for (long row = first_row; row < last_row; ++row) {
        Vec dz[G] = {}, dm[G] = {};
        if (lanes > 0 && (flag(t, row) & kValid)) {
          Vec saved[Cell::kSaved], d[Cell::kStates];
          const float* from = call_.saved + (t * rows_ + row) * Cell::kSaved * stride + unit;
          RNNJAX_UNROLL for (int s = 0; s < Cell::kSaved; ++s) saved[s] = load(from + s * stride);
          RNNJAX_UNROLL for (int i = 0; i < Cell::kStates; ++i) d[i] = load(cotangent(i, row) + unit);
          d[0] += load_first(call_.dys + (t * rows_ + row) * units_ + unit, lanes);
          Cell::backward(saved, d, dz, dm);
          RNNJAX_UNROLL for (int i = 0; i < Cell::kStates; ++i) store(cotangent(i, row) + unit, d[i]);
        }
        const long to = offset + place(t, row) * C * kLanes;
        RNNJAX_UNROLL for (int g = 0; g < G; ++g) {
          store(dz_.data() + to + g * kLanes, dz[g]);
          if (!Cell::kSumOnly) store(dm_.data() + to + g * kLanes, dm[g]);
        }
      }
    }
  }

  // f(first, last, following): panels of gates in blocks of depth, and where the next block begins.
  template <class F>
  RNNJAX_INLINE void for_blocks(const float* weights, const float* next, const F& f) const {
    constexpr long most = kDepthOfABlock / (C * kLanes);
    for (long first = 0; first < panels_; first += most) {
      const long last = first + most < panels_ ? first + most : panels_;
      f(first, last, last < panels_ ? weights + last * kNumbersOfAPart : next);
    }
  }

  // sums[r] = Σ over gates of panels [first, last) of a row of `cotangents`, times transposed weights.
  template <int K>
  RNNJAX_INLINE void through(const Buffer& cotangents, const float* weights, long first, long last,
                             const float* next, long tile, const long (&places)[K],
                             Vec (&sums)[K][kColumns]) const {
    clear(sums);
    const float* packed = weights + first * kNumbersOfAPart;
    const float* ahead =
        ahead_of_tile(next, tile, (last - first) * C * kLanes, kColumns, packed);
    const float* from = cotangents.data() + first * panel_stride();
    for (long p = first; p < last; ++p, from += panel_stride()) {
      const float* rows[K];
      RNNJAX_UNROLL for (int r = 0; r < K; ++r) rows[r] = from + places[r] * C * kLanes;
      accumulate<K, kColumns>(sums, rows, packed, C * kLanes, ahead);
      ahead += C * kLanes * kLinesAhead * kLine;
      packed += kNumbersOfAPart;
    }
  }

  // Through the recurrent weights, dh += dm W_hᵀ; then a reset takes the carry's cotangent away.
  void mix(long first_panel, long last_panel, long first_row, long last_row, long step) const {
    const long t = time(step);
    for (long panel = first_panel; panel < last_panel; ++panel) {
      const float* weights = panel_of(w_h_, panel);
      const float* following = panel_of(w_h_, panel + 1 < last_panel ? panel + 1 : first_panel);
      for_blocks(weights, following, [&](long first, long last, const float* next) {
        long tile = 0;
        for_tiles<R>(first_row, last_row, [&](long row, auto count) {
          constexpr int K = decltype(count)::value;
          long places[K];
          RNNJAX_UNROLL for (int r = 0; r < K; ++r) places[r] = place(t, row + r);
          Vec sums[K][kColumns];
          through<K>(mixed(), weights, first, last, next, tile++, places, sums);
          RNNJAX_UNROLL for (int r = 0; r < K; ++r) finish(panel, row + r, t, last == panels_, sums[r]);
        });
      });
    }
  }

  RNNJAX_INLINE void finish(long panel, long row, long t, bool complete,
                            const Vec (&sums)[kColumns]) const {
    const uint8_t here = flag(t, row);
    if (!(here & kValid)) return;
    const long unit = panel * kColumns * kLanes;
    RNNJAX_UNROLL for (int c = 0; c < kColumns; ++c) {
      float* dh = cotangent(0, row) + unit + c * kLanes;
      store(dh, load(dh) + sums[c]);
    }
    if (!complete || !(here & kReset)) return;
    for (int i = 0; i < Cell::kStates; ++i) {
      for (int c = 0; c < kColumns; ++c) {
        float* d = cotangent(i, row) + unit + c * kLanes;
        float* fresh = fresh_cotangent(i, row) + unit + c * kLanes;
        store(fresh, load(fresh) + load(d));
        store(d, Vec{});
      }
    }
  }

  // The state that a step saw, if the step is one; it may be NaN elsewhere, and 0 NaN is NaN.
  const float* entered(long t, long row) const {
    const uint8_t here = flag(t, row);
    if (!(here & kValid)) return nullptr;
    if (here & kReset) return call_.fresh[0] + row * units_;
    const long before = call_.reverse ? t + 1 : t - 1;
    const bool first = before < 0 || before >= steps_ || !(flag(before, row) & kValid);
    return first ? call_.carry[0] + row * units_ : call_.ys + (before * rows_ + row) * units_;
  }

  // The products of a chunk, shared out by what they add to. What they read is gathered first.
  static void products(void* context, int member, int members) {
    auto& self = *static_cast<Backward*>(context);
    self.gather(member, members);
    if (members > 1) self.team_.wait_for_all(member);
    const long input_panels = self.call_.dxs ? self.input_panels_ : 0;
    for (long item; (item = self.team_.claim()) < self.panels_ + input_panels;) {
      if (item < self.panels_) {
        self.weight_gradients(item);
      } else {
        self.input_gradients(item - self.panels_, member);
      }
    }
  }

  void gather(int member, int members) const {
    const long count = last_time_ - first_time_;
    const long first = first_time_ + count * member / members;
    const long last = first_time_ + count * (member + 1) / members;
    for (long t = first; t < last; ++t) {
      for (long row = 0; row < rows_; ++row) {
        const float* state = entered(t, row);
        const float* x = state ? call_.xs + (t * rows_ + row) * inputs_ : nullptr;
        const long number = place(t, row), all = chunk_ * rows_;
        put_in_tiles<kTile>(state, units_, number, all, entered_.data());
        put_in_tiles<kTile>(x, inputs_, number, all, tiled_xs_.data());
      }
    }
  }

  void weight_gradients(long panel) const {
    const float* dz = dz_.data() + panel * panel_stride();
    const float* dm = mixed().data() + panel * panel_stride();
    add_outer(tiled_xs_.data(), inputs_, dz, panel, call_.dw_x);
    add_outer(entered_.data(), units_, dm, panel, call_.dw_h);
    add_rows(dz, panel, call_.db_x);
    if (call_.db_h) add_rows(dm, panel, call_.db_h);
  }

  // Sums begin as what earlier chunks left in row `row` of a gradient, and are left there.
  void begin(Vec (&sums)[C], const float* gradient, long row, long panel) const {
    RNNJAX_UNROLL for (int c = 0; c < C; ++c) {
      const long unit = (panel * N + c / G) * kLanes;
      const bool fresh = first_step_ == 0 || unit >= units_;
      sums[c] = fresh ? Vec{} : load_first(gradient + (row * G + c % G) * units_ + unit, units_ - unit);
    }
  }
  void keep(const Vec (&sums)[C], float* gradient, long row, long panel) const {
    RNNJAX_UNROLL for (int c = 0; c < C; ++c) {
      const long unit = (panel * N + c / G) * kLanes;
      if (unit >= units_) continue;
      store_first(gradient + (row * G + c % G) * units_ + unit, sums[c], units_ - unit);
    }
  }

  // gradient[i] += Σ over the rows of the chunk of tiles[i / kTile][row][i % kTile] cotangents[row]
  void add_outer(const float* tiles, long size, const float* cotangents, long panel,
                 float* gradient) const {
    const long depth = (last_time_ - first_time_) * rows_;
    for (long first = 0; first < size; first += kTile) {
      const float* tile = tiles + first * chunk_ * rows_;
      const long columns = size - first < kTile ? size - first : kTile;
      with_constant<kTile>(columns, [&](auto count) {
        constexpr int K = decltype(count)::value;
        Vec sums[K][C];
        RNNJAX_UNROLL for (int r = 0; r < K; ++r) begin(sums[r], gradient, first + r, panel);
        accumulate_outer<K, C>(sums, tile, cotangents, depth);
        RNNJAX_UNROLL for (int r = 0; r < K; ++r) keep(sums[r], gradient, first + r, panel);
      });
    }
  }

  void add_rows(const float* cotangents, long panel, float* gradient) const {
    const long depth = (last_time_ - first_time_) * rows_;
    Vec sums[C];
    begin(sums, gradient, 0, panel);
    for (long k = 0; k < depth; ++k, cotangents += C * kLanes) {
      RNNJAX_UNROLL for (int c = 0; c < C; ++c) sums[c] += load(cotangents + c * kLanes);
    }
    keep(sums, gradient, 0, panel);
  }

  void input_gradients(long panel, int member) const {
    const long first_input = panel * kColumns * kLanes;
    float* weights = panel_of(w_x_, packs_as_used_ ? member : panel);
    if (packs_as_used_) pack_transposed<G, N, kColumns>(call_.w_x, inputs_, units_, panel, weights);
    const bool has_next = panel + 1 < input_panels_ && !packs_as_used_;
    const float* following = has_next ? panel_of(w_x_, panel + 1) : weights;
    for_blocks(weights, following, [&](long first, long last, const float* next) {
      long tile = 0;
      for_tiles<R>(0, (last_time_ - first_time_) * rows_, [&](long row, auto count) {
        constexpr int K = decltype(count)::value;
        long places[K];
        RNNJAX_UNROLL for (int r = 0; r < K; ++r) places[r] = row + r;
        Vec sums[K][kColumns];
        through<K>(dz_, weights, first, last, next, tile++, places, sums);
        for (int r = 0; r < K; ++r) {
          float* to = call_.dxs + (first_time_ * rows_ + row + r) * inputs_;
          RNNJAX_UNROLL for (int c = 0; c < kColumns; ++c) {
            const long input = first_input + c * kLanes, lanes = inputs_ - input;
            if (lanes <= 0) continue;
            const Vec before = first == 0 ? Vec{} : load_first(to + input, lanes);
            store_first(to + input, before + sums[r][c], lanes);
          }
        }
      });
    });
  }

  const BackwardCall& call_;
  Team& team_;
  const long steps_, rows_, inputs_, units_;
  const long panels_, state_panels_, input_panels_;
  const long padded_;  // units of a row of states
  const long depth_;   // columns of all panels of gates
  const long chunk_;
  const Share share_;
  const Buffer w_h_;          // transposed: (panel, depth, kColumns, lanes)
  const bool packs_as_used_;  // input weights, where no other chunk needs them again
  const Buffer w_x_;          // as w_h_; one panel a member if packed as used
  const Buffer dz_, dm_;     // see `place`
  const Buffer states_;      // cotangents of the carry, then of the fresh one: (leaf, B, padded)
  const Buffer entered_;     // the states that steps saw, in tiles of columns; zero in padding
  const Buffer tiled_xs_;    // the same of the inputs
  long first_step_ = 0, last_step_ = 0, first_time_ = 0, last_time_ = 0;
};

template <class Cell>
Outcome backward(const BackwardCall& call, Team& team) {
  return Backward<Cell>(call, team).run();
}

}  // namespace RNNJAX_INSTRUCTIONS
}  // namespace rnnjax
