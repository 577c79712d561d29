//! `heddle why`: what decides about one node, field by field.

use std::collections::{BTreeMap, BTreeSet};

use heddle_graph::{
    digest::Digest,
    plan::{self, Action, Change, Facts, KeyParts, Known, Plan, RunReason, Trace},
};
use serde::Serialize;

use super::{
    args::{Common, WhyOptions},
    exit::{Exit, Failure},
    explain::{duration, grouped},
    home,
    idle::Idle,
    output,
    plan::Memory,
    rows::{self, Needed},
    runs,
};
use crate::{
    device,
    exec::{NodeState, RowCount, RunRecord, RunsDir},
    project,
};

/// The newest runs in which the nearest key is looked for.
const RUNS: usize = 200;

/// Runs the command. Nothing runs, and the exit code says only whether there is an answer.
pub fn run(options: &WhyOptions, common: &Common) -> Result<Exit, Failure> {
    let project = project::load(&options.file, &options.look.set)?;
    let wanted = project.places(std::slice::from_ref(&options.node))?;
    let home = home::of_experiment(common, &options.file);
    let used = options.look.caches.with(project.experiment.cache.remote.as_deref())?;
    let memory = Memory::open(&home, &format!("why {}", options.file), options.look.wait, &used)?;
    let (facts, library) = memory.facts_and_files(&project)?;
    let plan = plan::build(&facts, &wanted, &BTreeSet::new(), memory.known());
    let runs = RunsDir::new(&home);
    let ids = runs.ids().map_err(Failure::io(format!("listing {}", home.display())))?;
    let records: Vec<RunRecord> = match &options.vs {
        Some(wanted) => {
            let id = runs::find(&ids, wanted).map_err(Failure::Other)?;
            vec![runs.read(id).map_err(Failure::io(format!("reading the record of run {id}")))?]
        }
        // Records that do not read are no candidates.
        None => ids.iter().rev().take(RUNS).filter_map(|id| runs.read(id).ok()).collect(),
    };
    let question = Question { facts: &facts, plan: &plan, known: memory.known(), records: &records };
    let place = *wanted.first().expect("one node was asked for");
    let compute = device::choose(project.experiment.run.device);
    let idle = memory.store().map(|store| Idle {
        project: &project,
        facts: &facts,
        plan: &plan,
        store,
        library: &library,
        compute,
    });
    if let Some(record) = &options.record {
        let idle = idle.ok_or_else(|| Failure::Other("there is no cache yet: nothing ran".to_owned()))?;
        let followed = rows::follow(&idle, place, record)?;
        match options.look.json {
            true => output::json(&followed)?,
            false => output::result(&followed.text(&options.node)),
        }
        return Ok(Exit::Done);
    }
    let mut answer = match &options.vs {
        Some(_) => question.against(place, &records[0])?,
        None => question.nearest(place),
    };
    answer.ran = question.ran(place);
    if !matches!(answer.action, Action::Hit { .. })
        && let Some(idle) = idle
    {
        answer.rows = rows::count(&idle, place)?;
    }
    if options.look.json {
        output::json(&answer)?;
    } else {
        output::result(&answer.text());
    }
    Ok(Exit::Done)
}

/// What is known.
struct Question<'a> {
    facts: &'a [Facts],
    plan: &'a Plan,
    known: &'a dyn Known,
    records: &'a [RunRecord],
}

/// What decides about a node.
#[derive(Debug, Serialize)]
struct Answer {
    /// The node.
    node: String,
    /// Its kind.
    kind: String,
    /// Its key, if all its inputs are known.
    key: Option<Digest>,
    /// `hit` or `run`, with the plan's reason.
    #[serde(flatten)]
    action: Action,
    /// What it is compared with.
    compared: Option<Compared>,
    /// The fields of the key that differ from that; inputs that are not known yet are left out.
    differs_in: Vec<Change>,
    /// The first node upstream that has a difference of its own.
    first_upstream: Option<Upstream>,
    /// The rows of its frozen part that it would need now.
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<Needed>,
    /// The run in which its artifacts were made.
    #[serde(skip_serializing_if = "Option::is_none")]
    ran: Option<Ran>,
}

