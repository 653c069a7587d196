//! From a probe's form to what is run.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::problem::{Problems, suggest};
use super::{DEFAULT_EVERY, DEFAULT_TIMEOUT, Exec, Fleet, Http, MAX_NAME, Millis, ProbeForm, Tcp};
use crate::ids::HostName;
use crate::probe::{COORDINATOR, Expect, ProbeKind, ProbeSpec, Vantage};

/// The shortest schedule, in milliseconds.
const MIN_EVERY_MS: u64 = 10;
/// The longest time-out of a sample: an experiment waits for its last ones.
const MAX_TIMEOUT: Millis = Millis(60_000);

/// The hosts of an experiment.
pub(super) struct Hurt<'a> {
    /// They hold a fault.
    pub holders: &'a [HostName],
    /// A fault reaches them without being held there.
    pub touched: &'a BTreeSet<HostName>,
}

/// Every probe; those with a problem are left out.
pub(super) fn resolve(
    forms: &[ProbeForm],
    fleet: &Fleet,
    hurt: &Hurt<'_>,
    problems: &mut Problems,
) -> Vec<ProbeSpec> {
    let mut names = BTreeSet::new();
    let mut probes = Vec::new();
    for (i, form) in forms.iter().enumerate() {
        let path = format!("steady-state[{i}]");
        if form.name.trim().is_empty() || form.name.chars().count() > MAX_NAME {
            let remedy = format!("write 1 to {MAX_NAME} characters");
            problems.add(format!("{path}.name"), "it is empty or too long", remedy);
        } else if form.name.contains(char::is_control) {
            problems.add(
                format!("{path}.name"),
                "it has a line break or a control",
                "leave it out",
            );
        }
        if !names.insert(form.name.as_str()) {
            let what = format!("another probe is called `{}` too", form.name);
            problems.add(format!("{path}.name"), what, "give each its own name");
        }
        let every_ms = form.every.unwrap_or(DEFAULT_EVERY).0;
        if every_ms < MIN_EVERY_MS {
            let what = format!("{every_ms}ms is too often");
            problems.add(format!("{path}.every"), what, format!("write at least {MIN_EVERY_MS}ms"));
        }
        let timeout = form.timeout.unwrap_or(DEFAULT_TIMEOUT);
        if timeout > MAX_TIMEOUT {
            let what = format!("{timeout} is too long");
            problems.add(format!("{path}.timeout"), what, format!("write at most {MAX_TIMEOUT}"));
        }
        let kind = kind(&path, form, fleet, problems);
        if form.from.is_none() && kind.as_ref().is_some_and(asks_itself) {
            let what = "this address is whoever asks, and `from` does not say who";
            problems.add(
                &path,
                what,
                "write from: and a host, or the address of the host that is meant",
            );
        }
        let asked = kind.as_ref().and_then(|kind| asked(kind, fleet));
        let from = from(&path, form, fleet, hurt, asked, problems);
        let (Some(from), Some(kind)) = (from, kind) else { continue };
        probes.push(ProbeSpec {
            name: form.name.clone(),
            from,
            kind,
            every_ms,
            timeout_ms: timeout.0,
            expect: Expect {
                max_errors_per_million: form.expect.error_rate.map_or(0, |r| r.0),
                max_p99_us: form.expect.p99.map(|l| l.0),
                max_p50_us: form.expect.p50.map(|l| l.0),
            },
        });
    }
    probes
}

/// Who runs it. Left out, it is the first one in service that no fault reaches, so that the probe
/// itself is not hurt; else the first that holds none; where every host holds one, the first holder. Of
/// those that serve as well, another one than is `asked`: its own loopback says little.
fn from(
    path: &str,
    form: &ProbeForm,
    fleet: &Fleet,
    hurt: &Hurt<'_>,
    asked: Option<&HostName>,
    problems: &mut Problems,
) -> Option<Vantage> {
    let Some(name) = &form.from else {
        let names = fleet.hosts.values().filter(|h| fleet.in_service(h)).map(|h| &h.name);
        let spared = names.filter(|name| !hurt.holders.contains(name));
        let first = spared.min_by_key(|name| (hurt.touched.contains(*name), asked == Some(*name)));
        return first.or(hurt.holders.first()).cloned().map(Vantage::Host);
    };
    let path = format!("{path}.from");
    match fleet.host(name) {
        None if name == COORDINATOR => Some(Vantage::Coordinators),
        Some(_) if name == COORDINATOR => {
            let what = format!("`{name}` may be the coordinators or the host of that name");
            problems.add(path, what, "name another host, or give that one another name");
            None
        }
        None => {
            let what = format!("no host `{name}` is registered");
            problems.add(path, what, suggest(name, fleet.names().chain([COORDINATOR])));
            None
        }
        Some(host) if !fleet.healthy.contains(&host.name) => {
            let what = format!("host `{name}` does not report now");
            problems.add_passing(path, what, "see that its agent runs, or name another");
            None
        }
        Some(host) => Some(Vantage::Host(host.name.clone())),
    }
}

