// The kernels as handlers of XLA's foreign function interface.
//
// Every array is checked against the sizes before a kernel sees a pointer.
#include <algorithm>
#include <cstdint>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "calls.h"
#include "memory.h"
#include "team.h"
#include "xla/ffi/api/ffi.h"

namespace rnnjax {

#if defined(__x86_64__)
namespace avx512 {
extern const Kernels kKernels;
}
namespace avx2 {
extern const Kernels kKernels;
}
#endif
namespace baseline {
extern const Kernels kKernels;
}

namespace {

namespace ffi = xla::ffi;

bool runs(const Kernels& kernels) {
#if defined(__x86_64__)
  if (&kernels == &avx512::kKernels) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("fma");
  }
  if (&kernels == &avx2::kKernels) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  }
#endif
  return &kernels == &baseline::kKernels;
}

constexpr const Kernels* kBestFirst[] = {
#if defined(__x86_64__)
    &avx512::kKernels,
    &avx2::kKernels,
#endif
    &baseline::kKernels,
};

// The best that this processor runs, or the one that is named; null if there is none.
const Kernels* kernels_of(std::string_view instructions) {
  for (const Kernels* kernels : kBestFirst) {
    if ((instructions == "best" || instructions == kernels->instructions) && runs(*kernels)) {
      return kernels;
    }
  }
  return nullptr;
}

ffi::Error invalid(const std::string& message) {
  return ffi::Error(ffi::ErrorCode::kInvalidArgument, "rnnjax: " + message);
}

// Arguments or results in their order, each checked for its dtype and shape.
template <class Remaining>
class Reader {
 public:
  explicit Reader(Remaining& all) : all_(all) {}

  template <ffi::DataType dtype>
  ffi::NativeType<dtype>* next(const char* name, const std::vector<int64_t>& shape) {
    const size_t index = index_++;
    if (!error_.empty()) return nullptr;
    auto buffer = all_.template get<ffi::Buffer<dtype>>(index);
    if (!buffer.has_value()) {
      error_ = std::string(name) + ": missing, or of another dtype";
      return nullptr;
    }
    auto& array = at(*buffer);
    if (is_result<std::decay_t<decltype(*buffer)>>::value) {
      ask_for_large_pages(array.untyped_data(), array.size_bytes());
    }
    const auto dimensions = array.dimensions();
    if (!std::equal(dimensions.begin(), dimensions.end(), shape.begin(), shape.end())) {
      error_ = std::string(name) + ": of another shape than the sizes say";
      return nullptr;
    }
    return array.typed_data();
  }

  const std::string& error() const { return error_; }
  void finish() {
    if (error_.empty() && index_ != all_.size()) error_ = "too many arrays";
  }

 private:
  template <class Array>
  static auto& at(Array& array) {
    if constexpr (is_result<Array>::value) {
      return *array;
    } else {
      return array;
    }
  }
  template <class Array>
  struct is_result : std::false_type {};
  template <class Array>
  struct is_result<ffi::Result<Array>> : std::true_type {};

  Remaining& all_;
  size_t index_ = 0;
  std::string error_;
};

struct Chosen {
  const Recurrence* recurrence = nullptr;
  std::string error;
};

Chosen choose(std::string_view name, std::string_view instructions) {
  const Kernels* kernels = kernels_of(instructions);
  if (!kernels) {
    return {nullptr, "instructions: this processor does not run " + std::string(instructions)};
  }
  for (int i = 0; i < kernels->count; ++i) {
    if (name == kernels->recurrences[i].name) return {&kernels->recurrences[i], ""};
  }
  return {nullptr, "recurrence: there is no kernel for " + std::string(name)};
}

Team::Schedule on(ffi::ThreadPool& pool) {
  return [&pool](std::function<void()> task) { pool.Schedule(std::move(task)); };
}

// Multiplications of a forward pass below which helpers cost more than they bring: to wake one takes
// some ten microseconds, and where other programs run too it may be late to its end by milliseconds.
constexpr double kLeastWorkForward = 1.8e6;
constexpr double kLeastWorkBackward = 2.1e6;

// Of a single step of few rows, which is bound by how fast weights are read.
constexpr double kLeastWeightsOfAStep = 4e5;

