//! The host's own last word: what its owner allows, whatever is ordered.
//!
//! The policy file lies on the host and nowhere else, and is read when the agent starts. It is asked
//! before every fault, also one that `squall inject` starts; what it protects is passed to the holder as
//! well ([`Policy::protect`]), which leaves it out where a fault picks processes or packets by a wider
//! rule.

use std::collections::BTreeSet;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::experiment::MAX_DURATION_MS;
use crate::fault::{Cpu, Fault, Kind, Memory, MemoryAmount, Processes, Protocol, Traffic};
use crate::hold::Protect;
use crate::net;
use crate::spec::{Millis, Size};

/// Faults on one host at the same time, where the policy does not say.
pub const DEFAULT_MAX_FAULTS: usize = 16;
/// Memory left free by memory faults, where the policy does not say.
pub const DEFAULT_MEMORY_FLOOR: Size = Size(128 << 20);

/// What this host allows. The default allows every fault and protects sshd and TCP 22; pid 1 and
/// Squall itself are protected whatever it says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Policy {
    /// Kinds of faults that may be held here.
    #[schemars(with = "Vec<String>")]
    pub allow: BTreeSet<Kind>,
    /// Command names (`ps -o comm`) that no fault may pick.
    pub protect_processes: Vec<String>,
    /// Ports whose packets no fault may touch, and whose listeners no fault may pick, as `tcp/22`.
    #[schemars(with = "Vec<String>")]
    pub protect_ports: Vec<ProtectedPort>,
    /// Addresses and networks that no fault may cut off.
    #[schemars(with = "Vec<String>")]
    pub protect_peers: Vec<Net>,
    /// Files and directories that no fault may touch: no process is picked whose program is one of them
    /// or lies below one. The program is the file that the kernel runs, a script's interpreter, by the path
    /// at which it was started. Absolute; a symbolic link also stands for what it leads to when the fault
    /// begins.
    #[schemars(with = "Vec<String>")]
    pub protect_paths: Vec<ProtectedPath>,
    /// The largest share of this host's processors that its cpu faults may burn together. With one below
    /// 100 the number of burners must be left open, since only then the load is the share; and a memory
    /// fault may name no touch-rate, which may burn a whole processor (nor where `allow` leaves cpu
    /// out).
    pub max_cpu_percent: Option<u8>,
    /// The largest share of the memory available that memory faults may take, by the sum of theirs. With
    /// one they must be asked for in percent.
    pub max_memory_percent: Option<u8>,
    /// Free memory that a memory fault must leave.
    pub memory_floor: Size,
    /// Faults at the same time.
    pub max_faults: usize,
    /// The longest fault.
    pub max_duration: Millis,
    /// Programs that a probe may run here with the rights of the agent or the coordinator that runs it,
    /// mostly root's: each as experiment files write it. Where there is none, no probe runs a program here.
    pub probe_programs: Vec<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            allow: Kind::ALL.into_iter().collect(),
            // The last two are what OpenSSH 9.8 and later split off.
            protect_processes: ["sshd", "sshd-session", "sshd-auth"].map(str::to_owned).into(),
            protect_ports: vec![ProtectedPort(Protocol::Tcp, 22)],
            protect_peers: Vec::new(),
            protect_paths: Vec::new(),
            max_cpu_percent: None,
            max_memory_percent: None,
            memory_floor: DEFAULT_MEMORY_FLOOR,
            max_faults: DEFAULT_MAX_FAULTS,
            max_duration: Millis(MAX_DURATION_MS),
            probe_programs: Vec::new(),
        }
    }
}

/// A port as the policy writes it: `tcp/22`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProtectedPort(pub Protocol, pub u16);

impl TryFrom<String> for ProtectedPort {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let (protocol, port) = text.split_once('/').unwrap_or_default();
        let protocol = match protocol {
            "tcp" => Some(Protocol::Tcp),
            "udp" => Some(Protocol::Udp),
            _ => None,
        };
        match (protocol, port.parse::<u16>()) {
            (Some(protocol), Ok(port @ 1..)) => Ok(ProtectedPort(protocol, port)),
            _ => Err(format!("`{text}` is not a protected port: write it as tcp/22 or udp/53")),
        }
    }
}

impl From<ProtectedPort> for String {
    fn from(ProtectedPort(protocol, port): ProtectedPort) -> String {
        match protocol {
            Protocol::Tcp => format!("tcp/{port}"),
            Protocol::Udp => format!("udp/{port}"),
        }
    }
}

