//! `squall stop-all`: one stop, told to every coordinator at once; the answers of all are joined.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use squall_core::ids::{Coordinator, HostName, StopId};
use squall_core::message::{Request, Response, StopHost, StopProgress, StopState};
use squall_core::stopping::{is_done, merge};
use squall_wire::WireError;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::watch::Interrupts;
use crate::cli::Format;
use crate::client::{Client, is_final, is_refusal, nobody};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::stop::{StopView, news, waiting};
use crate::output::{self, talk};

/// How long is tried until some coordinator has taken the stop.
const FIRST: Duration = Duration::from_secs(12);
/// By then every coordinator that runs and can be reached has said something.
const TRIED: Duration = Duration::from_secs(2);
/// How long the whole may take: the longest lease, and time to connect.
const WHOLE: Duration = Duration::from_secs(45);
/// Between two tries at one coordinator.
const GAP: Duration = Duration::from_millis(200);
/// How long nothing is said of whom is waited for, and between two words of it.
const QUIET: Duration = Duration::from_secs(1);
const REMINDER: Duration = Duration::from_secs(5);

/// What one coordinator said, by its place in the list.
enum Word {
    Progress(StopProgress),
    Trouble(Result<Response, WireError>),
}

/// What is known so far.
struct State {
    members: Vec<Coordinator>,
    /// What each coordinator said last, and when.
    parts: BTreeMap<usize, (StopProgress, Instant)>,
    trouble: BTreeMap<usize, Result<Response, WireError>>,
    told: BTreeMap<HostName, StopHost>,
    /// When whom is waited for is said next, since the beginning.
    remind_at: Duration,
}

/// `squall stop-all`.
pub async fn stop_all(client: &Client, format: Format) -> Outcome {
    let began = Instant::now();
    // A stop that nobody can leave is a stop all the same.
    let mut interrupts = Interrupts::new().ok();
    let stop = StopId(Uuid::new_v4());
    talk(format!("stop {stop} to every coordinator"));
    let members = client.dir.file.coordinators.clone();
    let (words, mut inbox) = mpsc::unbounded_channel();
    let tell_all = members.iter().enumerate().map(|(place, member)| {
        let words = words.clone();
        async move { tell(client, place, member, stop, &words).await }
    });
    let telling = futures_util::future::join_all(tell_all);
    let mut state = State::new(members.clone());
    tokio::pin!(telling);
    let listen = async {
        while !state.is_over(began.elapsed()) {
            let wait = tokio::time::sleep(Duration::from_millis(100));
            tokio::select! {
                word = inbox.recv() => if let Some((place, word)) = word { state.hear(place, word) },
                () = wait => {}
            }
            state.remind(began.elapsed());
        }
    };
    let left = tokio::select! {
        // Each teller goes on for as long as somebody listens.
        _ = &mut telling => false,
        () = listen => false,
        () = left(interrupts.as_mut()) => true,
    };
    if left {
        // Each coordinator gets it, or is tried, first.
        let asked = async {
            while !state.all_answered() {
                let Some((place, word)) = inbox.recv().await else { return };
                state.hear(place, word);
            }
        };
        tokio::select! {
            _ = &mut telling => {}
            _ = tokio::time::timeout(TRIED, asked) => {}
            () = self::left(interrupts.as_mut()) => {}
        }
    }
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    conclude(state, left, took_ms, format)
}

/// Until somebody does not want to wait any more.
async fn left(interrupts: Option<&mut Interrupts>) {
    match interrupts {
        Some(interrupts) => interrupts.next().await,
        None => std::future::pending().await,
    }
}

/// Tells one coordinator, and goes on telling it for as long as it does not say its last word.
async fn tell(
    client: &Client,
    place: usize,
    member: &Coordinator,
    stop: StopId,
    words: &mpsc::UnboundedSender<(usize, Word)>,
) {
    loop {
        let trouble = match converse(client, place, member, stop, words).await {
            Ok(None) => std::future::pending().await,
            Ok(Some(response)) => Ok(response),
            Err(error) => Err(error),
        };
        // The listener is there for as long as this runs.
        let _ = words.send((place, Word::Trouble(trouble)));
        tokio::time::sleep(GAP).await;
    }
}

