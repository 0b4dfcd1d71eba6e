// Two cores that write to each other and answer while both are at work, now and then asleep: what
// one sends first arrives first and comes back first, and neither ends before all have come home.
// Run on io_uring with threads and in the simulation.
#pragma once

#include <vector>

#include <gyre/mailbox.hpp>
#include <gyre/reactor.hpp>
#include <gyre/sync.hpp>
#include <gyre/task.hpp>
#include <gyre/time.hpp>

namespace gyre::testing {

class Letters {
 public:
  explicit Letters(int count) : count_(count) {
    for (Side& side : sides_) side.letters.resize(static_cast<size_t>(count));
  }

  // The main task of core 0 or 1.
  static Task<void> write(Letters& all, unsigned core) {
    Reactor& reactor = Reactor::current();
    Side& own = all.sides_[core];
    int number = 0;
    for (Letter& letter : own.letters) {
      letter.deliver = &arrive;
      letter.all = &all;
      letter.number = number++;
      reactor.send(1 - core, letter);
      co_await yield();
      if (reactor.random() % 64 == 0) {
        const auto pause = static_cast<int64_t>(reactor.random() % 100);
        static_cast<void>(co_await sleep_for(microseconds(pause)));
      }
    }
    co_await own.finished.wait();
  }

  // Of the letters that arrived on a core, and of its own that came back.
  int arrived(unsigned core) const { return sides_[core].arrived; }
  int returned(unsigned core) const { return sides_[core].returned; }
  bool in_order(unsigned core) const { return sides_[core].in_order; }

 private:
  struct Letter : Message {
    Letters* all = nullptr;
    int number = 0;
  };
  // Touched by its own core only, but for letters under way.
  struct Side {
    std::vector<Letter> letters;
    int arrived = 0;
    int returned = 0;
    bool in_order = true;
    Event finished;
  };

  static void arrive(Message& message, Reactor& at) noexcept {
    auto& letter = static_cast<Letter&>(message);
    Letters& all = *letter.all;
    Side& here = all.sides_[at.core()];
    here.in_order &= letter.number == here.arrived++;
    letter.deliver = &come_back;
    at.send(letter.from, letter);
    all.finish(here);
  }
  static void come_back(Message& message, Reactor& at) noexcept {
    auto& letter = static_cast<Letter&>(message);
    Side& here = letter.all->sides_[at.core()];
    here.in_order &= letter.number == here.returned++;
    letter.all->finish(here);
  }
  void finish(Side& here) const {
    if (here.arrived == count_ && here.returned == count_) here.finished.set();
  }

  const int count_;
  Side sides_[2];
};

}  // namespace gyre::testing