double multiplications(const Sizes& sizes, int gates) {
  return static_cast<double>(sizes.time_steps) * sizes.rows * gates * sizes.hidden_size *
         (sizes.input_size + sizes.hidden_size);
}

// A single row of few units leaves a helper nothing to do.
bool shared_forward(const Sizes& sizes, int gates) {
  if (sizes.time_steps == 1 && multiplications(sizes, gates) / sizes.rows >= kLeastWeightsOfAStep) {
    return true;
  }
  const int64_t of_a_step = sizes.hidden_size * sizes.hidden_size * gates;
  return multiplications(sizes, gates) >= kLeastWorkForward &&
         (sizes.rows > 1 || of_a_step >= kLeastWorkOfAMeeting);
}

bool shared_backward(const Sizes& sizes, int gates) {
  return multiplications(sizes, gates) >= kLeastWorkBackward;
}

// Never more threads than XLA was given; 0 is all of them.
int team_size(const ffi::ThreadPool& pool, int64_t threads, bool shared) {
  const int64_t given = shared ? std::max<int64_t>(pool.num_threads(), 1) : 1;
  return static_cast<int>(threads > 0 ? std::min(threads, given) : given);
}

ffi::Error outcome(Outcome outcome) {
  if (outcome == Outcome::kNoMemory) {
    return ffi::Error(ffi::ErrorCode::kResourceExhausted, "rnnjax: no memory for packed weights");
  }
  return ffi::Error::Success();
}

ffi::Error forward(ffi::ThreadPool pool, ffi::RemainingArgs arguments, ffi::RemainingRets results,
                   std::string_view name, std::string_view instructions, int64_t time_steps,
                   int64_t rows, int64_t input_size, int64_t hidden_size, bool reverse,
                   bool masked, bool save, int64_t threads) {
  const Chosen chosen = choose(name, instructions);
  if (!chosen.recurrence) return invalid(chosen.error);
  const Recurrence& recurrence = *chosen.recurrence;
  const int64_t T = time_steps, B = rows, I = input_size, H = hidden_size;
  const int64_t GH = recurrence.gates * H;
  ForwardCall call = {};
  call.sizes = {T, B, I, H};
  call.reverse = reverse;
  Reader<ffi::RemainingArgs> in(arguments);
  call.xs = in.next<ffi::F32>("xs", {T, B, I});
  call.w_x = in.next<ffi::F32>("w_x", {I, GH});
  call.w_h = in.next<ffi::F32>("w_h", {H, GH});
  call.b_x = in.next<ffi::F32>("b_x", {GH});
  if (!recurrence.sum_only) call.b_h = in.next<ffi::F32>("b_h", {GH});
  if (masked) call.flags = in.next<ffi::U8>("flags", {T, B});
  for (int i = 0; i < recurrence.states; ++i) call.carry[i] = in.next<ffi::F32>("carry", {B, H});
  for (int i = 0; i < recurrence.states; ++i) call.fresh[i] = in.next<ffi::F32>("fresh", {B, H});
  in.finish();
  if (!in.error().empty()) return invalid(in.error());
  Reader<ffi::RemainingRets> out(results);
  call.ys = out.next<ffi::F32>("ys", {T, B, H});
  for (int i = 0; i < recurrence.states; ++i) call.last[i] = out.next<ffi::F32>("last", {B, H});
  if (save) {
    call.saved = out.next<ffi::F32>("saved", {T, B, recurrence.saved, call.sizes.saved_units()});
  }
  out.finish();
  if (!out.error().empty()) return invalid(out.error());
  Team team(team_size(pool, threads, shared_forward(call.sizes, recurrence.gates)), on(pool));
  return outcome(recurrence.forward(call, team));
}

