// Arbitrary bytes as a peer's stream: nothing is read beyond what was fed, the outcome doesn't depend
// on how the stream was split, an error is final, and what is held is what has come. The same bytes
// with their header hashes put right, so that what lies behind the hashes is reached too; and as
// the payloads of a handshake.
#include <algorithm>
#include <memory>
#include <string>
#include <string_view>

#include "fuzz.hpp"
#include "peer/frame.hpp"
#include "peer/hello.hpp"

namespace {

using namespace gyre::peer;

constexpr uint32_t payload_bytes_max = 1u << 16;

// Feeds exact-size copies of pieces; skips every payload whose request id is odd.
std::string outcome(std::string_view bytes, size_t piece_bytes) {
  FrameReader reader(payload_bytes_max);
  std::string seen;
  while (!bytes.empty()) {
    const size_t size_bytes = std::min(piece_bytes, bytes.size());
    const auto exact = std::make_unique<char[]>(size_bytes);
    std::copy_n(bytes.data(), size_bytes, exact.get());
    std::string_view piece(exact.get(), size_bytes);
    bytes.remove_prefix(size_bytes);
    for (bool more = true; more;) {
      const FrameReader::Step step = reader.feed(piece);
      FUZZ_CHECK(step.consumed <= piece.size());
      piece.remove_prefix(step.consumed);
      const FrameHeader& header = reader.header();
      switch (step.event) {
        case FrameReader::Event::need_more:
          FUZZ_CHECK(piece.empty());
          FUZZ_CHECK(reader.held_bytes() <= 2 * payload_bytes_max);
          more = false;
          break;
        case FrameReader::Event::header:
          FUZZ_CHECK(header.payload_bytes <= payload_bytes_max);
          if (header.request_id % 2 == 1) reader.skip_payload();
          break;
        case FrameReader::Event::frame: {
          const bool skipped = header.request_id % 2 == 1;
          FUZZ_CHECK(reader.skipped() == skipped);
          FUZZ_CHECK(reader.payload().size() == (skipped ? 0 : header.payload_bytes));
          FUZZ_CHECK(skipped || reader.payload_intact() ==
                                    (payload_hash(reader.payload()) == header.payload_hash));
          const std::string_view payload = reader.payload();
          seen += "|" + std::to_string(static_cast<int>(header.type)) + ":" +
                  std::to_string(header.request_id) + ":" + std::string(payload);
          FUZZ_CHECK(reader.take_payload().size() == payload.size());
          break;
        }
        case FrameReader::Event::error:
          FUZZ_CHECK(!reader.error().empty());
          FUZZ_CHECK(reader.feed(piece).event == FrameReader::Event::error);
          return seen + "|error: " + std::string(reader.error());
      }
    }
  }
  return seen;
}

// The bytes as frames whose headers are sound: types, sizes and payload hashes stay wrong.
std::string with_sound_headers(std::string_view bytes) {
  std::string out;
  while (bytes.size() >= frame_header_bytes) {
    const auto byte = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
    FrameHeader header{.type = static_cast<FrameType>(byte(1) % 7),
                       .flags = byte(2),
                       .verb = byte(3),
                       .payload_bytes = static_cast<uint32_t>(byte(4) * (byte(5) == 0 ? 512 : 1)),
                       .request_id = byte(8)};
    const std::string_view payload =
        bytes.substr(frame_header_bytes, std::min<size_t>(header.payload_bytes, bytes.size()));
    if (byte(40) % 2 == 0) header.payload_hash = payload_hash(payload);
    char head[frame_header_bytes];
    write_frame_header(head, header);
    out.append(head, frame_header_bytes);
    out += payload;
    bytes.remove_prefix(std::min(bytes.size(), frame_header_bytes + payload.size()));
  }
  return out;
}

void check_handshake(std::string_view bytes) {
  if (const auto hello = decode_hello(bytes)) {
    const std::string again = encode(*hello);
    const auto read = decode_hello(again);
    FUZZ_CHECK(read && read->identity == hello->identity && read->nonce == hello->nonce &&
               read->target_core == hello->target_core &&
               read->versions.max == hello->versions.max);
  }
  if (const auto challenge = decode_challenge(bytes)) {
    const auto read = decode_challenge(encode(*challenge));
    FUZZ_CHECK(read && read->identity == challenge->identity && read->nonce == challenge->nonce);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const size_t piece_bytes = size == 0 ? 1 : 2 + data[size / 2] % 61;
  for (const std::string& stream : {std::string(bytes), with_sound_headers(bytes)}) {
    const std::string whole = outcome(stream, stream.size() + 1);
    FUZZ_CHECK(outcome(stream, 1) == whole);
    FUZZ_CHECK(outcome(stream, piece_bytes) == whole);
  }
  check_handshake(bytes);
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  std::vector<std::string> seeds;
  const Identity identity{.url = "http://127.0.0.1:8080", .epoch = 3, .table_hash = 4, .cores = 2};
  seeds.push_back(encode(Hello{.target_core = 1, .identity = identity, .nonce = {}}));
  seeds.push_back(encode(Challenge{.version = 1, .identity = identity, .nonce = {}}));
  std::string frames = make_frame({.type = FrameType::hello, .verb = 1}, seeds[0]);
  for (uint64_t id = 0; id < 4; ++id) {
    frames += make_frame({.type = FrameType::request, .verb = 1, .request_id = id},
                         std::string(id * 40, 'x'));
  }
  seeds.push_back(frames);
  seeds.push_back(make_frame({.type = FrameType::reply, .request_id = 2}, "") + frames);
  return seeds;
}
