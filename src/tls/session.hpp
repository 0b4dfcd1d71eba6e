// TLS over bytes, not over sockets: ciphertext goes in, plaintext comes out, and the other way round.
// OpenSSL does the cryptography; it is given no socket, no clock and no file of its own. What it
// wants to read it finds in supply(), what it wants to send it leaves in output(), and the time at
// which certificates have to be valid is told to each session. Its randomness is its own generator,
// which the kernel seeds: the Backend's is not made for secrets. Tests put one that repeats itself in
// its place (tests/tls/tls_rig.hpp).
//
// TLS 1.2 and 1.3, without renegotiation, compression and tickets. A record has at most 16 KiB, and
// no more than one is held in either direction, so a session's memory is bounded; one that waits for
// its peer has given its buffers back.
//
// A Context belongs to one core, as all that OpenSSL shares within it is counted and locked.
#pragma once

#include <openssl/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <gyre/result.hpp>

struct bio_method_st;  // of OpenSSL

namespace gyre::tls {

// So many bytes of plaintext fit into a record.
inline constexpr size_t record_bytes_max = 16u << 10;

// What whoever configures a side can do about a failure, in its own words: each is appended to the
// message of the failure that it is a remedy for. They live as long as the program.
struct Remedies {
  std::string_view wrong_name;
  std::string_view untrusted;       // the peer's certificate
  std::string_view no_certificate;  // of ours, and the peer wants one
  std::string_view no_tls;          // the peer answered something else
};

enum class Role : uint8_t { client, server };

struct Settings {
  Role role = Role::client;
  // PEM texts. Who is trusted: for a client to have signed the server's certificate; a server that
  // has some wants a certificate of its clients.
  std::string authorities;
  std::string certificate;  // ours, and those between it and an authority; "": none
  std::string key;          // its private key
  bool verify = true;       // false: any certificate will do
  // New keys after so many records (TLS 1.3; RFC 8446, 5.5 allows 2^24.5 for AES-GCM).
  uint64_t records_per_key = 1u << 22;
  Remedies remedies;
};

class Context {
 public:
  // Parses the texts. Errc::invalid, with what is wrong with which of them.
  static Result<std::unique_ptr<Context>> make(const Settings& settings);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

 private:
  friend class Session;
  Context() = default;
  Result<void> load(const Settings& settings);
  Result<void> trust(const Settings& settings);
  Result<void> present(const Settings& settings);

  Role role_ = Role::client;
  bool verifies_ = false;
  uint64_t records_per_key_ = 0;
  Remedies remedies_;
  ssl_ctx_st* ssl_ = nullptr;
  bio_method_st* bytes_ = nullptr;  // how OpenSSL gets at a Session's bytes
};

// Reads OpenSSL's own configuration file, once for the process: before reactors run.
void prepare();
// Overwrites a secret that is not needed any more.
void wipe(std::string& secret);

class Session {
 public:
  // `peer` is the name or the numeric address that the server's certificate has to be for. The
  // context must live longer. A client that verifies and is told no name accepts nobody.
  Session(const Context& context, std::string_view peer, uint64_t wall_us);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // The next ciphertext of the peer, which must live until it is taken: until handshake() or read()
  // has asked for more. What was supplied before must have been taken.
  void supply(std::string_view ciphertext);
  // Of that, what is not taken yet.
  std::string_view unread() const { return input_; }
  // Copies what is not taken yet: the bytes that were supplied may go.
  void keep_unread();

  // Goes on as far as it can. True once the peer is known and keys are agreed; false: it needs more.
  // After an error output() may have an alert for the peer, and nothing else may be called.
  Result<bool> handshake();
  // At most one record's plaintext, valid until the next call. Empty: it needs more, or has ended().
  Result<std::string_view> read();
  // The peer has said that it sends no more.
  bool ended() const { return ended_; }
  // Makes at most one record of it (record_bytes_max); after the handshake.
  Result<void> write(std::string_view plaintext);
  // Says that we send no more.
  void close();

  // Ciphertext for the peer, to be taken after each call of the above.
  std::string_view output() const { return output_; }
  void output_taken();

  // TLSv1.2 or TLSv1.3, once agreed.
  std::string_view version() const;
  uint64_t key_updates() const { return key_updates_; }

 private:
  friend class Context;
  struct Bytes;  // the callbacks of OpenSSL

  Error failure(std::string_view doing);
  std::string cause_of(unsigned long code) const;
  void note_certificate(x509_store_ctx_st* store);

  const Context& context_;
  std::string peer_;
  ssl_st* ssl_ = nullptr;
  std::string_view input_;
  std::string kept_;  // what input_ is a view of, if it was copied
  std::string output_;
  std::unique_ptr<char[]> plaintext_;  // a record's, while there are some
  std::string untrusted_;              // why the peer's certificate was refused
  uint64_t records_ = 0;               // under the present keys
  uint64_t key_updates_ = 0;
  bool ended_ = false;
  bool nameless_ = false;  // what the certificate has to be for is not known
  bool failed_ = false;
};

}  // namespace gyre::tls
