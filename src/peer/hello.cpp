#include "peer/hello.hpp"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <cstring>

#include <gyre/reactor.hpp>

#include "base/assert.hpp"
#include "base/coding.hpp"

namespace gyre::peer {

namespace {
constexpr std::string_view magic = "GYREPEER";
constexpr size_t url_bytes_max = 512;
}  // namespace

std::string Hello::encode() const {
  std::string out(magic);
  append_fixed(out, version_min);
  append_fixed(out, version_max);
  append_fixed(out, target_core);
  append_fixed(out, uint16_t{0});
  out.append(reinterpret_cast<const char*>(identity.uuid.data()), identity.uuid.size());
  append_fixed(out, identity.incarnation);
  append_fixed(out, identity.epoch);
  append_fixed(out, identity.table_hash);
  append_fixed(out, identity.cores);
  append_fixed(out, identity.shards);
  out.append(reinterpret_cast<const char*>(nonce.data()), nonce.size());
  out.append(identity.url);
  return out;
}

bool Hello::decode(std::string_view payload, Hello& out) {
  Decoder in(payload);
  if (in.bytes(magic.size()) != magic) return false;
  out.version_min = in.fixed<uint16_t>();
  out.version_max = in.fixed<uint16_t>();
  out.target_core = in.fixed<uint16_t>();
  if (in.fixed<uint16_t>() != 0) return false;
  const std::string_view uuid = in.bytes(out.identity.uuid.size());
  out.identity.incarnation = in.fixed<uint64_t>();
  out.identity.epoch = in.fixed<uint64_t>();
  out.identity.table_hash = in.fixed<uint64_t>();
  out.identity.cores = in.fixed<uint32_t>();
  out.identity.shards = in.fixed<uint32_t>();
  const std::string_view nonce = in.bytes(out.nonce.size());
  if (!in.ok() || in.remaining() > url_bytes_max || out.version_min > out.version_max ||
      out.identity.cores == 0 || out.identity.shards == 0) {
    return false;
  }
  std::memcpy(out.identity.uuid.data(), uuid.data(), uuid.size());
  std::memcpy(out.nonce.data(), nonce.data(), nonce.size());
  out.identity.url.assign(in.bytes(in.remaining()));
  return true;
}

void fill_nonce(std::array<uint8_t, 32>& nonce) {
  for (size_t at = 0; at < nonce.size(); at += 8) {
    const uint64_t random = Reactor::current().random();
    std::memcpy(nonce.data() + at, &random, sizeof random);
  }
}

Proof prove(std::string_view secret, Side side, std::string_view asks, std::string_view serves) {
  std::string text(side == Side::asks ? "asks" : "serves");
  append_fixed(text, static_cast<uint64_t>(asks.size()));
  text.append(asks);
  text.append(serves);
  Proof proof{};
  unsigned size = 0;
  const void* made =
      HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
           reinterpret_cast<const unsigned char*>(text.data()), text.size(), proof.data(), &size);
  GYRE_ASSERT(made != nullptr && size == proof.size());
  return proof;
}

bool is_proof(std::string_view claimed, const Proof& expected) {
  return claimed.size() == expected.size() &&
         CRYPTO_memcmp(claimed.data(), expected.data(), expected.size()) == 0;
}

std::string mismatch(const Identity& own, const Hello& theirs) {
  if (theirs.version_min > protocol_version || theirs.version_max < protocol_version) {
    return fmt::format(
        "{} speaks versions {} to {} of the peer protocol, {} speaks {}: upgrade one",
        theirs.identity.url, theirs.version_min, theirs.version_max, own.url, protocol_version);
  }
  if (theirs.identity.uuid == own.uuid) {
    return fmt::format(
        "{} has the same data directory as {}: a copied directory can't be a node "
        "beside its original",
        theirs.identity.url, own.url);
  }
  if (theirs.identity.epoch != own.epoch || theirs.identity.table_hash != own.table_hash) {
    return fmt::format(
        "{} has epoch {} of the topology with table {:016x}, {} has epoch {} with {:016x}: start "
        "all nodes with the same --peers or --topology",
        theirs.identity.url, theirs.identity.epoch, theirs.identity.table_hash, own.url, own.epoch,
        own.table_hash);
  }
  return {};
}

}  // namespace gyre::peer
