//! A real nginx as origin.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{eventually, port};

/// nginx over a folder of its own.
pub struct Nginx {
    pub port: u16,
    folder: tempfile::TempDir,
    child: Child,
}

impl Nginx {
    /// `locations` go into the server block. `write` makes the pages below `/`.
    pub async fn start(locations: &str, write: impl FnOnce(&Path)) -> Self {
        let (port, folder) = (port(), tempfile::tempdir().expect("a folder"));
        let root = folder.path().join("www");
        std::fs::create_dir(&root).expect("made");
        write(&root);
        // nginx, started by root, serves as another user.
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).expect("opened");
        let at = folder.path().display();
        let conf = format!(
            "daemon off; worker_processes 1; pid {at}/pid; error_log {at}/error.log;\n\
             events {{ worker_connections 512; }}\n\
             http {{ types {{ text/html html; image/svg+xml svg; text/javascript js; text/plain txt; application/octet-stream bin; }}\n\
             access_log off; client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; \
             fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
             client_max_body_size 64m;\n\
             server {{ listen 127.0.0.1:{port}; root {at}/www; {locations} }} }}\n"
        );
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, conf).expect("written");
        let child = Command::new("nginx")
            .args(["-e", &format!("{at}/error.log"), "-c"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("nginx is installed (make test installs it)");
        eventually("nginx", || async {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
        Self { port, folder, child }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(0));
        // Its workers end with it only when it is asked.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("error.log"));
            eprintln!("--- nginx\n{}", log.unwrap_or_default());
        }
    }
}
