#include "node/resp/task_exchange.hpp"

namespace gyre {

TaskExchange::TaskExchange(Invocation& in, Work work)
    : Exchange(in.client),
      server_(in.server),
      client_(in.client),
      database_(in.client.database),
      work_(work),
      words_(in.words.begin(), in.words.end()) {}

void TaskExchange::begin() {
  connection().scope().spawn(run());
}

Task<void> TaskExchange::run() {
  co_await work_(*this);
  connection().finished(*this);
}

}  // namespace gyre
