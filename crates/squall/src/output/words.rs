//! Names, times and amounts as they are shown everywhere.

use squall_core::experiment::ExperimentRecord;
use squall_core::fault::{Fault, MemoryAmount};
use squall_core::spec::{Rate, Size};
use squall_core::time::WallTime;

/// The kinds of an experiment's faults in the file's order, `partition+loss`.
#[must_use]
pub fn kinds(record: &ExperimentRecord) -> String {
    let mut faults: Vec<_> =
        record.experiment.faults.iter().map(|p| (p.fault, p.spec.kind().name())).collect();
    faults.sort_unstable();
    faults.dedup();
    let names: Vec<_> = faults.into_iter().map(|(_, name)| name).collect();
    names.join("+")
}

/// A moment for a reader, RFC 3339 in UTC to the millisecond.
#[must_use]
pub fn moment(at: WallTime) -> String {
    i64::try_from(at.0)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| "-".to_owned(), |t| format!("{t:.3}"))
}

/// A length of time: `850 ms`, `4.5 s`, `2 min 30 s`.
#[must_use]
pub fn length(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 if ms.is_multiple_of(1_000) => format!("{} s", ms / 1_000),
        1_000..60_000 => format!("{:.1} s", ms as f64 / 1_000.0),
        _ => {
            let (minutes, seconds) = (ms / 60_000, ms / 1_000 % 60);
            let text = format!("{minutes} min {seconds} s");
            text.strip_suffix(" 0 s").map(str::to_owned).unwrap_or(text)
        }
    }
}

/// Microseconds as milliseconds with one digit.
#[must_use]
pub fn millis(us: u64) -> String {
    format!("{:.1} ms", us as f64 / 1_000.0)
}

/// `1 fault`, `2 faults`.
#[must_use]
pub fn count(n: usize, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

/// The first few of a list that may be long, and how many more there are.
#[must_use]
pub fn some<T: AsRef<str>>(all: &[T]) -> String {
    const NAMED: usize = 4;
    let named: Vec<&str> = all.iter().take(NAMED).map(AsRef::as_ref).collect();
    let more = all.len() - named.len();
    let named = named.join(", ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}

/// What a fault does, in one line, with every peer.
#[must_use]
pub fn fault(fault: &Fault) -> String {
    described(fault, |peers| peers.join(", "))
}

/// What a fault does, for a cell of a table: of many peers the first few.
#[must_use]
pub fn fault_shortly(fault: &Fault) -> String {
    described(fault, some::<String>)
}

fn described(fault: &Fault, list: fn(&[String]) -> String) -> String {
    let packets = |t: &squall_core::fault::Traffic| {
        let peers: Vec<_> = t.peers.iter().map(squall_core::net::written).collect();
        let mut text = format!("{:?} {}", t.direction, list(&peers)).to_lowercase();
        if let Some(protocol) = t.protocol {
            text.push_str(&format!(" {protocol:?}").to_lowercase());
        }
        for ports in &t.ports {
            let to = if ports.to == ports.from { String::new() } else { format!("-{}", ports.to) };
            text.push_str(&format!(" :{}{to}", ports.from));
        }
        text
    };
    match fault {
        Fault::Partition(p) if p.severed.is_empty() => packets(&p.traffic),
        Fault::Partition(p) => format!("{} (control severed)", packets(&p.traffic)),
        Fault::Loss(l) => {
            format!("{} % {}", f64::from(l.per_million) / 10_000.0, packets(&l.traffic))
        }
        Fault::Kill(k) => format!("signal {} to {}", k.signal, processes(&k.processes)),
        Fault::Pause(p) => processes(&p.processes),
        Fault::Cpu(c) => {
            let mut text = match (c.workers, c.on()) {
                (Some(n), Some(cores)) => format!("{} on {cores}", count(n.into(), "worker")),
                (Some(n), None) => count(n.into(), "worker"),
                (None, cores) => cores.unwrap_or_else(|| "all processors".to_owned()),
            };
            text.push_str(&format!(" at {} %{}", c.load_percent, rising(c.ramp_ms)));
            text
        }
        Fault::Memory(m) => {
            let mut text = match m.amount {
                MemoryAmount::Bytes(n) => Size(n).to_string(),
                MemoryAmount::PercentOfAvailable(p) => format!("{p} % of what is available"),
            };
            text.push_str(&rising(m.ramp_ms));
            if let Some(rate) = m.touch_rate {
                text.push_str(&format!(", {} of it touched", Rate(rate)));
            }
            text
        }
    }
}

fn rising(ramp_ms: u32) -> String {
    if ramp_ms == 0 { String::new() } else { format!(", rising over {}", length(ramp_ms.into())) }
}

fn processes(p: &squall_core::fault::Processes) -> String {
    let named = [
        p.name.as_ref().map(|v| format!("name={v}")),
        p.cmdline.as_ref().map(|v| format!("cmdline={v}")),
        p.pid.map(|v| format!("pid={v}")),
        p.port.map(|v| format!("port={v}")),
        p.cgroup.as_ref().map(|v| format!("cgroup={v}")),
    ];
    named.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Text whose further lines stand below its first.
#[must_use]
pub fn indented(text: &str, by: usize) -> String {
    text.trim_end().replace('\n', &format!("\n{}", " ".repeat(by)))
}

/// Of an answer that no quorum stands behind.
#[must_use]
pub fn unconfirmed(as_of: u64) -> String {
    format!("unconfirmed, as of index {as_of}: no quorum answered")
}

/// Stops named in one line: where they are many, by how many, as `squall resume` alone lists them.
#[must_use]
pub fn stops(ids: &[String]) -> String {
    const NAMED: usize = 8;
    match ids.len() {
        0..=NAMED => ids.join(" "),
        all => format!("(which lists all {all} of them)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_short_and_carry_units() {
        for (ms, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (5_000, "5 s"),
            (4_500, "4.5 s"),
            (90_000, "1 min 30 s"),
            (120_000, "2 min"),
        ] {
            assert_eq!(length(ms), text);
        }
    }

    #[test]
    fn of_many_peers_a_table_names_four() {
        let traffic = |n: u8| squall_core::fault::Traffic {
            peers: (1..=n).map(|i| format!("10.0.0.{i}/32").parse().unwrap()).collect(),
            direction: squall_core::fault::Direction::Both,
            ports: Vec::new(),
            protocol: None,
        };
        let cut = |n| {
            let severed = Vec::new();
            Fault::Partition(squall_core::fault::Partition { traffic: traffic(n), severed })
        };
        assert_eq!(fault_shortly(&cut(2)), "both 10.0.0.1, 10.0.0.2");
        let many = fault_shortly(&cut(9));
        assert_eq!(many, "both 10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4 and 5 more");
        assert!(fault(&cut(9)).ends_with("10.0.0.8, 10.0.0.9"), "the whole of it");
    }

    #[test]
    fn moments_are_utc_to_the_millisecond() {
        assert_eq!(moment(WallTime(1_700_000_000_123)), "2023-11-14T22:13:20.123Z");
        assert_eq!(moment(WallTime(u64::MAX)), "-");
    }
}
