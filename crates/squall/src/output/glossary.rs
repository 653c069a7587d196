//! What the words mean, for `squall explain`.

use serde::Serialize;

/// A word with its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Word {
    /// The word.
    pub word: &'static str,
    /// In a sentence or a few.
    pub meaning: &'static str,
}

const fn word(word: &'static str, meaning: &'static str) -> Word {
    Word { word, meaning }
}

/// All of them: faults first, then the design's words, phases, verdicts and files.
pub const WORDS: &[Word] = &[
    word(
        "partition",
        "Packets between the target and its peers vanish. Parameters: peers (hosts, each at all its \
         addresses, {group: …}, addresses, networks, all), direction in|out|both, ports, protocol tcp|udp, control \
         exempt|severed, or a shape (isolate, simplex, halves, majority, minority-third, bridge, \
         ring, random, or {groups: [[h1], [h2, h3]]}). Held in an nft table that the kernel removes with the holder's \
         socket, and by element time-outs of at most the lease. What the target sends to multicast and \
         broadcast addresses, and to link-local ones, still reaches its peers, and so does whatever the \
         host's policy spares (TCP 22 where it does not say).\n\
         Example: - partition: { peers: [h2, 10.0.0.0/24], direction: in }\n\
         On one host: squall inject partition --peers 10.0.0.2 --for 30s",
    ),
    word(
        "loss",
        "A share of the packets to and from the peers vanishes. Parameters: percent, peers, ports, \
         protocol, direction. Held as a partition is.\n\
         Example: - loss: { percent: 5, peers: [h2] }\n\
         On one host: squall inject loss --percent 5 --peers 10.0.0.2 --for 30s",
    ),
    word(
        "kill",
        "Processes get a signal (SIGKILL where none is named). Parameters: name, cmdline, pid, port, \
         cgroup, exclude; signal, count or percent, interval. One shot, or a shot each interval \
         until the end; starting the process again is its supervisor's business. It bites where all that \
         were picked got the signal and, of SIGKILL and SIGTERM, died.\n\
         Example: - kill: { name: nginx, count: 1 }\n\
         On one host: squall inject kill --name nginx --for 1s",
    ),
    word(
        "pause",
        "Every thread of the processes stands still. Parameters: name, cmdline, pid, port, cgroup, \
         exclude. Held by a tracer: when it dies, the kernel lets them run again. It bites where nothing \
         that matches runs: neither a victim, nor what was started since.\n\
         Example: - pause: { name: etcd }\n\
         On one host: squall inject pause --name etcd --for 10s",
    ),
    word(
        "cpu",
        "Processor time is burnt by workers (one for each processor where none are counted) at a \
         load in percent; cores binds them to processors (0, 2-3), and the load rises over ramp. The \
         workers are the holder's children and die with it. It bites where they get a quarter at least of \
         what was asked for and was to be had; how much is told.\n\
         Example: - cpu: { cores: [0], load: 80, ramp: 10s }\n\
         On one host: squall inject cpu --workers 2 --load 80 --for 30s",
    ),
    word(
        "memory",
        "Memory is taken and kept in use: bytes, or percent of what is available, at once or over ramp. \
         touch-rate (from 1MiB/s, of up to 8GiB) says how much of it is written to each second, else all of it in 5s. The child that \
         holds it dies first where memory runs out, and with the holder. It bites where three quarters at \
         least of what is due are taken; how much is told.\n\
         Example: - memory: { bytes: 512MiB, ramp: 10s, touch-rate: 100MiB/s }\n\
         On one host: squall inject memory --percent 50 --for 30s",
    ),
    word(
        "holder",
        "The small process in whose kernel resources a fault lives. Its death is the fault's end.",
    ),
    word(
        "held",
        "Of a fault: it is in place, and the kernel takes it back when its holder dies. Of an experiment: every fault bit, the hypothesis stayed true, and everything was seen lifted.",
    ),
    word(
        "lease",
        "How long a fault stays without a leader's renewal (5s where the file does not say, 1s to 30s). A host that is cut off lifts by itself when it ends.",
    ),
    word("deadline", "When a fault ends whatever happens."),
    word(
        "fence",
        "The number that makes old orders refusable: nothing that was ordered before a stop begins after it.",
    ),
    word(
        "stop",
        "An emergency stop (squall stop-all): every host lifts everything, latches, and answers with a receipt: how many faults it lifted, what is left, and whether it latched durably. It needs no quorum. A host that did not answer is unreached, lapsing or lapsed.",
    ),
    word(
        "unconfirmed",
        "An answer of a coordinator that reached no quorum: what it knew when its log was last told something. A stop is good without a quorum, too; `committed` says whether the log has it.",
    ),
    word(
        "latch",
        "A host that has heard a stop is latched: it holds nothing until a resume names that stop. Durable: on its disk. Memory: only until it restarts.",
    ),
    word(
        "resume",
        "The release of stops that an operator was shown (squall resume STOP). It needs the quorum.",
    ),
    word("residue", "Anything left on a host that was not there before a fault. Clean is none."),
    word(
        "lapsed",
        "A host did not answer, and every lease that it may have held has passed since. Very likely clean, but nobody saw it. Lapsing: not all of them have passed yet.",
    ),
    word(
        "backend",
        "How this host would hold a fault (squall doctor). Held: in kernel resources of a process, that go with it. Needs undo: a record in the journal takes it back. One shot: it is done once, and nothing is left to take back. Unsupported: this kernel cannot, and why.",
    ),
    word("unreached", "A host did not answer a stop, and held nothing when it was last heard."),
    word(
        "group",
        "Hosts that share the label `group`. Its members form a cohort: they must see each other.",
    ),
    word(
        "blast-radius",
        "Hosts that an experiment targets over the hosts in service, and before anything begins over those of them that are healthy or hurt already: at most 0.3 an experiment where its file does not say, 0.5 over all that run at once. With `of: group` a file counts within its group, where all that runs may hurt half, or what the most daring file allows. One host of three or more is always allowed.",
    ),
    word(
        "drained",
        "A host that takes no faults of experiments (squall agent drain HOST), until --undo. What experiments held there was lifted; their verdict is unknown. One that is gone for good is then forgotten (squall agent forget HOST): no stop waits for it, until its agent comes back and registers.",
    ),
    word(
        "targets",
        "The hosts that get the faults: hosts by name, labels, a group, count or percent of them, or all.",
    ),
    word(
        "touched",
        "Hosts that a fault reaches without being held there, as the peers of a partition. They do not count for the blast radius.",
    ),
    word(
        "armed",
        "A host, or a cluster, on which something may start: no stop is outstanding. A host that has just started is disarmed (starting) until a leader has told it of every stop. Unconnected: the coordinator that answers does not hear it.",
    ),
    word(
        "incident",
        "What a reader should know of an experiment, as a split-brain. One that the experiment did not ask for rolls it back. P1 is the gravest of four levels, P4 what was asked for. A split-brain that still stands 15 s after the heal says `manual intervention required`: no fault that Squall knows of is left to cause it, and squall views shows who leads whom.",
    ),
    word(
        "severed",
        "Of a partition's control: Squall's own packets are cut too, from the peers as the partition says and from every coordinator both ways, so the host lifts alone when its lease ends. Exempt, the default, lets them pass.",
    ),
    word(
        "complete",
        "Of a partition: hosts on either side see nobody on the other. Partial: some host still sees both sides. Simplex: packets pass one way only.",
    ),
    word("partial", "Of a partition: some host still sees both sides. See complete."),
    word("simplex", "Of a partition: packets pass one way only. See complete."),
    word(
        "phases",
        "Of an experiment: submitted, preflight, baseline (the hypothesis before), injecting, holding, lifting, recovering (the hypothesis after), settled. Of a fault on its host: journaling, applying, held, reverting, then clean, lost, stuck or not-held; unheard where the host says nothing of it and the log does not have it gone.",
    ),
    word(
        "view",
        "What one host believes about who is there and who leads. squall views compares them: agree, partition (complete, partial, simplex), split-brain, or unknown where reports are missing.",
    ),
    word(
        "split-brain",
        "Two authorities at once. An experiment that did not ask for it is rolled back; one that did (expects-split) has it among its incidents as P4, and is held only where the heal was seen; see incident for one that stands after that.",
    ),
    word(
        "steady-state",
        "The hypothesis: probes (http, tcp, exec) with bounds that are to hold before, during and after the \
         faults. A sample is taken each `every`, and is bad after `timeout` (1m at most), or where the \
         answer is not what `expect` says: status of http (200; all of the answer must come), error-rate \
         (no bad sample where it is left out), p50 and p99 of the good ones' latency. `baseline` and \
         `recovery` say how long it is sampled before and after. A sample that was not taken in its time, \
         since whoever takes them did not run or had no room, is missed: it is neither good nor bad, and a \
         stage of which less than two thirds were seen is unknown. `from` names the host whose agent runs \
         one, or `coordinator`: each coordinator runs it then, and the samples of the one that leads count.",
    ),
    word(
        "broken",
        "A verdict: the hypothesis did not hold, or a fault could not be put in place. Everything is lifted.",
    ),
    word(
        "verdict",
        "What an experiment has shown, the worst finding of all: held, unknown, broken; or why there is \
         none: stopped, refused.",
    ),
    word(
        "shape",
        "How a partition cuts its targets from each other: isolate (each from all), simplex (the same, one \
         way), halves, majority, minority-third, bridge (two sides, and one that sees both), ring (each sees \
         its two neighbours), random (a minority drawn anew each time), or {groups: [[h1], [h2, h3]]}.",
    ),
    word(
        "safety",
        "What an experiment may not exceed, and what ends it early: max-blast-radius, of (fleet or group), \
         lease; auto-rollback (on: a deviation that no rest of the hypothesis can mend ends it at once), \
         on-loss (rollback or continue, where a fault is lost), expects-split (a split-brain is meant).",
    ),
    word("unknown", "A verdict: nobody saw enough to say. Never taken for held."),
    word("stopped", "A verdict: a person or a stop-all ended the experiment."),
    word(
        "refused",
        "A verdict, or an answer: safety or a host's policy said no. The coordinators know the policies of the hosts that they hear, and begin nothing where one of those would refuse; a host is asked all the same, and what was in place elsewhere by then is lifted.",
    ),
    word(
        "lost",
        "A fault that ended by something else than order, deadline or stop: a crash, a lease, a person's lift. It was seen gone and never comes back.",
    ),
    word("stuck", "A fault that is over but left something behind. On that host: squall lift."),
    word(
        "experiment",
        "A YAML (or JSON) file:\n\
         name: cut-the-leader\n\
         objective: writes go on while one member is cut off\n\
         targets: { group: etcd, count: 1 }     # or hosts: [h1] · labels: {zone: a} · percent: 34 · all: true\n\
         faults:\n\
         - partition: { peers: { group: etcd } }\n\
         duration: 30s\n\
         steady-state:\n\
         - { name: health, http: { url: \"http://h2:2379/health\" }, every: 200ms, expect: { error-rate: \"< 1%\", p99: \"< 250ms\" } }\n\
         safety: { max-blast-radius: 0.34, auto-rollback: true, lease: 5s }\n\
         squall schema prints all of it.",
    ),
    word(
        "config",
        "A role's TOML file.\n\
         coordinator: name, id, listen, state-dir, identity-dir, [[coordinators]] {id, name, address}; \
         enrol, policy, mark.\n\
         agent: name, address, [[coordinators]] {id, name, address}; state-dir, run-dir, identity-dir, \
         policy, labels, gossip-port, relay-port, coordinator.\n\
         policy: allow, protect-processes, protect-ports, protect-peers, protect-paths, max-cpu-percent, \
         max-memory-percent, memory-floor, max-faults, max-duration, probe-programs.\n\
         cluster.toml: name, [[coordinators]] {id, name, address}.",
    ),
    word(
        "exit-codes",
        "0 held and clean · 1 broken or failed, everything lifted · 2 usage or invalid file · 3 refused \
         by safety or policy · 4 no coordinator reachable, or not authorised · 5 not clean: something \
         may remain on a named host · 6 verdict unknown, clean · 7 stopped by an operator, a stop-all \
         or a signal, clean. show, status and the other questions end with 0 where they were answered, \
         plan with 2 or 3 where it would be refused, faults with 6 where a host in service, \
         or a fault, is not heard of; stop and faults clear end with 0 where everything is clean.",
    ),
];

