#include "node/admin_job.hpp"

#include <fmt/format.h>

#include <algorithm>

#include <gyre/call.hpp>
#include <gyre/scope.hpp>
#include <gyre/time.hpp>
#include <gyre/when.hpp>

#include "store/checkpoint.hpp"

namespace gyre {

std::string_view to_string(AdminVerb verb) {
  switch (verb) {
    case AdminVerb::flush:
      return "flush";
    case AdminVerb::compact:
      return "compact";
    case AdminVerb::checkpoint:
      return "checkpoint";
    case AdminVerb::verify:
      return "verify";
  }
  return "";
}

namespace {

Task<void> verify_into(Shard* shard, VerifyReport* report, Result<void>* done) {
  Result<VerifyReport> found = co_await shard->verify();
  if (found) {
    *report = std::move(*found);
  } else {
    *done = fail(found.error());
  }
}

Task<Result<bool>> work_on(Shard* shard, AdminVerb verb, std::string directory,
                           VerifyReport* report) {
  Result<void> done{};
  switch (verb) {
    case AdminVerb::flush:
      done = co_await shard->flush();
      break;
    case AdminVerb::compact:
      done = co_await shard->compact();
      break;
    case AdminVerb::checkpoint:
      done = co_await shard->checkpoint(std::move(directory));
      break;
    case AdminVerb::verify: {
      Scope scope(co_await current_stop(), "verify");
      scope.spawn_background(verify_into(shard, report, &done));
      co_await scope.join();
      break;
    }
  }
  if (!done) co_return fail(done.error());
  co_return true;
}

// Our own refusals are sentences; others need their kind.
std::string text_of(const Error& error) {
  const bool ours = error.os_error == 0 && !error.detail.empty();
  return ours ? error.detail : error.message();
}

AdminJob::Progress progress_of(const Shard& shard, AdminVerb verb) {
  switch (verb) {
    case AdminVerb::flush:
      return {};
    case AdminVerb::compact:  // what is left: the job knows how much there was
      return {.bytes_done = 0,
              .bytes_total = shard.full_compaction_bytes_left(),
              .steps = shard.stats().compactions};
    case AdminVerb::checkpoint:
    case AdminVerb::verify: {
      const WorkProgress& at =
          verb == AdminVerb::verify ? shard.verify_progress() : shard.checkpoint_progress();
      return {.bytes_done = at.bytes_done, .bytes_total = at.bytes, .steps = at.tables_done};
    }
  }
  return {};
}

}  // namespace

// --- on the owner's core ------------------------------------------------------------------------

Task<Result<bool>> AdminJob::on_owner(Core* core, uint32_t shard, std::string directory,
                                      VerifyReport* report) const {
  if (!core->has_shard(shard)) co_return fail(Errc::closed, "shutting down");
  Task<Result<bool>> work = work_on(&core->shard(shard), verb_, std::move(directory), report);
  work.promise().stop = &core->admin_stop();
  co_return co_await std::move(work);
}

// --- on the admin server's core -----------------------------------------------------------------

Task<Result<bool>> AdminJob::on_shard(uint32_t shard, std::string directory) {
  const unsigned owner = node_.owner_of(shard);
  VerifyReport report;
  Result<bool> done = co_await spawn_on(
      owner, [&, this] { return on_owner(&node_.core(owner), shard, directory, &report); });
  report_.add(std::move(report));
  if (done) co_return true;
  co_return fail(Error{done.error().code, done.error().os_error,
                       fmt::format("shard-{:03}: {}", shard, text_of(done.error()))});
}

// All at once; the first failure is told. `directory`: of a checkpoint.
Task<Result<void>> AdminJob::on_all_shards(std::string directory) {
  std::vector<Task<Result<bool>>> tasks;
  for (uint32_t shard = 0; shard < node_.shard_count(); ++shard) {
    tasks.push_back(on_shard(
        shard, directory.empty() ? std::string() : DataDirectory::shard_path(directory, shard)));
  }
  for (const Result<bool>& result : co_await when_all<Result<bool>>(std::move(tasks))) {
    if (!result) co_return fail(result.error());
  }
  co_return Result<void>{};
}

Task<Result<void>> AdminJob::checkpoint() {
  Result<CheckpointDirectory> copy =
      co_await CheckpointDirectory::begin(node_.directory(), directory_);
  if (!copy) co_return fail(copy.error());
  removed_leftover_ = copy->removed_leftover();
  Result<void> done = co_await on_all_shards(copy->incomplete_path());
  if (done) done = co_await copy->finish();
  if (!done) co_await copy->abandon();
  if (!done && done.error().os_error == EXDEV) {
    co_return fail(Errc::invalid,
                   fmt::format("{} is on another file system than the data, where a hard link "
                               "can't go: make the checkpoint beside {} and copy it from there",
                               directory_, node_.directory().path()));
  }
  co_return done;
}

Task<Result<void>> AdminJob::work() {
  if (verb_ == AdminVerb::checkpoint) co_return co_await checkpoint();
  co_return co_await on_all_shards("");
}

std::string AdminJob::describe_success() const {
  switch (verb_) {
    case AdminVerb::flush:
      return fmt::format("flushed {} shards", node_.shard_count());
    case AdminVerb::compact:
      return fmt::format("compacted {} shards", node_.shard_count());
    case AdminVerb::checkpoint:
      return fmt::format(
          "{} holds a copy of {} shards, {} tables and {} bytes; start it with "
          "gyre serve --data {}{}",
          directory_, node_.shard_count(), last_.steps, last_.bytes_total, directory_,
          removed_leftover_ ? "; what an interrupted checkpoint had left there was removed" : "");
    case AdminVerb::verify:
      return fmt::format("checked {} tables of {} shards: {} bytes, {} entries, {} large values",
                         report_.tables, node_.shard_count(), report_.bytes, report_.entries,
                         report_.large_values);
  }
  return "";
}

Task<void> AdminJob::run(std::shared_ptr<AdminJob> job) {
  static_cast<void>(co_await job->progress());  // where it begins
  job->steps_before_ = job->verb_ == AdminVerb::compact ? job->last_.steps : 0;
  job->last_ = {};
  const Result<void> done = co_await job->work();
  if (done) static_cast<void>(co_await job->progress());
  job->failed_ = !done || job->report_.damage_count != 0;
  job->outcome_ = done ? job->describe_success() : text_of(done.error());
  if (done && job->report_.damage_count != 0) {
    job->outcome_ += fmt::format("; {} places are damaged", job->report_.damage_count);
  }
  std::replace(job->outcome_.begin(), job->outcome_.end(), '\n', ' ');
  Reactor::current().log(job->failed_ ? "warn" : "info",
                         fmt::format("event=admin_{} result={} \"{}\"", to_string(job->verb_),
                                     job->failed_ ? "failed" : "ok", job->outcome_));
  job->ended_ = true;
}

Task<AdminJob::Progress> AdminJob::progress() {
  Progress sum;
  for (unsigned index = 0; index < node_.cores(); ++index) {
    const Progress part = co_await call_on(index, [this, index] {
      Core& core = node_.core(index);
      Progress of_core;
      for (uint32_t shard = 0; shard < core.shards().size(); ++shard) {
        if (!core.has_shard(shard)) continue;
        const Progress of_shard = progress_of(core.shard(shard), verb_);
        of_core.bytes_done += of_shard.bytes_done;
        of_core.bytes_total += of_shard.bytes_total;
        of_core.steps += of_shard.steps;
      }
      return of_core;
    });
    sum.bytes_done += part.bytes_done;
    sum.bytes_total += part.bytes_total;
    sum.steps += part.steps;
  }
  if (verb_ == AdminVerb::compact) {
    const uint64_t left = sum.bytes_total;
    sum.bytes_total = std::max(last_.bytes_total, left);
    sum.bytes_done = sum.bytes_total - left;
  }
  sum.steps -= std::min(sum.steps, steps_before_);
  last_ = sum;
  co_return sum;
}

Task<void> AdminJob::abandon(std::shared_ptr<AdminJob> job) {
  Node& node = job->node_;
  for (unsigned index = 0; index < node.cores(); ++index) {
    co_await call_on(index, [&node, index] {
      for (const auto& shard : node.core(index).shards()) {
        if (shard) shard->abandon_verify();
      }
      return true;
    });
  }
}

}  // namespace gyre