/// A network as the policy writes it: `10.0.0.0/24`, or an address alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Net(pub IpNet);

impl TryFrom<String> for Net {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        net::read(&text)
            .map(Net)
            .ok_or_else(|| format!("`{text}` is not an address: write 10.0.0.2 or 10.0.0.0/24"))
    }
}

impl From<Net> for String {
    fn from(Net(net): Net) -> String {
        net.to_string()
    }
}

/// A path as the policy writes it: `/usr/lib/postgresql`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProtectedPath(String);

impl TryFrom<String> for ProtectedPath {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        // A relative one would mean another file wherever the agent was started.
        if !text.starts_with('/') {
            return Err(format!("`{text}` is not an absolute path: write /usr/lib/postgresql"));
        }
        if text.split('/').any(|part| part == "." || part == "..") {
            return Err(format!("`{text}`: write the path without `.` and `..`"));
        }
        Ok(ProtectedPath(text))
    }
}

impl From<ProtectedPath> for String {
    fn from(ProtectedPath(path): ProtectedPath) -> String {
        path
    }
}

/// What is held on a host already, as its limits count it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlreadyHeld {
    faults: usize,
    cpu_percent: u32,
    memory_percent: u32,
}

impl AlreadyHeld {
    /// How many.
    #[must_use]
    pub fn faults(&self) -> usize {
        self.faults
    }

    /// And one more; `None` where nobody knows what it is.
    pub fn add(&mut self, fault: Option<&Fault>) {
        self.faults += 1;
        match fault {
            Some(Fault::Cpu(cpu)) => self.cpu_percent += u32::from(cpu.load_percent),
            Some(Fault::Memory(Memory { amount: MemoryAmount::PercentOfAvailable(n), .. })) => {
                self.memory_percent += u32::from(*n);
            }
            Some(_) | None => {}
        }
    }
}

impl Policy {
    /// Whether this host lets `fault` begin, to be held for `duration_ms`, beside those that are held.
    ///
    /// # Errors
    /// The first rule against it, in words. Nothing changes.
    pub fn check(
        &self,
        fault: &Fault,
        duration_ms: u64,
        beside: AlreadyHeld,
    ) -> Result<(), String> {
        fault.validate().map_err(|invalid| invalid.to_string())?;
        let kind = fault.kind();
        if !self.allow.contains(&kind) {
            let allowed: Vec<&str> = self.allow.iter().map(|k| k.name()).collect();
            let allowed = if allowed.is_empty() { "nothing".into() } else { allowed.join(", ") };
            return Err(format!("policy: {kind} is not allowed on this host (allowed: {allowed})"));
        }
        if beside.faults >= self.max_faults {
            return Err(format!(
                "policy: {} faults would be held here at once, and at most {} may be",
                beside.faults + 1,
                self.max_faults
            ));
        }
        if duration_ms > self.max_duration.0 {
            return Err(format!(
                "policy: {} is longer than the {} that this host allows",
                Millis(duration_ms),
                self.max_duration
            ));
        }
        if let Some(processes) = fault.processes() {
            self.check_processes(processes)?;
        }
        if let Some(traffic) = fault.traffic() {
            self.check_traffic(traffic)?;
        }
        match fault {
            Fault::Partition(partition) => self.check_peers(&partition.severed),
            Fault::Cpu(cpu) => self.check_cpu(cpu, beside.cpu_percent),
            Fault::Memory(memory) => self.check_memory(memory, beside.memory_percent),
            Fault::Loss(_) | Fault::Kill(_) | Fault::Pause(_) => Ok(()),
        }
    }

    /// Whether a probe may run `program` here.
    ///
    /// # Errors
    /// It may not, in words.
    pub fn check_program(&self, program: &str) -> Result<(), String> {
        if self.probe_programs.iter().any(|allowed| allowed == program) {
            return Ok(());
        }
        Err(format!("policy: no probe may run `{program}` on this host (see probe-programs)"))
    }

    /// What a holder must spare. Squall itself and pid 1 need no mention there.
    #[must_use]
    pub fn protect(&self) -> Protect {
        Protect {
            processes: self.protect_processes.clone(),
            ports: self.protect_ports.iter().map(|p| (p.0, p.1)).collect(),
            memory_floor: self.memory_floor.0,
            peers: self.protect_peers.iter().map(|n| n.0).collect(),
            paths: self.protect_paths.iter().map(|p| p.0.clone()).collect(),
            asker: None,
        }
    }

