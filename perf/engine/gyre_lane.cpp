#include "engine/gyre_lane.hpp"

#include <algorithm>
#include <cstring>

#include <gyre/scope.hpp>
#include <gyre/time.hpp>

#include "base/hash.hpp"
#include "store/scan.hpp"

namespace gyre::engine {

namespace {

constexpr Nanos refusal_pause = milliseconds(1);
constexpr Nanos write_patience = seconds(10);  // as Shard::put has

}  // namespace

// --- calls --------------------------------------------------------------------------------------

bool Call::at_home() const {
  return lane_.core_ == store_.core;
}

void Call::start(Operation operation) {
  operation_ = operation;
  answer_ = Answer::right;
  found_ = 0;
  write_key(key_, key_number);
  if (at_home()) return serve();
  deliver = [](Message& self, Reactor&) noexcept { static_cast<Call&>(self).serve(); };
  Reactor::current().send(store_.core, *this);
}

void Call::serve() noexcept {
  switch (operation_) {
    case Operation::get:
      return serve_get();
    case Operation::put:
      return serve_put();
    case Operation::scan:
      return Reactor::current().service_scope().spawn(scan(this));
  }
}

void Call::ended() noexcept {
  if (at_home()) return landed();
  deliver = [](Message& self, Reactor&) noexcept { static_cast<Call&>(self).landed(); };
  Reactor::current().send(lane_.core_, *this);
}

void Call::landed() noexcept {
  if (--lane_.pending_ != 0 || lane_.task_ == nullptr) return;
  std::exchange(lane_.task_, nullptr)->schedule();
}

void Call::fail_with(const Error& error) {
  answer_ = Answer::failed;
  problem_ = error.message();
}

void Call::take(uint64_t number, std::string_view bytes) {
  if (at_home()) {
    if (!is_value_of(bytes, value_bytes_, number)) answer_ = Answer::wrong;
  } else {
    std::memcpy(value.data() + found_ * value_bytes_, bytes.data(),
                std::min(bytes.size(), value_bytes_));
  }
  numbers_[found_++] = number;
}

void Call::serve_get() {
  {
    StoreRead read;
    switch (store_.shard->try_get(key(), Reactor::current().wall_ms(), read)) {
      case ReadOutcome::found:
        take(key_number, read.value);
        break;
      case ReadOutcome::absent:
        answer_ = Answer::wrong;
        break;
      case ReadOutcome::wait:
        return Reactor::current().service_scope().spawn(get_slowly(this));
    }
  }
  ended();
}

Task<void> Call::get_slowly(Call* call) {
  {
    StoreRead read;
    Result<bool> found = co_await call->store_.shard->get(std::string(call->key()),
                                                          Reactor::current().wall_ms(), read);
    if (!found) {
      call->fail_with(found.error());
    } else if (!*found) {
      call->answer_ = Answer::wrong;
    } else {
      call->take(call->key_number, read.value);
    }
  }
  call->ended();
}

void Call::serve_put() {
  const size_t charge = StoreWrite::charge_for(key_bytes, value_bytes_);
  if (store_.memory.try_acquire(charge)) return submit(charge);
  Reactor::current().service_scope().spawn(put_slowly(this, 0));
}

Task<void> Call::put_slowly(Call* call, Nanos pause) {
  if (pause != 0) static_cast<void>(co_await sleep_for(pause));
  const size_t charge = StoreWrite::charge_for(key_bytes, call->value_bytes_);
  Semaphore& memory = call->store_.memory;
  if (!memory.try_acquire(charge)) {
    call->store_.shard->memory_wanted();
    static_cast<void>(co_await memory.acquire(charge));
  }
  call->submit(charge);
}

void Call::submit(size_t charged_bytes) {
  write_.emplace(*this);
  write_->charged_bytes = charged_bytes;
  write_->patience = write_patience;
  write_->record.kind = Kind::value;
  write_->record.key = key();
  write_->record.value = {value.data(), value_bytes_};
  write_->done = [](StoreWrite& self, Errc status) noexcept {
    Call& call = static_cast<Write&>(self).call;
    if (status != Errc::ok) {
      call.fail_with(Error::of(status, call.store_.shard->read_only_reason()));
    }
    call.ended();
  };
  const Errc verdict = store_.shard->write(*write_);
  if (verdict == Errc::ok) return;
  store_.memory.release(charged_bytes);
  if (verdict == Errc::overloaded) {
    // A node answers 503 and its client comes again.
    ++refusals;
    return Reactor::current().service_scope().spawn(put_slowly(this, refusal_pause));
  }
  fail_with(Error::of(verdict, store_.shard->read_only_reason()));
  ended();
}

Task<void> Call::scan(Call* call) {
  Result<std::unique_ptr<Scan>> scan =
      co_await call->store_.shard->scan(std::string(call->key()), "", Reactor::current().wall_ms());
  Result<void> loaded{};
  bool at_end = false;
  if (!scan) loaded = fail(scan.error());
  while (loaded && !at_end && call->found_ < scan_records) {
    switch ((*scan)->try_next()) {
      case Scan::Step::record: {
        const Entry& entry = (*scan)->entry();
        call->take(read_key(entry.key).value_or(UINT64_MAX), entry.value);
        break;
      }
      case Scan::Step::wait:
        loaded = co_await (*scan)->load();
        break;
      case Scan::Step::end:
        at_end = true;
        break;
    }
  }
  if (!loaded) call->fail_with(loaded.error());
  if (scan) scan->reset();
  call->ended();
}

// --- lanes --------------------------------------------------------------------------------------

Lane::Lane(unsigned core, std::vector<std::unique_ptr<CoreStore>>& stores, const Settings& settings)
    : core_(core), settings_(settings) {
  for (const auto& store : stores) {
    calls_.push_back(std::make_unique<Call>(*this, *store, settings.value_bytes));
  }
}

unsigned Lane::owner_of(uint64_t key_number) const {
  if (calls_.size() == 1) return 0;
  char key[key_bytes];
  write_key(key, key_number);
  return shard_of({key, key_bytes}, static_cast<uint32_t>(calls_.size()));
}

bool Lane::is_own(uint64_t key_number) const {
  return owner_of(key_number) == core_;
}

void Lane::start(Operation operation, uint64_t key_number, uint64_t sequence) {
  operation_ = operation;
  key_number_ = key_number;
  if (operation == Operation::scan) {
    // Keys are spread over the shards by their hash, so every shard may hold some of the ten.
    pending_ = static_cast<unsigned>(calls_.size());
    for (const auto& call : calls_) {
      call->key_number = key_number;
      call->start(operation);
    }
    return;
  }
  pending_ = 1;
  owner_ = owner_of(key_number);
  Call& call = *calls_[owner_];
  call.key_number = key_number;
  if (operation == Operation::put) {
    write_value(call.value.data(), settings_.value_bytes, key_number, sequence);
  }
  call.start(operation);
}

Answer Lane::check() {
  if (operation_ == Operation::scan) return check_scan();
  const Call& call = *calls_[owner_];
  if (call.answer() == Answer::failed) problem_ = call.problem();
  if (operation_ == Operation::put || owner_ == core_ || call.answer() != Answer::right) {
    return call.answer();
  }
  const std::string_view value(call.value.data(), settings_.value_bytes);
  return is_value_of(value, settings_.value_bytes, key_number_) ? Answer::right : Answer::wrong;
}

// The smallest ten of what the shards have found must be the ten keys from the first on.
Answer Lane::check_scan() {
  struct Record {
    uint64_t number;
    std::string_view value;  // empty if it was checked on its own core
  };
  std::vector<Record> found;
  found.reserve(calls_.size() * scan_records);
  for (unsigned core = 0; core < calls_.size(); ++core) {
    const Call& call = *calls_[core];
    if (call.answer() == Answer::failed) problem_ = call.problem();
    if (call.answer() != Answer::right) return call.answer();
    for (unsigned i = 0; i < call.found(); ++i) {
      const std::string_view value(call.value.data() + i * settings_.value_bytes,
                                   core == core_ ? 0 : settings_.value_bytes);
      found.push_back({call.number(i), value});
    }
  }
  std::sort(found.begin(), found.end(),
            [](const Record& a, const Record& b) { return a.number < b.number; });
  const uint64_t expected = std::min<uint64_t>(scan_records, settings_.keys - key_number_);
  if (found.size() < expected) return Answer::wrong;
  for (uint64_t i = 0; i < expected; ++i) {
    const auto& [number, value] = found[i];
    if (number != key_number_ + i) return Answer::wrong;
    if (!value.empty() && !is_value_of(value, settings_.value_bytes, number)) return Answer::wrong;
  }
  return Answer::right;
}

uint64_t Lane::refusals() const {
  uint64_t sum = 0;
  for (const auto& call : calls_) sum += call->refusals;
  return sum;
}

}  // namespace gyre::engine
