#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include <gyre/scope.hpp>
#include <gyre/socket.hpp>
#include <gyre/time.hpp>
#include <gyre/when.hpp>

#include "scenarios.hpp"

namespace gyre::testing {

namespace {

char byte_at(uint64_t position, int stream) {
  return static_cast<char>('a' + (position * 7 + static_cast<uint64_t>(stream)) % 26);
}
std::string stream_bytes(uint64_t from, size_t size, int stream) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) bytes[i] = byte_at(from + i, stream);
  return bytes;
}

// Everything received goes back, until the peer has finished.
Task<void> echo(int fd) {
  Socket socket(fd);
  for (;;) {
    Result<std::string_view> view = co_await socket.receive();
    if (!view || view->empty()) break;
    socket.append(*view);
    socket.release();
    if (!co_await socket.drained(64 << 10)) break;
  }
  static_cast<void>(co_await socket.drained(0));
  co_await socket.close();
}

using Serve = Task<void> (*)(int fd);

Task<void> accept_loop(Listener& listener, Scope& connections, Serve serve) {
  for (;;) {
    Result<Descriptor> fd = co_await listener.accept();
    if (!fd) co_return;
    connections.spawn(serve(fd->release()));
  }
}

// A server around a client task: both end, nothing is left.
Task<void> with_server(Place place, Serve serve, Task<void> clients) {
  Listener listener;
  Result<void> opened = co_await listener.open({.address = "127.0.0.1", .port = place.port});
  REQUIRE(opened.has_value());
  Scope acceptor(nullptr, "acceptor");
  Scope connections(nullptr, "connections");
  acceptor.spawn(accept_loop(listener, connections, serve));
  co_await std::move(clients);
  acceptor.request_stop();
  co_await acceptor.join();
  co_await listener.close();
  co_await connections.join();
}

Task<void> send_stream(Socket& socket, uint64_t size, int stream) {
  for (uint64_t sent = 0; sent < size;) {
    const size_t piece = std::min<uint64_t>(size - sent, 1 + Reactor::current().random() % 9000);
    socket.append(stream_bytes(sent, piece, stream));
    sent += piece;
    if (Reactor::current().random() % 4 == 0) co_await yield();
    if (!co_await socket.drained(32 << 10)) co_return;
  }
  static_cast<void>(co_await socket.drained(0));
  static_cast<void>(co_await socket.shutdown_send());
}

// Reads to the end of the stream and answers how many bytes came, all of them as expected.
Task<uint64_t> read_stream(Socket& socket, int stream) {
  uint64_t got = 0;
  bool equal = true;
  for (;;) {
    Result<std::string_view> view = co_await socket.receive();
    REQUIRE(view.has_value());
    if (view->empty()) break;
    for (const char byte : *view) equal = equal && byte == byte_at(got++, stream);
    socket.release();
    if (Reactor::current().random() % 8 == 0) co_await yield();
  }
  CHECK(equal);
  co_return got;
}

Task<Result<Descriptor>> connect_there(Place place) {
  co_return co_await connect_to("127.0.0.1", place.port);
}

Task<void> echo_client(Place place, uint64_t size, int stream) {
  Result<Descriptor> fd = co_await connect_there(place);
  REQUIRE(fd.has_value());
  Socket socket(std::move(*fd));
  Scope scope;
  scope.spawn(send_stream(socket, size, stream));
  const uint64_t got = co_await read_stream(socket, stream);
  CHECK(got == size);
  co_await scope.join();
  co_await socket.close();
}
Task<void> echo_clients(Place place, int count, uint64_t size) {
  Scope scope;
  for (int i = 0; i < count; ++i) scope.spawn(echo_client(place, size, i));
  co_await scope.join();
}

Task<void> racing_clients(Place place) {
  for (int round = 0; round < 20; ++round) {
    std::vector<Task<Result<Descriptor>>> racers;
    for (int i = 0; i < 4; ++i) racers.push_back(connect_there(place));
    Winner<Result<Descriptor>> winner = co_await when_any(std::move(racers));
    REQUIRE(winner.value.has_value());
    if (round % 2 == 0) continue;  // nobody takes it
    Socket socket(std::move(*winner.value));
    co_await socket.close();
  }
}

constexpr uint64_t flood_bytes = 3u << 20;
Task<void> flood(int fd) {
  Socket socket(fd);
  size_t most = 0;
  for (uint64_t sent = 0; sent < flood_bytes; sent += 8192) {
    socket.append(stream_bytes(sent, 8192, 5));
    most = std::max(most, socket.output_bytes());
    if (!co_await socket.drained(64 << 10)) break;
  }
  CHECK(most <= (64u << 10) + 8192);
  static_cast<void>(co_await socket.drained(0));
  static_cast<void>(co_await socket.shutdown_send());
  Result<std::string_view> end = co_await socket.receive();
  CHECK((!end || end->empty()));
  co_await socket.close();
}
Task<void> slow_reader(Place place) {
  Result<Descriptor> fd = co_await connect_there(place);
  REQUIRE(fd.has_value());
  Socket socket(std::move(*fd));
  uint64_t got = 0;
  bool equal = true;
  for (;;) {
    Result<std::string_view> view = co_await socket.receive();
    REQUIRE(view.has_value());
    if (view->empty()) break;
    for (const char byte : *view) equal = equal && byte == byte_at(got++, 5);
    socket.release();
    if (Reactor::current().random() % 16 == 0) co_await sleep_for(microseconds(300));
  }
  CHECK(equal);
  CHECK(got == flood_bytes);
  co_await socket.close();
}

