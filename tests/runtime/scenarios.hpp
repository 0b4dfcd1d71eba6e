// What a program does with the runtime, written once and run on both backends: io_uring against
// the kernel, and the simulation under many seeds.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include <gyre/task.hpp>

namespace gyre::testing {

// Where a scenario works: an empty directory, and a port on 127.0.0.1 that nobody uses; and how it
// gets a signal.
struct Place {
  std::string directory;
  uint16_t port = 0;
  std::function<void(int number)> raise;
};
using Scenario = Task<void> (*)(Place place);

// time and primitives
Task<void> sleepers_wake_in_order(Place place);
Task<void> deadlines_end_waits(Place place);
Task<void> bytes_are_budgeted(Place place);
Task<void> work_goes_through_a_channel(Place place);
Task<void> quorum_of_slow_answers(Place place);
Task<void> background_work_ends(Place place);
// sockets
Task<void> clients_are_echoed(Place place);
Task<void> more_connections_than_buffers(Place place);
Task<void> slow_reader_holds_its_writer_back(Place place);
Task<void> half_closed_connections_still_answer(Place place);
Task<void> nobody_listens(Place place);
Task<void> racing_for_connections(Place place);
Task<void> silence_times_out_and_loses_nothing(Place place);
Task<void> closing_in_every_state(Place place);
Task<void> listener_comes_and_goes(Place place);
// files
Task<void> files_are_written_and_read(Place place);
Task<void> direct_files_are_written_and_read(Place place);
Task<void> names_come_and_go(Place place);
Task<void> small_files_are_replaced(Place place);
Task<void> locks_exclude(Place place);
// signals
Task<void> signals_are_waited_for(Place place);
Task<void> signals_that_nobody_waits_for_are_kept(Place place);

}  // namespace gyre::testing
