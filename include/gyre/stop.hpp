// Cancellation, single-threaded and without atomics. A StopSource asks; StopCallbacks, kept by
// whatever waits, react. Requests travel down: a source made with a parent is stopped with it.
#pragma once

namespace gyre {

class StopSource;

// Intrusive: unlinks itself when destroyed. `on_stop` runs at most once and must not throw.
struct StopCallback {
  using Handler = void (*)(StopCallback& self) noexcept;

  explicit StopCallback(Handler handler) : on_stop(handler) {}
  ~StopCallback() { unlink(); }
  StopCallback(const StopCallback&) = delete;
  StopCallback& operator=(const StopCallback&) = delete;

  void unlink() noexcept {
    if (previous_next_ == nullptr) return;
    *previous_next_ = next_;
    if (next_ != nullptr) next_->previous_next_ = previous_next_;
    previous_next_ = nullptr;
    next_ = nullptr;
  }
  bool linked() const { return previous_next_ != nullptr; }

  Handler on_stop;

 private:
  friend class StopSource;
  StopCallback* next_ = nullptr;
  StopCallback** previous_next_ = nullptr;
};

class StopSource {
 public:
  explicit StopSource(StopSource* parent = nullptr) {
    if (parent == nullptr) return;
    if (parent->stop_requested()) {
      stopped_ = true;
    } else {
      parent->add(from_parent_);
    }
  }
  ~StopSource();
  StopSource(const StopSource&) = delete;
  StopSource& operator=(const StopSource&) = delete;

  bool stop_requested() const noexcept { return stopped_; }
  void request_stop() noexcept;

  // The caller has checked that no stop was requested yet.
  void add(StopCallback& callback) noexcept {
    callback.next_ = first_;
    callback.previous_next_ = &first_;
    if (first_ != nullptr) first_->previous_next_ = &callback.next_;
    first_ = &callback;
  }

 private:
  struct FromParent : StopCallback {
    explicit FromParent(StopSource& source);
    StopSource& source;
  };

  StopCallback* first_ = nullptr;
  bool stopped_ = false;
  FromParent from_parent_{*this};
};

inline StopSource::FromParent::FromParent(StopSource& to)
    : StopCallback([](StopCallback& self) noexcept {
        static_cast<FromParent&>(self).source.request_stop();
      }),
      source(to) {}

inline StopSource::~StopSource() {
  while (first_ != nullptr) first_->unlink();
}

inline void StopSource::request_stop() noexcept {
  if (stopped_) return;
  stopped_ = true;
  while (first_ != nullptr) {
    StopCallback& callback = *first_;
    callback.unlink();
    callback.on_stop(callback);
  }
}

}  // namespace gyre