/// Words that are told with another one.
const TOLD: &[(&str, &[&str])] = &[
    (
        "phases",
        &[
            "submitted",
            "preflight",
            "baseline",
            "injecting",
            "holding",
            "lifting",
            "recovering",
            "settled",
            "journaling",
            "applying",
            "reverting",
            "clean",
            "notheld",
            "unheard",
        ],
    ),
    ("armed", &["disarmed", "starting", "unconnected"]),
    ("latch", &["latched", "durable"]),
    ("drained", &["drain", "forget"]),
    ("lapsed", &["lapsing"]),
    ("stop", &["stopall", "lifted", "receipt"]),
    ("unconfirmed", &["committed"]),
    ("backend", &["needsundo", "oneshot", "unsupported"]),
    ("incident", &["p1", "p2", "p3", "p4"]),
    ("view", &["views", "agree"]),
    (
        "steadystate",
        &["probe", "expect", "errorrate", "p50", "p99", "missed", "recovery", "timeout", "every"],
    ),
    ("shape", &["isolate", "halves", "majority", "minoritythird", "bridge", "ring", "random"]),
    ("safety", &["autorollback", "onloss", "expectssplit"]),
    ("partition", &["direction"]),
    ("exitcodes", &["0", "1", "2", "3", "4", "5", "6", "7"]),
];

