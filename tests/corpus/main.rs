//! The inputs that fuzzing kept, checked again: those that reach every corner it has found, and those that broke something
//! once. `tools/fuzz` looks for more.
#![forbid(unsafe_code)]

use std::path::Path;

#[allow(unreachable_pub, missing_docs)] // the fuzz targets' library
#[path = "../fuzz/checks/lib.rs"]
mod checks;

macro_rules! replayed {
    ($($target:ident)+) => {
        $(
            #[test]
            fn $target() {
                replay(stringify!($target), checks::$target::check);
            }
        )+

        #[test]
        fn every_target_is_replayed() {
            let mut targets = names("targets");
            targets.iter_mut().for_each(|name| name.truncate(name.len() - ".rs".len()));
            let mut replayed = [$(stringify!($target)),+];
            replayed.sort_unstable();
            assert_eq!(targets, replayed);
        }
    };
}

replayed! { body config connection credentials proxy_header request_head response_head rewrite }

fn replay(target: &str, check: fn(&[u8])) {
    let inputs = names(&format!("corpus/{target}"));
    assert!(!inputs.is_empty());
    let breaks = |name: &String| {
        let path = directory().join("corpus").join(target).join(name);
        let input = std::fs::read(&path).expect("a corpus file");
        std::panic::catch_unwind(|| check(&input)).is_err()
    };
    let breaking: Vec<String> = inputs.into_iter().filter(breaks).collect();
    assert!(
        breaking.is_empty(),
        "{breaking:?} in corpus/{target} break the check"
    );
}

/// What is in a directory of the fuzz crate.
fn names(of: &str) -> Vec<String> {
    let entries = std::fs::read_dir(directory().join(of)).expect("a directory of the fuzz crate");
    let mut names: Vec<_> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("a plain name")
        })
        .collect();
    names.sort_unstable();
    names
}

fn directory() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}
