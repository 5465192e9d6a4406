// The recurrences as plain loops over rows, steps and units, in numbers that carry a derivative along.
//
// What the kernels are compared with: nothing is packed, padded, shared or saved here.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "calls.h"

namespace rnnjax {

// value + slope ε, ε² = 0: a pass gives the derivative along one direction, exactly.
struct Dual {
  double value = 0, slope = 0;
};
inline Dual operator+(Dual a, Dual b) { return {a.value + b.value, a.slope + b.slope}; }
inline Dual operator-(Dual a, Dual b) { return {a.value - b.value, a.slope - b.slope}; }
inline Dual operator*(Dual a, Dual b) {
  return {a.value * b.value, a.slope * b.value + a.value * b.slope};
}
inline Dual number(double value) { return {value, 0}; }
inline Dual sigmoid(Dual a) {
  const double s = 1 / (1 + std::exp(-a.value));
  return {s, a.slope * s * (1 - s)};
}
inline Dual tanh(Dual a) {
  const double t = std::tanh(a.value);
  return {t, a.slope * (1 - t * t)};
}
inline Dual relu(Dual a) { return a.value > 0 ? a : Dual{}; }

// All that a scan is given; the arrays are those of calls.h.
template <class Number>
struct Given {
  Sizes sizes = {};
  bool reverse = false;
  std::vector<uint8_t> flags;  // empty: all valid, none reset
  std::vector<Number> xs, w_x, w_h, b_x, b_h, carry[kMostStates], fresh[kMostStates];

  // Every array that a gradient is taken by, in one order.
  std::vector<std::pair<const char*, std::vector<Number>*>> arrays() {
    return {{"xs", &xs},      {"w_x", &w_x},       {"w_h", &w_h},
            {"b_x", &b_x},    {"b_h", &b_h},       {"carry", &carry[0]},
            {"fresh", &fresh[0]}, {"carry[1]", &carry[1]}, {"fresh[1]", &fresh[1]}};
  }
};

template <class Number>
struct Found {
  std::vector<Number> ys, last[kMostStates];
};

// One unit of one row: sums z and m of its gates, and its states, which are changed.
inline void plain_gate(const std::string& name, const Dual* z, const Dual* m, Dual* states) {
  const Dual one = number(1);
  if (name == "elman") {
    states[0] = tanh(z[0] + m[0]);
  } else if (name == "elman_relu") {
    states[0] = relu(z[0] + m[0]);
  } else if (name == "minimal_gru") {
    const Dual update = sigmoid(z[0] + m[0]), candidate = tanh(z[1] + m[1]);
    states[0] = update * candidate + (one - update) * states[0];
  } else if (name == "gru") {
    const Dual reset = sigmoid(z[0] + m[0]), update = sigmoid(z[1] + m[1]);
    const Dual candidate = tanh(z[2] + reset * m[2]);
    states[0] = (one - update) * candidate + update * states[0];
  } else if (name == "lstm") {
    const Dual input = sigmoid(z[0] + m[0]), forget = sigmoid(z[1] + m[1]);
    const Dual candidate = tanh(z[2] + m[2]), output = sigmoid(z[3] + m[3]);
    states[1] = forget * states[1] + input * candidate;
    states[0] = output * tanh(states[1]);
  } else {
    std::abort();  // a kernel that this file does not know
  }
}

inline Found<Dual> plain_scan(const Recurrence& recurrence, const Given<Dual>& given) {
  const auto [T, B, I, H] = given.sizes;
  const long G = recurrence.gates;
  Found<Dual> found;
  found.ys.resize(T * B * H);
  for (int i = 0; i < recurrence.states; ++i) found.last[i] = given.carry[i];
  for (long row = 0; row < B; ++row) {
    for (long step = 0; step < T; ++step) {
      const long t = given.reverse ? T - 1 - step : step;
      const uint8_t flag = given.flags.empty() ? uint8_t{kValid} : given.flags[t * B + row];
      if (!(flag & kValid)) continue;
      if (flag & kReset) {
        for (int i = 0; i < recurrence.states; ++i) {
          for (long j = row * H; j < (row + 1) * H; ++j) found.last[i][j] = given.fresh[i][j];
        }
      }
      std::vector<Dual> z(G * H), m(G * H);
      for (long k = 0; k < G * H; ++k) {
        z[k] = given.b_x[k];
        for (long i = 0; i < I; ++i) {
          z[k] = z[k] + given.xs[(t * B + row) * I + i] * given.w_x[i * G * H + k];
        }
        if (!given.b_h.empty()) m[k] = given.b_h[k];
        for (long j = 0; j < H; ++j) {
          m[k] = m[k] + found.last[0][row * H + j] * given.w_h[j * G * H + k];
        }
      }
      for (long j = 0; j < H; ++j) {
        Dual of_z[4], of_m[4], states[kMostStates];
        for (long g = 0; g < G; ++g) of_z[g] = z[g * H + j], of_m[g] = m[g * H + j];
        for (int i = 0; i < recurrence.states; ++i) states[i] = found.last[i][row * H + j];
        plain_gate(recurrence.name, of_z, of_m, states);
        for (int i = 0; i < recurrence.states; ++i) found.last[i][row * H + j] = states[i];
        found.ys[(t * B + row) * H + j] = states[0];
      }
    }
  }
  return found;
}

}  // namespace rnnjax
