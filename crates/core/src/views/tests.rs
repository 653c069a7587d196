//! Cases that draw the topology (`testdata/`, format in its README), and random graphs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use super::*;
use crate::ids::{HostName, Leadership, NodeId};

#[test]
fn every_case_in_testdata() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/views/testdata");
    let (mut cases, mut wrong) = (0, String::new());
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "txt") {
            continue;
        }
        for case in split_cases(&std::fs::read_to_string(&path).unwrap()) {
            cases += 1;
            let said = show(&judge(&parse(&case.picture)));
            if said != case.expected {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                let picture = case.picture.join("\n");
                let _ = writeln!(
                    wrong,
                    "{name}:{}\n{picture}\nsaid:\n{said}\nexpected:\n{}\n",
                    case.line, case.expected
                );
            }
        }
    }
    assert!(cases >= 30, "only {cases} cases were found");
    assert!(wrong.is_empty(), "{wrong}");
}

struct Case {
    line: usize,
    picture: Vec<String>,
    expected: String,
}

fn split_cases(text: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let (mut picture, mut expected, mut after, mut first) = (Vec::new(), Vec::new(), false, 1);
    for (number, line) in text.lines().chain([""]).enumerate() {
        match line.trim_end() {
            "----" => after = true,
            "" if after => {
                let picture = std::mem::take(&mut picture);
                let expected = std::mem::take(&mut expected).join("\n");
                cases.push(Case { line: first, picture, expected });
                (after, first) = (false, number + 2);
            }
            "" => {}
            comment if comment.starts_with('#') => {}
            line if after => expected.push(line.to_owned()),
            line => picture.push(line.to_owned()),
        }
    }
    cases
}

fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

fn ms(text: &str) -> u64 {
    text.trim_end_matches("ms").parse().unwrap_or_else(|_| panic!("`{text}` is not in ms"))
}

fn leadership(text: &str) -> Leadership {
    let (node, term) = text.split_once('@').unwrap_or_else(|| panic!("`{text}` is not c1@4"));
    Leadership { term: term.parse().unwrap(), node: NodeId(node[1..].parse().unwrap()) }
}

fn parse(picture: &[String]) -> Evidence {
    let mut evidence = Evidence::default();
    let names: Vec<HostName> =
        picture[0].split_whitespace().filter(|w| w.starts_with('h')).map(host).collect();
    evidence.expected = names.iter().cloned().collect();
    for line in &picture[1..] {
        let words: Vec<&str> = line.split([' ', ',']).filter(|w| !w.is_empty()).collect();
        if words[0].starts_with('c') {
            evidence.claims.push(parse_claim(&words));
        } else if words[1] != "missing" {
            let (row, age_ms) = parse_row(&names, &words);
            evidence.rows.insert(host(words[0]), (row, age_ms));
        }
    }
    evidence
}

fn parse_row(names: &[HostName], words: &[&str]) -> (Row, u64) {
    let mut row = Row::default();
    for (name, mark) in names.iter().zip(&words[1..]) {
        match *mark {
            "+" => row.heard.push((name.clone(), Some(FADING_MS - 700))),
            "~" => row.heard.push((name.clone(), Some(STALE_MS))),
            "x" => row.heard.push((name.clone(), Some(STALE_MS + 1))),
            "." => assert_eq!(name.as_str(), words[0], "the dot stands on the diagonal"),
            "_" => {}
            other => panic!("`{other}` is no mark"),
        }
    }
    let mut age_ms = 700;
    let mut rest = words[1 + names.len()..].iter();
    while let Some(word) = rest.next() {
        let mut next = || *rest.next().unwrap();
        match *word {
            "obeys" => row.authority = Some((leadership(next()), ms(next()))),
            "in" => row.cohort = next().to_owned(),
            "row" => age_ms = ms(next()),
            other => panic!("`{other}` is not understood"),
        }
    }
    if let Some((_, heard_ms)) = &mut row.authority {
        // The case says how long ago it is now; the row says how long ago it was then.
        age_ms = age_ms.min(*heard_ms);
        *heard_ms -= age_ms;
    }
    (row, age_ms)
}

