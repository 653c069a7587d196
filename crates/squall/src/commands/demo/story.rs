//! What happens in the demo, in order.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::service::{Kind, MEMBERS, Service};
use super::stage::{Said, Stage};
use crate::exit::{Exit, Failure};
use crate::output::talk;

/// How long the views may take to show what has happened.
const VIEWS: Duration = Duration::from_secs(15);

/// Plays everything but the end.
pub fn tell(stage: &Stage) -> Result<(), Failure> {
    let kind = Kind::here();
    let name = kind.name();
    stage.heading(
        "five hosts with an agent each, three with a coordinator, on a network of their own",
    );
    up(stage, name)?;
    stage.run(&["status"])?;

    stage.heading(&format!("a real service: {name} on h1, h2 and h3"));
    if kind == Kind::Squall {
        talk("etcd is not installed: Squall's own consensus is hurt, as a cluster apart from ours");
    }
    let service = Service::start(stage, kind)?;
    let leader = service.wait_for_leader(stage, &[])?;
    talk(format!("{name} runs; {leader} leads it"));

    stage.heading(&format!("an experiment: {name} goes on while its leader {leader} is cut off"));
    let file = write(stage, "cut-the-leader.yaml", &cut_the_leader(kind, leader))?;
    stage.run(&["plan", &file])?;
    let id = detached(stage, &file)?;
    expect_views(stage, "partition")?;
    stage.run(&["views"])?;
    let successor = service.wait_for_leader(stage, &[leader])?;
    talk(format!("meanwhile in {name}: {successor} was elected by the majority"));

    stage.heading("its verdict, once everything is lifted and seen to be gone");
    let said = stage.show(&["watch", &id])?;
    expect_views(stage, "agree")?;
    stage.run(&["views"])?;
    ended(&said, &[0], "the experiment")?;
    stop_everything(stage)
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

fn up(stage: &Stage, group: &str) -> Result<(), Failure> {
    clear_earlier(stage);
    let mut labels: Vec<String> = MEMBERS.iter().map(|h| format!("{h}=group={group}")).collect();
    labels.push(format!("h1={}={}", super::MARK, std::process::id()));
    let mut args = vec!["lab", "up", stage.lab(), "--hosts", "5", "--coordinators", "3"];
    args.extend(labels.iter().flat_map(|label| ["--label", label]));
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

/// What earlier demos left when they were killed.
fn clear_earlier(stage: &Stage) {
    // It is a kindness: where it fails, this demo has a lab of its own all the same.
    let Ok(labs) = stage.json(&["lab", "ls"]) else { return };
    for lab in labs.as_array().into_iter().flatten() {
        let maker = lab["hosts"][0]["labels"][super::MARK].as_str();
        let maker = maker.and_then(|pid| pid.parse::<u32>().ok());
        let gone = |pid| pid == std::process::id() || !Path::new(&format!("/proc/{pid}")).exists();
        if let (Some(name), true) = (lab["name"].as_str(), maker.is_some_and(gone)) {
            let _ = stage.ask(&["lab", "down", name]);
        }
    }
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

fn cut_the_leader(kind: Kind, leader: &str) -> String {
    let name = kind.name();
    let witness = MEMBERS.into_iter().find(|h| *h != leader).unwrap_or("h1");
    let hypothesis = match kind {
        Kind::Etcd => format!(
            "steady-state:
  - name: health
    http: {{ url: \"http://{witness}:2379/health\" }}
    from: h5
    every: 200ms
    expect: {{ error-rate: \"< 50%\" }}
baseline: 3s
recovery: 4s
"
        ),
        // It speaks QUIC alone, which no probe does.
        Kind::Squall => String::new(),
    };
    format!(
        "name: cut-the-leader
objective: {name} goes on while the member that leads it is cut off from the others
targets: {{ hosts: [{leader}] }}
faults:
  - partition: {{ peers: {{ group: {name} }} }}
duration: 12s
{hypothesis}"
    )
}

const LOSE_PACKETS: &str = "name: lose-packets
objective: something to stop
targets: { hosts: [h4] }
faults:
  - loss: { percent: 20, peers: [h5] }
duration: 60s
";
