// A socket whose bytes may be encrypted. As it is made it is a plain one, and its Socket is used;
// after secure() what is appended goes out encrypted and receive() gives plaintext.
//
// What is appended in one tick makes one record, or as many as it fills.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include <gyre/reactor.hpp>
#include <gyre/result.hpp>
#include <gyre/socket.hpp>
#include <gyre/task.hpp>

#include "tls/session.hpp"

namespace gyre::tls {

class Stream {
 public:
  explicit Stream(Descriptor connected);
  ~Stream();  // asserts that it was closed
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  Socket& socket() { return socket_; }
  const Socket& socket() const { return socket_; }
  bool is_secure() const { return secure_; }
  const Session* session() const { return session_.get(); }

  // The handshake, by `deadline`. `peer` is the server's name, as in Session. A failure says why, and
  // what can be done; then only close() is left.
  Task<Result<void>> secure(const Context& context, std::string peer, Nanos deadline);

  // As Socket::receive, once secure. An end that the peer has not announced is Errc::closed, as
  // anybody may have cut off what came before it.
  Task<Result<std::string_view>> receive();
  // Call it before waiting for anything else.
  void release();
  bool receive_ready() const;

  void append(std::string_view bytes);
  size_t output_bytes() const { return gathered_.size() + socket_.output_bytes(); }
  // Says that nothing more comes: the last that is sent.
  void end();
  // Waits too until all of it has left. False: it can't.
  Task<bool> finish();
  Task<void> close();

 private:
  struct Encrypt : TickHook {
    explicit Encrypt(Stream& of);
    Stream& stream;
  };
  Task<Result<void>> shake_hands();
  Task<Result<void>> next_ciphertext();
  void send_output();
  void encrypt();

  Socket socket_;
  std::unique_ptr<Session> session_;
  bool secure_ = false;
  bool holds_view_ = false;  // the session reads from the socket's buffer
  std::string gathered_;     // plaintext of this tick
  Encrypt encrypt_{*this};
};

}  // namespace gyre::tls
