//! Virtual hosts: made, used, killed in the middle, and gone without a trace. Real namespaces, real
//! packets, real signals; needs root, like every test of real hosts.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use squall_cluster::{Lab, LabError, Up};

const PROGRAM: &str = env!("CARGO_BIN_EXE_squall");
/// A user who owns nothing here.
const NOBODY: u32 = 65534;
/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn program() -> &'static Path {
    Path::new(PROGRAM)
}

/// Held by all tests, by one of them alone.
static MACHINE: RwLock<()> = RwLock::new(());

/// A place for labs that no other test sees.
struct Place<T> {
    dir: tempfile::TempDir,
    _machine: T,
}

impl<T> Place<T> {
    fn path(&self) -> &Path {
        self.dir.path()
    }
}

fn place() -> Place<RwLockReadGuard<'static, ()>> {
    let machine = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    Place { dir: tempfile::tempdir().expect("a directory"), _machine: machine }
}

/// For a test that measures times: no other one runs beside it.
fn place_alone() -> Place<RwLockWriteGuard<'static, ()>> {
    let machine = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
    Place { dir: tempfile::tempdir().expect("a directory"), _machine: machine }
}

fn bare(root: &Path, hosts: u16) -> Up {
    Up { root: Some(root.to_owned()), hosts, coordinators: 0, bare: true, ..Up::default() }
}

fn up(up: &Up) -> Lab {
    Lab::up(program(), up).unwrap_or_else(|e| panic!("{e}"))
}

/// Runs a program on a host: its words, with blanks between them.
fn run(lab: &Lab, host: &str, words: &str) -> Output {
    lab.run(host, words.split_whitespace()).expect("lab exec")
}

/// What it prints.
fn on(lab: &Lab, host: &str, words: &str) -> String {
    text(&run(lab, host, words))
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn pings(lab: &Lab, from: &str, to: &str) -> bool {
    let output = lab.run(from, ["ping", "-n", "-c", "1", "-W", "5", to]).expect("lab exec");
    output.status.success()
}

/// Processes that run this very file, by number. A dead one that nobody has reaped runs none.
fn running(program: &Path) -> BTreeSet<u32> {
    let wanted = fs::metadata(program).expect("the program");
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let pid = entry.file_name().to_str().and_then(|n| n.parse().ok());
        let Some(pid) = pid else { continue };
        // By what it is, not by its path: a host's processes have it under another one.
        if let Ok(meta) = fs::metadata(entry.path().join("exe"))
            && (meta.dev(), meta.ino()) == (wanted.dev(), wanted.ino())
        {
            found.insert(pid);
        }
    }
    found
}

/// What a lab could leave on the machine. Others work here at the same time: only what has a lab's
/// names, or is a fixed path of ours, is looked at.
#[derive(Debug, PartialEq, Eq)]
struct Machine {
    devices: BTreeSet<String>,
    mounts: Vec<String>,
    files: Vec<String>,
}

impl Machine {
    fn now() -> Machine {
        let ours = |name: &str| {
            let number = name.strip_prefix(['h', 'c']).is_some_and(|n| n.parse::<u16>().is_ok());
            number || name.starts_with("br")
        };
        let devices = fs::read_dir("/sys/class/net").expect("devices").flatten();
        let devices = devices.map(|d| d.file_name().to_string_lossy().into_owned());
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let mounts = mounts.lines().filter(|m| m.contains(" lab ") || m.contains("squall"));
        let fixed = ["/etc/squall", "/var/lib/squall", "/run/squall", "/run/lab", "/dev/shm/x"];
        let mut files: Vec<String> =
            fixed.iter().map(|path| format!("{path}: {}", Path::new(path).exists())).collect();
        for path in ["/etc/hosts", "/etc/hostname", "/etc/passwd", "/proc/sys/kernel/hostname"] {
            files.push(format!("{path}: {}", fs::read_to_string(path).unwrap_or_default()));
        }
        Machine {
            devices: devices.filter(|name| ours(name)).collect(),
            mounts: mounts.map(str::to_owned).collect(),
            files,
        }
    }
}

