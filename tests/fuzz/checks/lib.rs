//! What every input must satisfy, whoever made it up: the fuzz targets run these checks, and the test `corpus` repeats them
//! for the inputs that are kept.
//!
//! The checks hold the product against [`reference`], which reads whole messages in the plainest way and shares no code
//! with it.

pub mod body;
pub mod config;
pub mod connection;
pub mod credentials;
pub mod input;
pub mod proxy_header;
pub mod reference;
pub mod request_head;
pub mod response_head;
pub mod rewrite;
