//! The hosts whose control streams are open here, and what they said last.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::net::IpAddr;

use squall_core::fence::MAX_STOPS;
use squall_core::ids::{HostName, StopId};
use squall_core::lives::Lives;
use squall_core::message::{Hello, PeerHost, Report};
use squall_core::policy::Policy;
use squall_core::registry::{HostRecord, Registry};
use squall_core::time::Time;
use squall_core::views::peers_of;

use crate::config::MAX_COORDINATORS;

/// Stops that one host may bring which this coordinator has not heard, and for which no operator is known
/// to stand: no host is the only one to know of more. What all coordinators take from one host together is
/// less than ends all starts for ever.
pub(crate) const MAX_BROUGHT: usize = 512;
const _: () = assert!(MAX_BROUGHT * MAX_COORDINATORS <= MAX_STOPS - MAX_BROUGHT);

/// What stands for a value that was told: most of a fleet need not be kept twice.
pub(crate) fn hash_of(told: &impl Hash) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(told)
}

/// A host whose control stream is open here.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// The number of its connection. A newer connection of the same host replaces an older one.
    pub connection: u64,
    pub hello: Hello,
    /// Where it speaks from.
    from: IpAddr,
    /// Its last report and when it arrived.
    pub report: Option<(Report, Time)>,
    /// A hash of the peers that it was told of last.
    peers: u64,
}

impl Session {
    /// Where its host speaks from, if that is none of the addresses that it is registered with: what is cut
    /// off by its name may be another host.
    pub(crate) fn speaks_from_elsewhere(&self) -> Option<IpAddr> {
        let own = self.hello.host.addresses().any(|address| address == self.from);
        (!own).then_some(self.from)
    }

    /// What its `host` is to be told of the others, where it was told something else last: its connection
    /// and them. A change of one host concerns those next to it, not a whole fleet.
    pub(crate) fn news_of_peers(
        &mut self,
        host: &HostName,
        registry: &Registry,
    ) -> Option<(u64, Vec<PeerHost>)> {
        let peers = peers_of(host, &registry.hosts);
        let hash = hash_of(&peers);
        (std::mem::replace(&mut self.peers, hash) != hash).then_some((self.connection, peers))
    }
}

/// All of them, by host.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    by_host: BTreeMap<HostName, Session>,
    host_of: BTreeMap<u64, HostName>,
    /// The last reports of hosts whose streams have ended: what they held, they may hold still.
    gone: BTreeMap<HostName, (Report, Time)>,
    lives: BTreeMap<HostName, Lives>,
    /// What each host has brought, as far as nobody else is known to stand for it.
    brought: BTreeMap<HostName, BTreeSet<StopId>>,
}

impl Sessions {
    /// Whether this may be added: false where two agents speak for one host, until one of them has
    /// been silent for a while.
    pub(crate) fn admits(&mut self, now: Time, hello: &Hello) -> bool {
        let lives = self.lives.entry(hello.host.name.clone()).or_default();
        lives.handle_hello(now, hello.run)
    }

    /// Adds a session; returns the connection that it replaces.
    pub(crate) fn add(&mut self, connection: u64, from: IpAddr, hello: Hello) -> Option<u64> {
        let host = hello.host.name.clone();
        self.host_of.insert(connection, host.clone());
        let from = from.to_canonical();
        let session = Session { connection, hello, from, report: None, peers: 0 };
        let old = self.by_host.insert(host.clone(), session);
        old.map(|s| {
            self.host_of.remove(&s.connection);
            if let Some(last) = s.report {
                self.gone.insert(host, last);
            }
            s.connection
        })
    }

    /// Removes a session, unless a newer one of the same host has replaced it; returns the host.
    pub(crate) fn remove(&mut self, connection: u64) -> Option<HostName> {
        let host = self.host_of.remove(&connection)?;
        if let Some(last) = self.by_host.remove(&host).and_then(|session| session.report) {
            self.gone.insert(host.clone(), last);
        }
        Some(host)
    }

    /// Drops what is kept of hosts that are neither registered nor connected.
    pub(crate) fn forget_all_but(&mut self, registered: &BTreeMap<HostName, HostRecord>) {
        let by_host = &self.by_host;
        let stays = |host: &HostName| registered.contains_key(host) || by_host.contains_key(host);
        self.gone.retain(|host, _| stays(host));
        self.lives.retain(|host, _| stays(host));
        self.brought.retain(|host, _| stays(host));
    }

    /// Nobody knows whose report it was that came last.
    pub(crate) fn disbelieve(&mut self, host: &HostName) {
        self.gone.remove(host);
    }

    /// A host's last report, however long ago, and when it arrived.
    pub(crate) fn last_report(&self, host: &HostName) -> Option<(&Report, Time)> {
        let of_session = self.by_host.get(host).and_then(|session| session.report.as_ref());
        of_session.or_else(|| self.gone.get(host)).map(|(report, at)| (report, *at))
    }

    /// Those of `new` stops that a host may bring still; they count as brought until they are `vouched` for.
    pub(crate) fn brings(
        &mut self,
        host: &HostName,
        mut new: Vec<StopId>,
        vouched: impl Fn(StopId) -> bool,
    ) -> Vec<StopId> {
        if !new.is_empty() {
            let brought = self.brought.entry(host.clone()).or_default();
            brought.retain(|stop| !vouched(*stop));
            new.truncate(MAX_BROUGHT.saturating_sub(brought.len()));
            brought.extend(&new);
        }
        new
    }

    pub(crate) fn of_connection(&mut self, connection: u64) -> Option<(&HostName, &mut Session)> {
        let host = self.host_of.get(&connection)?;
        self.by_host.get_mut(host).map(|session| (host, session))
    }

