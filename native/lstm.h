// i, f, o = σ(z + m),  g = tanh(z + m),  c' = f c + i g,  h' = o tanh(c')
#pragma once

#include "vector.h"

namespace rnnjax {
namespace RNNJAX_INSTRUCTIONS {

struct Lstm {
  static constexpr int kGates = 4, kStates = 2, kSaved = 5;
  static constexpr bool kSumOnly = true;

  RNNJAX_INLINE static void forward(const Vec (&z)[4], const Vec (&m)[4], const Vec (&in)[2],
                                    Vec (&out)[2], Vec (&saved)[5]) {
    const Vec input = sigmoid(z[0] + m[0]), forget = sigmoid(z[1] + m[1]);
    const Vec candidate = tanh(z[2] + m[2]), output = sigmoid(z[3] + m[3]);
    out[1] = forget * in[1] + input * candidate;
    out[0] = output * tanh(out[1]);
    saved[0] = input;
    saved[1] = forget;
    saved[2] = candidate;
    saved[3] = output;
    saved[4] = in[1];
  }

  // d: of h' and c'; then of c alone, for h is used only where it is mixed.
  RNNJAX_INLINE static void backward(const Vec (&saved)[5], Vec (&d)[2], Vec (&dz)[4], Vec (&dm)[4]) {
    const Vec input = saved[0], forget = saved[1], candidate = saved[2], output = saved[3];
    const Vec c = saved[4];
    const Vec squashed = tanh(forget * c + input * candidate);
    const Vec dc = d[1] + d[0] * output * (1.0f - squashed * squashed);
    dz[0] = dc * candidate * input * (1.0f - input);
    dz[1] = dc * c * forget * (1.0f - forget);
    dz[2] = dc * input * (1.0f - candidate * candidate);
    dz[3] = d[0] * squashed * output * (1.0f - output);
    RNNJAX_UNROLL for (int g = 0; g < 4; ++g) dm[g] = dz[g];
    d[0] = Vec{};
    d[1] = dc * forget;
  }
};

}  // namespace RNNJAX_INSTRUCTIONS
}  // namespace rnnjax
