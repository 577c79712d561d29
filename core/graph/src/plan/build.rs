//! Facts and the cache's memory become an [`Action`] for every node.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    key::{Facts, KeyParts},
    reason::RunReason,
};
use crate::digest::Digest;

/// What the cache remembers of a finished node: its key in parts, and what came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// The node's name in the experiment that ran it.
    pub node: String,
    /// The key in parts.
    pub parts: KeyParts,
    /// Output port -> digest of its bytes.
    pub outputs: BTreeMap<String, Digest>,
    /// Wall time of the run, seconds.
    pub seconds: f64,
    /// When it finished, seconds since 1970.
    pub finished_unix: u64,
}

/// The cache, as planning sees it.
pub trait Known {
    /// The trace under a key.
    fn trace(&self, key: &Digest) -> Option<Trace>;
    /// The last trace of a node of this name and kind, whatever its key.
    fn latest(&self, node: &str, kind: &str) -> Option<Trace>;
    /// Whether an artifact's bytes are there.
    fn has(&self, digest: &Digest) -> bool;
    /// Whether they are on this machine; asked of those that [`has`](Self::has) knows.
    fn is_here(&self, digest: &Digest) -> bool;
}

/// What happens to a node.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Its artifacts are there.
    Hit {
        /// The trace that says so.
        #[serde(skip)]
        trace: Box<Trace>,
    },
    /// It runs, or is decided when its upstream nodes have finished.
    Run {
        /// Why.
        #[serde(flatten)]
        reason: RunReason,
        /// Predicted seconds: measured last time, or estimated by the kind.
        seconds: Option<f64>,
    },
    /// Nothing that was asked for needs it.
    Skip,
}

/// One node of the plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodePlan {
    /// The node's name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// The key, if all inputs are known.
    pub key: Option<Digest>,
    /// It is a hit with an artifact that is only in a remote cache.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub remote: bool,
    /// What happens.
    #[serde(flatten)]
    pub action: Action,
}

/// The plan: one entry per node, in topological order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// The entries, as the facts were ordered.
    pub nodes: Vec<NodePlan>,
}

impl Plan {
    /// How many nodes run or may run.
    pub fn work(&self) -> usize {
        self.nodes.iter().filter(|node| matches!(node.action, Action::Run { .. })).count()
    }

    /// How many nodes are hits.
    pub fn hits(&self) -> usize {
        self.nodes.iter().filter(|node| matches!(node.action, Action::Hit { .. })).count()
    }

    /// Sum of the predicted seconds, and whether every node that runs has a prediction.
    pub fn seconds(&self) -> (f64, bool) {
        let mut sum = (0.0, true);
        for node in &self.nodes {
            if let Action::Run { seconds, .. } = &node.action {
                match seconds {
                    Some(seconds) => sum.0 += seconds,
                    None => sum.1 = false,
                }
            }
        }
        sum
    }
}

/// Plans the nodes that `wanted` (indices into `facts`) need; `facts` are in topological order.
pub fn build(facts: &[Facts], wanted: &BTreeSet<usize>, forced: &BTreeSet<usize>, known: &dyn Known) -> Plan {
    let needed = needed(facts, wanted);
    let mut nodes: Vec<NodePlan> = Vec::with_capacity(facts.len());
    for (index, fact) in facts.iter().enumerate() {
        let (key, action) = if needed.contains(&index) {
            decide(fact, &nodes, forced.contains(&index), known)
        } else {
            (None, Action::Skip)
        };
        let remote = match &action {
            Action::Hit { trace } => !trace.outputs.values().all(|digest| known.is_here(digest)),
            Action::Run { .. } | Action::Skip => false,
        };
        nodes.push(NodePlan { name: fact.name.clone(), kind: fact.kind.clone(), key, remote, action });
    }
    Plan { nodes }
}