fn parse_claim(words: &[&str]) -> (Claim, u64) {
    let Leadership { term, node } = leadership(words[0]);
    let leads = words.get(1) == Some(&"leads");
    let quorum_age_ms = words.get(3).filter(|w| **w != "never").map(|w| ms(w));
    let said_ms = words.get(5).map_or(0, |w| ms(w));
    (Claim { node, term, leads, quorum_age_ms }, said_ms)
}

fn show(judgement: &Judgement) -> String {
    let list = |items: Vec<String>, by: &str| {
        if items.is_empty() { "-".to_owned() } else { items.join(by) }
    };
    let show_sides = |sides: &[Vec<HostName>]| {
        let side = |s: &Vec<HostName>| s.iter().map(HostName::as_str).collect::<Vec<_>>().join(" ");
        list(sides.iter().map(side).collect(), " | ")
    };
    match judgement {
        Judgement::Agree => "agree".to_owned(),
        Judgement::Unknown { missing } => format!("unknown: {}", list(missing.clone(), " ")),
        Judgement::Partition { kind, sides, edges, missing } => {
            let kind = format!("{kind:?}").to_lowercase();
            let (sides, cut) = (show_sides(sides), list(show_edges(edges), " "));
            let missing = if missing.is_empty() {
                String::new()
            } else {
                format!("\nmissing: {}", missing.join(" "))
            };
            format!("partition: {kind}\nsides: {sides}\ncut: {cut}{missing}")
        }
        Judgement::SplitBrain { authorities, sides, evidence } => {
            let of = |a: &Authority| {
                format!("{} {} {}", a.host, a.claims, a.of.replace(" in term ", "@"))
            };
            format!(
                "split-brain\nsides: {}\nauthorities: {}\nevidence: {}",
                show_sides(sides),
                list(authorities.iter().map(of).collect(), "; "),
                evidence.join("; ")
            )
        }
    }
}

fn show_edges(edges: &[(HostName, HostName)]) -> Vec<String> {
    let mut shown = Vec::new();
    for (from, to) in edges {
        match edges.contains(&(to.clone(), from.clone())) {
            true if from < to => shown.push(format!("{from}<>{to}")),
            true => {}
            false => shown.push(format!("{from}->{to}")),
        }
    }
    shown
}

#[test]
fn coordinators_are_called_by_their_names() {
    let picture = ["     h1 h2", "h1   .  +  obeys c1@4 100ms", "h2   +  .  obeys c2@4 100ms"];
    let mut evidence = parse(&picture.map(str::to_owned));
    evidence.names.insert(NodeId(1), "berlin".to_owned());
    match judge(&evidence) {
        Judgement::SplitBrain { evidence, .. } => {
            assert_eq!(evidence, ["h1 obey berlin in term 4 while h2 obey c2 in term 4"]);
        }
        other => panic!("{other:?}"),
    }
}

/// `n` hosts and the directed links that are cut, as (from, to).
type Cuts = BTreeSet<(usize, usize)>;

fn name(i: usize) -> HostName {
    host(&format!("h{i:02}"))
}

fn graph(n: usize, cuts: &Cuts, named: impl Fn(usize) -> HostName) -> Evidence {
    let row = |to: usize| {
        let heard = (0..n).filter(|from| *from != to);
        let heard = heard.map(|from| (named(from), (!cuts.contains(&(from, to))).then_some(100)));
        (named(to), (Row { heard: heard.collect(), ..Row::default() }, 200))
    };
    Evidence {
        expected: (0..n).map(&named).collect(),
        rows: (0..n).map(row).collect(),
        ..Evidence::default()
    }
}

fn partition(evidence: &Evidence) -> (PartitionKind, BTreeSet<BTreeSet<HostName>>, NamedCuts) {
    match judge(evidence) {
        Judgement::Partition { kind, sides, edges, .. } => {
            assert!(sides.windows(2).all(|w| w[0].len() >= w[1].len()), "largest first: {sides:?}");
            let sides = sides.into_iter().map(|s| s.into_iter().collect()).collect();
            (kind, sides, edges.into_iter().collect())
        }
        other => panic!("not a partition: {other:?}"),
    }
}

