#include "peer/hello.hpp"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <cstring>

#include <gyre/time.hpp>

#include "base/assert.hpp"
#include "base/coding.hpp"
#include "base/limits.hpp"
#include "base/printable.hpp"

namespace gyre::peer {

namespace {

constexpr uint64_t hello_magic = 0x6f6c6c6568727967;  // "gyrhello"
constexpr uint32_t hello_bytes_max = 4096;            // of a payload
constexpr size_t reason_bytes_max = 512;

std::array<char, 32> hmac(std::string_view key, std::string_view message) {
  std::array<char, 32> out{};
  unsigned size = 0;
  const unsigned char* made =
      HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
           reinterpret_cast<const unsigned char*>(message.data()), message.size(),
           reinterpret_cast<unsigned char*>(out.data()), &size);
  GYRE_ASSERT(made != nullptr && size == out.size());
  return out;
}

void append_identity(std::string& out, const Identity& identity) {
  out.append(reinterpret_cast<const char*>(identity.uuid.data()), identity.uuid.size());
  append_fixed(out, identity.incarnation);
  append_fixed(out, identity.epoch);
  append_fixed(out, identity.table_hash);
  append_fixed(out, identity.cores);
  append_varint(out, identity.url.size());
  out += identity.url;
}

Identity take_identity(Decoder& in) {
  Identity identity;
  const std::string_view uuid = in.bytes(identity.uuid.size());
  std::copy(uuid.begin(), uuid.end(), identity.uuid.begin());
  identity.incarnation = in.fixed<uint64_t>();
  identity.epoch = in.fixed<uint64_t>();
  identity.table_hash = in.fixed<uint64_t>();
  identity.cores = in.fixed<uint16_t>();
  const uint64_t url_bytes = in.varint();
  if (url_bytes <= limits::node_url_bytes_max) {
    identity.url = in.bytes(url_bytes);
  } else {
    static_cast<void>(in.bytes(UINT64_MAX));  // no address is that long
  }
  return identity;
}

Nonce take_nonce(Decoder& in) {
  Nonce nonce{};
  const std::string_view bytes = in.bytes(nonce.size());
  std::copy(bytes.begin(), bytes.end(), nonce.begin());
  return nonce;
}

std::string hello_frame(HelloStep step, std::string_view payload) {
  return make_frame({.type = FrameType::hello, .verb = static_cast<uint8_t>(step)}, payload);
}

tl::unexpected<Error> refused(std::string_view what, std::string_view reason) {
  return fail(Errc::invalid, fmt::format("{}: {}", what, printable(reason, reason_bytes_max)));
}

// The frames of a handshake, one at a time.
class Conversation {
 public:
  Conversation(Socket& socket, std::string received)
      : socket_(socket), unread_(std::move(received)) {}

  void say(HelloStep step, std::string_view payload) { socket_.append(hello_frame(step, payload)); }
  // The payload of the next frame, which must be this step. A refusal instead is an error with the
  // peer's reason.
  Task<Result<std::string>> hear(HelloStep step) {
    FrameReader reader(hello_bytes_max);
    for (;;) {
      const FrameReader::Step at = reader.feed(std::string_view(unread_).substr(at_));
      at_ += at.consumed;
      if (at.event == FrameReader::Event::error) {
        co_return fail(Errc::invalid, std::string(reader.error()));
      }
      if (at.event == FrameReader::Event::header) continue;
      if (at.event == FrameReader::Event::frame) break;
      Result<std::string_view> bytes = co_await socket_.receive();
      if (!bytes) co_return fail(bytes.error());
      if (bytes->empty()) {
        co_return fail(Errc::closed, "the peer closed the connection during the handshake");
      }
      unread_.assign(*bytes);
      at_ = 0;
      socket_.release();
    }
    if (!reader.payload_intact() || reader.header().type != FrameType::hello) {
      co_return fail(Errc::invalid, "a frame of the handshake makes no sense");
    }
    const auto got = static_cast<HelloStep>(reader.header().verb);
    if (got == HelloStep::refusal) co_return refused("the peer refused us", reader.payload());
    if (got != step) co_return fail(Errc::invalid, "the handshake is out of order");
    co_return reader.take_payload();
  }
  std::string rest() const { return unread_.substr(at_); }

