// Checks of the kernels without JAX, to be run under sanitizers: see `make sanitize`.
//
// Every recurrence and instruction set, over odd sizes, masks, directions, numbers of threads and
// pools, on arrays that are aligned to no more than a number, against plain loops.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "calls.h"
#include "plain.h"
#include "team.h"

namespace rnnjax {

namespace baseline {
extern const Kernels kKernels;
}
#if defined(__x86_64__)
namespace avx2 {
extern const Kernels kKernels;
}
namespace avx512 {
extern const Kernels kKernels;
}
#endif

namespace {

using Floats = std::vector<float>;
constexpr double kTolerance = 2e-5;  // as tests/support/tolerances.py has it for float32

std::vector<const Kernels*> kernels_that_run() {
  std::vector<const Kernels*> found = {&baseline::kKernels};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    found.push_back(&avx2::kKernels);
  }
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")) {
    found.push_back(&avx512::kKernels);
  }
#endif
  return found;
}

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "check_kernels: %s\n", what.c_str());
  std::exit(1);
}

void check(bool held, const std::string& what) {
  if (!held) fail(what);
}

// Threads that run tasks, in the manners in which a pool may.
class Pool {
 public:
  enum Manner { kAtOnce, kLate, kNever, kInTheThreadThatAsks };
  static constexpr Manner kAll[] = {kAtOnce, kLate, kNever, kInTheThreadThatAsks};

  explicit Pool(Manner manner) : manner_(manner) {}
  ~Pool() {
    for (std::thread& thread : threads_) thread.join();
  }
  Team::Schedule schedule() {
    return [this](std::function<void()> task) {
      if (manner_ == kInTheThreadThatAsks) {
        task();
      } else if (manner_ != kNever) {
        threads_.emplace_back([task = std::move(task), late = manner_ == kLate] {
          if (late) std::this_thread::sleep_for(std::chrono::milliseconds(2));
          task();
        });
      }
    };
  }

 private:
  const Manner manner_;
  std::vector<std::thread> threads_;
};

// A copy of numbers, or room for them, that begins a number after what is aligned and ends where its
// memory ends, so that a sanitizer sees each step beyond.
class Unaligned {
 public:
  explicit Unaligned(const Floats& from) : Unaligned(from.size()) {
    std::copy(from.begin(), from.end(), data());
  }
  explicit Unaligned(size_t count)
      : count_(count), memory_(static_cast<float*>(std::malloc((count + 1) * sizeof(float)))) {
    std::fill(data(), data() + count, std::numeric_limits<float>::quiet_NaN());
  }
  ~Unaligned() { std::free(memory_); }
  Unaligned(const Unaligned&) = delete;
  Unaligned& operator=(const Unaligned&) = delete;
  float* data() const { return memory_ + 1; }
  Floats floats() const { return Floats(data(), data() + count_); }

 private:
  const size_t count_;
  float* const memory_;
};

struct Case {
  Given<float> given;
  Found<float> cotangents;  // dys and dlast
  std::string name;
};

Floats normal(std::mt19937& random, long count, double scale = 1) {
  std::normal_distribution<double> distribution(0, scale);
  Floats floats(count);
  for (float& value : floats) value = static_cast<float>(distribution(random));
  return floats;
}

Case drawn(const Recurrence& recurrence, const Sizes& sizes, bool masked, bool reverse) {
  std::mt19937 random(1);
  const auto [T, B, I, H] = sizes;
  const long GH = recurrence.gates * H;
  Case it;
  it.given.sizes = sizes;
  it.given.reverse = reverse;
  it.given.xs = normal(random, T * B * I);
  it.given.w_x = normal(random, I * GH, 1 / std::sqrt(I));
  it.given.w_h = normal(random, H * GH, 1 / std::sqrt(H));
  it.given.b_x = normal(random, GH, 0.3);
  if (!recurrence.sum_only) it.given.b_h = normal(random, GH, 0.3);
  it.cotangents.ys = normal(random, T * B * H);
  for (int i = 0; i < recurrence.states; ++i) {
    it.given.carry[i] = normal(random, B * H);
    it.given.fresh[i] = normal(random, B * H);
    it.cotangents.last[i] = normal(random, B * H);
  }
  if (masked) {
    it.given.flags.resize(T * B);
    for (long row = 0; row < B; ++row) {
      const long length = row == 0 ? T : static_cast<long>(random() % (T + 1));
      for (long t = 0; t < length; ++t) {
        it.given.flags[t * B + row] = kValid | (random() % 3 == 0 ? kReset : 0);
      }
    }
  }
  it.name = std::string(recurrence.name) + " T=" + std::to_string(T) + " B=" + std::to_string(B) +
            " I=" + std::to_string(I) + " H=" + std::to_string(H) + (masked ? " masked" : "") +
            (reverse ? " reverse" : "");
  return it;
}

