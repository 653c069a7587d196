//! What happens in the demo, in order.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::service::{self, Etcd};
use super::stage::{Said, Stage};
use crate::exit::{Exit, Failure};
use crate::output::talk;

/// How long the views may take to show what has happened.
const VIEWS: Duration = Duration::from_secs(15);

/// Plays everything but the end.
pub fn tell(stage: &Stage) -> Result<(), Failure> {
    if service::is_installed() {
        with_etcd(stage)?
    } else {
        with_coordinators(stage)?
    }
    stop_everything(stage)
}

fn with_etcd(stage: &Stage) -> Result<(), Failure> {
    stage.heading(
        "five hosts with an agent each, three with a coordinator, on a network of their own",
    );
    up(
        stage,
        &["--label", "h1=group=etcd", "--label", "h2=group=etcd", "--label", "h3=group=etcd"],
    )?;
    stage.run(&["status"])?;

    stage.heading("a real service: etcd on h1, h2 and h3");
    let etcd = Etcd::start(stage)?;
    let leader = etcd.wait_for_leader(stage, &[])?;
    talk(format!("etcd runs; {leader} leads it"));

    stage.heading(&format!("an experiment: etcd goes on while its leader {leader} is cut off"));
    let witness = service::MEMBERS.into_iter().find(|h| *h != leader).unwrap_or("h1");
    let file = write(stage, "cut-the-leader.yaml", &cut_the_leader(leader, witness))?;
    stage.run(&["plan", &file])?;
    let id = detached(stage, &file)?;
    expect_views(stage, "partition")?;
    stage.run(&["views"])?;
    let successor = etcd.wait_for_leader(stage, &[leader])?;
    talk(format!("meanwhile in etcd: {successor} was elected by the majority"));

    stage.heading("its verdict, once everything is lifted and seen to be gone");
    let said = stage.show(&["watch", &id])?;
    expect_views(stage, "agree")?;
    stage.run(&["views"])?;
    ended(&said, &[0], "the experiment")
}

fn with_coordinators(stage: &Stage) -> Result<(), Failure> {
    talk("etcd is not installed: the service that is hurt is Squall's own consensus");
    stage.heading("five hosts with an agent, three with a coordinator and an agent, on a network of their own");
    up(stage, &["--agents-on-coordinators"])?;
    stage.run(&["status"])?;
    let leader = leader(stage)?;

    stage.heading(&format!(
        "an experiment: the cluster goes on while its leader {leader} is cut off"
    ));
    let file = write(stage, "cut-the-leader.yaml", &cut_the_coordinator(&leader))?;
    stage.run(&["plan", &file])?;
    // From a host that is cut off nobody hears that its fault is held: this ends after the fault does.
    let run = stage.begin(&["run", &file])?;
    expect_views(stage, "partition")?;
    stage.run(&["views"])?;

    stage.heading("its verdict: the host was cut off from whoever could renew, and lifted alone");
    let said = run.end()?;
    expect_views(stage, "agree")?;
    stage.run(&["views"])?;
    // Nobody could see the fault end on time: the lease ended it, and that is never called held.
    ended(&said, &[6], "the experiment")
}

fn stop_everything(stage: &Stage) -> Result<(), Failure> {
    stage.heading("the emergency stop, while a fault is held");
    let file = write(stage, "lose-packets.yaml", LOSE_PACKETS)?;
    detached(stage, &file)?;
    stage.run(&["faults"])?;
    stage.run(&["stop-all"])?;
    let refused = stage.show(&["run", &file])?;
    ended(&refused, &[3], "a start after a stop")?;
    talk("nothing starts before a resume that names the stop");
    Ok(())
}

fn up(stage: &Stage, labels: &[&str]) -> Result<(), Failure> {
    // What an earlier demo left when it was killed is cleared first.
    stage.ask(&["lab", "down", super::LAB])?;
    let args: Vec<&str> = ["lab", "up", super::LAB, "--hosts", "5", "--coordinators", "3"]
        .into_iter()
        .chain(labels.iter().copied())
        .collect();
    talk(format!("\n$ squall {}", args.join(" ")));
    let made = stage.json(&args)?;
    let dir = made["cluster"].as_str().unwrap_or_default();
    if dir.is_empty() {
        return Err(Failure::local("no lab was made", "what squall lab up said stands above"));
    }
    stage.set_cluster(dir);
    let pids = made["hosts"].as_array().into_iter().flatten();
    let pids: Vec<String> = pids.filter_map(|h| h["pid"].as_u64()).map(|n| n.to_string()).collect();
    stage.set_hosts(&pids);
    Ok(())
}

/// Starts an experiment and returns its id once its faults are held.
fn detached(stage: &Stage, file: &str) -> Result<String, Failure> {
    talk(format!("\n$ squall run --detach {file}"));
    let row = stage.json(&["run", "--detach", file])?;
    match row["id"].as_str() {
        Some(id) => Ok(id.to_owned()),
        None => Err(Failure::new(Exit::Broken, "the experiment did not start", "see above")),
    }
}

/// Waits until the views show a verdict, and of a partition that it is complete.
fn expect_views(stage: &Stage, verdict: &str) -> Result<(), Failure> {
    let began = Instant::now();
    while began.elapsed() < VIEWS {
        let views = stage.json(&["views"])?;
        if views["verdict"] == verdict && (views["kind"].is_null() || views["kind"] == "complete") {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let what = format!("the views do not show `{verdict}` within {} s", VIEWS.as_secs());
    Err(Failure::new(Exit::Broken, what, "squall views shows what they say"))
}

fn leader(stage: &Stage) -> Result<String, Failure> {
    let status = stage.json(&["status"])?;
    let leader = status["cluster"]["leader"].as_str().map(str::to_owned);
    leader.ok_or_else(|| Failure::local("the cluster has no leader", "squall status"))
}

fn ended(said: &Said, good: &[i32], what: &str) -> Result<(), Failure> {
    if good.contains(&said.code) {
        return Ok(());
    }
    let what = format!("{what} ended with {}, not with {good:?}", said.code);
    Err(Failure::new(Exit::Broken, what, "what it said stands above"))
}

fn write(stage: &Stage, name: &str, text: &str) -> Result<String, Failure> {
    let path: PathBuf = stage.dir()?.join(name);
    crate::files::write(&path, text)?;
    talk(format!("\n{text}"));
    Ok(path.display().to_string())
}

fn cut_the_leader(leader: &str, witness: &str) -> String {
    format!(
        "name: cut-the-leader
objective: etcd answers while the member that leads it is cut off from the others
targets: {{ hosts: [{leader}] }}
faults:
  - partition: {{ peers: {{ group: etcd }} }}
duration: 12s
steady-state:
  - name: health
    http: {{ url: \"http://{witness}:2379/health\" }}
    from: h5
    every: 200ms
    expect: {{ error-rate: \"< 50%\" }}
baseline: 3s
recovery: 4s
"
    )
}

fn cut_the_coordinator(leader: &str) -> String {
    format!(
        "name: cut-the-leader
objective: the cluster goes on while the coordinator that leads it is cut off, control and all
targets: {{ hosts: [{leader}] }}
faults:
  - partition: {{ peers: all, control: severed }}
duration: 20s
safety: {{ lease: 6s }}
"
    )
}

const LOSE_PACKETS: &str = "name: lose-packets
objective: something to stop
targets: { hosts: [h4] }
faults:
  - loss: { percent: 20, peers: [h5] }
duration: 60s
";