#[test]
fn hosts_reach_each_other_and_the_switch_by_both_families() {
    let place = place();
    let up = up(&Up { labels: vec!["h1=zone=a".into()], coordinators: 1, ..bare(place.path(), 3) });
    let names: Vec<_> = up.hosts().iter().map(|h| h.name.as_str()).collect();
    assert_eq!(names, ["h1", "h2", "h3", "c1"]);
    assert_eq!(up.cluster(), None, "nothing was started");
    let h1 = up.host("h1").expect("h1");
    assert_eq!((h1.address.to_string(), h1.labels["zone"].as_str()), ("10.77.0.1".into(), "a"));
    for to in ["h2", "h2.v6", "c1", "c1.v6", "10.77.255.254", "fd77::ffff:fffe", "localhost"] {
        assert!(pings(&up, "h1", to), "h1 does not reach {to}");
    }
    assert!(pings(&up, "c1", "h3"));
    assert!(!pings(&up, "h1", "10.77.0.9"), "somebody answers for a host that is not there");
    // The name means one address only: a partition between two hosts must leave no other way.
    let known = on(&up, "h1", "getent ahosts h2");
    let addresses: BTreeSet<_> = known.lines().map(|l| l.split_whitespace().next()).collect();
    assert_eq!(addresses, BTreeSet::from([Some("10.77.0.2")]), "{known}");
}

#[test]
fn without_ipv4_there_is_none() {
    let place = place();
    let lab = up(&Up { ipv6_only: true, ..bare(place.path(), 2) });
    assert_eq!(lab.host("h2").expect("h2").address.to_string(), "fd77::2");
    assert!(pings(&lab, "h1", "h2"));
    assert_eq!(on(&lab, "h1", "ip -4 -o address show scope global"), "");
}

#[test]
fn a_host_has_its_own_name_processes_and_files_and_the_machine_keeps_its() {
    let before = Machine::now();
    let place = place();
    let lab = up(&bare(place.path(), 2));
    assert_eq!(on(&lab, "h2", "hostname"), "h2\n");
    assert_eq!(on(&lab, "h2", "cat /etc/hostname /proc/1/comm"), "h2\nlab-init\n");
    assert_eq!(on(&lab, "h2", "cat /proc/1/cmdline"), "lab-init\0host\0");
    assert_eq!(on(&lab, "h2", "ls /sys/class/net"), "eth0\nlo\n");
    // Two inits of ours live, but a host sees its own processes only.
    let proc = on(&lab, "h2", "ls /proc");
    let seen = proc.lines().filter(|entry| entry.parse::<u32>().is_ok()).count();
    assert!(seen < 8, "{seen} processes in sight");
    for change in [
        "mkdir -p /etc/squall /var/lib/squall /run/squall",
        "cp /etc/hostname /etc/passwd",
        "rm /etc/hosts",
        "touch /etc/squall/x /var/lib/squall/x /run/squall/x /dev/shm/x",
        "hostname other",
        "ip link add br7 type bridge",
    ] {
        assert_eq!(on(&lab, "h2", change), "", "{change}");
    }
    assert_eq!(on(&lab, "h2", "cat /etc/passwd"), "h2\n");
    assert_eq!(on(&lab, "h1", "hostname"), "h1\n");
    for dir in ["/etc/squall", "/var/lib/squall", "/run/squall"] {
        let seen = run(&lab, "h1", &format!("ls -d {dir}"));
        assert!(!seen.status.success(), "h1 sees what h2 wrote: {seen:?}");
    }
    let dir = lab.dir();
    lab.down().expect("down");
    assert!(!dir.exists());
    assert_eq!(Machine::now(), before);
}