/// The wanted nodes and everything upstream of them.
fn needed(facts: &[Facts], wanted: &BTreeSet<usize>) -> BTreeSet<usize> {
    let mut needed = wanted.clone();
    for index in (0..facts.len()).rev() {
        if needed.contains(&index) {
            needed.extend(facts[index].inputs.iter().map(|input| input.from));
        }
    }
    needed
}

/// The action of one node whose upstream nodes are decided.
fn decide(fact: &Facts, before: &[NodePlan], forced: bool, known: &dyn Known) -> (Option<Digest>, Action) {
    let mut digests = Vec::with_capacity(fact.inputs.len());
    let mut running = Vec::new();
    for input in &fact.inputs {
        let digest = match &before[input.from].action {
            Action::Hit { trace } => trace.outputs.get(&input.output).copied(),
            _ => None,
        };
        // A stand-in keeps the positions; it is never hashed, because the node then waits for its upstream.
        digests.push(digest.unwrap_or(Digest::from_bytes([0; 32])));
        if digest.is_none() && !running.contains(&before[input.from].name) {
            running.push(before[input.from].name.clone());
        }
    }
    let parts = KeyParts::new(fact, &digests);
    let latest = || known.latest(&fact.name, &fact.kind);
    if !running.is_empty() {
        let latest = latest();
        let seconds = latest.as_ref().map(|trace| trace.seconds).or(fact.estimate_seconds);
        let changes = latest.map_or(Vec::new(), |trace| changes_besides_inputs(&trace.parts, &parts));
        return (None, Action::Run { reason: RunReason::Upstream { nodes: running, changes }, seconds });
    }
    let key = parts.digest();
    let run =
        |reason, seconds: Option<f64>| Action::Run { reason, seconds: seconds.or(fact.estimate_seconds) };
    let action = match known.trace(&key) {
        Some(trace) if forced => run(RunReason::Forced, Some(trace.seconds)),
        Some(trace) => {
            let lost: Vec<String> = trace
                .outputs
                .iter()
                .filter(|(_, digest)| !known.has(digest))
                .map(|(port, _)| port.clone())
                .collect();
            if lost.is_empty() {
                Action::Hit { trace: Box::new(trace) }
            } else {
                run(RunReason::Lost { outputs: lost }, Some(trace.seconds))
            }
        }
        None => match latest() {
            None => run(if forced { RunReason::Forced } else { RunReason::NeverRan }, None),
            Some(trace) => {
                let changes = RunReason::compare(&trace.parts, &parts);
                run(RunReason::Changed { changes }, Some(trace.seconds))
            }
        },
    };
    (Some(key), action)
}

