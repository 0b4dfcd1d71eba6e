// Work on one key for a command: done on the core that owns the key's shard. What several commands,
// or one of several keys, ask of another core travels there in one message, and what is done on the
// spot comes back in it; what takes longer comes back by itself.
#pragma once

#include <cstdint>
#include <string_view>

#include <gyre/mailbox.hpp>
#include <gyre/reactor.hpp>

namespace gyre {

class Core;
class RespServer;
class TaskBatch;

class StoreTask : public Message {
 public:
  virtual ~StoreTask() = default;
  unsigned owner() const { return owner_; }

 protected:
  // The stored key.
  StoreTask(RespServer& server, std::string_view key);

  // Begins the work, at once if this core owns the shard. Ends with completed(), perhaps before it
  // returns.
  void go();
  // On the owner's core: done() is called then or later.
  virtual void work(Core& owner) = 0;
  // On the owner's core. The task may be gone afterwards.
  void done();
  // Back on the core of its command.
  virtual void completed() = 0;

  Core& home() const;
  bool at_home() const;

  RespServer& server_;
  uint32_t shard_;
  unsigned owner_;

 private:
  friend class TaskBatch;
  TaskBatch* batch_ = nullptr;  // in which it is being worked on
  StoreTask* next_task_ = nullptr;
};

class TaskBatch : public Message {
 public:
  static void* operator new(size_t size_bytes) { return allocate_frame(size_bytes); }
  static void operator delete(void* memory, size_t size_bytes) { free_frame(memory, size_bytes); }

  TaskBatch(RespServer& home, unsigned owner) : home_(home), owner_(owner) {}
  void add(StoreTask& task);
  // To the owner's core.
  void send();

 private:
  friend class StoreTask;
  void work(Core& owner);
  void completed();

  RespServer& home_;
  unsigned owner_;
  StoreTask* head_ = nullptr;
  StoreTask* tail_ = nullptr;
};

}  // namespace gyre