/// A machine of its own mounts on which Squall lives already, on which the script is run.
fn where_squall_lives(root: &Path, script: &str) -> Output {
    let prepare = "set -e
        mkdir $ROOT/layers && mount -t tmpfs layers $ROOT/layers
        for d in etc var; do
            mkdir $ROOT/layers/$d $ROOT/layers/.$d
            mount -t overlay o -o lowerdir=/$d,upperdir=$ROOT/layers/$d,workdir=$ROOT/layers/.$d /$d
        done
        mkdir -p /etc/squall/identity /var/lib/squall /var/lib/squall-coordinator
        echo secret | tee /etc/squall/identity/authority.pem > /var/lib/squall/journal
        chmod 700 /etc/squall /var/lib/squall\n";
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        &format!("{prepare}{script}"),
    ]);
    command.env("ROOT", root).env("SQUALL_LAB_ROOT", root.join("labs")).env("SQUALL", PROGRAM);
    command.output().expect("unshare")
}

#[test]
fn what_squall_keeps_on_the_machine_is_no_hosts() {
    let place = place();
    let script = "$SQUALL lab up own --bare --hosts 1 --coordinators 0
        $SQUALL lab exec --lab own h1 -- sh -c 'find /etc/squall /var/lib/squall* && echo mine > /etc/squall/agent.toml'
        $SQUALL lab down own
        cat /var/lib/squall/journal; ls /etc/squall";
    let seen = text(&where_squall_lives(place.path(), script));
    let lines: Vec<&str> =
        seen.lines().filter(|line| line.starts_with(['/', 's', 'i', 'a'])).collect();
    let host = ["/etc/squall", "/var/lib/squall", "/var/lib/squall-coordinator"];
    assert_eq!(lines, [&host[..], &["secret", "identity"]].concat(), "{seen}");
}

#[test]
fn what_squall_keeps_behind_a_link_is_no_hosts_either() {
    let place = place();
    let script = "mv /etc/squall $ROOT/real && ln -s $ROOT/real /etc/squall && echo mine > /etc/squall.toml
        $SQUALL lab up own --hosts 1 --coordinators 1 >&2
        $SQUALL lab exec --lab own h1 -- find /etc/squall /etc/squall.toml -maxdepth 1 || true
        $SQUALL lab down own
        readlink /etc/squall; cat /etc/squall.toml $ROOT/real/identity/authority.pem; ls -A $ROOT/real";
    let seen = where_squall_lives(place.path(), script);
    let seen = text(&seen);
    let real = place.path().join("real").display().to_string();
    for line in ["/etc/squall/agent.toml", &real, "mine", "secret"] {
        assert!(seen.lines().any(|l| l == line), "{line}: {seen}");
    }
    assert!(!seen.contains("/etc/squall.toml\n"), "{seen}");
    assert!(seen.ends_with("secret\nidentity\n"), "the machine's own was written to: {seen}");
}

#[test]
fn state_is_bounded() {
    let place = place();
    let lab = up(&Up { state_mb: Some(8), ..bare(place.path(), 1) });
    let output = run(&lab, "h1", "dd if=/dev/zero of=/var/lib/full bs=1M count=16");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("No space left"), "{output:?}");
    assert_eq!(on(&lab, "h1", "rm /var/lib/full"), "");
    assert_eq!(on(&lab, "h1", "cp /etc/hostname /var/lib/x"), "", "space comes back");
}