 private:
  Socket& socket_;
  std::string unread_;
  size_t at_ = 0;  // what of it was read
};

// Tells the peer, then fails.
Task<Result<Met>> refuse_peer(Conversation& talk, Socket& socket, Errc code, std::string reason) {
  talk.say(HelloStep::refusal, reason);
  static_cast<void>(co_await socket.drained(0));
  co_return fail(code, "refused a peer: " + reason);
}

std::string wrong_secret(const Identity& peer) {
  return fmt::format("{} doesn't know this cluster's secret: see --secret-file",
                     printable(peer.url, limits::node_url_bytes_max));
}

Task<Result<Met>> ask(Socket& socket, LocalNode& node, uint16_t target_core,
                      HandshakeOptions options) {
  const VersionRange versions = options.versions;
  Conversation talk(socket, {});
  const std::string secret = node.secret();
  const std::string hello = encode(Hello{.versions = versions,
                                         .target_core = target_core,
                                         .identity = node.identity(),
                                         .nonce = make_nonce(secret)});
  talk.say(HelloStep::hello, hello);
  Result<std::string> answer = co_await talk.hear(HelloStep::challenge);
  if (!answer) co_return fail(std::move(answer.error()));
  Result<Challenge> challenge = decode_challenge(*answer);
  if (!challenge) co_return fail(std::move(challenge.error()));
  if (challenge->version < versions.min || challenge->version > versions.max) {
    co_return co_await refuse_peer(
        talk, socket, Errc::unsupported,
        fmt::format("version {} of the protocol is not known here", challenge->version));
  }
  const Proof mine = prove(secret, Role::asker, hello, *answer);
  talk.say(HelloStep::proof, {mine.data(), mine.size()});
  Result<std::string> welcome = co_await talk.hear(HelloStep::welcome);
  if (!welcome) co_return fail(std::move(welcome.error()));
  const Proof theirs = prove(secret, Role::server, hello, *answer);
  if (!same_proof(*welcome, {theirs.data(), theirs.size()})) {
    co_return co_await refuse_peer(talk, socket, Errc::invalid, wrong_secret(challenge->identity));
  }
  const std::string& url = challenge->identity.url;
  std::string objection = node.objection(challenge->identity);
  if (!options.expected_url.empty() && url != options.expected_url) {
    objection = fmt::format("{} answers where {} should: check --advertise and --peers",
                            printable(url, limits::node_url_bytes_max), options.expected_url);
  }
  if (!objection.empty()) {
    co_return co_await refuse_peer(talk, socket, Errc::invalid, std::move(objection));
  }
  node.peer_seen(challenge->identity);
  co_return Met{std::move(challenge->identity), challenge->version, talk.rest()};
}

Task<Result<Met>> serve(Socket& socket, LocalNode& node, std::string received,
                        VersionRange versions) {
  Conversation talk(socket, std::move(received));
  const std::string secret = node.secret();
  Result<std::string> asked = co_await talk.hear(HelloStep::hello);
  if (!asked) co_return fail(std::move(asked.error()));
  Result<Hello> hello = decode_hello(*asked);
  if (!hello) co_return fail(std::move(hello.error()));
  const uint16_t version = std::min(versions.max, hello->versions.max);
  if (version < std::max(versions.min, hello->versions.min)) {
    co_return co_await refuse_peer(
        talk, socket, Errc::unsupported,
        fmt::format("no common version of the protocol: {} to {} here, {} to {} there",
                    versions.min, versions.max, hello->versions.min, hello->versions.max));
  }
  const std::string challenge = encode(
      Challenge{.version = version, .identity = node.identity(), .nonce = make_nonce(secret)});
  talk.say(HelloStep::challenge, challenge);
  Result<std::string> proof = co_await talk.hear(HelloStep::proof);
  if (!proof) co_return fail(std::move(proof.error()));
  const Proof theirs = prove(secret, Role::asker, *asked, challenge);
  if (!same_proof(*proof, {theirs.data(), theirs.size()})) {
    co_return co_await refuse_peer(talk, socket, Errc::invalid, wrong_secret(hello->identity));
  }
  if (std::string objection = node.objection(hello->identity); !objection.empty()) {
    co_return co_await refuse_peer(talk, socket, Errc::invalid, std::move(objection));
  }
  const Proof mine = prove(secret, Role::server, *asked, challenge);
  talk.say(HelloStep::welcome, {mine.data(), mine.size()});
  node.peer_seen(hello->identity);
  co_return Met{std::move(hello->identity), version, talk.rest()};
}

Task<Result<uint16_t>> read_target(Socket& socket, std::string& received) {
  for (;;) {
    FrameReader reader(hello_bytes_max);
    std::string_view bytes = received;
    FrameReader::Step at = reader.feed(bytes);
    if (at.event == FrameReader::Event::header) {
      bytes.remove_prefix(at.consumed);
      at = reader.feed(bytes);
    }
    if (at.event == FrameReader::Event::error) {
      co_return fail(Errc::invalid, std::string(reader.error()));
    }
    if (at.event == FrameReader::Event::frame) {
      const FrameHeader& header = reader.header();
      if (header.type != FrameType::hello || !reader.payload_intact() ||
          header.verb != static_cast<uint8_t>(HelloStep::hello)) {
        co_return fail(Errc::invalid, "the first frame of a peer is no hello");
      }
      Result<Hello> hello = decode_hello(reader.payload());
      if (!hello) co_return fail(std::move(hello.error()));
      co_return hello->target_core;
    }
    Result<std::string_view> more = co_await socket.receive();
    if (!more) co_return fail(more.error());
    if (more->empty()) co_return fail(Errc::closed);
    received.append(*more);
    socket.release();
  }
}

}  // namespace

