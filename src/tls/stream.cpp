#include "tls/stream.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include <gyre/time.hpp>

#include "base/assert.hpp"

namespace gyre::tls {

namespace {
constexpr size_t gathered_bytes_kept = 4u << 10;
}

Stream::Encrypt::Encrypt(Stream& of)
    : TickHook([](TickHook& self) noexcept { static_cast<Encrypt&>(self).stream.encrypt(); }),
      stream(of) {}

Stream::Stream(Descriptor connected) : socket_(std::move(connected)) {}

Stream::~Stream() = default;

// --- the handshake ------------------------------------------------------------------------------

Task<Result<void>> Stream::secure(const Context& context, std::string peer, Nanos deadline) {
  GYRE_ASSERT(session_ == nullptr);
  Reactor& reactor = Reactor::current();
  const Nanos begin = reactor.now();
  session_ = std::make_unique<Session>(context, peer, reactor.wall_us());
  Result<void> done = co_await with_deadline<void>(deadline, shake_hands());
  if (!done && done.error().code == Errc::timed_out) {
    co_return fail(Errc::timed_out,
                   fmt::format("the TLS handshake was not complete within {} ms: does the other "
                               "side speak TLS?",
                               (deadline - begin) / milliseconds(1)));
  }
  secure_ = done.has_value();
  co_return done;
}

Task<Result<void>> Stream::shake_hands() {
  for (;;) {
    Result<bool> done = session_->handshake();
    send_output();  // or the alert that tells the peer why not
    if (!done) {
      static_cast<void>(co_await socket_.drained(0));
      co_return fail(std::move(done.error()));
    }
    if (*done) {
      release();
      co_return Result<void>{};
    }
    if (Result<void> more = co_await next_ciphertext(); !more) co_return more;
    if (!holds_view_) co_return fail(Errc::closed, "the connection ended during the TLS handshake");
  }
}

// Holds a view then, or not: the stream has ended.
Task<Result<void>> Stream::next_ciphertext() {
  release();
  Result<std::string_view> ciphertext = co_await socket_.receive();
  if (!ciphertext) co_return fail(std::move(ciphertext.error()));
  holds_view_ = !ciphertext->empty();
  if (holds_view_) session_->supply(*ciphertext);
  co_return Result<void>{};
}

// --- receiving ----------------------------------------------------------------------------------

Task<Result<std::string_view>> Stream::receive() {
  GYRE_ASSERT(secure_);
  for (;;) {
    Result<std::string_view> plaintext = session_->read();
    send_output();  // an alert, or the answer to new keys
    if (!plaintext || !plaintext->empty() || session_->ended()) co_return plaintext;
    if (Result<void> more = co_await next_ciphertext(); !more) {
      co_return fail(std::move(more.error()));
    }
    if (!holds_view_) {
      co_return fail(Errc::closed,
                     "the connection ended without an end of TLS: something may have been cut off");
    }
  }
}

void Stream::release() {
  if (session_) session_->keep_unread();
  holds_view_ = false;
  socket_.release();
}

bool Stream::receive_ready() const {
  return socket_.receive_ready() || (secure_ && !session_->unread().empty());
}

// --- sending ------------------------------------------------------------------------------------

void Stream::append(std::string_view bytes) {
  if (!secure_) {
    socket_.append(bytes);
    return;
  }
  while (!bytes.empty() && !socket_.broken()) {
    const size_t piece = std::min(bytes.size(), record_bytes_max - gathered_.size());
    gathered_.append(bytes.substr(0, piece));
    bytes.remove_prefix(piece);
    if (gathered_.size() == record_bytes_max) encrypt();
  }
  if (!gathered_.empty()) Reactor::current().at_tick_end(encrypt_);
}

void Stream::encrypt() {
  if (gathered_.empty()) return;
  const bool sound = !socket_.broken() && session_->write(gathered_).has_value();
  gathered_.clear();
  if (gathered_.capacity() > gathered_bytes_kept) gathered_.shrink_to_fit();
  send_output();
  if (!sound) socket_.abort();
}

void Stream::send_output() {
  socket_.append(session_->output());
  session_->output_taken();
}

// --- ending -------------------------------------------------------------------------------------

void Stream::end() {
  if (!secure_ || socket_.broken()) return;
  encrypt();
  session_->close();
  send_output();
}

Task<bool> Stream::finish() {
  end();
  const bool sent = co_await socket_.drained(0);
  if (sent) static_cast<void>(co_await socket_.shutdown_send());
  co_return sent;
}

Task<void> Stream::close() {
  if (encrypt_.queued) Reactor::current().cancel_hook(encrypt_);
  gathered_.clear();
  holds_view_ = false;
  co_await socket_.close();
}

}  // namespace gyre::tls