// What a call found, outputs and gradients, by the names of the arrays and in their order.
struct Results {
  Found<float> outputs;
  Given<float> gradients;
};

Results run(const Recurrence& recurrence, const Case& it, int threads, Pool::Manner manner,
            bool of_inputs) {
  const auto [T, B, I, H] = it.given.sizes;
  const long GH = recurrence.gates * H;
  const Unaligned xs(it.given.xs), w_x(it.given.w_x), w_h(it.given.w_h), b_x(it.given.b_x),
      b_h(it.given.b_h), dys(it.cotangents.ys);
  const Unaligned ys(T * B * H), saved(T * B * recurrence.saved * it.given.sizes.saved_units());
  const Unaligned dxs(of_inputs ? T * B * I : 0), dw_x(I * GH), dw_h(H * GH), db_x(GH),
      db_h(it.given.b_h.size());
  std::unique_ptr<Unaligned> carry[kMostStates], fresh[kMostStates], last[kMostStates],
      dlast[kMostStates], dcarry[kMostStates], dfresh[kMostStates];
  ForwardCall forward = {};
  BackwardCall backward = {};
  forward.sizes = backward.sizes = it.given.sizes;
  forward.reverse = backward.reverse = it.given.reverse;
  forward.flags = backward.flags = it.given.flags.empty() ? nullptr : it.given.flags.data();
  forward.xs = backward.xs = xs.data();
  forward.w_x = backward.w_x = w_x.data();
  forward.w_h = backward.w_h = w_h.data();
  forward.b_x = b_x.data();
  forward.b_h = recurrence.sum_only ? nullptr : b_h.data();
  forward.ys = ys.data();
  forward.saved = saved.data();
  for (int i = 0; i < recurrence.states; ++i) {
    carry[i] = std::make_unique<Unaligned>(it.given.carry[i]);
    fresh[i] = std::make_unique<Unaligned>(it.given.fresh[i]);
    dlast[i] = std::make_unique<Unaligned>(it.cotangents.last[i]);
    for (auto* leaf : {&last[i], &dcarry[i], &dfresh[i]}) {
      *leaf = std::make_unique<Unaligned>(static_cast<size_t>(B * H));
    }
    forward.carry[i] = backward.carry[i] = carry[i]->data();
    forward.fresh[i] = backward.fresh[i] = fresh[i]->data();
    forward.last[i] = last[i]->data();
    backward.dlast[i] = dlast[i]->data();
    backward.dcarry[i] = dcarry[i]->data();
    backward.dfresh[i] = dfresh[i]->data();
  }
  backward.ys = ys.data();
  backward.saved = saved.data();
  backward.dys = dys.data();
  backward.dxs = of_inputs ? dxs.data() : nullptr;
  backward.dw_x = dw_x.data();
  backward.dw_h = dw_h.data();
  backward.db_x = db_x.data();
  backward.db_h = recurrence.sum_only ? nullptr : db_h.data();
  for (const bool is_forward : {true, false}) {
    Pool pool(manner);
    Team team(threads, pool.schedule());
    const Outcome outcome =
        is_forward ? recurrence.forward(forward, team) : recurrence.backward(backward, team);
    check(outcome == Outcome::kDone, it.name + ": no memory");
  }
  Results results;
  results.outputs.ys = ys.floats();
  results.gradients.xs = dxs.floats();
  results.gradients.w_x = dw_x.floats();
  results.gradients.w_h = dw_h.floats();
  results.gradients.b_x = db_x.floats();
  results.gradients.b_h = db_h.floats();
  for (int i = 0; i < recurrence.states; ++i) {
    results.outputs.last[i] = last[i]->floats();
    results.gradients.carry[i] = dcarry[i]->floats();
    results.gradients.fresh[i] = dfresh[i]->floats();
  }

  // Without a gradient nothing is saved, and all else is the same, bit for bit.
  forward.saved = nullptr;
  Pool pool(manner);
  Team team(threads, pool.schedule());
  check(recurrence.forward(forward, team) == Outcome::kDone, it.name + ": no memory");
  check(ys.floats() == results.outputs.ys, it.name + ": outputs depend on what is saved");
  return results;
}

