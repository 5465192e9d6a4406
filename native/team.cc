#include "team.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#ifdef __linux__
#include <sched.h>
#endif

namespace rnnjax {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kSpins = 4000;  // some tens of microseconds, then sleep

// Members part when they have slept at meetings for so long, and for so large a part of the call: where
// others want the processors, one thread that never waits is done sooner than two that wait for each other.
constexpr Clock::duration kLongSleep = std::chrono::milliseconds(1);
constexpr int kPartsOfACall = 4;

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Where threads wait for what others do: for a while awake, then asleep.
//
// A meeting is over sooner than a thread falls asleep and wakes up. But where other programs want the
// processors too, the system may have put aside the very thread that is waited for; who then stays
// awake uses up his own share of the processor, and is put aside in turn when his turn comes to work.
class Bell {
 public:
  // Conditions read what others store, both in the one order of all (seq_cst): so either the one who
  // waits sees what was stored, or the one who stored it sees that somebody sleeps.
  // Returns how long this thread slept.
  template <class Condition>
  Clock::duration wait(const Condition& condition) {
    for (int spins = 0; spins < kSpins; ++spins) {
      if (condition()) return Clock::duration::zero();
      pause();
    }
    const Clock::time_point begin = Clock::now();
    std::unique_lock<std::mutex> lock(mutex_);
    sleepers_.fetch_add(1);
    while (!condition()) wake_.wait(lock);
    sleepers_.fetch_sub(1);
    return Clock::now() - begin;
  }

  // After a store that somebody may wait for.
  void ring() {
    if (sleepers_.load() == 0) return;
    { std::lock_guard<std::mutex> lock(mutex_); }  // who has seen nothing is asleep by now
    wake_.notify_all();
  }

 private:
  std::atomic<int> sleepers_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
};

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
  Clock::time_point begin;  // of a call that is shared
  alignas(128) std::atomic<long> round{0};  // odd: there is nothing to help any more
  alignas(128) std::atomic<int> finished{0};
  alignas(128) std::atomic<long> claimed{0};
  alignas(128) std::atomic<Clock::rep> slept{0};  // at meetings, all members together
  std::atomic<long> parted{0};  // the meeting of this round from which on member 0 is alone
  alignas(128) Bell bell;
  std::vector<Member> team;  // by member

  bool is_open() const { return round.load(std::memory_order_relaxed) % 2 == 0; }

  // Sends the helpers away, also those who have not come yet.
  void close() {
    {
      std::lock_guard<std::mutex> lock(mutex);
      if (!is_open()) return;
      joined = 0;
      round.fetch_add(1);
    }
    bell.ring();
  }

  bool is_crowded() const {
    const Clock::duration asleep{slept.load(std::memory_order_relaxed)};
    return asleep >= kLongSleep && asleep * kPartsOfACall >= Clock::now() - begin;
  }

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
      bell.wait([&] { return round.load() != seen; });
      seen = round.load();
      if (seen % 2 != 0) return;
      find_own_processor(team, member);
      team[member].processor.store(current_processor(), std::memory_order_relaxed);
      work(context, member, members);
      finished.fetch_add(1);
      bell.ring();
    }
  }
};

Team::Team(int most, const Schedule& schedule) : shared_(std::make_shared<Shared>(most)) {
  if (most == 1) return;
  shared_->begin = Clock::now();
  shared_->team[0].processor.store(current_processor(), std::memory_order_relaxed);
  // One more than may join: the first to wake up come in, the last finds the team complete.
  for (int i = 0; i < most; ++i) {
    schedule([shared = shared_] { shared->help(); });
  }
}

Team::~Team() { shared_->close(); }

int Team::most() const { return shared_->most; }

void Team::together(Work work, void* context) {
  Shared& shared = *shared_;
  // A helper that has not come may be waiting for this very processor.
  const bool has_all = shared.joined.load(std::memory_order_relaxed) + 1 == shared.most;
  if (!has_all && shared.is_open()) std::this_thread::yield();
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
    shared.round.fetch_add(2);
  }
  shared.bell.ring();
  work(context, 0, helpers + 1);
  shared.bell.wait([&] { return shared.finished.load() == helpers; });
  if (shared.parted.load(std::memory_order_relaxed) != 0) shared.close();
}

long Team::claim() { return shared_->claimed.fetch_add(1, std::memory_order_relaxed); }

bool Team::wait_for_all(int member) {
  Shared& shared = *shared_;
  std::atomic<long>& mine = shared.team[member].arrivals;
  const long target = mine.load(std::memory_order_relaxed) + 1;
  // Said before it arrives, so that whoever has met it knows.
  if (member == 0 && shared.slept.load(std::memory_order_relaxed) != 0 && shared.is_crowded()) {
    shared.parted.store(target, std::memory_order_relaxed);
  }
  mine.store(target);
  shared.bell.ring();
  Clock::duration slept = Clock::duration::zero();
  for (int other = 0; other < shared.members; ++other) {
    if (other == member) continue;
    slept += shared.bell.wait([&] { return shared.team[other].arrivals.load() >= target; });
  }
  if (slept != Clock::duration::zero()) {
    shared.slept.fetch_add(slept.count(), std::memory_order_relaxed);
  }
  return shared.parted.load(std::memory_order_relaxed) != target;
}

}  // namespace rnnjax
