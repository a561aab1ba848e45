//! Real clients and a real server, for tests: programs that `tools/test` has put in place.

mod apache;
mod clients;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub use apache::Apache;
pub use clients::{Answer, RealClient};

/// A directory that is gone when this is dropped.
#[derive(Debug)]
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("ntlm-origin-{}-{number}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn write(&self, name: &str, content: &str) -> io::Result<PathBuf> {
        let path = self.0.join(name);
        std::fs::write(&path, content)?;
        Ok(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // What cannot be removed is left to the system that cleans the place up anyway.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Users as gss-ntlmssp reads them from `NTLM_USER_FILE`.
fn user_file(users: &[crate::User]) -> String {
    users
        .iter()
        .map(|user| format!("{}:{}:{}\n", user.domain, user.name, user.password))
        .collect()
}
