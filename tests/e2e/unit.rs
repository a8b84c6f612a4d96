//! The systemd unit.

use std::path::Path;
use std::process::Command;

#[test]
fn the_unit_is_closed_in() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/doorstep.service");
    // 0 is closed in, 100 is open. What is left: the network that it serves, ports below 1024, the socket to systemd,
    // `setpriority` for delivery, and what `/proc` says of memory and of the start.
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=yes", "--threshold=15", "--no-pager"])
        .arg(unit)
        .output()
        .expect("make test installs systemd-analyze");
    let told = String::from_utf8_lossy(&output.stdout);
    let last = told.lines().last().unwrap_or_default();
    assert!(output.status.success(), "{last}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Of what the node does, the sandbox forbids nothing: each of these was forbidden once, in silence.
#[test]
fn the_unit_allows_what_the_node_does() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/doorstep.service");
    let unit = std::fs::read_to_string(unit).unwrap();
    let lines: Vec<_> = unit.lines().map(str::trim).collect();
    // Later lines take back what earlier ones forbid.
    let at = |line: &str| lines.iter().position(|one| *one == line);
    assert!(at("SystemCallFilter=setpriority") > at("SystemCallFilter=~@privileged @resources"));
    assert!(lines.contains(&"StartLimitIntervalSec=0"), "a person's restarts would count");
    // The node reads its memory's room and its start from files that are of no process.
    assert!(!lines.iter().any(|line| line.starts_with("ProcSubset=")));
    // A wrong configuration ends the main process with 1, which is what this is about.
    assert!(lines.contains(&"RestartPreventExitStatus=1"));
    assert!(!lines.iter().any(|line| line.starts_with("ExecStartPre=")));
}