template <class Number>
void compare(const std::string& what, const Floats& actual, const std::vector<Number>& expected) {
  check(actual.size() == expected.size(), what + ": of another size");
  double scale = 1;
  for (Number value : expected) scale = std::max(scale, std::abs(static_cast<double>(value)));
  for (size_t i = 0; i < actual.size(); ++i) {
    const double error = std::abs(actual[i] - expected[i]);
    if (!(error <= kTolerance * scale)) {
      fail(what + " at " + std::to_string(i) + ": got " + std::to_string(actual[i]) +
           ", expected " + std::to_string(expected[i]));
    }
  }
}

// The derivative of Σ dys ys + Σ dlast last along one direction in one array, from plain loops.
class Plain {
 public:
  Plain(const Recurrence& recurrence, const Case& it) : recurrence_(recurrence), it_(it) {
    Given<float> given = it.given;
    duals_.sizes = given.sizes;
    duals_.reverse = given.reverse;
    duals_.flags = given.flags;
    const auto arrays = duals_.arrays();
    for (size_t number = 0; number < arrays.size(); ++number) {
      for (float value : *given.arrays()[number].second) arrays[number].second->push_back({value, 0});
    }
    outputs_ = plain_scan(recurrence, duals_);
    std::mt19937 random(2);
    for (size_t number = 0; number < arrays.size(); ++number) {
      std::vector<Dual>& array = *arrays[number].second;
      // By each number of a small array; else along some directions of all numbers at once.
      const bool small = array.size() <= kSmall;
      for (size_t k = 0; k < (small ? array.size() : kDirections); ++k) {
        Floats direction = normal(random, static_cast<long>(array.size()));
        for (size_t i = 0; small && i < array.size(); ++i) direction[i] = i == k ? 1 : 0;
        for (size_t i = 0; i < array.size(); ++i) array[i].slope = direction[i];
        derivatives_.push_back({number, direction, derivative()});
        for (Dual& value : array) value.slope = 0;
      }
    }
  }

  void compare_with(const Results& results, const std::string& name) const {
    compare(name + " ys", results.outputs.ys, values(outputs_.ys));
    for (int i = 0; i < recurrence_.states; ++i) {
      compare(name + " last", results.outputs.last[i], values(outputs_.last[i]));
    }
    Given<float> gradients = results.gradients;
    for (const Derivative& derivative : derivatives_) {
      const auto [array, gradient] = gradients.arrays()[derivative.array];
      if (gradient->empty()) continue;  // not asked for
      double found = 0, norm = 1;
      for (size_t i = 0; i < gradient->size(); ++i) {
        const double term = static_cast<double>((*gradient)[i]) * derivative.direction[i];
        found += term;
        norm += term * term;
      }
      check(std::abs(found - derivative.value) <= 5 * kTolerance * std::sqrt(norm),
            name + " gradient by " + array + ": got " + std::to_string(found) + ", expected " +
                std::to_string(derivative.value));
    }
  }

 private:
  static constexpr size_t kSmall = 20, kDirections = 3;
  struct Derivative {
    size_t array;
    Floats direction;
    double value;
  };

  static std::vector<double> values(const std::vector<Dual>& duals) {
    std::vector<double> found;
    for (const Dual& dual : duals) found.push_back(dual.value);
    return found;
  }