ffi::Error backward(ffi::ThreadPool pool, ffi::RemainingArgs arguments, ffi::RemainingRets results,
                    std::string_view name, std::string_view instructions, int64_t time_steps,
                    int64_t rows, int64_t input_size, int64_t hidden_size, bool reverse,
                    bool masked, bool of_inputs, int64_t threads) {
  const Chosen chosen = choose(name, instructions);
  if (!chosen.recurrence) return invalid(chosen.error);
  const Recurrence& recurrence = *chosen.recurrence;
  const int64_t T = time_steps, B = rows, I = input_size, H = hidden_size;
  const int64_t GH = recurrence.gates * H;
  BackwardCall call = {};
  call.sizes = {T, B, I, H};
  call.reverse = reverse;
  Reader<ffi::RemainingArgs> in(arguments);
  call.xs = in.next<ffi::F32>("xs", {T, B, I});
  call.w_x = in.next<ffi::F32>("w_x", {I, GH});
  call.w_h = in.next<ffi::F32>("w_h", {H, GH});
  if (masked) call.flags = in.next<ffi::U8>("flags", {T, B});
  for (int i = 0; i < recurrence.states; ++i) call.carry[i] = in.next<ffi::F32>("carry", {B, H});
  for (int i = 0; i < recurrence.states; ++i) call.fresh[i] = in.next<ffi::F32>("fresh", {B, H});
  call.ys = in.next<ffi::F32>("ys", {T, B, H});
  call.saved = in.next<ffi::F32>("saved", {T, B, recurrence.saved, call.sizes.saved_units()});
  call.dys = in.next<ffi::F32>("dys", {T, B, H});
  for (int i = 0; i < recurrence.states; ++i) call.dlast[i] = in.next<ffi::F32>("dlast", {B, H});
  in.finish();
  if (!in.error().empty()) return invalid(in.error());
  Reader<ffi::RemainingRets> out(results);
  if (of_inputs) call.dxs = out.next<ffi::F32>("dxs", {T, B, I});
  call.dw_x = out.next<ffi::F32>("dw_x", {I, GH});
  call.dw_h = out.next<ffi::F32>("dw_h", {H, GH});
  call.db_x = out.next<ffi::F32>("db_x", {GH});
  if (!recurrence.sum_only) call.db_h = out.next<ffi::F32>("db_h", {GH});
  for (int i = 0; i < recurrence.states; ++i) call.dcarry[i] = out.next<ffi::F32>("dcarry", {B, H});
  for (int i = 0; i < recurrence.states; ++i) call.dfresh[i] = out.next<ffi::F32>("dfresh", {B, H});
  out.finish();
  if (!out.error().empty()) return invalid(out.error());
  Team team(team_size(pool, threads, shared_backward(call.sizes, recurrence.gates)), on(pool));
  return outcome(recurrence.backward(call, team));
}

}  // namespace
}  // namespace rnnjax

// What Python looks up by name; all else is hidden.
#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(rnnjax_forward, rnnjax::forward,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .RemainingArgs()
                                  .RemainingRets()
                                  .Attr<std::string_view>("recurrence")
                                  .Attr<std::string_view>("instructions")
                                  .Attr<int64_t>("time_steps")
                                  .Attr<int64_t>("rows")
                                  .Attr<int64_t>("input_size")
                                  .Attr<int64_t>("hidden_size")
                                  .Attr<bool>("reverse")
                                  .Attr<bool>("masked")
                                  .Attr<bool>("save")
                                  .Attr<int64_t>("threads"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(rnnjax_backward, rnnjax::backward,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .RemainingArgs()
                                  .RemainingRets()
                                  .Attr<std::string_view>("recurrence")
                                  .Attr<std::string_view>("instructions")
                                  .Attr<int64_t>("time_steps")
                                  .Attr<int64_t>("rows")
                                  .Attr<int64_t>("input_size")
                                  .Attr<int64_t>("hidden_size")
                                  .Attr<bool>("reverse")
                                  .Attr<bool>("masked")
                                  .Attr<bool>("of_inputs")
                                  .Attr<int64_t>("threads"));

// The instruction sets that this processor runs, best first, with commas between.
extern "C" const char* rnnjax_instructions() {
  static const std::string names = [] {
    std::string text;
    for (const rnnjax::Kernels* kernels : rnnjax::kBestFirst) {
      if (rnnjax::runs(*kernels)) text += (text.empty() ? "" : ",") + std::string(kernels->instructions);
    }
    return text;
  }();
  return names.c_str();
}

// For tests of accuracy: elementwise, false if this processor does not run the instruction set.
extern "C" bool rnnjax_activation(const char* instructions, const char* name, const float* from,
                                  float* to, long count) {
  const rnnjax::Kernels* kernels = rnnjax::kernels_of(instructions);
  if (!kernels) return false;
  (std::string_view(name) == "tanh" ? kernels->tanh : kernels->sigmoid)(from, to, count);
  return true;
}

#pragma GCC visibility pop
