//! The systemd unit.

use std::path::Path;
use std::process::Command;

#[test]
fn the_unit_is_closed_in() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/doorstep.service");
    // 0 is closed in, 10 is open; what runs with a socket and a store of its own can be below 2.
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=yes", "--threshold=20", "--no-pager"])
        .arg(unit)
        .output()
        .expect("make test installs systemd-analyze");
    let told = String::from_utf8_lossy(&output.stdout);
    let last = told.lines().last().unwrap_or_default();
    assert!(output.status.success(), "{last}\n{}", String::from_utf8_lossy(&output.stderr));
}
