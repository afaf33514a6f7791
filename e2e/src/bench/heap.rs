//! Who holds the memory of a resting program: heaptrack (Debian's package) beside a program with symbols.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::figures::Holder;
use super::program::Launch;

/// What is loaded into the program.
const PRELOAD: &str = "/usr/lib/heaptrack/libheaptrack_preload.so";
/// What makes names of addresses.
const INTERPRET: &str = "/usr/lib/heaptrack/libexec/heaptrack_interpret";
/// How many holders are named.
const HOLDERS: usize = 10;
/// What every stack ends in: the allocator, and the containers of the standard library that ask it.
const CONTAINERS: [&str; 7] = ["alloc::", "<alloc::", "core::", "<core::", "hashbrown::", "std::", "<std::"];
/// How their names stand in symbols of the newer kind (`_R`), which heaptrack leaves as they are.
const CRATES: [&str; 5] = ["5alloc", "4core", "3std", "9hashbrown", "7___rustc"];

/// The same start, of a program whose allocations are written to `raw`.
pub fn traced(launch: &Launch, program: &Path, raw: &Path) -> Result<Launch> {
    ensure!(Path::new(PRELOAD).is_file(), "{PRELOAD} is missing: apt-get install heaptrack");
    let mut output = OsString::from("DUMP_HEAPTRACK_OUTPUT=");
    output.push(raw);
    let mut arguments = vec![format!("LD_PRELOAD={PRELOAD}").into(), output, program.into()];
    arguments.extend(launch.arguments.iter().cloned());
    // What starts the program must not be traced itself.
    Ok(Launch { program: "env".into(), arguments, ..launch.clone() })
}

/// Who held most when the program was killed, greatest first: by the innermost function that is not a container's.
/// Errors when heaptrack cannot read what it wrote.
pub fn holders(raw: &Path) -> Result<Vec<Holder>> {
    let (read, stacks) = (raw.with_extension("read"), raw.with_extension("stacks"));
    let input = File::open(raw).with_context(|| format!("opening {}", raw.display()))?;
    let output = File::create(&read).with_context(|| format!("making {}", read.display()))?;
    let status = Command::new(INTERPRET).stdin(input).stdout(output).stderr(Stdio::null()).status();
    ensure!(status.context("starting heaptrack_interpret")?.success(), "heaptrack_interpret failed");
    let status = Command::new("heaptrack_print")
        .args(["-p", "0", "-a", "0", "-T", "0", "--flamegraph-cost-type", "leaked", "-F"])
        .arg(&stacks)
        .arg("-f")
        .arg(&read)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    ensure!(status.context("starting heaptrack_print")?.success(), "heaptrack_print failed");
    let text = fs::read(&stacks).with_context(|| format!("reading {}", stacks.display()))?;
    Ok(greatest(&String::from_utf8_lossy(&text)))
}

/// Sums up stacks: outermost function first, `;` between them, then the bytes.
fn greatest(stacks: &str) -> Vec<Holder> {
    let mut sums: BTreeMap<(String, String), u64> = BTreeMap::new();
    for line in stacks.lines() {
        let Some((stack, bytes)) = line.rsplit_once(' ') else { continue };
        let Ok(bytes) = bytes.parse::<u64>() else { continue };
        let frames = || stack.rsplit(';').map(readable);
        let by = frames().find(|frame| !is_container(frame)).unwrap_or_default();
        let within = frames().find(|frame| frame.contains("phoenix_operator::")).unwrap_or_default();
        *sums.entry((by, within)).or_default() += bytes;
    }
    let mut holders: Vec<Holder> =
        sums.into_iter().map(|((by, within), bytes)| Holder { bytes, by, within }).collect();
    holders.sort_by_key(|holder| std::cmp::Reverse(holder.bytes));
    holders.truncate(HOLDERS);
    holders
}

/// A name as it is in the source, if the compiler has spelt it without signs; without its hash, so that all instances
/// of a generic function are one.
fn readable(frame: &str) -> String {
    let is_hash = |end: &str| end.len() == 16 && end.bytes().all(|byte| byte.is_ascii_hexdigit());
    let frame = frame.rsplit_once("::h").filter(|(_, end)| is_hash(end)).map_or(frame, |(name, _)| name);
    let mut name = frame.strip_prefix('_').filter(|rest| rest.starts_with('$')).unwrap_or(frame).to_owned();
    for (spelt, sign) in [
        ("$LT$", "<"),
        ("$GT$", ">"),
        ("$u7b$", "{"),
        ("$u7d$", "}"),
        ("$u20$", " "),
        ("$RF$", "&"),
        ("$C$", ","),
        ("..", "::"),
    ] {
        name = name.replace(spelt, sign);
    }
    name
}

fn is_container(frame: &str) -> bool {
    if frame.is_empty() {
        return true;
    }
    frame.starts_with("__")
        // code without a name
        || frame.starts_with("0x")
        || frame == "malloc"
        || frame == "realloc"
        || frame == "calloc"
        || CONTAINERS.iter().any(|prefix| frame.starts_with(prefix))
        || (frame.starts_with("_R") && CRATES.iter().any(|name| frame.contains(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_are_summed_up_and_sorted() {
        let stacks = "main;phoenix_operator::controller::cache::put;serde_json::read;alloc::raw_vec::grow;malloc 100\n\
                      main;phoenix_operator::controller::cache::put;serde_json::read::h0123456789abcdef;_$LT$alloc..vec..Vec$LT$T$GT$$GT$::push;; 50\n\
                      main;ring::init;0x7f0a4d0a57b9;_RNvCsfLfy6EI15iL_7___rustc11___rdl_alloc;malloc 120\n\
                      nothing\n";
        let holders = greatest(stacks);
        assert_eq!(holders.len(), 2);
        assert_eq!((holders[0].bytes, holders[0].by.as_str()), (150, "serde_json::read"));
        assert_eq!(holders[0].within, "phoenix_operator::controller::cache::put");
        assert_eq!(
            (holders[1].bytes, holders[1].by.as_str(), holders[1].within.as_str()),
            (120, "ring::init", "")
        );
    }
}