std::string encode(const Hello& hello) {
  std::string out;
  append_fixed(out, hello_magic);
  append_fixed(out, hello.versions.min);
  append_fixed(out, hello.versions.max);
  append_fixed(out, hello.target_core);
  append_identity(out, hello.identity);
  out.append(hello.nonce.data(), hello.nonce.size());
  return out;
}

std::string encode(const Challenge& challenge) {
  std::string out;
  append_fixed(out, challenge.version);
  append_identity(out, challenge.identity);
  out.append(challenge.nonce.data(), challenge.nonce.size());
  return out;
}

Result<Hello> decode_hello(std::string_view payload) {
  Decoder in(payload);
  Hello hello;
  const uint64_t magic = in.fixed<uint64_t>();
  hello.versions.min = in.fixed<uint16_t>();
  hello.versions.max = in.fixed<uint16_t>();
  hello.target_core = in.fixed<uint16_t>();
  hello.identity = take_identity(in);
  hello.nonce = take_nonce(in);
  if (!in.ok() || magic != hello_magic || hello.versions.min > hello.versions.max) {
    return fail(Errc::invalid, "the hello of a peer makes no sense");
  }
  return hello;
}

Result<Challenge> decode_challenge(std::string_view payload) {
  Decoder in(payload);
  Challenge challenge;
  challenge.version = in.fixed<uint16_t>();
  challenge.identity = take_identity(in);
  challenge.nonce = take_nonce(in);
  if (!in.ok()) return fail(Errc::invalid, "the challenge of a peer makes no sense");
  return challenge;
}

Proof prove(std::string_view secret, Role role, std::string_view hello,
            std::string_view challenge) {
  // Lengths go first, so that no two pairs of payloads make the same message.
  std::string message = role == Role::asker ? "gyre asker" : "gyre server";
  append_fixed<uint64_t>(message, hello.size());
  message += hello;
  message += challenge;
  return hmac(secret, message);
}

bool same_proof(std::string_view a, std::string_view b) noexcept {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

// Through the HMAC, so that who collects nonces learns nothing of the generator's next numbers.
Nonce make_nonce(std::string_view secret) {
  std::string drawn = "gyre nonce";
  for (int i = 0; i < 4; ++i) append_fixed(drawn, Reactor::current().random());
  return hmac(secret, drawn);
}

Task<Result<Met>> meet_as_asker(Socket& socket, LocalNode& node, uint16_t target_core,
                                HandshakeOptions options) {
  const Nanos timeout = options.timeout;
  return with_timeout<Met>(timeout, ask(socket, node, target_core, std::move(options)));
}

Task<Result<Met>> meet_as_server(Socket& socket, LocalNode& node, std::string received,
                                 HandshakeOptions options) {
  return with_timeout<Met>(options.timeout,
                           serve(socket, node, std::move(received), options.versions));
}

Task<Result<uint16_t>> read_target_core(Socket& socket, std::string& received, Nanos timeout) {
  return with_timeout<uint16_t>(timeout, read_target(socket, received));
}

Task<void> refuse(Socket& socket, std::string_view reason) {
  socket.append(hello_frame(HelloStep::refusal, reason.substr(0, reason_bytes_max)));
  static_cast<void>(co_await socket.drained(0));
}

}  // namespace gyre::peer
