// What a kernel is asked: plain records, the same for every instruction set.
#pragma once

#include <stdint.h>

namespace rnnjax {

constexpr int kMostStates = 2;
constexpr long kLeastWorkOfAMeeting = 40000;  // multiplications a step below which one thread is best
constexpr long kUnitsInSaved = 16;  // what is saved of a step is padded to so many hidden units

// Of each step and row: whether it is within the row's length, and whether the carry is fresh there.
// A reset past the length is none.
enum Flag : uint8_t { kValid = 1, kReset = 2 };

struct Sizes {
  long time_steps;   // T
  long rows;         // B
  long input_size;   // I
  long hidden_size;  // H

  long saved_units() const {
    return (hidden_size + kUnitsInSaved - 1) / kUnitsInSaved * kUnitsInSaved;
  }
};

struct ForwardCall {
  Sizes sizes;
  bool reverse;
  const float* xs;     // (T, B, I)
  const float* w_x;    // (I, G H)
  const float* w_h;    // (H, G H)
  const float* b_x;    // (G H)
  const float* b_h;    // (G H), or null
  const uint8_t* flags;  // (T, B), or null: all valid, none reset
  const float* carry[kMostStates];  // (B, H), h first
  const float* fresh[kMostStates];  // (B, H): what a reset puts in place
  float* ys;                        // (T, B, H)
  float* last[kMostStates];         // (B, H)
  float* saved;  // (T, B, kSaved, saved_units), or null: nothing is kept for a backward pass
};

struct BackwardCall {
  Sizes sizes;
  bool reverse;
  const float* xs;       // as above, and so on
  const float* w_x;
  const float* w_h;
  const uint8_t* flags;
  const float* carry[kMostStates];
  const float* fresh[kMostStates];
  const float* ys;
  const float* saved;
  const float* dys;                 // (T, B, H)
  const float* dlast[kMostStates];  // (B, H)
  float* dxs;                       // (T, B, I), or null: not wanted
  float* dw_x;                      // (I, G H)
  float* dw_h;                      // (H, G H)
  float* db_x;                      // (G H)
  float* db_h;                      // (G H), or null
  float* dcarry[kMostStates];       // (B, H)
  float* dfresh[kMostStates];       // (B, H)
};

class Team;

enum class Outcome { kDone, kNoMemory };

using ForwardKernel = Outcome (*)(const ForwardCall&, Team&);
using BackwardKernel = Outcome (*)(const BackwardCall&, Team&);
using Elementwise = void (*)(const float* from, float* to, long count);

struct Recurrence {
  const char* name;
  int gates;   // G
  int states;  // leaves of the carry
  int saved;   // vectors of H numbers kept a step and row
  bool sum_only;  // the gates use z and m only as their sum, so that dz = dm
  ForwardKernel forward;
  BackwardKernel backward;
};

// What one instruction set has.
struct Kernels {
  const char* instructions;
  const Recurrence* recurrences;
  int count;
  Elementwise sigmoid;  // for tests of accuracy
  Elementwise tanh;
};

}  // namespace rnnjax
