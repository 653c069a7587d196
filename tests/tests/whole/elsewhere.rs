//! A host whose agent keeps its things in places of its own: commands beside it go there too.

use squall_cluster::Up;
use squall_tests::fleet::{Fleet, Said, config, until};

const INJECT: [&str; 7] = ["squall", "inject", "cpu", "--load", "5", "--for", "2s"];

/// Gives h1's agent a configuration with these lines too, and starts it anew.
fn with_lines(fleet: &Fleet, lines: &str) {
    let path = fleet.path("h1", config("agent"));
    let old = std::fs::read_to_string(&path).expect("its configuration");
    std::fs::write(&path, format!("{lines}\n{old}")).expect("written");
    end_agent(fleet);
    fleet.revive("h1", "agent");
    fleet.await_state("h1", "armed");
}

fn end_agent(fleet: &Fleet) {
    assert_eq!(fleet.signal("h1", "agent", "TERM"), 1);
    until(20_000, "the agent has ended", || fleet.pids("h1", "agent").is_empty().then_some(()));
}

fn refused(said: &Said, why: &str) {
    assert!(said.code == 3 && said.err.contains(why), "`{why}` is not said: {said:#?}");
}

#[test]
fn commands_beside_the_agent_find_its_latch_and_its_policy() {
    let fleet = Fleet::up(&Up { hosts: 1, coordinators: 1, ..Up::default() });
    let policy = fleet.path("h1", "/etc/strict.toml");
    std::fs::write(policy, "max-cpu-percent = 50\n").expect("written");
    let places = "state-dir = \"/var/lib/other\"\nrun-dir = \"/run/other\"\n";
    with_lines(&fleet, &format!("{places}policy = \"/etc/strict.toml\""));
    let _ = fleet.on("h1", &INJECT).ended(0);
    let stop = fleet.squall(&["stop-all", "-o", "json"]).ended(0).json();
    refused(&fleet.on("h1", &INJECT), "stop");
    // The same without the agent: its journal tells.
    end_agent(&fleet);
    refused(&fleet.on("h1", &INJECT), "stop");
    fleet.revive("h1", "agent");
    fleet.await_state("h1", "latched");
    let id = stop["stop"].as_str().expect("its id");
    let _ = fleet.squall(&["resume", id]).ended(0);
    fleet.await_state("h1", "armed");
    end_agent(&fleet);
    let much: Vec<&str> = INJECT.iter().map(|w| if *w == "5" { "60" } else { w }).collect();
    refused(&fleet.on("h1", &much), "a load of 60 percent is more than the 50");
}

#[test]
fn a_lift_that_knows_of_nothing_looks_all_the_same() {
    let fleet = Fleet::up(&Up { hosts: 2, coordinators: 1, ..Up::default() });
    let strangers = ["--state-dir", "/var/lib/other", "--run-dir", "/run/other"];
    let cut = ["squall", "inject", "partition", "--peers", "10.77.0.2", "--for", "60s"];
    let words: Vec<&str> = cut.iter().chain(&strangers).copied().collect();
    // Not beside an agent, which would not know of it.
    let refused = fleet.on("h1", &words).ended(2);
    assert!(refused.err.contains("leave --state-dir and --run-dir out"), "{refused:#?}");
    assert!(fleet.pings("h1", "h2", 2.0));
    // Somebody has found a way all the same.
    let (usual, hidden) = ("/etc/squall/agent.toml", "/etc/squall/hidden.toml");
    let _ = fleet.on("h1", &["mv", usual, hidden]).ended(0);
    let mut injected = fleet.lab.exec("h1", words).spawn().expect("it starts");
    until(10_000, "it cuts", || (!fleet.pings("h1", "h2", 0.3)).then_some(()));
    let _ = fleet.on("h1", &["mv", hidden, usual]).ended(0);
    // The agent, and then a person who is all there is.
    for alone in [false, true] {
        if alone {
            end_agent(&fleet);
        }
        let said = fleet.on("h1", &["squall", "lift"]).ended(5);
        for word in ["nft table inet sq", "squall hold", "kill -9"] {
            assert!(said.err.contains(word), "`{word}` is not said: {said:#?}");
        }
    }
    let words: Vec<&str> = ["squall", "lift"].iter().chain(&strangers).copied().collect();
    let _ = fleet.on("h1", &words).ended(0);
    assert_eq!(injected.wait().expect("it ends").code(), Some(7));
    let said = fleet.on("h1", &["squall", "lift"]).ended(0);
    assert_eq!(said.out, "clean: nothing was held\n");
}