/// One connection: `None` after its last word, else the answer that was none.
async fn converse(
    client: &Client,
    place: usize,
    member: &Coordinator,
    stop: StopId,
    words: &mpsc::UnboundedSender<(usize, Word)>,
) -> Result<Option<Response>, WireError> {
    let (_connection, mut channel) = client.start(member, &Request::StopAll(stop)).await?;
    loop {
        match channel.recv::<Response>().await? {
            Some(Response::Stop(progress)) => {
                let last = progress.last;
                let _ = words.send((place, Word::Progress(progress)));
                if last {
                    return Ok(None);
                }
            }
            Some(other) => return Ok(Some(other)),
            None => return Err(WireError::ChannelOver),
        }
    }
}

impl State {
    fn new(members: Vec<Coordinator>) -> State {
        State {
            members,
            parts: BTreeMap::new(),
            trouble: BTreeMap::new(),
            told: BTreeMap::new(),
            remind_at: QUIET,
        }
    }

    fn hear(&mut self, place: usize, word: Word) {
        match word {
            Word::Progress(progress) => {
                self.trouble.remove(&place);
                self.parts.insert(place, (progress, Instant::now()));
                self.comment();
            }
            Word::Trouble(trouble) => drop(self.trouble.insert(place, trouble)),
        }
    }

    /// Each host once it has answered, and again where its answer has become a better one.
    fn comment(&mut self) {
        let Some(merged) = self.merged() else { return };
        for host in merged.hosts {
            let known = self.told.get(&host.host);
            let worth = match known {
                None => host.receipt.is_some(),
                Some(known) => known.receipt != host.receipt,
            };
            if worth {
                talk(news(&host));
                self.told.insert(host.host.clone(), host);
            }
        }
    }

    /// Says from time to time whom this waits for.
    fn remind(&mut self, elapsed: Duration) {
        if elapsed < self.remind_at {
            return;
        }
        self.remind_at = elapsed + REMINDER;
        match self.merged() {
            Some(merged) => waiting(&merged).iter().for_each(talk),
            None => talk(format!(
                "waiting for a coordinator: none has taken the stop; trying for {} s more",
                FIRST.saturating_sub(elapsed).as_secs()
            )),
        }
    }

    fn all_answered(&self) -> bool {
        let answered = |place| self.parts.contains_key(&place) || self.trouble.contains_key(&place);
        (0..self.members.len()).all(answered)
    }

    /// What all of them said together, as it stands now.
    fn merged(&self) -> Option<StopProgress> {
        let now = |(progress, said): &(StopProgress, Instant)| {
            let mut progress = progress.clone();
            let passed = u64::try_from(said.elapsed().as_millis()).unwrap_or(u64::MAX);
            for host in &mut progress.hosts {
                host.lapses_in_ms = host.lapses_in_ms.saturating_sub(passed);
            }
            progress
        };
        let parts: Vec<StopProgress> = self.parts.values().map(now).collect();
        merge(&parts)
    }

    /// Nothing more is to be learnt: done and in the log, or those that took the stop have said their
    /// last word and every coordinator has been tried, or time is up. One that answers knows perhaps
    /// of a host of which those that have spoken know nothing.
    fn is_over(&self, elapsed: Duration) -> bool {
        let Some(merged) = self.merged() else {
            // One that refuses may be about to restart.
            return elapsed >= FIRST || self.all_said(is_final);
        };
        let all_answered = self.all_answered();
        // A coordinator that was lost in mid-sentence is not waited for while another one finishes.
        let spoken = self.parts.values().any(|(p, _)| p.last)
            && self.parts.iter().all(|(place, (p, _))| p.last || self.trouble.contains_key(place));
        let done = is_done(&merged);
        let tried = all_answered || (done && elapsed >= TRIED);
        (done && merged.committed) || (spoken && tried) || elapsed >= WHOLE
    }