/// How a node's artifacts came about.
#[derive(Debug, Serialize)]
struct Ran {
    /// The run.
    run: String,
    /// The rows of its frozen part that it found and computed.
    rows: BTreeMap<String, RowCount>,
    /// What was new since the run before: the first node that differed, and the fields of its key.
    since: Option<Upstream>,
}

/// A key of before.
#[derive(Debug, Serialize)]
struct Compared {
    /// The run that had it, if one is known.
    run: Option<String>,
    /// The key.
    key: Digest,
    /// When the node ran, seconds since 1970; none if the cache has forgotten.
    finished_unix: Option<u64>,
    /// How long it took.
    seconds: Option<f64>,
}

/// A node upstream.
#[derive(Debug, Serialize)]
struct Upstream {
    /// The node.
    node: String,
    /// Its kind.
    kind: String,
    /// Why it runs; none if it is a hit that is another one than in the run that is compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<RunReason>,
    /// The fields of its key that differ.
    differs_in: Vec<Change>,
}

/// A key of before, with what it is made of.
struct Before {
    run: Option<String>,
    trace: Trace,
}

impl Question<'_> {
    /// The key of a node as far as its inputs are known; which of them are not.
    fn parts(&self, place: usize) -> (KeyParts, BTreeSet<String>) {
        let fact = &self.facts[place];
        let mut unknown = BTreeSet::new();
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        let mut digests = Vec::new();
        for input in &fact.inputs {
            let within = places.entry(&input.port).or_default();
            let digest = match &self.plan.nodes[input.from].action {
                Action::Hit { trace } => trace.outputs.get(&input.output).copied(),
                _ => None,
            };
            if digest.is_none() {
                unknown.insert(format!("inputs.{}[{within}]", input.port));
            }
            *within += 1;
            digests.push(digest.unwrap_or(Digest::from_bytes([0; 32])));
        }
        (KeyParts::new(fact, &digests), unknown)
    }

    fn changes(&self, place: usize, before: &KeyParts) -> Vec<Change> {
        let (parts, unknown) = self.parts(place);
        let mut changes = RunReason::compare(before, &parts);
        changes.retain(|change| !unknown.contains(&change.field));
        changes
    }

    /// The key of before that differs least; of equally near ones the newest.
    fn before(&self, place: usize) -> Option<(Before, Vec<Change>)> {
        let fact = &self.facts[place];
        let latest = self.known.latest(&fact.name, &fact.kind).map(|trace| Before { run: None, trace });
        let mut seen = BTreeSet::new();
        let of_runs = self.records.iter().filter_map(|record| {
            let node = record.nodes.iter().find(|n| n.name == fact.name && n.kind == fact.kind)?;
            let trace = seen.insert(node.key?).then(|| self.known.trace(&node.key?))??;
            Some(Before { run: Some(record.id.clone()), trace })
        });
        let hit = match &self.plan.nodes[place].action {
            Action::Hit { trace } => Some(Before { run: None, trace: (**trace).clone() }),
            Action::Run { .. } | Action::Skip => None,
        };
        // Of equal keys the first counts, and there the run's name is worth having.
        let candidates = of_runs.chain(hit).chain(latest);
        let compared = candidates.map(|before| {
            let changes = self.changes(place, &before.trace.parts);
            (before, changes)
        });
        compared.min_by_key(|(_, changes)| changes.len())
    }

    /// What decides, beside the nearest key of before.
    fn nearest(&self, place: usize) -> Answer {
        let (compared, changes) = match self.before(place) {
            Some((before, changes)) => (Some(Compared::of(before)), changes),
            None => (None, Vec::new()),
        };
        // Where the inputs are there already, they differ from those of the run that is compared with.
        let run = compared.as_ref().and_then(|compared| compared.run.as_ref());
        let run = run.filter(|_| !changes.is_empty());
        let run = run.and_then(|id| self.records.iter().find(|record| record.id == *id));
        let upstream = self.upstream(place).into_iter().find_map(|up| {
            let Action::Run { reason, .. } = &self.plan.nodes[up].action else { return None };
            let before = self.before(up).map(|(_, changes)| changes).unwrap_or_default();
            // A node that only waits for others is not where the difference begins.
            let own = !matches!(reason, RunReason::Upstream { .. }) || !before.is_empty();
            own.then(|| self.differing(up, before))
        });
        let upstream = upstream.or_else(|| self.first_that_differs(place, run?));
        self.answer(place, compared, changes, upstream)
    }

    /// What decides, beside the key in one run.
    fn against(&self, place: usize, run: &RunRecord) -> Result<Answer, Failure> {
        let name = &self.facts[place].name;
        let old = self
            .key_in(place, run)
            .ok_or_else(|| Failure::Other(format!("node `{name}` did not finish in run {}", run.id)))?;
        let (differs_in, compared) = match self.changes_since(place, run) {
            Some((changes, trace)) => (changes, Compared::of(Before { run: Some(run.id.clone()), trace })),
            None => {
                let run = Some(run.id.clone());
                (Vec::new(), Compared { run, key: old, finished_unix: None, seconds: None })
            }
        };
        let upstream = self.first_that_differs(place, run);
        Ok(self.answer(place, Some(compared), differs_in, upstream))
    }

    /// The first node upstream of a place whose key is not that of a run.
    fn first_that_differs(&self, place: usize, run: &RunRecord) -> Option<Upstream> {
        self.upstream(place).into_iter().find_map(|up| {
            let changes = self.changes_since(up, run).map(|(changes, _)| changes).unwrap_or_default();
            let other = self.plan.nodes[up].key.is_some_and(|now| Some(now) != self.key_in(up, run));
            (other || !changes.is_empty()).then(|| self.differing(up, changes))
        })
    }

    /// The fields of a node's key that differ from those in a run, and what came of it there; none if the cache has forgotten.
    fn changes_since(&self, place: usize, run: &RunRecord) -> Option<(Vec<Change>, Trace)> {
        let trace = self.known.trace(&self.key_in(place, run)?)?;
        Some((self.changes(place, &trace.parts), trace))
    }

    /// The key that a node had in a run.
    fn key_in(&self, place: usize, run: &RunRecord) -> Option<Digest> {
        let name = &self.facts[place].name;
        run.nodes.iter().find(|node| node.name == *name)?.key
    }

    /// The nodes that a node needs, in topological order.
    fn upstream(&self, place: usize) -> BTreeSet<usize> {
        let mut needed = BTreeSet::from([place]);
        for up in (0..place).rev() {
            let feeds = |node: &usize| self.facts[*node].inputs.iter().any(|input| input.from == up);
            if needed.iter().any(feeds) {
                needed.insert(up);
            }
        }
        needed.remove(&place);
        needed
    }

    fn differing(&self, place: usize, differs_in: Vec<Change>) -> Upstream {
        let node = &self.plan.nodes[place];
        let why = match &node.action {
            Action::Run { reason, .. } => Some(reason.clone()),
            Action::Hit { .. } | Action::Skip => None,
        };
        Upstream { node: node.name.clone(), kind: node.kind.clone(), why, differs_in }
    }

    fn answer(
        &self,
        place: usize,
        compared: Option<Compared>,
        differs_in: Vec<Change>,
        first_upstream: Option<Upstream>,
    ) -> Answer {
        let node = &self.plan.nodes[place];
        Answer {
            node: node.name.clone(),
            kind: node.kind.clone(),
            key: node.key,
            action: node.action.clone(),
            compared,
            differs_in,
            first_upstream,
            rows: None,
            ran: None,
        }
    }

    /// The run in which a hit was made, with what was new then; none if no record tells.
    fn ran(&self, place: usize) -> Option<Ran> {
        let (key, name) = (self.plan.nodes[place].key?, &self.facts[place].name);
        let node = |run: &RunRecord, name: &str| run.nodes.iter().find(|node| node.name == name).cloned();
        let made = |run: &RunRecord| {
            let found = node(run, name).filter(|node| node.key == Some(key))?;
            (found.state == NodeState::Ran).then_some(found)
        };
        // Records are the newest first.
        let (at, found) = self.records.iter().enumerate().find_map(|(at, run)| Some((at, made(run)?)))?;
        let run = &self.records[at];
        let has_key = |run: &&RunRecord| node(run, name).is_some_and(|node| node.key.is_some());
        let before = self.records[at + 1..].iter().find(has_key);
        let upstream = self.upstream(place);
        let since = before.and_then(|before| {
            upstream.into_iter().chain([place]).find_map(|up| {
                let (old, new) = (self.key_in(up, before)?, self.key_in(up, run)?);
                let changes = self.known.trace(&old).zip(self.known.trace(&new));
                let changes = changes.map(|(old, new)| RunReason::compare(&old.parts, &new.parts));
                (old != new).then(|| self.differing(up, changes.unwrap_or_default()))
            })
        });
        Some(Ran { run: run.id.clone(), rows: found.rows, since })
    }
}