    /// Refuses what asks for nothing but what is protected. What matches more than that is left to
    /// the holder, which leaves the protected part out.
    fn check_processes(&self, processes: &Processes) -> Result<(), String> {
        for name in [&processes.name, &processes.cgroup].into_iter().flatten() {
            let bare = name.trim_end_matches(".service").rsplit('/').next().unwrap_or(name);
            if bare == "squall" || bare.starts_with("squall-") {
                return Err(format!("policy: `{name}` is Squall itself, which is protected"));
            }
            if self.protect_processes.iter().any(|p| p == bare) {
                return Err(format!("policy: processes `{bare}` are protected on this host"));
            }
        }
        if let Some(port) = processes.port
            && let Some(rule) = self.protect_ports.iter().find(|p| p.1 == port)
        {
            let rule = String::from(*rule);
            return Err(format!("policy: {rule} is protected on this host, and who listens there"));
        }
        Ok(())
    }

    fn check_traffic(&self, traffic: &Traffic) -> Result<(), String> {
        let protected = |port: u16, protocol: Protocol| {
            self.protect_ports.iter().any(|p| p.1 == port && p.0 == protocol)
        };
        let wanted: &[Protocol] = match traffic.protocol {
            Some(Protocol::Tcp) => &[Protocol::Tcp],
            Some(Protocol::Udp) => &[Protocol::Udp],
            None => &[Protocol::Tcp, Protocol::Udp],
        };
        let spared = |port: u16| wanted.iter().all(|protocol| protected(port, *protocol));
        if !traffic.ports.is_empty()
            && traffic.ports.iter().all(|range| (range.from..=range.to).all(spared))
        {
            return Err("policy: all of these ports are protected on this host".into());
        }
        self.check_peers(&traffic.peers)
    }

    fn check_peers(&self, peers: &[IpNet]) -> Result<(), String> {
        let inside = |peer: &&IpNet| self.protect_peers.iter().any(|n| n.0.contains(*peer));
        match peers.iter().find(inside) {
            Some(peer) => Err(format!("policy: no fault may cut off {peer} from this host")),
            None => Ok(()),
        }
    }

    fn check_cpu(&self, cpu: &Cpu, beside: u32) -> Result<(), String> {
        let Some(limit) = self.max_cpu_percent.filter(|limit| *limit < 100) else {
            return Ok(());
        };
        let load = beside + u32::from(cpu.load_percent);
        if load > limit.into() {
            return Err(format!(
                "policy: a load of {load} percent{} is more than the {limit} that this host allows",
                together(beside)
            ));
        }
        if cpu.workers.is_some() {
            return Err(format!(
                "policy: this host allows {limit} percent of its processors; leave workers out, so \
                 that the load is the share"
            ));
        }
        Ok(())
    }

    fn check_memory(&self, memory: &Memory, beside: u32) -> Result<(), String> {
        let spares = self.max_cpu_percent.is_some_and(|limit| limit < 100);
        if memory.touch_rate.is_some() && (spares || !self.allow.contains(&Kind::Cpu)) {
            let what = "policy: touching memory at a rate may burn a whole processor, more than this \
                        host allows; leave touch-rate out";
            return Err(what.into());
        }
        match (self.max_memory_percent, memory.amount) {
            (None, _) => Ok(()),
            (Some(limit), MemoryAmount::PercentOfAvailable(percent)) => {
                let all = beside + u32::from(percent);
                if all <= limit.into() {
                    return Ok(());
                }
                Err(format!(
                    "policy: {all} percent of memory{} is more than the {limit} that this host allows",
                    together(beside)
                ))
            }
            (Some(limit), MemoryAmount::Bytes(_)) => Err(format!(
                "policy: this host allows {limit} percent of its memory; ask for percent, not bytes"
            )),
        }
    }
}