#[test]
fn exec_ends_as_the_program_does() {
    let place = place();
    let lab = up(&bare(place.path(), 1));
    let code = |argv: &[&str]| lab.run("h1", argv).expect("lab exec").status.code();
    assert_eq!(code(&["true"]), Some(0));
    assert_eq!(code(&["timeout", "0.1", "sleep", "60"]), Some(124));
    let (mut killed, _lines) = started(&lab);
    assert_eq!(code(&["pkill", "-9", "-x", "tail"]), Some(0));
    assert_eq!(killed.wait().expect("its end").code(), Some(128 + 9));
    assert_eq!(code(&["no-such-program"]), Some(127));
    assert_eq!(code(&["/etc/passwd"]), Some(126));
    let wrong = lab.run("h9", ["true"]).expect("lab exec");
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("no host h9"), "{wrong:?}");
    // The caller's directory, input and variables.
    let said = |argv: &[&str]| {
        let mut exec = lab.exec("h1", argv);
        exec.current_dir(place.path()).env("MINE", "yes");
        let mut child =
            exec.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("lab exec");
        // Who does not read may be gone before it is written.
        let _ = child.stdin.take().expect("a pipe").write_all(b"given\n");
        text(&child.wait_with_output().expect("its end"))
    };
    assert_eq!(said(&["pwd"]), format!("{}\n", place.path().display()));
    assert_eq!(said(&["printenv", "MINE"]), "yes\n");
    assert_eq!(said(&["cat"]), "given\n");
    assert_eq!(said(&["which", "squall"]), "/run/lab/bin/squall\n");
}

/// A program on h1 that says when it is there.
fn started(lab: &Lab) -> (Child, BufReader<std::process::ChildStdout>) {
    let exec = lab.exec("h1", ["tail", "-f", "/etc/hostname"]);
    // Where the tests run under nohup, or behind an `&`, some signals are ignored from the start.
    let mut command = Command::new("env");
    command.arg("--default-signal=TERM,INT,HUP").arg(exec.get_program()).args(exec.get_args());
    command.envs(exec.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = command.stdout(Stdio::piped()).spawn().expect("lab exec");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    lines.read_line(&mut line).expect("a line");
    assert_eq!(line, "h1\n");
    (child, lines)
}

fn runs(lab: &Lab, name: &str) -> bool {
    lab.run("h1", ["pgrep", "-x", name]).expect("lab exec").status.success()
}

fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &pid.to_string()]).status().expect("kill");
    assert!(sent.success());
}

#[test]
fn signals_reach_the_program_and_the_death_of_exec_is_its_own() {
    let place = place();
    let lab = up(&bare(place.path(), 1));
    for (name, number) in [("TERM", 15), ("INT", 2), ("HUP", 1)] {
        let (mut child, _lines) = started(&lab);
        signal(child.id(), name);
        let mut end = None;
        eventually("the program ends", || {
            end = child.try_wait().expect("its state");
            end.is_some()
        });
        assert_eq!(end.and_then(|end| end.code()), Some(128 + number));
        assert!(!runs(&lab, "tail"), "{name} did not reach the program");
    }
    let (mut child, _lines) = started(&lab);
    assert!(runs(&lab, "tail"));
    // What it forks is no `squall` on the host, also before it has become the program.
    let name = std::fs::read_to_string(format!("/proc/{}/comm", child.id())).expect("its name");
    assert_eq!(name, "lab-exec\n");
    child.kill().expect("killed");
    assert_eq!(child.wait().expect("its end").signal(), Some(9));
    eventually("the program is dead", || !runs(&lab, "tail"));
}

#[test]
fn what_nobody_waits_for_is_reaped() {
    let place = place();
    let lab = up(&bare(place.path(), 1));
    for i in 1..=5 {
        // Whoever started it ends at once.
        assert_eq!(on(&lab, "h1", &format!("setsid --fork sleep 0.0{i}")), "");
    }
    eventually("no dead process is left", || {
        let states = on(&lab, "h1", "ps -e -o stat=");
        !states.lines().any(|state| state.starts_with('Z')) && !runs(&lab, "sleep")
    });
}