impl Compared {
    fn of(before: Before) -> Self {
        let Before { run, trace } = before;
        Self {
            run,
            key: trace.parts.digest(),
            finished_unix: Some(trace.finished_unix),
            seconds: Some(trace.seconds),
        }
    }
}

/// What is behind new rows, in words: the change of the first node that differs.
fn because(node: &str, changes: &[Change]) -> String {
    let Some(first) = changes.first() else { return format!(", because of {node}") };
    let more = if changes.len() > 1 { " and more" } else { "" };
    format!(", because nodes.{node}.{first}{more}")
}

/// The changes, a line each.
fn lines(changes: &[Change]) -> String {
    changes.iter().map(|change| format!("\n  {change}")).collect()
}

impl Answer {
    fn text(&self) -> String {
        let name = format!("{} ({})", self.node, self.kind);
        let mut text = match &self.action {
            Action::Hit { trace } => {
                format!("{name} is in the cache; it took {}", duration(trace.seconds))
            }
            Action::Run { reason: RunReason::Upstream { nodes, .. }, .. } => format!(
                "{name} may run: it waits for {}, and is a hit if they give what they gave before",
                nodes.join(", ")
            ),
            Action::Run { reason: RunReason::Changed { .. }, .. } => format!("{name} runs: its key changed"),
            Action::Run { reason, .. } => format!("{name} runs: {reason}"),
            Action::Skip => format!("{name} was not asked for"),
        };
        if let Some(Compared { run, key, .. }) = &self.compared {
            let whose = match run {
                Some(run) => format!("run {run}"),
                None => "its last run".to_owned(),
            };
            let same = Some(*key) == self.key;
            text.push_str(&match (same, self.differs_in.len()) {
                (true, _) => format!("\nits key is that of {whose}"),
                (false, 0) if self.key.is_none() => {
                    format!("\nbeside the inputs that it waits for, its key is that of {whose}")
                }
                (false, 0) => format!("\nits key is not that of {whose}; the cache has forgotten why"),
                (false, _) => format!("\ncompared with {whose}{}", lines(&self.differs_in)),
            });
        }
        if let Some(up) = &self.first_upstream {
            text.push_str(&format!("\nthe first difference upstream is in {} ({})", up.node, up.kind));
            match &up.why {
                _ if !up.differs_in.is_empty() => text.push_str(&lines(&up.differs_in)),
                Some(why) => text.push_str(&format!("\n  {why}")),
                None => text.push_str("\n  the cache has forgotten its key"),
            }
        }
        text.push_str(&self.rows_text());
        text
    }

