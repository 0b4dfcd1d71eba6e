#include "task_queue.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <thread>
#include <vector>

using gyre::threadpool::TaskQueue;

TEST_CASE("tasks come out in the order they went in") {
  TaskQueue<int> queue(10);
  for (int i = 0; i < 10; ++i) CHECK(queue.try_push(i));
  for (int i = 0; i < 10; ++i) CHECK(queue.pop() == i);
  CHECK(queue.size() == 0);
}

TEST_CASE("a full queue takes nothing more, except what goes on") {
  TaskQueue<int> queue(2);
  CHECK(queue.try_push(1));
  CHECK(queue.try_push(2));
  CHECK(!queue.try_push(3));
  queue.push_always(4);
  CHECK(queue.size() == 3);
  CHECK(queue.pop() == 1);
  CHECK(!queue.try_push(5));
  CHECK(queue.pop() == 2);
  CHECK(queue.try_push(6));
}

TEST_CASE("a closed queue hands out what is left, then ends for every worker") {
  TaskQueue<int> queue(10);
  for (int i = 0; i < 5; ++i) queue.push_always(i);
  queue.close();
  std::atomic<int> taken = 0;
  std::vector<std::thread> workers;
  for (int i = 0; i < 3; ++i) {
    workers.emplace_back([&] {
      while (queue.pop()) ++taken;
    });
  }
  for (std::thread& worker : workers) worker.join();
  CHECK(taken == 5);
}

TEST_CASE("each of many tasks is done once, and producers that wait for room go on") {
  TaskQueue<int> queue(4);
  constexpr int count = 20'000;
  std::vector<std::atomic<int>> done(count);
  std::vector<std::thread> workers;
  for (int i = 0; i < 3; ++i) {
    workers.emplace_back([&] {
      while (const std::optional<int> task = queue.pop()) ++done[static_cast<size_t>(*task)];
    });
  }
  std::vector<std::thread> producers;
  for (int first = 0; first < 2; ++first) {
    producers.emplace_back([&queue, first] {
      for (int task = first; task < count; task += 2) queue.push_waiting(task);
    });
  }
  for (std::thread& producer : producers) producer.join();
  queue.close();
  for (std::thread& worker : workers) worker.join();
  int once = 0;
  for (const auto& times : done) once += times == 1;
  CHECK(once == count);
}
