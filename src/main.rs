//! The program: parse arguments, call `cli`, turn the error into an exit code.

fn main() {}