  double derivative() const {
    const Found<Dual> outputs = plain_scan(recurrence_, duals_);
    double sum = 0;
    auto add = [&](const std::vector<Dual>& duals, const Floats& weights) {
      for (size_t i = 0; i < duals.size(); ++i) sum += duals[i].slope * weights[i];
    };
    add(outputs.ys, it_.cotangents.ys);
    for (int i = 0; i < recurrence_.states; ++i) add(outputs.last[i], it_.cotangents.last[i]);
    return sum;
  }

  const Recurrence& recurrence_;
  const Case& it_;
  Given<Dual> duals_;
  std::vector<Derivative> derivatives_;
  Found<Dual> outputs_;
};

void compare_with_first(const std::string& name, Results first, Results other) {
  compare(name + " ys", other.outputs.ys, first.outputs.ys);
  for (int i = 0; i < kMostStates; ++i) {
    compare(name + " last", other.outputs.last[i], first.outputs.last[i]);
  }
  const auto expected = first.gradients.arrays(), actual = other.gradients.arrays();
  for (size_t number = 0; number < expected.size(); ++number) {
    if (actual[number].second->empty()) continue;  // not asked for
    compare(name + " gradient by " + expected[number].first, *actual[number].second,
            *expected[number].second);
  }
}

struct Sized {
  Sizes sizes;
  bool every_option;
};

// T, B, I, H. Tiles, panels and chunks of every size that they are cut into, and several of each.
constexpr Sized kSizes[] = {
    {{1, 1, 1, 1}, true},     {{1, 5, 2, 3}, true},    {{5, 5, 3, 17}, true},
    {{4, 33, 1, 3}, true},    {{3, 2, 70, 100}, true}, {{30, 33, 3, 5}, false},
    {{150, 2, 5, 33}, false}, {{2, 6, 9, 160}, false}, {{1, 3, 90, 170}, false},
};
constexpr Sizes kLarge = {700, 3, 40, 170};  // several chunks of a large gradient, in both directions

int check_recurrence(int number) {
  int runs = 0;
  const auto check_case = [&](const Sizes& sizes, bool masked, bool reverse, bool with_plain) {
    const Recurrence& any = baseline::kKernels.recurrences[number];
    const Case it = drawn(any, sizes, masked, reverse);
    std::unique_ptr<Plain> plain;
    if (with_plain) plain = std::make_unique<Plain>(any, it);
    const Results first = run(any, it, 1, Pool::kNever, true);
    if (plain) plain->compare_with(first, it.name);
    for (const Kernels* kernels : kernels_that_run()) {
      for (const int threads : {1, 2, 3, 8}) {
        for (const Pool::Manner manner : Pool::kAll) {
          if (threads != 3 && manner != Pool::kAtOnce) continue;
          const std::string name = it.name + " " + kernels->instructions + " threads=" +
                                   std::to_string(threads) + " manner=" + std::to_string(manner);
          const bool of_inputs = manner != Pool::kLate;
          const Results results =
              run(kernels->recurrences[number], it, threads, manner, of_inputs);
          compare_with_first(name, first, results);
          ++runs;
        }
      }
    }
  };
  for (const auto& [sizes, every_option] : kSizes) {
    for (const bool masked : {false, true}) {
      for (const bool reverse : {false, true}) {
        if (every_option || masked == reverse) check_case(sizes, masked, reverse, true);
      }
    }
  }
  check_case(kLarge, true, false, false);
  return runs;
}

void check_team() {
  constexpr int kMost = 4, kRounds = 200, kItems = 50;
  for (const Pool::Manner manner : Pool::kAll) {
    Pool pool(manner);
    Team team(kMost, pool.schedule());
    check(team.most() == kMost, "team: of another size");
    struct Shared {
      Team& team;
      std::atomic<int> claimed{0};
      int before[kMost] = {};  // written by one member each, read by all after they have met
      std::atomic<int> present{0};
    } shared{team};
    for (int round = 0; round < kRounds; ++round) {
      shared.claimed = 0;
      shared.present = 0;
      team.together(
          [](void* context, int member, int members) {
            auto& shared = *static_cast<Shared*>(context);
            check(member < members && members <= kMost, "team: a member too many");
            ++shared.present;
            while (shared.team.claim() < kItems) ++shared.claimed;
            shared.before[member] += 1;
            shared.team.wait_for_all(member);
            for (int other = 0; other < members; ++other) {
              check(shared.before[other] >= 1, "team: one has not come where all meet");
            }
            check(shared.present == members, "team: another number is present than was told");
            shared.team.wait_for_all(member);
          },
          &shared);
      check(shared.claimed == kItems, "team: an item was claimed by none, or twice");
    }
  }
}

