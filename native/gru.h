// r = σ(z_r + m_r),  u = σ(z_u + m_u),  n = tanh(z_n + r m_n),  h' = (1 − u) n + u h
#pragma once

#include "vector.h"

namespace rnnjax {
namespace RNNJAX_INSTRUCTIONS {

struct Gru {
  static constexpr int kGates = 3, kStates = 1, kSaved = 5;
  static constexpr bool kSumOnly = false;

  RNNJAX_INLINE static void forward(const Vec (&z)[3], const Vec (&m)[3], const Vec (&in)[1],
                                    Vec (&out)[1], Vec (&saved)[5]) {
    const Vec reset = sigmoid(z[0] + m[0]), update = sigmoid(z[1] + m[1]);
    const Vec candidate = tanh(z[2] + reset * m[2]);
    out[0] = (1.0f - update) * candidate + update * in[0];
    saved[0] = reset;
    saved[1] = update;
    saved[2] = candidate;
    saved[3] = m[2];
    saved[4] = in[0];
  }

  RNNJAX_INLINE static void backward(const Vec (&saved)[5], Vec (&d)[1], Vec (&dz)[3], Vec (&dm)[3]) {
    const Vec reset = saved[0], update = saved[1], candidate = saved[2], mixed = saved[3];
    const Vec h = saved[4];
    const Vec dn = d[0] * (1.0f - update) * (1.0f - candidate * candidate);
    dm[0] = dz[0] = dn * mixed * reset * (1.0f - reset);
    dm[1] = dz[1] = d[0] * (h - candidate) * update * (1.0f - update);
    dz[2] = dn;
    dm[2] = dn * reset;
    d[0] = d[0] * update;
  }
};

}  // namespace RNNJAX_INSTRUCTIONS
}  // namespace rnnjax