    /// Every coordinator has refused the stop. One that is silent may have passed it on.
    fn is_refused(&self) -> bool {
        self.all_said(is_refusal)
    }

    fn all_said(&self, what: fn(&Result<Response, WireError>) -> bool) -> bool {
        self.trouble.len() == self.members.len() && self.trouble.values().all(what)
    }
}

/// No coordinator is known to have taken the stop.
fn not_seen(state: State, left: bool) -> Failure {
    let hosts = if state.is_refused() {
        "no host was told"
    } else {
        "no host is known to have been told; each fault ends with its lease at the latest where \
         no coordinator is left to renew it"
    };
    let on_a_host = "on a host: squall lift, or pkill -9 squall";
    let (what, next) = if left {
        let what = "left before a coordinator had answered: one may have taken the stop";
        (what.to_owned(), format!("squall stop-all again; {on_a_host}"))
    } else {
        let trouble = state.trouble.into_iter();
        let said = trouble.map(|(place, trouble)| (state.members[place].clone(), trouble));
        let failure = nobody(&said.collect::<Vec<_>>());
        (failure.what, format!("{}; {on_a_host}", failure.next))
    };
    Failure::new(Exit::Unreachable, format!("NOT SEEN TO STOP: {what}"), next).with_hosts(hosts)
}

/// Says how it ended; where somebody `left` it before that, how it stands.
fn conclude(state: State, left: bool, took_ms: u64, format: Format) -> Outcome {
    let Some(merged) = state.merged() else { return Err(not_seen(state, left)) };
    if left && !merged.released {
        talk("left early: the stop stands, and a host that has not answered is told of it still");
    }
    for (place, trouble) in &state.trouble {
        if !state.parts.contains_key(place) {
            let name = &state.members[*place].name;
            match trouble {
                Err(error) => talk(format!("{name}: {error}")),
                Ok(_) => talk(format!("{name}: did not take the stop")),
            }
        }
    }
    let mut view = StopView::new(&merged, took_ms);
    // Whoever leaves before the log has it may have asked too few.
    if left && !merged.committed {
        (view.done, view.left_early) = (false, true);
    }
    let told = output::emit(format, &view, StopView::table);
    if format != Format::Table || told.is_err() {
        talk(view.last_words());
    }
    let lapsing = merged.hosts.iter().any(|h| h.state == StopState::Lapsing);
    let exit = if view.done && !lapsing { Exit::Held } else { Exit::NotClean };
    exit.after(told)
}

#[cfg(test)]
mod tests {
    use squall_core::ids::{AgentRun, NodeId};
    use squall_core::message::{Latched, Receipt};

    use super::*;

    fn of_three() -> State {
        let member = |id: u64| Coordinator {
            id: NodeId(id),
            name: format!("c{id}").parse().unwrap(),
            address: ([127, 0, 0, 1], 7443).into(),
        };
        State::new([1, 2, 3].map(member).to_vec())
    }

    /// The last word of a coordinator to which all its hosts have answered.
    fn done(committed: bool) -> StopProgress {
        let stop = StopId(Uuid::from_u128(1));
        let receipt = Receipt {
            stop,
            run: AgentRun(Uuid::from_u128(2)),
            lifted: 0,
            residue: Vec::new(),
            latched: Latched::Durable,
            took_ms: 1,
        };
        let host = StopHost {
            host: "h1".parse().unwrap(),
            state: StopState::Lifted,
            receipt: Some(receipt),
            lapses_in_ms: 0,
        };
        let hosts = vec![host];
        StopProgress { stop, committed, whole: true, released: false, hosts, last: true }
    }

    fn gone() -> Word {
        Word::Trouble(Err(WireError::ChannelOver))
    }