/// The word as typed: case, blanks and dashes do not matter.
#[must_use]
pub fn find(text: &str) -> Option<Word> {
    let plain = |t: &str| t.to_lowercase().replace([' ', '_', '-'], "");
    let asked = plain(text);
    let told = TOLD.iter().find(|(_, words)| words.contains(&asked.as_str()));
    let asked = told.map_or(asked.as_str(), |(word, _)| word);
    WORDS.iter().copied().find(|w| plain(w.word) == asked)
}

#[cfg(test)]
mod tests {
    use squall_core::fault::Kind;

    use super::*;

    #[test]
    fn every_fault_is_explained_with_an_example() {
        for kind in Kind::ALL {
            let word = find(kind.name()).unwrap_or_else(|| panic!("{kind} is not explained"));
            assert!(word.meaning.contains(&format!("Example: - {kind}:")), "{kind}");
            assert!(word.meaning.contains(&format!("squall inject {kind}")), "{kind}");
        }
    }

    #[test]
    fn words_are_found_as_people_type_them_and_stand_once() {
        assert_eq!(find("Blast Radius").map(|w| w.word), Some("blast-radius"));
        assert_eq!(find("5").map(|w| w.word), Some("exit-codes"));
        assert_eq!(find("not-held").map(|w| w.word), Some("phases"));
        assert_eq!(find("needs undo").map(|w| w.word), Some("backend"));
        for (word, told) in TOLD {
            for one in *told {
                let apart = WORDS.iter().any(|w| w.word == *one);
                assert!(!apart, "{one} has a meaning of its own");
                let text = find(one).unwrap_or_else(|| panic!("{one} is told with {word}")).meaning;
                let named =
                    |text: &str| text.to_lowercase().replace([' ', '-', '`'], "").contains(one);
                assert!(named(text) || matches!(one, &"p2" | &"p3" | &"p4"), "{one}: {text}");
            }
        }
        assert_eq!(find("nothing"), None);
        for (n, word) in WORDS.iter().enumerate() {
            assert!(WORDS[n + 1..].iter().all(|w| w.word != word.word), "{} twice", word.word);
        }
    }
}