    pub(crate) fn get(&self, host: &HostName) -> Option<&Session> {
        self.by_host.get(host)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&HostName, &mut Session)> {
        self.by_host.iter_mut()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&HostName, &Session)> {
        self.by_host.iter()
    }
}

/// What a host will hold, as far as this coordinator can read it: one of another version may say more.
pub(crate) fn policy_of(hello: &Hello) -> Option<Policy> {
    serde_json::from_str(hello.policy.as_ref()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::fleet::record;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn registry<'a>(names: impl IntoIterator<Item = &'a str>) -> Registry {
        let mut registry = Registry::default();
        let hosts = names.into_iter().map(record);
        registry.hosts.extend(hosts.map(|host| (host.name.clone(), host)));
        registry
    }

    #[test]
    fn what_operators_stand_for_uses_up_nothing_of_what_a_host_may_bring() {
        let mut sessions = Sessions::default();
        let host: HostName = "h1".parse().unwrap();
        let stops = |from: u128| -> Vec<StopId> {
            (from..from + 600).map(|n| StopId(uuid::Uuid::from_u128(n))).collect()
        };
        let (first, later) = (stops(0), stops(1_000));
        let vouched = |stop: StopId| stop.0.as_u128() < 500;
        assert_eq!(sessions.brings(&host, first, |_| false).len(), MAX_BROUGHT);
        assert_eq!(sessions.brings(&host, later.clone(), |_| false), []);
        assert_eq!(
            sessions.brings(&host, later, vouched).len(),
            500,
            "they turned out to be known"
        );
    }

    fn hello(host: &HostRecord) -> Hello {
        Hello {
            run: squall_core::ids::AgentRun(uuid::Uuid::from_u128(1)),
            host: host.clone(),
            version: String::new(),
            capabilities: Vec::new(),
            policy: None,
        }
    }

    #[test]
    fn of_a_host_that_was_forgotten_nothing_is_kept_once_it_is_gone() {
        let registry = registry(["h1", "h2"]);
        let mut sessions = Sessions::default();
        for (connection, host) in (1..).zip(registry.hosts.values()) {
            sessions.admits(Time(0), &hello(host));
            sessions.add(connection, HERE, hello(host));
            sessions.brings(&host.name, vec![StopId(uuid::Uuid::nil())], |_| false);
        }
        sessions.forget_all_but(&BTreeMap::new());
        assert_eq!((sessions.lives.len(), sessions.brought.len()), (2, 2), "they are connected");
        let report = Report {
            run: squall_core::ids::AgentRun(uuid::Uuid::nil()),
            t: Time(0),
            digest: 0,
            newest_resume: squall_core::ids::LogIndex(0),
            synced: true,
            armed: true,
            faults: Vec::new(),
            probes: Vec::new(),
            row: None,
        };
        sessions.of_connection(1).unwrap().1.report = Some((report, Time(0)));
        sessions.remove(1);
        sessions.forget_all_but(&registry.hosts);
        assert!(sessions.last_report(&"h1".parse().unwrap()).is_some(), "it is registered");
        sessions.forget_all_but(&BTreeMap::new());
        assert_eq!((sessions.lives.len(), sessions.brought.len()), (1, 1));
        assert!(sessions.gone.is_empty());
    }

    #[test]
    fn a_host_that_speaks_from_an_address_of_its_own_is_where_it_says() {
        let registry = registry(["h1"]);
        let mut sessions = Sessions::default();
        let mut from = |address: &str| {
            let host = registry.hosts.values().next().unwrap();
            sessions.add(1, address.parse().unwrap(), hello(host));
            sessions.get(&host.name).unwrap().speaks_from_elsewhere()
        };
        assert_eq!(from("127.0.0.1"), None);
        assert_eq!(from("::ffff:127.0.0.1"), None);
        assert_eq!(from("10.0.0.9"), Some([10, 0, 0, 9].into()));
    }

    #[test]
    fn only_whose_peers_have_changed_is_told() {
        let all: Vec<String> = (0..200).map(|n| format!("h{n:03}")).collect();
        let mut registry = registry(all.iter().map(String::as_str));
        let mut sessions = Sessions::default();
        for (connection, host) in (1..).zip(registry.hosts.values()) {
            sessions.add(connection, HERE, hello(host));
        }
        let news = |sessions: &mut Sessions, registry: &Registry| -> Vec<_> {
            sessions.iter_mut().filter_map(|(host, s)| s.news_of_peers(host, registry)).collect()
        };
        assert_eq!(news(&mut sessions, &registry).len(), 200);
        assert_eq!(news(&mut sessions, &registry), []);
        let moved = registry.hosts.get_mut(&"h100".parse().unwrap()).unwrap();
        moved.drained = true;
        assert_eq!(news(&mut sessions, &registry), [], "that is no matter of theirs");
        let moved = registry.hosts.get_mut(&"h100".parse().unwrap()).unwrap();
        moved.gossip_port = 9;
        let told = news(&mut sessions, &registry);
        assert_eq!(told.len(), squall_core::views::MAX_PEERS, "whom it knows knows it");
        assert!(told.iter().all(|(_, peers)| peers.iter().any(|p| p.gossip_port == 9)));
        // Whoever connects anew is told anew.
        let back = hello(&registry.hosts[&HostName::try_from("h007".to_owned()).unwrap()]);
        sessions.add(1_000, HERE, back);
        let told = news(&mut sessions, &registry);
        assert_eq!(told.iter().map(|(connection, _)| *connection).collect::<Vec<_>>(), [1_000]);
    }
}
