#include "team.h"

#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

namespace rnnjax {
namespace {

constexpr int kSpins = 4000;  // some tens of microseconds, then let others run

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

template <class Condition>
void spin_until(const Condition& condition) {
  for (int spins = 0; !condition(); ++spins) {
    if (spins < kSpins) {
      pause();
    } else {
      std::this_thread::yield();
    }
  }
}

struct alignas(128) Arrivals {  // lines are fetched in pairs
  std::atomic<long> count{0};
};

}  // namespace

struct Team::Shared {
  explicit Shared(int most) : most(most), arrivals(most) {}

  const int most;
  const std::thread::id owner = std::this_thread::get_id();
  std::mutex mutex;  // for joining, publishing and closing
  int joined = 0;    // helpers
  Work work = nullptr;
  void* context = nullptr;
  int members = 1;
  alignas(128) std::atomic<long> round{0};  // odd: the call is over
  alignas(128) std::atomic<int> finished{0};
  alignas(128) std::atomic<long> claimed{0};
  std::vector<Arrivals> arrivals;

  void help() {
    // A pool whose queue is full runs a task at once, in the thread that brings it.
    if (std::this_thread::get_id() == owner) return;
    long seen;
    int member;
    {
      std::lock_guard<std::mutex> lock(mutex);
      seen = round.load(std::memory_order_relaxed);
      if (seen % 2 != 0) return;
      member = ++joined;
    }
    for (;;) {
      spin_until([&] { return round.load(std::memory_order_acquire) != seen; });
      seen = round.load(std::memory_order_acquire);
      if (seen % 2 != 0) return;
      work(context, member, members);
      finished.fetch_add(1, std::memory_order_release);
    }
  }
};

Team::Team(int most, const Schedule& schedule) : shared_(std::make_shared<Shared>(most)) {
  for (int i = 1; i < most; ++i) {
    schedule([shared = shared_] { shared->help(); });
  }
}

Team::~Team() {
  std::lock_guard<std::mutex> lock(shared_->mutex);
  shared_->round.fetch_add(1, std::memory_order_release);
}

int Team::most() const { return shared_->most; }

void Team::together(Work work, void* context) {
  Shared& shared = *shared_;
  int helpers;
  {
    std::lock_guard<std::mutex> lock(shared.mutex);
    helpers = shared.joined;
    shared.work = work;
    shared.context = context;
    shared.members = helpers + 1;
    shared.finished.store(0, std::memory_order_relaxed);
    shared.claimed.store(0, std::memory_order_relaxed);
    for (Arrivals& arrivals : shared.arrivals) {
      arrivals.count.store(0, std::memory_order_relaxed);
    }
    shared.round.fetch_add(2, std::memory_order_release);
  }
  work(context, 0, helpers + 1);
  spin_until([&] { return shared.finished.load(std::memory_order_acquire) == helpers; });
}

long Team::claim() { return shared_->claimed.fetch_add(1, std::memory_order_relaxed); }

void Team::wait_for_all(int member) {
  Shared& shared = *shared_;
  std::atomic<long>& mine = shared.arrivals[member].count;
  const long target = mine.load(std::memory_order_relaxed) + 1;
  mine.store(target, std::memory_order_release);
  for (int other = 0; other < shared.members; ++other) {
    if (other == member) continue;
    spin_until(
        [&] { return shared.arrivals[other].count.load(std::memory_order_acquire) >= target; });
  }
}

}  // namespace rnnjax
