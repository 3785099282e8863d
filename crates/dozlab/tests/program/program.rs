//! Which `dozlab` the tests run.

/// The program that `DOZLAB` named when the tests were built, the one that ships, or else the one of the tests' own
/// profile: without optimisation labs start late and take more memory than one of the tests allows.
pub(crate) const DOZLAB: &str = match option_env!("DOZLAB") {
    Some(path) => path,
    None => env!("CARGO_BIN_EXE_dozlab"),
};
