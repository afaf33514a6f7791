//! The same input always gives the same output: no client, no runtime, no clock in the pure rooms.

use std::{fs, path::Path};

/// Sources of a directory and everything below, with their paths.
fn sources(dir: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.ends_with("tests") || path.ends_with("tests.rs") {
            continue; // a test may measure itself
        }
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn the_pure_rooms_hold_no_client_runtime_or_clock() {
    let forbidden = [
        concat!("kube::", "Client"),
        concat!("kube::", "client"),
        concat!("kube::", "runtime"),
        concat!("tok", "io"),
        concat!("Timestamp::", "now"),
        concat!("System", "Time"),
        concat!("Instant::", "now"),
        concat!("std::", "env"),
        concat!("std::", "net"),
    ];
    let mut found = Vec::new();
    for room in ["api", "build", "plan"] {
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(room), &mut found);
    }
    assert!(found.len() > 30);
    for (path, text) in found {
        for word in forbidden {
            assert!(!text.contains(word), "{path} uses {word}");
        }
    }
}
