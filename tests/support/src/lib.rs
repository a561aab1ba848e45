//! An HTTP origin that does real NTLM, bound to the connection.
pub mod ntlm;