#[test]
fn labs_stand_beside_each_other_and_share_nothing() {
    let place = place();
    let one = up(&bare(place.path(), 2));
    let two = up(&bare(place.path(), 2));
    assert!(pings(&one, "h1", "h2") && pings(&two, "h1", "h2"));
    assert_eq!(on(&one, "h2", "ip link set eth0 down"), "");
    assert!(!pings(&one, "h1", "h2"), "the same addresses, another network");
    assert!(pings(&two, "h1", "h2"));
    let ls = text(&one.squall(["lab", "ls", "-o", "json"]).output().expect("lab ls"));
    let ls: Vec<serde_json::Value> = serde_json::from_str(&ls).expect("a list");
    let seen: BTreeSet<&str> = ls.iter().filter_map(|l| l["name"].as_str()).collect();
    assert_eq!(seen, BTreeSet::from([one.name(), two.name()]));
    assert!(ls.iter().all(|l| l["state"] == "up" && l["hosts"][1]["pid"].is_number()));
    // A name is taken once; the lab that has it stays.
    let again = Lab::up(program(), &Up { name: one.name().to_owned(), ..bare(place.path(), 1) });
    let Err(LabError::Failed(why)) = again else { panic!("made twice") };
    assert!(why.contains("is up already"), "{why}");
    let two_name = two.name().to_owned();
    two.down().expect("down");
    assert!(one.run("h1", ["true"]).expect("lab exec").status.success());
    let gone = one.squall(["lab", "exec", "--lab", &two_name, "h1", "--", "true"]).output();
    let gone = gone.expect("lab exec");
    assert_eq!(gone.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&gone.stderr).contains(one.name()), "{gone:?}");
}

#[test]
fn a_power_cut_of_one_host_is_no_other_hosts_business() {
    let place = place();
    let lab = up(&bare(place.path(), 2));
    let pid = lab.host("h2").and_then(|h| h.pid).expect("its init");
    signal(u32::try_from(pid).expect("a number"), "KILL");
    eventually("h2 is down", || {
        let output = lab.run("h2", ["true"]).expect("lab exec");
        String::from_utf8_lossy(&output.stderr).contains("is down")
    });
    assert!(lab.run("h1", ["true"]).expect("lab exec").status.success());
    lab.down().expect("down");
}

/// The program in a file of its own, so that its processes can be told from all others.
fn own_copy(dir: &Path) -> PathBuf {
    let copy = dir.join("squall");
    // By a process of its own: one that this process forks meanwhile would keep the copy open for
    // writing, and no such file can be run.
    let mut cp = Command::new("cp");
    text(&cp.arg(program()).arg(&copy).output().expect("cp"));
    copy
}