fn kind(path: &str, form: &ProbeForm, fleet: &Fleet, problems: &mut Problems) -> Option<ProbeKind> {
    let status = form.expect.status;
    if status.is_some() && form.http.is_none() {
        let at = format!("{path}.expect.status");
        problems.add(at, "only http has a status", "leave it out");
    }
    if let Some(status) = status.filter(|s| !(100..=599).contains(s)) {
        let what = format!("{status} is no HTTP status");
        problems.add(format!("{path}.expect.status"), what, "write 100 to 599");
    }
    match (&form.http, &form.tcp, &form.exec) {
        (Some(Http { url }), None, None) => {
            let url = with_address(url, fleet)
                .map_err(|(what, remedy)| problems.add(format!("{path}.http.url"), what, remedy));
            Some(ProbeKind::Http { url: url.ok()?, status: status.unwrap_or(200) })
        }
        (None, Some(Tcp { address }), None) => match authority(address, None, fleet) {
            Ok(address) => Some(ProbeKind::Tcp { address }),
            Err(what) => {
                problems.add(format!("{path}.tcp.address"), what, "write host:port, as h2:2379");
                None
            }
        },
        (None, None, Some(Exec { argv })) => {
            if argv.first().is_none_or(String::is_empty) {
                let remedy = "write a list of a program's path and arguments";
                problems.add(format!("{path}.exec"), "no program is named", remedy);
                return None;
            }
            Some(ProbeKind::Exec { argv: argv.clone() })
        }
        (None, None, None) => {
            problems.add(path, "it says not what to do", "write one of http, tcp and exec");
            None
        }
        _ => {
            problems.add(
                path,
                "it says more than one thing to do",
                "keep one of http, tcp and exec",
            );
            None
        }
    }
}

/// The host and port that a probe asks, where it asks by the network.
fn authority_of(kind: &ProbeKind) -> Option<&str> {
    match kind {
        ProbeKind::Http { url, .. } => url.strip_prefix("http://")?.split(['/', '?', '#']).next(),
        ProbeKind::Tcp { address } => Some(address),
        ProbeKind::Exec { .. } => None,
    }
}

fn address_of(authority: &str) -> Option<IpAddr> {
    let bare = authority.trim_start_matches('[').trim_end_matches(']');
    authority.parse::<SocketAddr>().map(|a| a.ip()).or_else(|_| bare.parse()).ok()
}

/// Whether it asks its own host, whichever that is.
fn asks_itself(kind: &ProbeKind) -> bool {
    let Some(authority) = authority_of(kind) else { return false };
    if let Some(address) = address_of(authority).map(|a| a.to_canonical()) {
        return address.is_loopback() || address.is_unspecified();
    }
    let name = authority.split(':').next().unwrap_or_default();
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    // Resolvers read short forms of addresses, too.
    let short = name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    short && (name == "0" || name.starts_with("127"))
        || ["localhost", "ip6-localhost", "ip6-loopback"].contains(&name.as_str())
        || name.ends_with(".localhost")
}

/// The host that a probe asks, where it is one of the fleet.
fn asked<'a>(kind: &ProbeKind, fleet: &'a Fleet) -> Option<&'a HostName> {
    let address = address_of(authority_of(kind)?)?;
    fleet.hosts.values().find(|host| host.address == address).map(|host| &host.name)
}

/// A URL with a registered host's name replaced by its address.
fn with_address(url: &str, fleet: &Fleet) -> Result<String, (String, String)> {
    let refused = |what: String, remedy: &str| Err((what, remedy.to_owned()));
    let Some(rest) = url.strip_prefix("http://") else {
        let what = match url.split_once("://") {
            Some((scheme, _)) => format!("a probe does not speak `{scheme}`"),
            None => format!("`{url}` is not a URL"),
        };
        return refused(what, "write http://host:port/path; for https use exec with a program");
    };
    if url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return refused(format!("`{url}` contains a space"), "write %20 for it");
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    if host.contains('@') {
        return refused("credentials do not belong into a URL".into(), "use exec with a program");
    }
    match authority(host, Some(80), fleet) {
        Ok(host) => Ok(format!("http://{host}{path}")),
        Err(what) => refused(what, "write http://host:port/path"),
    }
}

/// `host:port` with a registered host's name replaced by its address. Without a port it is an
/// error, unless there is a default, which is then left unsaid.
fn authority(text: &str, default_port: Option<u16>, fleet: &Fleet) -> Result<String, String> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, tail)) => (host, tail.strip_prefix(':').or(tail.is_empty().then_some(""))),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, Some("")),
        },
    };
    let port = match port {
        Some("") if default_port.is_some() && !text.ends_with(':') => String::new(),
        Some("") => return Err(format!("`{text}` has no port")),
        Some(port) => match port.parse::<u16>() {
            Ok(1..) => format!(":{port}"),
            Ok(0) | Err(_) => return Err(format!("`{port}` is no port from 1 to 65535")),
        },
        None => return Err(format!("`{text}` is no host and port")),
    };
    if host.is_empty() {
        return Err(format!("`{text}` names no host"));
    }
    let bracketed = text.starts_with('[');
    let address = fleet.host(host).map(|h| h.address).or_else(|| host.parse::<IpAddr>().ok());
    match address {
        Some(IpAddr::V6(address)) => Ok(format!("[{address}]{port}")),
        Some(IpAddr::V4(address)) if !bracketed => Ok(format!("{address}{port}")),
        None if !bracketed => Ok(format!("{host}{port}")),
        Some(IpAddr::V4(_)) | None => Err(format!("`{host}` is no IPv6 address")),
    }
}
