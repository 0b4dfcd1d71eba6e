// The socket half of SimBackend: an operation begins shortly after its submission, tries to make
// progress, and tries again whenever its listener or endpoint changes, until it completes.
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/assert.hpp"
#include "sim/sim_backend.hpp"
#include "sim/world.hpp"

namespace gyre::sim {

namespace {

size_t bytes_of(const Op& send) {
  size_t total = 0;
  const auto* pieces = static_cast<const iovec*>(send.data);
  for (uint32_t i = 0; i < send.len; ++i) total += pieces[i].iov_len;
  return total;
}

std::string gather(const Op& send, size_t from, size_t n) {
  std::string out;
  const auto* pieces = static_cast<const iovec*>(send.data);
  for (uint32_t i = 0; i < send.len && n != 0; ++i) {
    if (from >= pieces[i].iov_len) {
      from -= pieces[i].iov_len;
      continue;
    }
    const size_t piece = std::min(n, pieces[i].iov_len - from);
    out.append(static_cast<const char*>(pieces[i].iov_base) + from, piece);
    n -= piece;
    from = 0;
  }
  return out;
}

}  // namespace

void SimBackend::begin(uint32_t index) {
  Slot& slot = slots_[index];
  Op& op = *slot.op;
  Network& network = world_.network();
  slot.begun = true;
  switch (op.code) {
    case OpCode::nop:
      post(index, 0);
      return;
    case OpCode::listen:
      begin_listen(slot, index);
      return;
    case OpCode::close:
      begin_close(slot, index);
      return;
    case OpCode::shutdown:
      begin_shutdown(slot, index);
      return;
    case OpCode::signal:
      while (!node_.signals_.empty()) {
        post(index, node_.signals_.front(), true);
        node_.signals_.pop_front();
      }
      return;
    case OpCode::connect:
      if (!is_numeric_address(op.path)) return post(index, -EINVAL);
      if (node_.handles_.size() >= node_.options().descriptors_max) return post(index, -EMFILE);
      slot.endpoint = network.connect(node_.id(), op.path, static_cast<uint16_t>(op.offset));
      network.watch(network.at(slot.endpoint), {this, index});
      break;
    case OpCode::accept:
      network.watch(node_.handles_.at(op.fd).listener_id, {this, index});
      break;
    case OpCode::recv_into:
      if (op.len != 0) std::memset(op.data, 0xdb, op.len);
      [[fallthrough]];
    case OpCode::recv:
    case OpCode::send:
      network.watch(network.at(node_.handles_.at(op.fd).endpoint), {this, index});
      break;
    default:
      GYRE_ASSERT(false);
  }
  slot.watching = true;
  progress(index);
}

void SimBackend::begin_listen(Slot& slot, uint32_t index) {
  const Op& op = *slot.op;
  if (!is_numeric_address(op.path)) return post(index, -EINVAL);
  if (node_.handles_.size() >= node_.options().descriptors_max) return post(index, -EMFILE);
  ListenerId listener = 0;
  const int32_t result = world_.network().listen(
      node_.id(), op.path, static_cast<uint16_t>(op.offset), op.flags, op.len, listener);
  if (result < 0) return post(index, result);
  post(index, node_.add_handle({.kind = Handle::listener, .listener_id = listener}));
}

void SimBackend::begin_close(Slot& slot, uint32_t index) {
  const auto found = node_.handles_.find(slot.op->fd);
  GYRE_ASSERT(found != node_.handles_.end());
  const Handle handle = found->second;
  node_.handles_.erase(found);
  switch (handle.kind) {
    case Handle::file:
      node_.disk().close(handle.inode, handle.lock);
      break;
    case Handle::listener:
      world_.network().close_listener(handle.listener_id);
      break;
    case Handle::stream:
      world_.network().close(handle.endpoint);
      break;
  }
  post(index, 0);
}

void SimBackend::begin_shutdown(Slot& slot, uint32_t index) {
  Endpoint& endpoint = world_.network().at(node_.handles_.at(slot.op->fd).endpoint);
  if (endpoint.state != Endpoint::State::open) return post(index, -ENOTCONN);
  world_.network().shutdown(endpoint, static_cast<int>(slot.op->len));
  post(index, 0);
}

void SimBackend::stop_watching(Slot& slot, uint32_t index) {
  slot.watching = false;
  Network& network = world_.network();
  if (slot.op->code == OpCode::connect) {
    network.unwatch(slot.endpoint, {this, index});
    return;
  }
  const auto found = node_.handles_.find(slot.op->fd);
  if (found == node_.handles_.end()) return;
  if (found->second.kind == Handle::listener) {
    network.unwatch_listener(found->second.listener_id, {this, index});
  } else {
    network.unwatch(found->second.endpoint, {this, index});
  }
}

void SimBackend::progress(uint32_t index) {
  Slot& slot = slots_[index];
  if (slot.op == nullptr || slot.done || !slot.watching) return;
  switch (slot.op->code) {
    case OpCode::accept:
      progress_accept(slot, index);
      break;
    case OpCode::connect:
      progress_connect(slot, index);
      break;
    case OpCode::recv:
      progress_recv(slot, index);
      break;
    case OpCode::recv_into:
      progress_recv_into(slot, index);
      break;
    case OpCode::send:
      progress_send(slot, index);
      break;
    default:
      GYRE_ASSERT(false);
  }
}

void SimBackend::progress_accept(Slot& slot, uint32_t index) {
  const Handle& listener = node_.handles_.at(slot.op->fd);
  while (!slot.done) {
    if (node_.handles_.size() >= node_.options().descriptors_max) {
      if (world_.network().has_waiting(listener.listener_id)) post(index, -EMFILE);
      return;
    }
    const EndpointId endpoint = world_.network().accept(listener.listener_id);
    if (endpoint == 0) return;
    const int fd = node_.add_handle({.kind = Handle::stream, .endpoint = endpoint});
    // A cancelled accept may still bring a connection with its last completion.
    const bool last = (slot.cancelling && prng_.one_in(2)) ||
                      prng_.chance_ppm(world_.options().multishot_end_ppm);
    post(index, fd, !last);
  }
}

void SimBackend::progress_connect(Slot& slot, uint32_t index) {
  const Endpoint& endpoint = world_.network().at(slot.endpoint);
  if (endpoint.state == Endpoint::State::connecting) return;
  const EndpointId id = slot.endpoint;
  if (endpoint.state == Endpoint::State::failed) {
    const int error = endpoint.error;
    post(index, -error);
    world_.network().close(id);
    return;
  }
  post(index, node_.add_handle({.kind = Handle::stream, .endpoint = id}));
}

void SimBackend::progress_recv(Slot& slot, uint32_t index) {
  Network& network = world_.network();
  Endpoint& endpoint = network.at(node_.handles_.at(slot.op->fd).endpoint);
  if (network.reader_stalled_until(node_.id()) > world_.time()) return;
  while (!slot.done) {
    if (endpoint.state == Endpoint::State::failed) return post(index, -endpoint.error);
    if (endpoint.read_shut) return post(index, 0);
    if (endpoint.available() == 0) {
      if (endpoint.fin_received) post(index, 0);
      return;
    }
    if (free_buffers_.empty()) return post(index, -ENOBUFS);
    const uint16_t id = free_buffers_.front();
    free_buffers_.pop_front();
    Buffer& buffer = buffers_[id];
    buffer.outstanding = true;
    const size_t n = std::min(endpoint.available(), buffer.memory.size());
    std::memcpy(buffer.memory.data(), endpoint.inbox.data() + endpoint.inbox_head, n);
    network.consume(endpoint, n);
    const bool last = prng_.chance_ppm(world_.options().multishot_end_ppm);
    post(index, static_cast<int32_t>(n), !last, id);
  }
}

void SimBackend::progress_recv_into(Slot& slot, uint32_t index) {
  Network& network = world_.network();
  const Op& op = *slot.op;
  Endpoint& endpoint = network.at(node_.handles_.at(op.fd).endpoint);
  if (network.reader_stalled_until(node_.id()) > world_.time()) return;
  const bool failed = endpoint.state == Endpoint::State::failed;
  const size_t n = std::min<size_t>(endpoint.available(), op.len - slot.progress);
  if (n != 0) {
    std::memcpy(static_cast<char*>(op.data) + slot.progress,
                endpoint.inbox.data() + endpoint.inbox_head, n);
    network.consume(endpoint, n);
    slot.progress += n;
  }
  const bool ended =
      failed || endpoint.read_shut || (endpoint.fin_received && endpoint.available() == 0);
  if (slot.progress == op.len || ended || (slot.progress != 0 && !(op.flags & flag_wait_all))) {
    const bool nothing = slot.progress == 0 && failed;
    post(index, nothing ? -endpoint.error : static_cast<int32_t>(slot.progress));
  }
}

void SimBackend::progress_send(Slot& slot, uint32_t index) {
  Network& network = world_.network();
  const Op& op = *slot.op;
  Endpoint& endpoint = network.at(node_.handles_.at(op.fd).endpoint);
  if (endpoint.state == Endpoint::State::failed || endpoint.write_shut) {
    const int error = endpoint.write_shut || prng_.one_in(2) ? EPIPE : endpoint.error;
    return post(index, slot.progress != 0 ? static_cast<int32_t>(slot.progress) : -error);
  }
  const size_t total = bytes_of(op);
  size_t n = std::min(endpoint.room(), total - slot.progress);
  if (n == 0 && total != 0) return;
  const bool cut_short = n > 1 && prng_.chance_ppm(world_.options().short_send_ppm);
  if (cut_short) n = 1 + prng_.below(n);
  const std::string bytes = slot.copy == Copy::at_completion ? gather(op, slot.progress, n)
                                                             : slot.bytes.substr(slot.progress, n);
  world_.trace().bytes(bytes);
  slot.progress += n;
  network.transmit(endpoint, bytes);
  if (cut_short || slot.progress == total) post(index, static_cast<int32_t>(slot.progress));
}

}  // namespace gyre::sim