#[test]
fn a_maker_killed_at_any_point_leaves_nothing_that_down_does_not_clear() {
    let before = Machine::now();
    let place = place();
    let copy = own_copy(place.path());
    let root = place.path().join("labs");
    let seed = std::time::UNIX_EPOCH.elapsed().expect("a date").subsec_nanos();
    println!("seed {seed}");
    let mut random = u64::from(seed) | 1;
    let squall = |args: &[&str]| {
        let mut command = Command::new(&copy);
        command.args(args).env("SQUALL_LAB_ROOT", &root);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let bare: &[&str] = &["lab", "up", "x", "--bare", "--hosts", "4", "--coordinators", "0"];
    let full: &[&str] = &["lab", "up", "x", "--hosts", "2", "--coordinators", "1"];
    let mut half_made = 0;
    for round in 0..30 {
        // Bare labs stand within some 20 ms, whole fleets take a second or two.
        let (args, longest_us) = if round % 3 == 0 { (full, 1_500_000) } else { (bare, 25_000) };
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut maker = squall(args).spawn().expect("lab up");
        std::thread::sleep(Duration::from_micros((random >> 33) % longest_us));
        maker.kill().expect("killed");
        half_made += u32::from(!maker.wait().expect("its end").success());
        if round % 2 == 0 {
            // Whatever is left, the name can be used again at once, unless the lab stands.
            let again = squall(bare).output().expect("lab up");
            assert!(again.status.success() || root.join("x/lab.json").exists(), "{again:?}");
        }
        let down = squall(&["lab", "down", "x"]).stderr(Stdio::piped()).output().expect("lab down");
        assert!(down.status.success(), "round {round}: {down:?}");
        assert_eq!(running(&copy), BTreeSet::new(), "round {round}: processes are left");
        assert!(!root.join("x").exists(), "round {round}: files are left");
    }
    println!("{half_made} of 30 makers were killed before they had ended");
    assert!(half_made > 5, "the kills came too late to show anything");
    assert_eq!(Machine::now(), before);
}

#[test]
fn a_maker_killed_before_its_lab_stands_takes_the_lab_with_it() {
    let place = place();
    let copy = own_copy(place.path());
    let root = place.path().join("labs");
    let mut maker = Command::new(&copy)
        .args(["lab", "up", "x", "--hosts", "1", "--coordinators", "1"])
        .env("SQUALL_LAB_ROOT", &root)
        .stderr(Stdio::null())
        .spawn()
        .expect("lab up");
    let log = root.join("x/hosts/c1/coordinator.log");
    // Itself, the switch, and two inits; agreement and connections take it longer than a look.
    eventually("the hosts are there", || log.exists() && running(&copy).len() >= 4);
    maker.kill().expect("killed");
    maker.wait().expect("its end");
    eventually("all is gone, with no command typed", || running(&copy).is_empty());
    assert!(log.exists(), "the logs are kept");
}

#[test]
fn down_twice_is_no_mistake_and_says_so() {
    let place = place();
    let mut down = Command::new(PROGRAM);
    down.args(["lab", "down", "nobody"]).env("SQUALL_LAB_ROOT", place.path());
    let output = down.output().expect("lab down");
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("no lab nobody"), "{output:?}");
}

#[test]
fn what_is_no_lab_or_somebody_elses_is_not_touched() {
    let place = place();
    let root = place.path().join("home");
    let files = root.join("src");
    fs::create_dir_all(&files).unwrap();
    fs::write(files.join("thesis.txt"), "years of work").unwrap();
    let other = place.path().join("other");
    fs::create_dir_all(&other).unwrap();
    fs::write(other.join("lab.log"), "somebody's").unwrap();
    std::os::unix::fs::symlink(&other, root.join("linked")).unwrap();
    fs::create_dir(root.join("theirs")).unwrap();
    fs::write(root.join("theirs/lab.log"), "somebody's").unwrap();
    std::os::unix::fs::chown(root.join("theirs"), Some(12_345), None).unwrap();
    let refused = |args: &[&str], root: &Path, why: &str| {
        let output =
            Command::new(PROGRAM).args(args).env("SQUALL_LAB_ROOT", root).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(why), "{args:?}: {said}");
    };
    let up = |name| ["lab", "up", name, "--bare", "--hosts", "1", "--coordinators", "0"];
    fs::create_dir_all(root.join("infra/hosts")).unwrap();
    fs::create_dir(root.join("infra/cluster")).unwrap();
    for (name, why) in [
        ("src", "thesis.txt is in it; nothing was touched"),
        ("infra", "cluster, hosts is in it; nothing was touched"),
        ("linked", "Not a directory"),
        ("theirs", "belongs to another user"),
    ] {
        refused(&["lab", "down", name], &root, why);
        refused(&up(name), &root, why);
    }
    // A lab goes, and what a person put beside its files stays.
    let made =
        Command::new(PROGRAM).args(up("mine")).env("SQUALL_LAB_ROOT", &root).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    fs::write(root.join("mine/notes.txt"), "what I saw").unwrap();
    refused(&["lab", "down", "mine"], &root, "lab mine is down; not its own and kept: notes.txt");
    let left: Vec<_> = fs::read_dir(root.join("mine")).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    std::os::unix::fs::chown(&root, Some(12_345), None).unwrap();
    refused(&["lab", "ls"], &root, "belongs to another user");
    refused(&["lab", "down", "theirs"], &root, "belongs to another user");
    assert_eq!(fs::read_to_string(files.join("thesis.txt")).unwrap(), "years of work");
    assert!(root.join("infra/hosts").exists() && root.join("infra/cluster").exists());
    assert!(other.join("lab.log").exists() && root.join("theirs/lab.log").exists());
}

