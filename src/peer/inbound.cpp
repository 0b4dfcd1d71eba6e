#include "peer/inbound.hpp"

#include <algorithm>
#include <utility>

#include <gyre/time.hpp>

#include "base/assert.hpp"
#include "base/limits.hpp"
#include "peer/frame_output.hpp"

namespace gyre::peer {

namespace {

constexpr Nanos watch_interval = seconds(1);
constexpr int64_t credit_bytes_max = 16 << 20;
constexpr size_t call_overhead_bytes = 256;  // of a request without a payload

}  // namespace

// --- one request --------------------------------------------------------------------------------

InboundCall::InboundCall(Inbound& inbound, const FrameHeader& header, Nanos deadline,
                         size_t charged_bytes)
    : inbound_(inbound),
      id_(header.request_id),
      epoch_(header.epoch),
      hlc_(header.hlc),
      deadline_(deadline),
      charged_bytes_(charged_bytes),
      verb_(header.verb) {}

const Identity& InboundCall::peer() const {
  return inbound_.peer_;
}

bool InboundCall::connected() const {
  return !inbound_.gone_;
}

void InboundCall::keep_payload() {
  if (is_kept_) return;
  is_kept_ = true;
  kept_ = inbound_.reader_.take_payload();
  payload_ = kept_;
}

bool InboundCall::reply(Status status, std::span<const std::string_view> parts) {
  const bool sent = !inbound_.gone_;
  if (sent) inbound_.send_reply(id_, status, parts);
  inbound_.ended(*this);
  return sent;
}

void InboundCall::begin_pages(Resume resume) {
  GYRE_ASSERT(resume_ == nullptr);
  resume_ = resume;
  credit_bytes_ = stream_window_bytes;
  next_stream_ = inbound_.streams_;
  if (next_stream_ != nullptr) next_stream_->previous_stream_ = this;
  inbound_.streams_ = this;
}

bool InboundCall::send_page(std::span<const std::string_view> parts) {
  GYRE_ASSERT(resume_ != nullptr && credit_bytes_ > 0);
  if (!pages_wanted()) return false;
  credit_bytes_ -= static_cast<int64_t>(bytes_of(parts));
  append_frame(inbound_.socket_,
               {.type = FrameType::page,
                .request_id = id_,
                .epoch = inbound_.node_.epoch(),
                .hlc = inbound_.node_.hlc()},
               parts);
  return true;
}

// --- the connection -----------------------------------------------------------------------------

Inbound::WatchTimer::WatchTimer(Inbound& of)
    : Timer([](Timer& self) noexcept { static_cast<WatchTimer&>(self).inbound.check_progress(); }),
      inbound(of) {}

Inbound::Inbound(Descriptor connected, LocalNode& node, Service& service, ByteBudget& budget,
                 InboundOptions options)
    : socket_(std::move(connected)),
      node_(node),
      service_(service),
      budget_(budget),
      options_(options),
      reader_(limits::peer_payload_bytes_max) {}

Inbound::~Inbound() {
  GYRE_ASSERT(calls_ == 0 && bytes_ == 0);
}

Task<Result<void>> Inbound::serve(std::string received) {
  Reactor& reactor = Reactor::current();
  Result<void> result{};
  Result<Met> met =
      co_await meet_as_server(socket_, node_, std::move(received), options_.handshake);
  if (met) {
    peer_ = std::move(met->peer);
    met_ = true;
    progress_at_ = reactor.now();
    reactor.arm(watch_, reactor.after(watch_interval));
    result = co_await read_requests(std::move(met->rest));
    discharge(std::exchange(charged_, 0));
  } else {
    result = fail(std::move(met.error()));
  }
  if (!draining_) gone_ = true;
  // A drained connection reads no credit: its streams end too.
  for (InboundCall* at = streams_; at != nullptr;) {
    InboundCall& call = *std::exchange(at, at->next_stream_);
    call.stopped_ = true;
    call.resume_(call);
  }
  while (calls_ != 0) {
    answered_.reset();
    co_await detail::Uninterrupted{answered_};
  }
  if (!gone_) static_cast<void>(co_await socket_.drained(0));
  gone_ = true;
  reactor.disarm(watch_);
  co_await socket_.close();
  co_return result;
}

Task<Result<void>> Inbound::read_requests(std::string rest) {
  if (Result<void> sound = take(rest); !sound) co_return sound;
  for (;;) {
    if (draining_) co_return Result<void>{};
    // Who does not read replies is not asked for more requests.
    if (socket_.output_bytes() > options_.output_bytes_pause) {
      socket_.pause_receive();
      if (!co_await socket_.drained(options_.output_bytes_pause / 2)) co_return Result<void>{};
    }
    Result<std::string_view> bytes = co_await socket_.receive();
    if (!bytes) {
      if (bytes.error().code == Errc::timed_out) continue;  // drain() woke us
      co_return Result<void>{};                             // a peer that goes away is no error
    }
    if (bytes->empty()) co_return Result<void>{};
    Result<void> sound = take(*bytes);
    socket_.release();
    if (!sound) co_return sound;
  }
}

Result<void> Inbound::take(std::string_view bytes) {
  for (;;) {
    const FrameReader::Step step = reader_.feed(bytes);
    bytes.remove_prefix(step.consumed);
    switch (step.event) {
      case FrameReader::Event::need_more:
        return {};
      case FrameReader::Event::error:
        return fail(Errc::corrupt, std::string(reader_.error()));
      case FrameReader::Event::header:
        if (reader_.header().type == FrameType::credit) {
          reader_.skip_payload();
          break;
        }
        if (reader_.header().type != FrameType::request) {
          return fail(Errc::invalid, "a frame that is no request");
        }
        verdict_ = admit(reader_.header());
        if (verdict_ != Status::ok) reader_.skip_payload();
        break;
      case FrameReader::Event::frame:
        if (reader_.header().type == FrameType::credit) {
          credit(reader_.header());
        } else {
          begin(reader_.header());
        }
        break;
    }
  }
}

// Whether the payload of a request is worth reading; it is charged then.
Status Inbound::admit(const FrameHeader& header) {
  deadline_of_frame_ = nanos_never;
  if (header.verb == verb_ping) return Status::ok;
  ++stats_.requests;
  if (header.time_left_us != UINT32_MAX) {
    deadline_of_frame_ =
        Reactor::current().after(microseconds(static_cast<int64_t>(header.time_left_us)));
  }
  if (header.time_left_us == 0) {
    ++stats_.expired;
    return Status::timed_out;
  }
  if (!node_.observe(header.hlc)) return Status::clock_ahead;
  const size_t bytes = call_overhead_bytes + header.payload_bytes;
  // One always fits: a bound below the largest value must not refuse it for ever.
  const bool fits_here = bytes_ == 0 || bytes_ + bytes <= options_.bytes_max;
  const bool fits_all = budget_.bytes == 0 || budget_.bytes + bytes <= budget_.bytes_max;
  if (!fits_here || !fits_all) {
    ++stats_.busy;
    return Status::busy;
  }
  charged_ = bytes;
  bytes_ += bytes;
  budget_.bytes += bytes;
  return Status::ok;
}

void Inbound::begin(const FrameHeader& header) {
  const size_t charged = std::exchange(charged_, 0);
  if (verdict_ != Status::ok) {
    if (verdict_ != Status::timed_out) send_reply(header.request_id, verdict_, {});
    return;
  }
  if (!reader_.payload_intact()) {
    ++stats_.corrupt;
    discharge(charged);
    send_reply(header.request_id, Status::corrupt, {});
    return;
  }
  if (header.verb == verb_ping) {
    send_reply(header.request_id, Status::ok, {});
    return;
  }
  auto* call = new InboundCall(*this, header, deadline_of_frame_, charged);
  ++calls_;
  call->payload_ = reader_.payload();
  service_.request(*call);
}

// Of a call that was answered meanwhile it means nothing.
void Inbound::credit(const FrameHeader& header) {
  static_cast<void>(node_.observe(header.hlc));
  InboundCall* call = streams_;
  while (call != nullptr && call->id_ != header.request_id) call = call->next_stream_;
  if (call == nullptr) return;
  call->credit_bytes_ =
      std::min(call->credit_bytes_ + int64_t{header.time_left_us}, credit_bytes_max);
  if ((header.flags & flag_stop) != 0) call->stopped_ = true;
  call->resume_(*call);
}

void Inbound::unlink_stream(InboundCall& call) noexcept {
  if (call.resume_ == nullptr) return;
  if (call.next_stream_ != nullptr) call.next_stream_->previous_stream_ = call.previous_stream_;
  (call.previous_stream_ != nullptr ? call.previous_stream_->next_stream_ : streams_) =
      call.next_stream_;
}

void Inbound::send_reply(uint64_t id, Status status, std::span<const std::string_view> parts) {
  if (bytes_of(parts) > limits::peer_payload_bytes_max) {
    status = Status::too_large;
    parts = {};
  }
  append_frame(socket_,
               {.type = FrameType::reply,
                .verb = static_cast<uint8_t>(status),
                .request_id = id,
                .epoch = node_.epoch(),
                .hlc = node_.hlc()},
               parts);
}

void Inbound::discharge(size_t bytes) noexcept {
  bytes_ -= bytes;
  budget_.bytes -= bytes;
}

void Inbound::ended(InboundCall& call) noexcept {
  discharge(call.charged_bytes_);
  unlink_stream(call);
  --calls_;
  delete &call;
  answered_.set();
}

void Inbound::drain() noexcept {
  draining_ = true;
  socket_.interrupt_receive();
}

void Inbound::abort() noexcept {
  gone_ = true;
  socket_.abort();
}

void Inbound::check_progress() noexcept {
  Reactor& reactor = Reactor::current();
  const Nanos now = reactor.now();
  const uint64_t moved = socket_.bytes_sent() + socket_.bytes_received();
  const bool writing = socket_.output_bytes() != 0;
  // While replies wait to be read, only reading them is progress.
  const uint64_t progress = writing ? socket_.bytes_sent() : moved;
  if (progress != progress_seen_ || writing != was_writing_ || (!writing && calls_ != 0)) {
    progress_seen_ = progress;
    was_writing_ = writing;
    progress_at_ = now;
  } else if (now - progress_at_ > (writing ? options_.send_timeout : options_.idle_timeout)) {
    abort();
  }
  reactor.arm(watch_, now + watch_interval);
}

}  // namespace gyre::peer
