// All recurrences for one instruction set; compiled once for each, with its flags.
#include "backward.h"
#include "calls.h"
#include "elman.h"
#include "forward.h"
#include "gru.h"
#include "lstm.h"
#include "minimal_gru.h"
#include "vector.h"

#define RNNJAX_TEXT_OF(name) #name
#define RNNJAX_TEXT(name) RNNJAX_TEXT_OF(name)

namespace rnnjax {
namespace RNNJAX_INSTRUCTIONS {

template <class Cell>
constexpr Recurrence recurrence(const char* name) {
  return {name, Cell::kGates, Cell::kStates, Cell::kSaved, Cell::kSumOnly, &forward<Cell>,
          &backward<Cell>};
}

constexpr Recurrence kRecurrences[] = {
    recurrence<Elman>("elman"),
    recurrence<ElmanRelu>("elman_relu"),
    recurrence<MinimalGru>("minimal_gru"),
    recurrence<Gru>("gru"),
    recurrence<Lstm>("lstm"),
};

template <Vec (*function)(Vec)>
void apply(const float* from, float* to, long count) {
  for (long i = 0; i < count; i += kLanes) {
    store_first(to + i, function(load_first(from + i, count - i)), count - i);
  }
}

inline Vec sigmoid_of(Vec x) { return sigmoid(x); }
inline Vec tanh_of(Vec x) { return tanh(x); }

extern const Kernels kKernels;
const Kernels kKernels = {
    RNNJAX_TEXT(RNNJAX_INSTRUCTIONS),
    kRecurrences,
    sizeof kRecurrences / sizeof kRecurrences[0],
    &apply<sigmoid_of>,
    &apply<tanh_of>,
};

}  // namespace RNNJAX_INSTRUCTIONS
}  // namespace rnnjax
