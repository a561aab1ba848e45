//! The other parsers. Each is given whole batches, because most of them are processes of their own.

mod hyper;
mod nginx;
mod process;

pub(crate) use self::hyper::read as hyper;
pub(crate) use nginx::Nginx;
pub(crate) use process::Process;
