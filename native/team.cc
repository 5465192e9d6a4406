#include "team.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

#ifdef __linux__
#include <sched.h>
#endif

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

// The processor that this thread runs on now; -1 where that is not known.
int current_processor() {
#ifdef __linux__
  return sched_getcpu();
#else
  return -1;
#endif
}

struct alignas(128) Member {  // lines are fetched in pairs
  std::atomic<long> arrivals{0};
  std::atomic<int> processor{-1};  // that it ran on when its last piece of work began
};

// Moves this thread to a processor that no earlier member runs on, if it shares one and may.
//
// A thread that is woken while all processors have work begins on that of the thread that woke it, and
// the system may let the two take turns there for milliseconds after another processor has become idle:
// longer than many a call takes. The set of processors allowed is put back at once.
void find_own_processor(const std::vector<Member>& members, int member) {
#ifdef __linux__
  const int here = current_processor();
  bool shared = false;
  for (int i = 0; i < member; ++i) {
    shared = shared || members[i].processor.load(std::memory_order_relaxed) == here;
  }
  cpu_set_t allowed;
  if (!shared || sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  cpu_set_t others = allowed;
  for (int i = 0; i < member; ++i) {
    const int taken = members[i].processor.load(std::memory_order_relaxed);
    if (taken >= 0 && taken < CPU_SETSIZE) CPU_CLR(taken, &others);
  }
  if (CPU_COUNT(&others) == 0) return;
  if (sched_setaffinity(0, sizeof others, &others) == 0) {
    sched_setaffinity(0, sizeof allowed, &allowed);
  }
#else
  (void)members;
  (void)member;
#endif
}

}  // namespace

struct Team::Shared {
  explicit Shared(int most) : most(std::max(most, 1)), team(this->most) {}

  const int most;
  const std::thread::id owner = std::this_thread::get_id();
  std::mutex mutex;              // for joining, publishing and closing
  std::atomic<int> joined{0};    // helpers
  Work work = nullptr;
  void* context = nullptr;
  int members = 1;
  alignas(128) std::atomic<long> round{0};  // odd: the call is over
  alignas(128) std::atomic<int> finished{0};
  alignas(128) std::atomic<long> claimed{0};
  std::vector<Member> team;  // by member

  void help() {
    // A pool whose queue is full runs a task at once, in the thread that brings it.
    if (std::this_thread::get_id() == owner) return;
    long seen;
    int member;
    {
      std::lock_guard<std::mutex> lock(mutex);
      seen = round.load(std::memory_order_relaxed);
      if (seen % 2 != 0 || joined + 1 == most) return;
      member = ++joined;
    }
    for (;;) {
      find_own_processor(team, member);
      spin_until([&] { return round.load(std::memory_order_acquire) != seen; });
      seen = round.load(std::memory_order_acquire);
      if (seen % 2 != 0) return;
      find_own_processor(team, member);
      team[member].processor.store(current_processor(), std::memory_order_relaxed);
      work(context, member, members);
      finished.fetch_add(1, std::memory_order_release);
    }
  }
};

Team::Team(int most, const Schedule& schedule) : shared_(std::make_shared<Shared>(most)) {
  shared_->team[0].processor.store(current_processor(), std::memory_order_relaxed);
  // One more than may join: the first to wake up come in, the last finds the team complete.
  for (int i = 0; most > 1 && i < most; ++i) {
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
  // A helper that has not come may be waiting for this very processor.
  if (shared.joined.load(std::memory_order_relaxed) + 1 < shared.most) std::this_thread::yield();
  int helpers;
  shared.team[0].processor.store(current_processor(), std::memory_order_relaxed);
  {
    std::lock_guard<std::mutex> lock(shared.mutex);
    helpers = shared.joined;
    shared.work = work;
    shared.context = context;
    shared.members = helpers + 1;
    shared.finished.store(0, std::memory_order_relaxed);
    shared.claimed.store(0, std::memory_order_relaxed);
    for (Member& member : shared.team) member.arrivals.store(0, std::memory_order_relaxed);
    shared.round.fetch_add(2, std::memory_order_release);
  }
  work(context, 0, helpers + 1);
  spin_until([&] { return shared.finished.load(std::memory_order_acquire) == helpers; });
}

long Team::claim() { return shared_->claimed.fetch_add(1, std::memory_order_relaxed); }

void Team::wait_for_all(int member) {
  Shared& shared = *shared_;
  std::atomic<long>& mine = shared.team[member].arrivals;
  const long target = mine.load(std::memory_order_relaxed) + 1;
  mine.store(target, std::memory_order_release);
  for (int other = 0; other < shared.members; ++other) {
    if (other == member) continue;
    spin_until(
        [&] { return shared.team[other].arrivals.load(std::memory_order_acquire) >= target; });
  }
}

}  // namespace rnnjax
