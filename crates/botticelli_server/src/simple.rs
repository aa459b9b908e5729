//! Small real implementations of the contracts, for prototyping and tests.