// A member who is late at meetings again and again, as where other programs want the processors.
void check_parting() {
  Pool pool(Pool::kAtOnce);
  Team team(2, pool.schedule());
  struct Shared {
    Team& team;
    int meetings[2] = {};
    int members = 0;
  } shared{team};
  const auto meet = [](void* context, int member, int members) {
    auto& shared = *static_cast<Shared*>(context);
    if (member == 0) shared.members = members;
    for (int meeting = 0; meeting < 1000 && members > 1; ++meeting) {
      if (member == 1) std::this_thread::sleep_for(std::chrono::milliseconds(2));
      ++shared.meetings[member];
      if (!shared.team.wait_for_all(member)) return;
    }
  };
  while (shared.members < 2) team.together(meet, &shared);  // until the helper has come
  check(shared.meetings[0] == shared.meetings[1], "team: not all parted at one meeting");
  check(shared.meetings[0] < 1000, "team: members go on who wait for each other most of the time");
  team.together(meet, &shared);
  check(shared.members == 1, "team: a member has come back after they parted");
}

void check_memory_that_is_not_there() {
  for (const Kernels* kernels : kernels_that_run()) {
    for (int number = 0; number < kernels->count; ++number) {
      Pool pool(Pool::kAtOnce);
      Team team(2, pool.schedule());
      ForwardCall forward = {};
      for (const Sizes& sizes : {Sizes{2, 1, 1, 1L << 22}, Sizes{1, 1, 1, 1L << 45}}) {
        forward.sizes = sizes;
        check(kernels->recurrences[number].forward(forward, team) == Outcome::kNoMemory,
              "forward: 64 TiB were had");
      }
      BackwardCall backward = {};
      backward.sizes = {1, 1, 1, 1L << 22};
      check(kernels->recurrences[number].backward(backward, team) == Outcome::kNoMemory,
            "backward: 64 TiB were had");
    }
  }
}

void check_activations() {
  const float infinity = std::numeric_limits<float>::infinity();
  Floats from = {0.0f, -0.0f, infinity, -infinity, std::nanf(""), 1e-45f, -1e-38f, 88.0f, -1e30f};
  std::mt19937 random(3);
  for (float value : normal(random, 1000, 5)) from.push_back(value);
  for (const Kernels* kernels : kernels_that_run()) {
    const Unaligned in(from), out(from.size());
    for (const bool is_tanh : {false, true}) {
      (is_tanh ? kernels->tanh : kernels->sigmoid)(in.data(), out.data(), from.size());
      for (size_t i = 0; i < from.size(); ++i) {
        const double x = from[i], expected = is_tanh ? std::tanh(x) : 1 / (1 + std::exp(-x));
        const double error = std::abs(out.data()[i] - expected);
        check(std::isnan(x) ? std::isnan(out.data()[i]) : error <= 3e-7,
              std::string(kernels->instructions) + ": activation of " + std::to_string(x));
      }
    }
  }
}

}  // namespace
}  // namespace rnnjax

int main() {
  using namespace rnnjax;
  check_team();
  check_parting();
  check_activations();
  check_memory_that_is_not_there();
  for (int number = 0; number < baseline::kKernels.count; ++number) {
    const int runs = check_recurrence(number);
    std::printf("%s: %d runs agree\n", baseline::kKernels.recurrences[number].name, runs);
    std::fflush(stdout);
  }
  for (const Kernels* kernels : kernels_that_run()) std::printf("%s ran\n", kernels->instructions);
}
