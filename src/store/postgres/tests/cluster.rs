//! A PostgreSQL server of the tests' own, in a directory that goes with it.
//!
//! The server hangs on a pipe: when the test process ends, in whatever way, a
//! small shell sees the end of its input, stops the server by its pid and takes
//! the directory away. PostgreSQL refuses to run as root, so root gives it to
//! nobody.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
};

/// The user of every test database.
pub(crate) const USER: &str = "jembatan";
/// A user that has to give a password.
pub(crate) const GUARDED: &str = "guarded";

const SUPERVISE: &str = r#"
programs=$1 directory=$2 port=$3
shift 3
"$programs/postgres" -D "$directory/data" -p "$port" -k "$directory" \
    -c listen_addresses=127.0.0.1 -c max_connections=200 -c log_min_messages=warning \
    -c log_min_error_statement=panic "$@" 2>&1 </dev/null &
server=$!
# The server alone holds the pipe: its end is heard.
exec >/dev/null
read -r word
kill -INT "$server" 2>/dev/null
wait "$server"
[ "$word" = keep ] || rm -rf "$directory" 2>/dev/null
"#;

/// Where the server's programs are, if they are installed.
pub(crate) fn programs() -> Option<PathBuf> {
    let mut places = Vec::new();
    if let Ok(told) = Command::new("pg_config").arg("--bindir").output() {
        places.push(PathBuf::from(
            String::from_utf8_lossy(&told.stdout).trim().to_owned(),
        ));
    }
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        places.extend(versions.flatten().map(|found| found.path().join("bin")));
    }
    let is_there =
        |place: &PathBuf| place.join("postgres").exists() && place.join("initdb").exists();
    let found = places.into_iter().find(is_there);
    if found.is_none() {
        let is_required = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(
            !is_required,
            "the programs of a PostgreSQL server are required with CI=true"
        );
        eprintln!("NOT RUN: the programs of a PostgreSQL server are not here");
    }
    found
}

/// A running server.
pub(crate) struct Cluster {
    pub(crate) directory: PathBuf,
    pub(crate) port: u16,
    /// What the server has said since it last began to serve.
    pub(crate) log: Arc<Mutex<Vec<String>>>,
    pub(crate) programs: PathBuf,
    /// Settings of the server beside the usual ones.
    pub(crate) settings: Vec<String>,
    /// A program that becomes the server's (`exec`), and its words.
    pub(crate) before: Vec<String>,
    shell: Option<(Child, ChildStdin)>,
}

impl Cluster {
    /// Makes a database cluster and starts its server.
    pub(crate) fn start(programs: &Path, settings: &[&str]) -> Self {
        let directory = own_directory();
        let made = unprivileged(&programs.join("initdb"))
            .arg("-D")
            .arg(directory.join("data"))
            .args(["-U", USER, "--auth=trust", "--no-sync", "-E", "UTF8"])
            .args(["--locale=C", "--no-instructions"])
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let hba = directory.join("data/pg_hba.conf");
        let rest = std::fs::read_to_string(&hba).unwrap();
        // Over TCP this user has to give a password.
        let guarded = format!("host all {GUARDED} 127.0.0.1/32 scram-sha-256\n{rest}");
        std::fs::write(&hba, guarded).unwrap();
        let settings = settings.iter().map(|found| (*found).to_owned()).collect();
        Self::start_in(directory, programs.to_owned(), settings)
    }

    /// Starts a server whose files are there, in `data` of its directory.
    pub(crate) fn start_in(directory: PathBuf, programs: PathBuf, settings: Vec<String>) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut cluster = Self {
            directory,
            port,
            log: Arc::default(),
            programs,
            settings,
            before: Vec::new(),
            shell: None,
        };
        cluster.run();
        cluster
    }

    /// Starts the server and waits until it serves.
    pub(crate) fn run(&mut self) {
        let mut said = String::new();
        // What a killed server has started may hold its memory a little longer.
        for _ in 0..100 {
            match self.try_run() {
                Ok(()) => return,
                Err(log) => said = log,
            }
        }
        panic!("the server does not start: {said}");
    }

    fn try_run(&mut self) -> Result<(), String> {
        let mut shell = under(&self.before, Path::new("/bin/sh"))
            .args(["-c", SUPERVISE, "supervise"])
            .arg(&self.programs)
            .arg(&self.directory)
            .arg(self.port.to_string())
            .args(self.settings.iter().flat_map(|found| ["-c", found]))
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(shell.stdout.take().unwrap()).lines();
        let input = shell.stdin.take().unwrap();
        self.shell = Some((shell, input));
        let mut log = String::new();
        loop {
            let Some(Ok(line)) = lines.next() else {
                self.let_go("keep");
                return Err(log);
            };
            // A standby accepts read-only ones.
            if line.contains("ready to accept") {
                break;
            }
            log.push_str(&line);
            log.push('\n');
        }
        let log_of_server = self.log.clone();
        // Whoever stops reading would stop the server one day.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                log_of_server.lock().unwrap().push(line);
            }
        });
        Ok(())
    }

    /// The server's process.
    pub(crate) fn pid(&self) -> u32 {
        let file = self.directory.join("data/postmaster.pid");
        let text = std::fs::read_to_string(file).unwrap();
        text.lines().next().unwrap().trim().parse().unwrap()
    }

    /// Kills the server as a power cut would, and all that it has started.
    pub(crate) fn kill(&mut self) {
        let pid = self.pid().to_string();
        let killed = Command::new("kill").args(["-KILL", &pid]).status();
        assert!(killed.unwrap().success());
        self.let_go("keep");
    }

    /// Stops the server; with the word `keep` its files stay.
    pub(crate) fn let_go(&mut self, word: &str) {
        if let Some((mut shell, mut input)) = self.shell.take() {
            let _ = writeln!(input, "{word}");
            drop(input);
            let _ = shell.wait();
        }
    }

    /// The url of a database, over the socket.
    pub(crate) fn url(&self, database: &str) -> String {
        let directory = self.directory.display();
        format!(
            "postgres:///{database}?host={directory}&port={}&user={USER}",
            self.port
        )
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.let_go("remove");
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|found| found.uid() == 0)
}

/// A directory that the server's user owns; whoever starts a server in it takes
/// it away.
pub(crate) fn own_directory() -> PathBuf {
    let directory = tempfile::Builder::new()
        .prefix("jembatan-pg-")
        .tempdir()
        .unwrap()
        .keep();
    if is_root() {
        let given = Command::new("chown")
            .arg("nobody:nogroup")
            .arg(&directory)
            .status();
        assert!(given.unwrap().success());
    }
    directory
}

pub(crate) fn unprivileged(program: &Path) -> Command {
    under(&[], program)
}

/// An unprivileged program that another one, with all its rights, becomes.
fn under(before: &[String], program: &Path) -> Command {
    let mut words = before.to_vec();
    if is_root() {
        let user = [
            "setpriv",
            "--reuid=nobody",
            "--regid=nogroup",
            "--clear-groups",
        ];
        words.extend(user.map(str::to_owned));
    }
    words.push(program.display().to_string());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).current_dir("/");
    command
}
