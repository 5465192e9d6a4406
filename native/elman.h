// h' = g(z + m)
#pragma once

#include "vector.h"

namespace rnnjax {
namespace RNNJAX_INSTRUCTIONS {

struct Elman {
  static constexpr int kGates = 1, kStates = 1, kSaved = 1;
  static constexpr bool kSumOnly = true;

  RNNJAX_INLINE static void forward(const Vec (&z)[1], const Vec (&m)[1], const Vec (&)[1],
                                    Vec (&out)[1], Vec (&saved)[1]) {
    saved[0] = out[0] = tanh(z[0] + m[0]);
  }

  RNNJAX_INLINE static void backward(const Vec (&saved)[1], Vec (&d)[1], Vec (&dz)[1], Vec (&dm)[1]) {
    dm[0] = dz[0] = d[0] * (1.0f - saved[0] * saved[0]);
    d[0] = Vec{};
  }
};

struct ElmanRelu {
  static constexpr int kGates = 1, kStates = 1, kSaved = 1;
  static constexpr bool kSumOnly = true;

  RNNJAX_INLINE static void forward(const Vec (&z)[1], const Vec (&m)[1], const Vec (&)[1],
                                    Vec (&out)[1], Vec (&saved)[1]) {
    const Vec sum = z[0] + m[0];
    saved[0] = out[0] = sum < 0.0f ? Vec{} : sum;  // NaN stays
  }

  RNNJAX_INLINE static void backward(const Vec (&saved)[1], Vec (&d)[1], Vec (&dz)[1], Vec (&dm)[1]) {
    dm[0] = dz[0] = saved[0] > 0.0f ? d[0] : Vec{};
    d[0] = Vec{};
  }
};

}  // namespace RNNJAX_INSTRUCTIONS
}  // namespace rnnjax