type NamedCuts = BTreeSet<(HostName, HostName)>;

/// The kind by reachability, written down a second time without groups.
fn oracle(n: usize, cuts: &Cuts) -> Option<PartitionKind> {
    let cut = |a: usize, b: usize| cuts.contains(&(a, b));
    let mut reach = vec![vec![false; n]; n];
    for (a, row) in reach.iter_mut().enumerate() {
        for (b, r) in row.iter_mut().enumerate() {
            *r = a == b || !cut(a, b) || !cut(b, a);
        }
    }
    for via in 0..n {
        for a in 0..n {
            for b in 0..n {
                reach[a][b] |= reach[a][via] && reach[via][b];
            }
        }
    }
    if cuts.is_empty() {
        None
    } else if reach.iter().flatten().any(|r| !r) {
        Some(PartitionKind::Complete)
    } else if cuts.iter().any(|(a, b)| cut(*b, *a)) {
        Some(PartitionKind::Partial)
    } else {
        Some(PartitionKind::Simplex)
    }
}

prop_compose! {
    fn any_graph()(n in 2..9_usize)(
        n in Just(n),
        pairs in prop::collection::vec((0..n, 0..n, prop::bool::weighted(0.6)), 1..24),
        order in Just((0..n).collect::<Vec<_>>()).prop_shuffle(),
    ) -> (usize, Cuts, Vec<usize>) {
        let mut cuts = Cuts::new();
        for (a, b, both) in pairs {
            if a != b {
                cuts.insert((a, b));
                if both {
                    cuts.insert((b, a));
                }
            }
        }
        (n, cuts, order)
    }
}

