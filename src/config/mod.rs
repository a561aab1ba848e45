//! The configuration: text → tokens → directives (one table) → typed, validated values. After this room there is no
//! string left to check.
//!
//! Pure but for two things it is handed: a way to read files (`include`) and a way to resolve host names.
#![forbid(unsafe_code)]

pub mod access;
pub mod location;
pub mod model;
pub mod names;
pub mod template;
pub mod variable;

pub use model::Config;