fn together(beside: u32) -> String {
    if beside == 0 { String::new() } else { format!(", {beside} of them by other faults,") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Amount, Direction, Kill, LEAST_TOUCH_RATE, Loss, Partition, Pause, Ports};

    fn traffic(peers: &[&str], ports: &[(u16, u16)], protocol: Option<Protocol>) -> Traffic {
        Traffic {
            peers: peers.iter().map(|p| Net::try_from((*p).to_owned()).unwrap().0).collect(),
            direction: Direction::Both,
            ports: ports.iter().map(|(from, to)| Ports { from: *from, to: *to }).collect(),
            protocol,
        }
    }

    fn partition(peers: &[&str], ports: &[(u16, u16)], protocol: Option<Protocol>) -> Fault {
        let traffic = traffic(peers, ports, protocol);
        Fault::Partition(Partition { traffic, severed: Vec::new() })
    }

    fn pause(processes: Processes) -> Fault {
        Fault::Pause(Pause { processes })
    }

    fn some(faults: usize) -> AlreadyHeld {
        AlreadyHeld { faults, ..AlreadyHeld::default() }
    }

    fn named(name: &str) -> Processes {
        Processes { name: Some(name.into()), ..Processes::default() }
    }

    fn cpu(load_percent: u8, workers: Option<u16>) -> Fault {
        Fault::Cpu(Cpu::new(workers, load_percent))
    }

    fn refusal(policy: &Policy, fault: &Fault) -> String {
        policy.check(fault, 1_000, AlreadyHeld::default()).expect_err("it must be refused")
    }

    #[test]
    fn limits_hold_for_all_that_is_held_together() {
        let policy =
            Policy { max_cpu_percent: Some(30), max_memory_percent: Some(50), ..Policy::default() };
        let memory = |percent| Fault::Memory(Memory::percent(percent));
        let mut beside = AlreadyHeld::default();
        for (fault, refused) in [
            (cpu(20, None), None),
            (cpu(10, None), None),
            (cpu(1, None), Some("31 percent, 30 of them by other faults, is more than the 30")),
            (memory(50), None),
            (
                memory(1),
                Some("51 percent of memory, 50 of them by other faults, is more than the 50"),
            ),
        ] {
            let said = policy.check(&fault, 1_000, beside);
            match refused {
                None => assert_eq!(said, Ok(())),
                Some(words) => assert!(said.clone().is_err_and(|s| s.contains(words)), "{said:?}"),
            }
            if said.is_ok() {
                beside.add(Some(&fault));
            }
        }
    }

    #[test]
    fn the_default_protects_pid_1_sshd_tcp_22_and_squall() {
        let policy = Policy::default();
        assert_eq!(policy.protect().processes, ["sshd", "sshd-session", "sshd-auth"]);
        assert_eq!(policy.protect().ports, [(Protocol::Tcp, 22)]);
        for (fault, says) in [
            (pause(Processes { pid: Some(1), ..Processes::default() }), "pid 1"),
            (pause(named("sshd")), "`sshd` are protected"),
            (pause(named("squall")), "Squall itself"),
            (
                pause(Processes {
                    cgroup: Some("/system.slice/squall-agent.service".into()),
                    ..Processes::default()
                }),
                "Squall itself",
            ),
            (
                pause(Processes { cgroup: Some("sshd.service".into()), ..Processes::default() }),
                "`sshd` are protected",
            ),
            (pause(Processes { port: Some(22), ..Processes::default() }), "tcp/22"),
            (partition(&["10.0.0.2"], &[(22, 22)], Some(Protocol::Tcp)), "ports are protected"),
        ] {
            assert!(
                refusal(&policy, &fault).contains(says),
                "{fault:?}: {}",
                refusal(&policy, &fault)
            );
        }
        for fault in [
            pause(named("nginx")),
            partition(&["10.0.0.2"], &[], None),
            partition(&["10.0.0.2"], &[(22, 23)], Some(Protocol::Tcp)),
            // TCP 22 is spared by the holder, UDP 22 is not protected.
            partition(&["10.0.0.2"], &[(22, 22)], None),
            cpu(100, Some(4)),
            Fault::Memory(Memory::bytes(1 << 30)),
        ] {
            assert_eq!(
                policy.check(&fault, MAX_DURATION_MS, AlreadyHeld::default()),
                Ok(()),
                "{fault:?}"
            );
        }
    }

    #[test]
    fn each_rule_refuses_with_its_reason() {
        let policy: Policy = serde_json::from_str(
            r#"{
                "allow": ["partition", "cpu", "memory", "kill"],
                "protect-processes": ["postgres"],
                "protect-ports": ["tcp/22", "udp/53", "tcp/53"],
                "protect-peers": ["10.0.9.0/24", "fd00::9"],
                "protect-paths": ["/usr/lib/postgresql/"],
                "max-cpu-percent": 50,
                "max-memory-percent": 40,
                "memory-floor": "1GiB",
                "max-faults": 2,
                "max-duration": "1m"
            }"#,
        )
        .unwrap();
        let cut = partition(&["10.0.0.2"], &[], None);
        assert_eq!(policy.check(&cut, 60_000, some(1)), Ok(()));
        assert_eq!(
            policy.check(&cut, 60_000, some(2)).unwrap_err(),
            "policy: 3 faults would be held here at once, and at most 2 may be"
        );
        assert_eq!(
            policy.check(&cut, 60_001, AlreadyHeld::default()).unwrap_err(),
            "policy: 60001ms is longer than the 1m that this host allows"
        );
        let kill = |name| {
            let amount = Amount::All;
            Fault::Kill(Kill { processes: named(name), amount, signal: 9, interval_ms: None })
        };
        let severed = Fault::Partition(Partition {
            traffic: traffic(&["10.0.0.2"], &[], None),
            severed: vec!["10.0.9.7/32".parse().unwrap()],
        });
        let touched =
            Fault::Memory(Memory { touch_rate: Some(LEAST_TOUCH_RATE), ..Memory::percent(40) });
        let loss = Fault::Loss(Loss { traffic: traffic(&["10.0.0.2"], &[], None), per_million: 1 });
        for (fault, says) in [
            (loss, "loss is not allowed on this host (allowed: partition, kill, cpu, memory)"),
            (kill("postgres"), "`postgres` are protected"),
            (partition(&["10.0.9.3"], &[], None), "may cut off 10.0.9.3/32"),
            (partition(&["fd00::9"], &[], None), "may cut off fd00::9/128"),
            (severed, "may cut off 10.0.9.7/32"),
            (partition(&["10.0.0.2"], &[(53, 53)], None), "ports are protected"),
            (cpu(51, None), "51 percent is more than the 50"),
            (cpu(50, Some(8)), "leave workers out"),
            (Fault::Memory(Memory::percent(41)), "more than the 40"),
            (Fault::Memory(Memory::bytes(1)), "ask for percent"),
            (cpu(0, None), "load must be 1 to 100"),
            (touched.clone(), "may burn a whole processor"),
        ] {
            assert!(refusal(&policy, &fault).contains(says), "{}", refusal(&policy, &fault));
        }
        for fault in [
            cpu(50, None),
            Fault::Memory(Memory::percent(40)),
            kill("sshd"),
            partition(&["10.0.0.0/8"], &[], None),
        ] {
            assert_eq!(policy.check(&fault, 1, AlreadyHeld::default()), Ok(()), "{fault:?}");
        }
        let policy = Policy { max_cpu_percent: None, ..policy };
        assert_eq!(policy.check(&touched, 1, AlreadyHeld::default()), Ok(()));
        let policy = Policy { allow: [Kind::Memory].into(), ..policy };
        assert!(refusal(&policy, &touched).contains("may burn a whole processor"));
        let fault = Fault::Memory(Memory::percent(40));
        assert_eq!(policy.check(&fault, 1, AlreadyHeld::default()), Ok(()));
        assert_eq!(policy.protect().memory_floor, 1 << 30);
        assert_eq!(policy.protect().peers.len(), 2);
        assert_eq!(policy.protect().paths, ["/usr/lib/postgresql/"]);
    }

    #[test]
    fn a_probe_runs_the_programs_that_are_listed_and_no_other() {
        let refused = |policy: &Policy, program| policy.check_program(program).is_err();
        assert!(refused(&Policy::default(), "/bin/true"));
        let policy: Policy =
            serde_json::from_str(r#"{"probe-programs": ["/usr/bin/etcdctl"]}"#).unwrap();
        assert_eq!(policy.check_program("/usr/bin/etcdctl"), Ok(()));
        for program in ["etcdctl", "/usr/bin/etcdctl2", "/usr/bin/../bin/etcdctl", ""] {
            assert!(refused(&policy, program), "{program}");
        }
    }

    #[test]
    fn the_file_reads_back_and_refuses_what_it_does_not_know() {
        let text = serde_json::to_string(&Policy::default()).unwrap();
        assert_eq!(serde_json::from_str::<Policy>(&text).unwrap(), Policy::default());
        assert_eq!(serde_json::from_str::<Policy>("{}").unwrap(), Policy::default());
        for (text, says) in [
            (r#"{"alow": []}"#, "unknown field `alow`"),
            (r#"{"allow": ["latency"]}"#, "unknown variant `latency`"),
            (r#"{"protect-ports": ["22"]}"#, "write it as tcp/22"),
            (r#"{"protect-peers": ["10.0.0.300"]}"#, "is not an address"),
            (r#"{"protect-paths": ["lib/postgresql"]}"#, "write /usr/lib/postgresql"),
            (r#"{"protect-paths": ["/opt/../srv"]}"#, "without `.` and `..`"),
            (r#"{"max-duration": "60"}"#, "has no unit"),
        ] {
            let error = serde_json::from_str::<Policy>(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