    /// What there is of its frozen part for single records, now or when it ran.
    fn rows_text(&self) -> String {
        let line = |output: &str, RowCount { hit, new }: RowCount, cause: &str| {
            let cause = if new > 0 { cause } else { "" };
            format!("\n{output}: {} hit, {} new{cause}", grouped(hit), grouped(new))
        };
        if let (Action::Hit { .. }, Some(ran)) = (&self.action, &self.ran) {
            let cause = ran.since.as_ref().map(|up| because(&up.node, &up.differs_in)).unwrap_or_default();
            let cause = format!(" in run {}{cause}", ran.run);
            return ran.rows.iter().map(|(output, count)| line(output, *count, &cause)).collect();
        }
        match &self.rows {
            None => String::new(),
            Some(Needed::Waits(nodes)) => {
                format!(
                    "\nhow many records its frozen part has not seen is known once {} ran",
                    nodes.join(", ")
                )
            }
            Some(Needed::Counted(rows)) => {
                let upstream = self.first_upstream.as_ref().map(|up| because(&up.node, &up.differs_in));
                let own = (!self.differs_in.is_empty()).then(|| because(&self.node, &self.differs_in));
                let cause = upstream.or(own).unwrap_or_default();
                rows.iter().map(|rows| line(&rows.output, rows.count, &cause)).collect()
            }
        }
    }
}