// Reads a request to its end, then answers its length.
Task<void> answer_length(int fd) {
  Socket socket(fd);
  uint64_t size = 0;
  for (;;) {
    Result<std::string_view> view = co_await socket.receive();
    if (!view || view->empty()) break;
    size += view->size();
    socket.release();
  }
  socket.append(std::to_string(size));
  static_cast<void>(co_await socket.drained(0));
  co_await socket.close();
}
Task<void> ask_length(Place place) {
  Result<Descriptor> fd = co_await connect_there(place);
  REQUIRE(fd.has_value());
  Socket socket(std::move(*fd));
  co_await send_stream(socket, 100'000, 1);
  std::string answer;
  for (;;) {
    Result<std::string_view> view = co_await socket.receive();
    REQUIRE(view.has_value());
    if (view->empty()) break;
    answer.append(*view);
    socket.release();
  }
  CHECK(answer == "100000");
  co_await socket.close();
}

Task<Result<std::string>> receive_some(Socket& socket) {
  Result<std::string_view> view = co_await socket.receive();
  if (!view) co_return fail(view.error());
  std::string bytes(*view);
  socket.release();
  co_return bytes;
}
Task<void> silent_client(Place place) {
  Result<Descriptor> fd = co_await connect_there(place);
  REQUIRE(fd.has_value());
  Socket socket(std::move(*fd));
  for (int i = 0; i < 5; ++i) {
    Result<std::string> nothing = co_await with_timeout(milliseconds(2), receive_some(socket));
    REQUIRE_FALSE(nothing.has_value());
    CHECK(nothing.error().code == Errc::timed_out);
    const std::string word = "word" + std::to_string(i);
    socket.append(word);
    std::string got;
    while (got.size() < word.size()) {
      Result<std::string> piece = co_await with_timeout(seconds(100), receive_some(socket));
      REQUIRE(piece.has_value());
      got += *piece;
    }
    CHECK(got == word);
  }
  co_await socket.close();
}

Task<void> closing_client(Place place, int state) {
  Result<Descriptor> fd = co_await connect_there(place);
  REQUIRE(fd.has_value());
  Socket socket(std::move(*fd));
  if (state == 1) {  // a receive in flight
    static_cast<void>(co_await with_timeout(milliseconds(1), receive_some(socket)));
  } else if (state == 2) {  // output queued
    socket.append(std::string(1000, 'x'));
  } else if (state == 3) {  // much output in flight, nobody reads the echo
    socket.append(std::string(4 << 20, 'x'));
    co_await sleep_for(milliseconds(2));
  } else if (state == 4) {  // given up
    socket.append(std::string(4 << 20, 'x'));
    co_await sleep_for(milliseconds(1));
    socket.abort();
    CHECK_FALSE(co_await socket.drained(0));
    CHECK_FALSE((co_await socket.receive()).has_value());
  }
  co_await socket.close();
}
Task<void> closing_clients(Place place) {
  Scope scope;
  for (int state = 0; state < 5; ++state) scope.spawn(closing_client(place, state));
  co_await scope.join();
}

}  // namespace

Task<void> clients_are_echoed(Place place) {
  co_await with_server(place, &echo, echo_clients(place, 6, 150'000));
}

Task<void> more_connections_than_buffers(Place place) {
  co_await with_server(place, &echo, echo_clients(place, 40, 30'000));
}

Task<void> slow_reader_holds_its_writer_back(Place place) {
  co_await with_server(place, &flood, slow_reader(place));
}

Task<void> half_closed_connections_still_answer(Place place) {
  co_await with_server(place, &answer_length, ask_length(place));
}

Task<void> nobody_listens(Place place) {
  Result<Descriptor> fd = co_await connect_there(place);
  REQUIRE_FALSE(fd.has_value());
  CHECK(fd.error().os_error == ECONNREFUSED);
}

Task<void> racing_for_connections(Place place) {
  co_await with_server(place, &echo, racing_clients(place));
}

Task<void> silence_times_out_and_loses_nothing(Place place) {
  co_await with_server(place, &echo, silent_client(place));
}

Task<void> closing_in_every_state(Place place) {
  co_await with_server(place, &echo, closing_clients(place));
}

Task<void> listener_comes_and_goes(Place place) {
  for (int i = 0; i < 3; ++i) {
    Listener listener;
    REQUIRE((co_await listener.open({.port = place.port})).has_value());
    Listener second;
    Result<void> refused = co_await second.open({.port = place.port});
    CHECK_FALSE(refused.has_value());
    // A connection that nobody takes is closed with the listener.
    Result<Descriptor> fd = co_await connect_there(place);
    REQUIRE(fd.has_value());
    Scope scope;
    Scope connections;
    if (i > 0) scope.spawn(accept_loop(listener, connections, &echo));
    Socket socket(std::move(*fd));
    co_await sleep_for(milliseconds(1));
    co_await socket.close();
    if (i == 1) {
      co_await listener.close();  // under the waiting acceptor
    } else {
      scope.request_stop();
    }
    co_await scope.join();
    co_await connections.join();
    co_await listener.close();
    if (second.is_open()) co_await second.close();
  }
}

}  // namespace gyre::testing
