// The vector type of one instruction set, and the activations on it.
//
// Included once for each instruction set, by a file compiled with its flags. All is in a namespace of
// that instruction set: were two definitions of one name to meet, the linker would keep either.
#pragma once

#include <stdint.h>
#include <string.h>

#ifndef RNNJAX_INSTRUCTIONS
#error "RNNJAX_INSTRUCTIONS must name the namespace of the instruction set"
#endif

#define RNNJAX_INLINE inline __attribute__((always_inline))
#define RNNJAX_UNROLL _Pragma("GCC unroll 32")

namespace rnnjax {
namespace RNNJAX_INSTRUCTIONS {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
constexpr int kRegisters = 32;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
constexpr int kRegisters = 16;
#elif defined(__aarch64__)
constexpr int kLanes = 4;
constexpr int kRegisters = 32;
#else
constexpr int kLanes = 4;
constexpr int kRegisters = 16;
#endif

typedef float Vec __attribute__((vector_size(kLanes * sizeof(float))));
typedef int32_t IntVec __attribute__((vector_size(kLanes * sizeof(int32_t))));

RNNJAX_INLINE Vec broadcast(float value) { return value - Vec{}; }

RNNJAX_INLINE Vec load(const float* from) {
  Vec v;
  memcpy(&v, from, sizeof v);
  return v;
}

RNNJAX_INLINE void store(float* to, Vec v) { memcpy(to, &v, sizeof v); }

// The first lanes only; the rest is zero.
RNNJAX_INLINE Vec load_first(const float* from, long lanes) {
  if (lanes >= kLanes) return load(from);
  Vec v = {};
  memcpy(&v, from, lanes * sizeof(float));
  return v;
}

RNNJAX_INLINE void store_first(float* to, Vec v, long lanes) {
  if (lanes >= kLanes) {
    store(to, v);
  } else {
    memcpy(to, &v, lanes * sizeof(float));
  }
}

// e^-|x|, zero where that is below 2^-126, the least normal number. NaN stays.
//
// x = n ln 2 + r with |r| <= ln 2 / 2, e^r by a polynomial (Cephes expf).
RNNJAX_INLINE Vec exp_of_minus_magnitude(Vec x) {
  const Vec shift = broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const Vec lowest = broadcast(-87.33654f);
  x = x > 0.0f ? -x : x;
  const Vec clamped = x < lowest ? lowest : x;
  const Vec shifted = clamped * 1.44269504088896341f + shift;
  const Vec n = shifted - shift;
  Vec r = clamped - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  Vec p = broadcast(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const IntVec exponent = (IntVec)shifted << 23;  // the low bits of `shifted` are n
  const Vec power = (Vec)((IntVec)p + exponent);
  return x < lowest ? Vec{} : x != x ? x : power;
}

// 1 / (1 + e^-x), without cancellation on either side.
RNNJAX_INLINE Vec sigmoid(Vec x) {
  const Vec e = exp_of_minus_magnitude(x);
  return (x < 0.0f ? e : broadcast(1.0f)) / (1.0f + e);
}

// Beyond it tanh is 1, also of infinity: the last number of which the quotient below is just that. Where
// that is depends on whether a product and a sum are rounded once or twice.
#if defined(__FMA__) || defined(__aarch64__)
constexpr float kTanhIsOne = 8.12472057f;
#else
constexpr float kTanhIsOne = 8.09636784f;
#endif

// A rational function, odd by construction (the coefficients of Eigen and of XLA).
RNNJAX_INLINE Vec tanh(Vec x) {
  const Vec limit = broadcast(kTanhIsOne);
  Vec c = x > limit ? limit : x;
  c = c < -limit ? -limit : c;
  const Vec s = c * c;
  Vec p = broadcast(-2.76076847742355e-16f);
  p = p * s + 2.00018790482477e-13f;
  p = p * s + -8.60467152213735e-11f;
  p = p * s + 5.12229709037114e-08f;
  p = p * s + 1.48572235717979e-05f;
  p = p * s + 6.37261928875436e-04f;
  p = p * s + 4.89352455891786e-03f;
  Vec q = broadcast(1.19825839466702e-06f);
  q = q * s + 1.18534705686654e-04f;
  q = q * s + 2.26843463243900e-03f;
  q = q * s + 4.89352518554385e-03f;
  return c * (p / q);  // c * p of a tiny c would be subnormal
}

}  // namespace RNNJAX_INSTRUCTIONS
}  // namespace rnnjax