/// What differs apart from the inputs that are not known yet.
fn changes_besides_inputs(old: &KeyParts, new: &KeyParts) -> Vec<super::Change> {
    let mut changes = RunReason::compare(old, new);
    changes.retain(|change| !change.field.starts_with("inputs."));
    changes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::key::InputFact, *};

    #[derive(Default)]
    struct Memory {
        traces: BTreeMap<Digest, Trace>,
        gone: BTreeSet<Digest>,
        far: BTreeSet<Digest>,
    }

    impl Known for Memory {
        fn trace(&self, key: &Digest) -> Option<Trace> {
            self.traces.get(key).cloned()
        }
        fn latest(&self, node: &str, kind: &str) -> Option<Trace> {
            self.traces.values().find(|trace| trace.node == node && trace.parts.kind == kind).cloned()
        }
        fn has(&self, digest: &Digest) -> bool {
            !self.gone.contains(digest)
        }
        fn is_here(&self, digest: &Digest) -> bool {
            !self.far.contains(digest)
        }
    }

    fn fact(name: &str, config: serde_json::Value, from: &[usize]) -> Facts {
        Facts {
            name: name.into(),
            kind: "toy".into(),
            version: 1,
            config,
            model: None,
            seed: None,
            numerics: None,
            files: BTreeMap::new(),
            inputs: from
                .iter()
                .map(|from| InputFact {
                    port: "in".into(),
                    label: None,
                    part: None,
                    from: *from,
                    output: "out".into(),
                })
                .collect(),
            estimate_seconds: Some(2.0),
        }
    }

    /// Pretends to run every node that the plan says to run; a node's bytes are its name and config.
    fn finish(memory: &mut Memory, facts: &[Facts]) {
        let mut outputs: Vec<Digest> = Vec::new();
        for fact in facts {
            let inputs: Vec<Digest> = fact.inputs.iter().map(|input| outputs[input.from]).collect();
            let parts = KeyParts::new(fact, &inputs);
            let out = Digest::of(format!("{}", fact.config["bytes"]).as_bytes());
            outputs.push(out);
            let trace = Trace {
                node: fact.name.clone(),
                outputs: BTreeMap::from([("out".to_owned(), out)]),
                seconds: 1.0,
                finished_unix: 0,
                parts,
            };
            memory.traces.insert(trace.parts.digest(), trace);
        }
    }

    // a -> b -> c
    fn chain(a: serde_json::Value) -> Vec<Facts> {
        vec![fact("a", a, &[]), fact("b", json!({"bytes": 1}), &[0]), fact("c", json!({"bytes": 2}), &[1])]
    }

    fn plan(facts: &[Facts], memory: &Memory) -> Plan {
        build(facts, &BTreeSet::from([facts.len() - 1]), &BTreeSet::new(), memory)
    }

    #[test]
    fn empty_cache_runs_all_and_a_finished_one_nothing() {
        let facts = chain(json!({"bytes": 0}));
        let mut memory = Memory::default();
        assert_eq!(plan(&facts, &memory).work(), 3);
        assert_eq!(plan(&facts, &memory).seconds(), (6.0, true));
        finish(&mut memory, &facts);
        assert_eq!(plan(&facts, &memory).hits(), 3);
    }

    #[test]
    fn a_change_is_named_and_downstream_waits() {
        let mut memory = Memory::default();
        finish(&mut memory, &chain(json!({"bytes": 0, "lr": 1})));
        let plan = plan(&chain(json!({"bytes": 0, "lr": 2})), &memory);
        let Action::Run { reason, .. } = &plan.nodes[0].action else { panic!("a runs") };
        assert_eq!(reason.to_string(), "config.lr 1 -> 2");
        let Action::Run { reason, .. } = &plan.nodes[1].action else { panic!("b waits") };
        assert_eq!(reason.to_string(), "waits for a");
    }

    #[test]
    fn same_bytes_upstream_invalidate_nothing() {
        let mut memory = Memory::default();
        finish(&mut memory, &chain(json!({"bytes": 0, "lr": 1})));
        let changed = chain(json!({"bytes": 0, "lr": 2}));
        finish(&mut memory, &changed[..1]);
        assert_eq!(plan(&changed, &memory).hits(), 3);
    }

    #[test]
    fn a_lost_artifact_is_a_miss() {
        let facts = chain(json!({"bytes": 0}));
        let mut memory = Memory::default();
        finish(&mut memory, &facts);
        memory.gone.insert(Digest::of(b"2"));
        let Action::Run { reason, .. } = &plan(&facts, &memory).nodes[2].action else { panic!("c runs") };
        assert_eq!(*reason, RunReason::Lost { outputs: vec!["out".into()] });
    }

    #[test]
    fn a_hit_with_a_far_artifact_is_told_apart() {
        let facts = chain(json!({"bytes": 0}));
        let mut memory = Memory::default();
        finish(&mut memory, &facts);
        memory.far.insert(Digest::of(b"1"));
        let plan = plan(&facts, &memory);
        assert_eq!(plan.hits(), 3);
        assert_eq!(plan.nodes.iter().map(|node| node.remote).collect::<Vec<_>>(), [false, true, false]);
    }

    #[test]
    fn only_what_is_wanted_is_planned() {
        let facts = chain(json!({"bytes": 0}));
        let plan = build(&facts, &BTreeSet::from([0]), &BTreeSet::new(), &Memory::default());
        assert_eq!(plan.nodes[1].action, Action::Skip);
    }
}
