// Reads all of a value file and checks it against its footer. It knows no keys: which value a
// damaged place belongs to, a table that names it tells (TableVerifier, with the file as a source).
#pragma once

#include <cstdint>
#include <optional>

#include <gyre/file.hpp>
#include <gyre/result.hpp>
#include <gyre/task.hpp>

#include "store/table_verifier.hpp"
#include "store/value_file.hpp"

namespace gyre {

// Damage goes to the observer, as in TableVerifier; an error means that the file could not be checked
// to its end. The footer, if that could be read. Works on direct files and others.
Task<Result<std::optional<ValueFooter>>> verify_value_file(const File& file, uint64_t file_bytes,
                                                           uint64_t file_number,
                                                           TableVerifier::Observer& observer);

}  // namespace gyre
