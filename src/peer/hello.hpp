// How two nodes meet. Four frames of type hello, in this order; the asker is who connected:
//
//   asker   1 hello      version range, target core, identity, nonce
//   server  2 challenge  version chosen, identity, nonce
//   asker   3 proof      HMAC-SHA256(secret, "gyre asker"  | hello payload | challenge payload)
//   server  4 welcome    HMAC-SHA256(secret, "gyre server" | hello payload | challenge payload)
//   either  5 refusal    a reason in words, then the connection ends
//
// So both prove that they hold the secret, about this very connection, and who can be asked by
// anybody proves last: it tells nothing to who only knocks. The proofs don't hide or protect what
// comes after them: against somebody in the middle a network needs TLS.
//
// Payloads (little-endian, strings with a varint of their length before them):
//   hello      u64 magic, u16 version_min, u16 version_max, u16 target_core, identity, nonce[32]
//   challenge  u16 version, identity, nonce[32]
//   identity   uuid[16], u64 incarnation, u64 epoch, u64 table_hash, u16 cores, url
// A reader ignores what follows: later versions may add fields.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include <gyre/result.hpp>
#include <gyre/socket.hpp>
#include <gyre/task.hpp>

#include "peer/frame.hpp"
#include "peer/local_node.hpp"

namespace gyre::peer {

// Versions of the protocol that this program speaks. The layout of frames and of what services ask
// each other is part of it. 2: repairs say how old they are.
struct VersionRange {
  uint16_t min = 2;
  uint16_t max = 2;
};

using Nonce = std::array<char, 32>;
using Proof = std::array<char, 32>;

enum class HelloStep : uint8_t { hello = 1, challenge = 2, proof = 3, welcome = 4, refusal = 5 };

struct Hello {
  VersionRange versions;
  uint16_t target_core = 0;
  Identity identity;
  Nonce nonce{};
};
struct Challenge {
  uint16_t version = 1;
  Identity identity;
  Nonce nonce{};
};

std::string encode(const Hello& hello);
std::string encode(const Challenge& challenge);
Result<Hello> decode_hello(std::string_view payload);
Result<Challenge> decode_challenge(std::string_view payload);

enum class Role : uint8_t { asker, server };
Proof prove(std::string_view secret, Role role, std::string_view hello, std::string_view challenge);
// In constant time.
bool same_proof(std::string_view a, std::string_view b) noexcept;
Nonce make_nonce(std::string_view secret);

struct HandshakeOptions {
  VersionRange versions;
  Nanos timeout = seconds(5);
  std::string expected_url;  // of the server that is asked; empty: anybody
};

// What came of it.
struct Met {
  Identity peer;
  uint16_t version = 1;
  std::string rest;  // bytes behind the handshake
};

// The handshake on a new connection. Errc::unsupported: no common version. Errc::invalid: refused
// by either side, with the reason. Errc::timed_out, closed, cancelled. The socket stays the
// caller's to close.
Task<Result<Met>> meet_as_asker(Socket& socket, LocalNode& node, uint16_t target_core,
                                HandshakeOptions options);
// `received` begins with the hello frame, as far as it has come.
Task<Result<Met>> meet_as_server(Socket& socket, LocalNode& node, std::string received,
                                 HandshakeOptions options);

// The core that a connection asks for, which may not exist: reads the hello frame and nothing behind it. `received` are
// the bytes that came so far, and grows. For whoever accepts; the core named does the rest.
Task<Result<uint16_t>> read_target_core(Socket& socket, std::string& received, Nanos timeout);
// Refuses a connection that began with a hello: for a node without peers.
Task<void> refuse(Socket& socket, std::string_view reason);

}  // namespace gyre::peer
