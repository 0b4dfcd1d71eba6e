#include "peer/inbound.hpp"

#include <gyre/time.hpp>

#include "base/assert.hpp"

namespace gyre::peer {

void ReplyTo::reply(Status status, std::string_view head, std::string_view body) const noexcept {
  Inbound& to = *inbound;
  FrameHeader header{.type = FrameType::reply, .status = status, .request_id = request_id};
  to.send(header, head, body);
  GYRE_ASSERT(to.under_way_ > 0);
  to.request_bytes_ -= request_bytes;
  if (--to.under_way_ == 0) to.all_answered_.set();
}

Inbound::Inbound(Host& host, Service& service, Socket& socket)
    : host_(host), service_(service), socket_(socket) {}

Inbound::~Inbound() {
  GYRE_ASSERT(under_way_ == 0);
}

void Inbound::send(const FrameHeader& with, std::string_view head, std::string_view body) noexcept {
  if (socket_.broken()) return;
  FrameHeader header = with;
  header.epoch = host_.identity().epoch;
  header.hlc = host_.hlc();
  const std::string_view parts[] = {head, body};
  send_frame(socket_, header, parts);
}

void Inbound::refuse(std::string_view reason) {
  Reactor::current().log("warn", "event=peer_refused reason=\"" + std::string(reason) + "\"");
  send({.type = FrameType::refusal}, reason, {});
}

void Inbound::drain() noexcept {
  draining_ = true;
  socket_.interrupt_receive();
}

Task<bool> Inbound::next_frame(FrameReader& reader) {
  for (;;) {
    const FrameReader::Step step = reader.next();
    if (step == FrameReader::Step::frame) co_return true;
    if (step == FrameReader::Step::broken) co_return false;
    socket_.release();
    if (draining_) co_return false;
    if (socket_.output_bytes() > output_bytes_pause) {
      socket_.pause_receive();
      if (!co_await socket_.drained(output_bytes_pause / 2)) co_return false;
    }
    Result<std::string_view> bytes = co_await socket_.receive();
    if (!bytes) {
      if (bytes.error().code == Errc::timed_out && !draining_) continue;  // not about us
      co_return false;
    }
    if (bytes->empty()) co_return false;
    reader.feed(*bytes);
  }
}

namespace {
Task<Result<bool>> as_result(Task<bool> task) {
  co_return co_await std::move(task);
}
}  // namespace

Task<void> Inbound::serve(std::string_view first) {
  FrameReader reader;
  reader.feed(first);
  const Result<bool> known =
      co_await with_timeout<bool>(handshake_patience, as_result(shake_hands(reader)));
  if (known.value_or(false)) {
    host_.peer_seen(peer_);
    while (co_await next_frame(reader)) {
      if (!take(reader)) break;
    }
  }
  while (under_way_ != 0) {
    all_answered_.reset();
    co_await gyre::detail::Uninterrupted{all_answered_};
  }
}

Task<bool> Inbound::shake_hands(FrameReader& reader) {
  if (!co_await next_frame(reader)) co_return false;
  Hello theirs;
  if (reader.header().type != FrameType::hello || !reader.payload_intact() ||
      !Hello::decode(reader.payload(), theirs)) {
    refuse("what came first is no hello of the peer protocol");
    co_return false;
  }
  const std::string wrong = mismatch(host_.identity(), theirs);
  if (!wrong.empty()) {
    refuse(wrong);
    co_return false;
  }
  const std::string hello(reader.payload());
  Hello own{.identity = host_.identity()};
  fill_nonce(own.nonce);
  const std::string welcome = own.encode();
  const Proof proof = prove(host_.secret(), Side::serves, hello, welcome);
  send({.type = FrameType::welcome}, {reinterpret_cast<const char*>(proof.data()), proof.size()},
       welcome);
  if (!co_await next_frame(reader)) co_return false;
  if (reader.header().type != FrameType::proof ||
      !is_proof(reader.payload(), prove(host_.secret(), Side::asks, hello, welcome))) {
    refuse(theirs.identity.url + " doesn't know this cluster's secret: see --secret-file");
    co_return false;
  }
  peer_ = theirs.identity;
  host_.observe_hlc(reader.header().hlc);
  reader.limit_payload(payload_bytes_max);
  co_return true;
}

// False: the connection makes no sense any more.
bool Inbound::take(const FrameReader& reader) {
  const FrameHeader& header = reader.header();
  if (header.type != FrameType::request) return false;
  const ReplyTo to{this, header.request_id, header.payload_bytes};
  ++under_way_;
  request_bytes_ += header.payload_bytes;
  if (header.epoch != host_.identity().epoch) {
    to.reply(Status::stale_epoch);
  } else if (!reader.payload_intact()) {
    to.reply(Status::damaged);
  } else if (header.deadline_us == 0) {
    to.reply(Status::expired);
  } else if (request_bytes_ > request_bytes_max) {
    to.reply(Status::busy);
  } else {
    host_.observe_hlc(header.hlc);
    service_.request(header.verb, reader.payload(),
                     Reactor::current().now() + Nanos{header.deadline_us} * 1000, to);
  }
  return true;
}

}  // namespace gyre::peer
