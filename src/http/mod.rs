//! HTTP/1.1 as pure functions: heads as ranges over the buffer they came in, the rules of what is let through, body
//! framing, the chunk scanner, head rewriting as a list of slices, the front's own answers, and the PROXY header that may come
//! before all of it.
//!
//! Nothing here holds a descriptor, a clock or a reference to its input.
#![forbid(unsafe_code)]

pub mod answer;
pub mod body;
pub mod fields;
pub mod head;
pub mod host;
pub mod proxy_header;
pub mod proxy_tlv;
pub mod refusal;
pub mod request;
pub mod response;
pub mod rewrite;
pub mod scan;
pub mod target;