/// The coordinators that run this very file.
fn coordinators(program: &Path) -> Vec<u32> {
    let is_one = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("coordinator\0--config")
    };
    running(program).into_iter().filter(is_one).collect()
}

#[test]
fn a_fleet_that_cannot_stand_says_why_and_is_gone() {
    let place = place();
    let copy = own_copy(place.path());
    let root = place.path().join("labs");
    let mut up = Command::new(&copy);
    up.args(["lab", "up", "x", "--hosts", "1", "--coordinators", "1"]);
    up.env("SQUALL_LAB_ROOT", &root).stdout(Stdio::piped()).stderr(Stdio::piped());
    let maker = up.spawn().expect("lab up");
    let mut found = Vec::new();
    eventually("a coordinator runs", || {
        found = coordinators(&copy);
        !found.is_empty()
    });
    found.iter().for_each(|pid| signal(*pid, "KILL"));
    let output = maker.wait_with_output().expect("its end");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("what was started ended on c1"), "{said}");
    assert_eq!(running(&copy), BTreeSet::new());
    assert!(root.join("x/hosts/c1/coordinator.log").exists(), "logs are kept");
    let again = up.output().expect("lab up");
    assert!(again.status.success(), "the name is free again: {again:?}");
    text(
        &Command::new(&copy)
            .args(["lab", "down", "x"])
            .env("SQUALL_LAB_ROOT", &root)
            .output()
            .unwrap(),
    );
}

fn squalls(lab: &Lab, host: &str) -> bool {
    lab.run(host, ["pgrep", "squall"]).expect("lab exec").status.success()
}

#[test]
fn a_fleet_comes_up_answers_the_machine_and_loses_ours_but_not_its_hosts() {
    let place = place();
    let root = Some(place.path().to_owned());
    let labels = vec!["h1=group=etcd".to_owned(), "c1=zone=z".to_owned()];
    let agents_on_coordinators = true;
    let lab = up(&Up {
        root,
        hosts: 2,
        coordinators: 3,
        labels,
        agents_on_coordinators,
        ..Up::default()
    });
    let status = text(&lab.squall(["status", "-o", "json"]).output().expect("status"));
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["cluster"]["confirmed"], true);
    let hosts = status["hosts"].as_array().expect("hosts");
    let names: Vec<_> = hosts.iter().filter_map(|h| h["name"].as_str()).collect();
    assert_eq!(names, ["c1", "c2", "c3", "h1", "h2"]);
    assert!(hosts.iter().all(|h| h["state"] == "armed"), "{hosts:?}");
    assert_eq!(hosts[3]["labels"]["group"], "etcd");
    // The same from a host, and by the lab's name.
    text(&lab.run("h2", ["squall", "status"]).expect("lab exec"));
    text(&lab.squall(["lab", "status", lab.name()]).output().expect("lab status"));

    for how in [&["pkill", "-9", "squall"][..], &["pkill", "-9", "-f", "squall"][..]] {
        let host = if how.len() == 3 { "h1" } else { "h2" };
        assert!(squalls(&lab, host), "an agent runs on {host}");
        text(&lab.run(host, how).expect("pkill"));
        // A process that was killed is there until it has been reaped.
        eventually("all of them are gone", || !squalls(&lab, host));
        assert_eq!(on(&lab, host, "cat /proc/1/comm"), "lab-init\n");
    }
    assert!(squalls(&lab, "c1"));
    lab.down().expect("down");
}

