// Every limit in one place, with its reason. Units are the last word of a name.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gyre::limits {

// --- keys and values ---------------------------------------------------------------------------
inline constexpr size_t key_bytes_max = 2u << 20;        // embedded library
inline constexpr size_t http_key_bytes_max = 64u << 10;  // over HTTP, decoded
// With the number of the database that it is of (database_key.hpp).
inline constexpr size_t stored_key_bytes_max = http_key_bytes_max + 4;
inline constexpr size_t value_bytes_max_default = 16u << 20;  // --max-value
inline constexpr size_t value_bytes_max_hard = 1u << 30;      // what --max-value may be set to

// --- HTTP ----------------------------------------------------------------------------------------
inline constexpr size_t http_request_line_bytes_max = 200u << 10;  // a 64 KiB key percent-encoded
inline constexpr size_t http_header_bytes_max = 64u << 10;
inline constexpr size_t http_header_count_max = 100;
inline constexpr size_t http_pipeline_depth_max = 128;  // requests of one connection in flight
inline constexpr size_t http_empty_lines_max = 4;  // before a request line: old clients add one
inline constexpr size_t http_chunk_line_bytes_max = 1024;  // size and extensions of one chunk
inline constexpr size_t http_chunk_overhead_bytes_max =
    16u << 10;  // framing beyond 16 bytes + 2x the data
inline constexpr size_t http_head_kept_bytes_max =
    1024;  // a larger head buffer is freed after its request
inline constexpr uint64_t http_ttl_ms_max =
    1000ull * 366 * 86400 * 1000;  // keeps now + ttl far from overflow

// --- files ---------------------------------------------------------------------------------------
inline constexpr size_t io_alignment_bytes = 4096;  // O_DIRECT on 512e and 4Kn disks
// An open that finds no descriptor waits up to 30 s: an accept burst gives them back within
// milliseconds, and a log that could not open its next segment would end the shard's writes.
inline constexpr unsigned open_retry_delay_ms = 10;
inline constexpr unsigned open_retries_max = 3000;
inline constexpr size_t log_frame_bytes_max =
    1u << 20;  // a longer frame would hold up everyone's commit
inline constexpr size_t log_bytes_before_flush_max = 128u << 20;  // per shard, bounds recovery time
inline constexpr size_t log_segment_bytes_min =
    1u << 20;  // zero-filling a large one at every open costs seconds
inline constexpr size_t log_segment_bytes_max = 32u << 20;

// --- tables --------------------------------------------------------------------------------------
inline constexpr size_t table_block_value_bytes_max =
    1u << 20;  // longer values always go to an extent
inline constexpr size_t table_block_target_bytes_max = 1u << 20;
// A data block that just missed its target and then took the longest key and value has 4 MiB; a
// partition that just missed its target and then took such a block, as separators, with a filter
// for the shortest entries, 7 MiB. Readers refuse more before they allocate.
inline constexpr size_t table_block_raw_bytes_max = 8u << 20;
inline constexpr size_t table_partition_target_bytes_max = 2u << 20;
inline constexpr unsigned table_partition_blocks_max = 4096;
inline constexpr unsigned table_bloom_bits_per_key_max = 20;
inline constexpr size_t table_chunk_bytes_max = 1u << 20;  // of a large value, checked as one
inline constexpr unsigned table_level_count = 7;
inline constexpr uint64_t manifest_bytes_max =
    1ull << 30;  // read at once at start; real ones have a few MiB

// --- cluster -------------------------------------------------------------------------------------
inline constexpr unsigned cluster_replicas_max = 5;  // nodes in a slot's list, the largest `from`
inline constexpr unsigned cluster_nodes_max = 1024;  // two base-36 digits; 7 slots each as first
inline constexpr uint32_t node_weight_max = 10'000;  // shares stay far from overflow
inline constexpr size_t node_url_bytes_max = 512;    // with the zone, bounds a line of a topology
inline constexpr size_t zone_name_bytes_max = 64;
// Of one frame between nodes: the longest value with a key and what goes with it.
inline constexpr size_t peer_payload_bytes_max = value_bytes_max_hard + (4u << 20);
inline constexpr size_t topology_bytes_max = 1u << 20;  // 1024 of the longest nodes take 850 KiB

// --- coroutine frames ----------------------------------------------------------------------------
// Free frames that a core keeps. A write has about six frames and objects of up to 1 KiB, so one
// class serves over a hundred of them in turn; more than that at once is worth a malloc.
inline constexpr size_t frame_class_kept_bytes_max = 128u << 10;
inline constexpr size_t frames_kept_bytes_max = 1u << 20;  // in memory_reservation::core_bytes

// --- io_uring backend ----------------------------------------------------------------------------
inline constexpr size_t log_buffer_bytes_max =
    256u << 10;  // per core, of lines that stderr has not taken
inline constexpr unsigned log_flush_delay_ms_max = 100;  // at the end, for the rest of the log
inline constexpr unsigned lock_retries_max = 5;  // a killed process keeps its locks for a moment
inline constexpr unsigned lock_retry_delay_ms = 50;
inline constexpr unsigned offload_stop_delay_ms_max =
    250;                                           // a name server may hang; the process must end
inline constexpr unsigned drain_delay_s_max = 10;  // for operations in flight at the end
inline constexpr unsigned recv_buffers_per_arm_max =
    16;  // then the receiver re-arms: one flooder can't hold a core
inline constexpr unsigned descriptors_wanted = 65536;  // below this the probe warns

}  // namespace gyre::limits