    #[test]
    fn what_the_log_has_and_all_have_answered_is_over_at_once() {
        let mut state = of_three();
        assert!(!state.is_over(FIRST - GAP) && state.is_over(FIRST), "nobody took it");
        state.hear(0, Word::Progress(done(true)));
        assert!(state.is_over(Duration::ZERO));
    }

    #[test]
    fn without_the_log_the_other_coordinators_have_two_seconds_to_name_more_hosts() {
        let mut state = of_three();
        state.hear(0, Word::Progress(done(false)));
        state.hear(1, gone());
        assert!(!state.is_over(TRIED - GAP) && state.is_over(TRIED));
        let third = |state: &mut State, word| {
            state.hear(2, word);
            state.is_over(Duration::ZERO)
        };
        let mut more = done(false);
        more.hosts[0].host = "h2".parse().unwrap();
        more.hosts[0].receipt = None;
        more.last = false;
        assert!(!third(&mut state, Word::Progress(more)));
        assert!(!state.is_over(WHOLE - GAP) && state.is_over(WHOLE), "h2 may answer yet");
        let mut state = of_three();
        state.hear(0, Word::Progress(done(false)));
        state.hear(1, gone());
        assert!(third(&mut state, gone()), "all have been tried");
    }

    #[test]
    fn whoever_does_not_wait_hears_how_the_stop_stands() {
        let missing = |mut progress: StopProgress| {
            progress.hosts[0].receipt = None;
            progress.hosts[0].state = StopState::Lapsing;
            progress.hosts[0].lapses_in_ms = 4_000;
            progress.last = false;
            progress
        };
        let left = |progress| {
            let mut state = of_three();
            state.hear(0, Word::Progress(progress));
            conclude(state, true, 300, Format::Table)
        };
        assert_eq!(left(missing(done(true))), Ok(Exit::NotClean));
        assert_eq!(left(done(true)), Ok(Exit::Held));
        let nobody = conclude(of_three(), true, 300, Format::Table).unwrap_err();
        assert_eq!(nobody.exit, Exit::Unreachable);
        assert!(nobody.what.contains("one may have taken the stop"), "{nobody}");
    }

    #[test]
    fn whom_it_waits_for_is_said_after_a_second_and_from_time_to_time() {
        let mut state = of_three();
        state.remind(QUIET - GAP);
        assert_eq!(state.remind_at, QUIET);
        state.remind(QUIET);
        state.remind(QUIET + GAP);
        assert_eq!(state.remind_at, QUIET + REMINDER);
    }

    #[test]
    fn what_may_be_held_lapses_while_nobody_says_anything() {
        let mut state = of_three();
        let mut progress = done(true);
        progress.hosts[0].receipt = None;
        progress.hosts[0].lapses_in_ms = 5_000;
        let said = Instant::now().checked_sub(Duration::from_secs(2)).expect("a moment ago");
        state.parts.insert(0, (progress, said));
        let left = state.merged().expect("one has spoken").hosts[0].lapses_in_ms;
        assert!((2_000..=3_000).contains(&left), "{left}");
    }

    #[test]
    fn no_host_was_told_where_every_coordinator_says_no() {
        let mut state = of_three();
        assert!(!state.is_refused(), "they are silent");
        for place in 0..3 {
            assert!(!state.is_over(Duration::ZERO));
            let address = ([127, 0, 0, 1], 7443).into();
            let no = WireError::RefusedByPeer { address, why: "no".into() };
            state.hear(place, Word::Trouble(Err(no)));
        }
        assert!(state.is_refused() && state.is_over(FIRST));
    }

    #[test]
    fn a_coordinator_that_is_lost_in_mid_sentence_holds_nobody_up() {
        let mut state = of_three();
        let halfway = StopProgress { last: false, ..done(false) };
        state.hear(0, Word::Progress(halfway));
        state.hear(1, Word::Progress(done(false)));
        state.hear(2, gone());
        assert!(!state.is_over(Duration::ZERO));
        state.hear(0, gone());
        assert!(state.is_over(Duration::ZERO));
    }
}