/// How often the kernel had no room for a neighbour, in any network namespace.
fn refused_neighbours() -> u64 {
    let of = |table: &str| {
        let text = std::fs::read_to_string(format!("/proc/net/stat/{table}")).expect("a table");
        let mut lines = text.lines().map(|line| line.split_ascii_whitespace());
        let at = lines.next().expect("names").position(|name| name == "table_fulls");
        let at = at.expect("table_fulls");
        let counts = lines.map(|mut cpu| u64::from_str_radix(cpu.nth(at).expect("a count"), 16));
        counts.map(|count| count.expect("hexadecimal")).sum::<u64>()
    };
    of("arp_cache") + of("ndisc_cache")
}

#[test]
fn a_small_fleet_is_up_in_seconds_and_a_large_one_soon_after() {
    let before = Machine::now();
    let place = place_alone();
    let copy = own_copy(place.path());
    let root = place.path().join("labs");
    // Three times what is promised on a machine that does nothing else.
    let labs = [(5, 3 * 3), (50, 3 * 20)].map(|(hosts, most_s)| {
        let up = Up { root: Some(root.clone()), hosts, coordinators: 3, ..Up::default() };
        let (full, began) = (refused_neighbours(), Instant::now());
        let lab = Lab::up(&copy, &up).unwrap_or_else(|e| panic!("{e}"));
        let took = began.elapsed();
        println!("{hosts} hosts and 3 coordinators: up in {took:?}");
        assert!(took < Duration::from_secs(most_s), "{hosts} hosts took {took:?}");
        let status = text(&lab.squall(["status", "-o", "json"]).output().expect("status"));
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        let all = status["hosts"].as_array().expect("hosts");
        assert_eq!(all.iter().filter(|h| h["state"] == "armed").count(), usize::from(hosts));
        // All gossip with all: by now each would have asked for most of the others.
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(refused_neighbours(), full, "the machine's table of neighbours is full");
        lab
    });
    for lab in labs {
        let dir = lab.dir();
        assert!(dir.exists());
        lab.down().expect("down");
        assert!(!dir.exists(), "files are left");
    }
    assert_eq!(running(&copy), BTreeSet::new(), "processes are left");
    assert_eq!(Machine::now(), before);
}

#[test]
fn no_root_is_needed_where_the_kernel_allows() {
    let place = place();
    let copy = own_copy(place.path());
    let root = place.path().join("labs");
    fs::create_dir(&root).expect("a directory");
    for path in [place.path(), &root, &copy] {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).expect("given away");
    }
    let squall = |args: &[&str]| {
        let mut command = Command::new(&copy);
        command.args(args).env("SQUALL_LAB_ROOT", &root).current_dir("/");
        command.uid(NOBODY).gid(NOBODY);
        command.output().expect("squall")
    };
    let made = squall(&["lab", "up", "x", "--hosts", "2", "--coordinators", "1"]);
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    if said.contains("new namespaces") {
        // Straight to stderr: a test that passes is not heard otherwise.
        let _ = writeln!(std::io::stderr(), "\nSKIPPED: no user namespaces for users: {said}");
        return;
    }
    text(&made);
    assert!(said.contains("without root") && said.contains("cgroups"), "{said}");
    let exec =
        |argv: &[&str]| text(&squall(&[&["lab", "exec", "--lab", "x", "h1", "--"], argv].concat()));
    assert_eq!(exec(&["id", "-u"]), "0\n");
    assert_eq!(exec(&["hostname"]), "h1\n");
    exec(&["mkdir", "/var/lib/squall-x", "/etc/squall-x", "/run/squall-x"]);
    exec(&["ping", "-n", "-c", "1", "-W", "5", "h2"]);
    exec(&["nft", "add", "table", "t"]);
    let status = text(&squall(&["lab", "status", "x", "-o", "json"]));
    assert!(status.contains("\"armed\""), "{status}");
    text(&squall(&["lab", "down", "x"]));
    assert_eq!(running(&copy), BTreeSet::new());
}
