// A command whose answer a coroutine makes: what asks other cores, or takes its time.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "node/resp/invocation.hpp"

namespace gyre {

class TaskExchange final : public resp::Exchange {
 public:
  // Writes the whole answer to self.out(). Runs in the connection's scope.
  using Work = Task<void> (*)(TaskExchange& self);

  // The command's words are copied.
  TaskExchange(Invocation& in, Work work);

  RespServer& server() { return server_; }
  RespClient& client() { return client_; }
  unsigned database() const { return database_; }  // when it was asked
  size_t size() const { return words_.size(); }
  std::string_view operator[](size_t index) const { return words_[index]; }
  resp::ReplyWriter out() { return {reply_, protocol()}; }

  void begin() override;
  void respond(resp::ReplyWriter& to) override { to.raw(reply_); }

 private:
  Task<void> run();

  RespServer& server_;
  RespClient& client_;
  unsigned database_;
  Work work_;
  std::vector<std::string> words_;
  std::string reply_;
};

}  // namespace gyre
