//! `heddle verify`: computes a part of the kept rows of frozen parts again, and compares bits.

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    str::FromStr,
};

use heddle_data::rng;
use heddle_graph::{digest::Digest, plan};
use rand::Rng;
use serde::Serialize;

use super::{
    args::{Common, VerifyOptions},
    exit::{Exit, Failure},
    home,
    idle::{Idle, Looked},
    output,
    prepare::open_store,
};
use crate::{
    device,
    exec::NodeError,
    nodes::{Frozen, Look},
    project,
};

/// Differences that are named one by one.
const NAMED: usize = 20;

/// A share of something, in per cent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Percent(f64);

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
        match number {
            Some(number) if number > 0.0 && number <= 100.0 => Ok(Self(number)),
            _ => {
                Err("a share is written with its sign and lies above 0% and up to 100%: `1%`, `0.5%`"
                    .to_owned())
            }
        }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
struct Verified {
    /// With it, `--seed` draws the same rows again.
    seed: u64,
    nodes: Vec<OfNode>,
}

/// What came of one node.
#[derive(Debug, Default, Serialize)]
struct OfNode {
    node: String,
    /// Outputs of its model graph of which rows are kept.
    outputs: Vec<String>,
    /// Records and views that have rows.
    kept: usize,
    /// Records and views of which rows are named and do not read; the next run computes them anew.
    #[serde(skip_serializing_if = "is_zero")]
    damaged: usize,
    /// Of those kept, those that were computed again.
    computed: usize,
    /// Rows that came out otherwise.
    differing: Vec<Differing>,
    /// Nodes that have to run before there is anything to compare.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    waits: Vec<String>,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// A row that came out otherwise.
#[derive(Debug, Serialize)]
struct Differing {
    record: String,
    view: u64,
    why: String,
}

/// Runs the command.
pub fn run(options: &VerifyOptions, common: &Common) -> Result<Exit, Failure> {
    let project = project::load(&options.file, &options.look.set)?;
    let home = home::of_experiment(common, &options.file);
    if !home.join("cache").is_dir() {
        return Err(Failure::Other(format!("there is no cache in {}: nothing ran yet", home.display())));
    }
    let used = options.look.caches.with(project.experiment.cache.remote.as_deref())?;
    let store = open_store(&home, &format!("verify {}", options.file), options.look.wait, &used)?;
    let compute = device::choose(project.experiment.run.device);
    let (facts, library) = project.facts(Some(&store), compute)?;
    let asked = project.places(&options.nodes)?;
    let plan = plan::build(&facts, &asked, &BTreeSet::new(), &store);
    let idle =
        Idle { project: &project, facts: &facts, plan: &plan, store: &store, library: &library, compute };
    let seed = options.seed.unwrap_or_else(|| u64::from(rand::thread_rng().r#gen::<u32>()));
    let mut verified = Verified { seed, nodes: Vec::new() };
    for place in asked {
        let mut of = OfNode { node: facts[place].name.clone(), ..OfNode::default() };
        let looked = idle.see(place, |part| of.compare(part, options.sample, seed))?;
        match looked {
            Looked::NothingKept => continue,
            Looked::Waits(nodes) => of.waits = nodes,
            Looked::Done => {}
        }
        if !options.look.json {
            output::result(&of.text());
        }
        verified.nodes.push(of);
    }
    if options.look.json {
        output::json(&verified)?;
    } else if verified.nodes.is_empty() {
        output::result("no node keeps anything of single records; `heddle graph --cut` says why");
    }
    let same = verified.nodes.iter().all(|of| of.differing.is_empty());
    let computed: usize = verified.nodes.iter().map(|of| of.computed).sum();
    output::note(&format!(
        "{computed} rows computed again ({} of those kept, `--seed {seed}`)",
        options.sample
    ));
    if !same {
        output::note(
            "rows that differ were computed by something else than this heddle on this machine, or one of them is broken: \
             `heddle cache verify` finds damaged bytes, `heddle replay RUN --recompute` says which results change, \
             `heddle cache clear` begins anew",
        );
    }
    Ok(if same { Exit::Done } else { Exit::Different })
}

impl OfNode {
    /// Draws rows, at least one if there are any, and computes them again.
    fn compare(&mut self, part: &dyn Frozen, sample: Percent, seed: u64) -> Result<(), NodeError> {
        self.outputs = part.names().to_vec();
        let keys: Vec<Digest> = part.looks().iter().map(|look| look.key).collect();
        let missing: HashSet<Digest> = part.kept().missing(&keys)?.into_iter().collect();
        // Rows that do not read are damage: the next run computes them anew.
        self.damaged = missing.iter().filter(|key| part.kept().contains(key)).count();
        let kept: Vec<Look> =
            part.looks().iter().filter(|look| !missing.contains(&look.key)).copied().collect();
        self.kept = kept.len();
        let chance = |look: &Look| {
            let [a, b, c, d, e, f, g, h, ..] = *look.key.as_bytes();
            rng(seed, &[u64::from_le_bytes([a, b, c, d, e, f, g, h])]).r#gen::<f64>()
        };
        let mut drawn: Vec<(f64, Look)> = kept.into_iter().map(|look| (chance(&look), look)).collect();
        drawn.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let wanted = (drawn.len() as f64 * sample.0 / 100.0).round().max(1.0) as usize;
        drawn.truncate(wanted);
        let mut looks: Vec<Look> = drawn.into_iter().map(|(_, look)| look).collect();
        looks.sort_by_key(|look| (look.place, look.view));
        for chunk in looks.chunks(part.batch()) {
            let computed = part.compute(chunk)?;
            let mut whys: Vec<Option<String>> = Vec::with_capacity(chunk.len());
            for (place, look) in chunk.iter().enumerate() {
                let differing = part.kept().differing(&look.key, place, &computed.values)?;
                let names: Vec<&str> = differing.into_iter().map(|at| part.names()[at].as_str()).collect();
                whys.push((!names.is_empty()).then(|| format!("{} came out otherwise", names.join(", "))));
            }
            for (place, reason) in computed.broken {
                whys[place] = Some(format!("its picture no longer decodes: {reason}"));
            }
            for (look, why) in chunk.iter().zip(whys) {
                let Some(why) = why else { continue };
                self.differing.push(Differing { record: part.record(look.place)?, view: look.view, why });
            }
            self.computed += chunk.len();
        }
        Ok(())
    }

    fn text(&self) -> String {
        let Self { node, outputs, kept, damaged, computed, differing, waits } = self;
        if !waits.is_empty() {
            return format!("{node}: nothing to compare before {} ran", waits.join(", "));
        }
        let outputs = outputs.join(", ");
        if *kept == 0 && *damaged == 0 {
            return format!("{node}: no rows of {outputs} are kept yet");
        }
        let mut text = format!("{node}: {computed} of {kept} kept rows of {outputs} computed again, ");
        match differing.len() {
            0 => text.push_str("all the same"),
            count => text.push_str(&format!("{count} differ")),
        }
        if *damaged > 0 {
            text.push_str(&format!("; {damaged} more are damaged and will be computed anew"));
        }
        for Differing { record, view, why } in differing.iter().take(NAMED) {
            let view = if *view == 0 { String::new() } else { format!(", view {view}") };
            text.push_str(&format!("\n  record {record}{view}: {why}"));
        }
        if differing.len() > NAMED {
            text.push_str(&format!("\n  and {} more", differing.len() - NAMED));
        }
        text
    }
}
