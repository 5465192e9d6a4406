// The threads of one call: the calling one, and those of XLA's pool that come to help.
//
// A pool promises nothing about when a task runs: its threads may all be busy, even with calls that
// wait for threads themselves. So nobody ever waits for a helper that has not come. A task that the
// pool starts joins the team if the call is still going on; `together` shares its work among those
// present, who are threads that run, so that they may wait for each other.
#pragma once

#include <functional>
#include <memory>

namespace rnnjax {

class Team {
 public:
  using Work = void (*)(void* context, int member, int members);
  using Schedule = std::function<void(std::function<void()>)>;

  // most: of threads, the calling one included.
  Team(int most, const Schedule& schedule);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int most() const;

  // Runs work(context, member, members) on all who are present, this thread being member 0.
  void together(Work work, void* context);

  // The next of 0, 1, ...; each number goes to one member. `together` begins anew at 0.
  long claim();

  // Returns when all members have called it as often as this one. False tells all of them to part: member 0
  // does the rest of this work alone, and is the only member from then on.
  bool wait_for_all(int member);

  struct Shared;

 private:
  std::shared_ptr<Shared> shared_;
};

}  // namespace rnnjax