fn config() -> Config {
    Config {
        cases: 128,
        rng_seed: RngSeed::Fixed(0x59a1),
        failure_persistence: None,
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_random_graph_is_judged_as_its_reachability_says((n, cuts, _) in any_graph()) {
        let evidence = graph(n, &cuts, name);
        let Some(kind) = oracle(n, &cuts) else {
            prop_assert_eq!(judge(&evidence), Judgement::Agree);
            return Ok(());
        };
        let (found, sides, edges) = partition(&evidence);
        prop_assert_eq!(found, kind);
        let named: NamedCuts = cuts.iter().map(|(a, b)| (name(*a), name(*b))).collect();
        prop_assert_eq!(edges, named);
        let everybody: BTreeSet<_> = sides.iter().flatten().cloned().collect();
        prop_assert_eq!(everybody.len(), sides.iter().map(BTreeSet::len).sum::<usize>());
        prop_assert_eq!(everybody, evidence.expected);
    }

    #[test]
    fn names_decide_nothing((n, cuts, order) in any_graph()) {
        prop_assume!(!cuts.is_empty());
        let other: BTreeMap<HostName, HostName> =
            (0..n).map(|i| (name(i), name(order[i]))).collect();
        let (kind, sides, edges) = partition(&graph(n, &cuts, name));
        let relabelled = partition(&graph(n, &cuts, |i| name(order[i])));
        let sides = sides.iter().map(|s| s.iter().map(|h| other[h].clone()).collect()).collect();
        let edges = edges.iter().map(|(a, b)| (other[a].clone(), other[b].clone())).collect();
        prop_assert_eq!(relabelled, (kind, sides, edges));
    }

    #[test]
    fn a_whole_graph_agrees_and_one_cut_tells_its_kind(n in 3..40_usize, a in 0..40_usize, b in 0..40_usize) {
        let (a, b) = (a % n, b % n);
        prop_assume!(a != b);
        prop_assert_eq!(judge(&graph(n, &Cuts::new(), name)), Judgement::Agree);
        let one_way = partition(&graph(n, &Cuts::from([(a, b)]), name));
        prop_assert_eq!(one_way.0, PartitionKind::Simplex);
        let both_ways = partition(&graph(n, &Cuts::from([(a, b), (b, a)]), name));
        prop_assert_eq!(both_ways.0, PartitionKind::Partial);
    }

    #[test]
    fn two_sides_are_found_whatever_they_are(sides in prop::collection::vec(any::<bool>(), 2..20)) {
        prop_assume!(sides.contains(&true) && sides.contains(&false));
        let n = sides.len();
        let cuts = (0..n).flat_map(|a| (0..n).map(move |b| (a, b)));
        let cuts = cuts.filter(|(a, b)| sides[*a] != sides[*b]).collect();
        let (kind, found, _) = partition(&graph(n, &cuts, name));
        let side = |of: bool| (0..n).filter(|i| sides[*i] == of).map(name).collect();
        prop_assert_eq!(kind, PartitionKind::Complete);
        prop_assert_eq!(found, BTreeSet::from([side(true), side(false)]));
    }

    #[test]
    fn a_lost_row_never_makes_agreement_and_never_a_cut_of_its_own(
        (n, cuts, _) in any_graph(), lost in 0..9_usize,
    ) {
        let mut evidence = graph(n, &cuts, name);
        let whole = judge(&evidence);
        evidence.rows.remove(&name(lost % n));
        match (judge(&evidence), whole) {
            (Judgement::Unknown { missing }, _) => {
                prop_assert!(missing.contains(&name(lost % n).to_string()));
            }
            (Judgement::Partition { edges, missing, .. }, Judgement::Partition { edges: all, .. }) => {
                prop_assert!(missing.contains(&name(lost % n).to_string()));
                prop_assert!(edges.iter().all(|e| all.contains(e)));
            }
            (other, whole) => prop_assert!(false, "{other:?} where the whole says {whole:?}"),
        }
    }
}

#[test]
fn a_large_cohort_is_judged_by_its_neighbours() {
    let n = FULL_MESH + 36;
    let near = |a: usize, b: usize| (a + n - b) % n <= 3 || (b + n - a) % n <= 3;
    let ring = |cut: &dyn Fn(usize, usize) -> bool| {
        let mut evidence = graph(n, &Cuts::new(), name);
        for (to, (_, (row, _))) in evidence.rows.iter_mut().enumerate() {
            row.heard = (0..n)
                .filter(|from| *from != to && near(*from, to))
                .map(|from| (name(from), (!cut(from, to)).then_some(10)))
                .collect();
        }
        judge(&evidence)
    };
    assert_eq!(ring(&|_, _| false), Judgement::Agree);
    let halves = ring(&|a, b| (a < 30) != (b < 30));
    let Judgement::Partition { kind: PartitionKind::Complete, sides, .. } = halves else {
        panic!("{halves:?}");
    };
    assert_eq!(sides.iter().map(Vec::len).collect::<Vec<_>>(), [n - 30, 30]);
}

#[test]
fn a_large_cohort_stays_one_where_some_are_silent() {
    let n = FULL_MESH + 16;
    let near = |a: usize, b: usize| (a + n - b) % n <= 3 || (b + n - a) % n <= 3;
    let cut = |a: usize, b: usize| (a, b) == (3, 4) || (a, b) == (4, 3);
    for silent in [0, 2, 15, 16, 17] {
        let mut evidence = graph(n, &Cuts::new(), name);
        for (to, (_, (row, _))) in evidence.rows.iter_mut().enumerate() {
            let watched = (0..n).filter(|from| *from != to && near(*from, to));
            row.heard = watched.map(|from| (name(from), (!cut(from, to)).then_some(10))).collect();
        }
        // Apart from each other, so that each is watched by somebody who is not.
        for number in 0..silent {
            evidence.rows.remove(&name(10 + 4 * number % (n - 12)));
        }
        let Judgement::Partition { missing, .. } = judge(&evidence) else {
            panic!("{silent}: {:?}", judge(&evidence));
        };
        assert_eq!(missing.len(), silent, "{missing:?}");
    }
}
