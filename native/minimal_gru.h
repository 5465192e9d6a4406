// u = σ(z_u + m_u),  c̃ = tanh(z_c + m_c),  c' = u c̃ + (1 − u) c
#pragma once

#include "vector.h"

namespace rnnjax {
namespace RNNJAX_INSTRUCTIONS {

struct MinimalGru {
  static constexpr int kGates = 2, kStates = 1, kSaved = 3;
  static constexpr bool kSumOnly = true;

  RNNJAX_INLINE static void forward(const Vec (&z)[2], const Vec (&m)[2], const Vec (&in)[1],
                                    Vec (&out)[1], Vec (&saved)[3]) {
    const Vec update = sigmoid(z[0] + m[0]), candidate = tanh(z[1] + m[1]);
    out[0] = update * candidate + (1.0f - update) * in[0];
    saved[0] = update;
    saved[1] = candidate;
    saved[2] = in[0];
  }

  RNNJAX_INLINE static void backward(const Vec (&saved)[3], Vec (&d)[1], Vec (&dz)[2], Vec (&dm)[2]) {
    const Vec update = saved[0], candidate = saved[1], c = saved[2];
    dm[0] = dz[0] = d[0] * (candidate - c) * update * (1.0f - update);
    dm[1] = dz[1] = d[0] * update * (1.0f - candidate * candidate);
    d[0] = d[0] * (1.0f - update);
  }
};

}  // namespace RNNJAX_INSTRUCTIONS
}  // namespace rnnjax
