//! Static gradient checks: a loss that reaches no trained parameter, a trained parameter that no loss reaches.
//!
//! Pure set logic on edges. Which parameters are trained and which losses count is for the caller to say.

use std::collections::{BTreeMap, BTreeSet};

use super::sealed::{Graph, NodeId};

/// A gradient that flows nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GradientFault<P> {
    /// Nothing that this loss depends on is trained.
    LossReachesNothing(NodeId),
    /// No loss depends on this trained parameter.
    TrainedUnreached(P),
}

/// All faults: losses in the order given, then trained parameters in theirs. `trained` are the trained parameters that
/// each node uses; several nodes may use the same one.
pub fn unreachable<N: ?Sized, P: Ord + Clone>(
    graph: &Graph<N>,
    losses: &[NodeId],
    trained: &BTreeMap<NodeId, BTreeSet<P>>,
) -> Vec<GradientFault<P>> {
    let used = |ids: BTreeSet<NodeId>| -> BTreeSet<P> {
        ids.iter().filter_map(|id| trained.get(id)).flatten().cloned().collect()
    };
    let idle = |loss: &&NodeId| used(graph.upstream(&[**loss])).is_empty();
    let idle = losses.iter().filter(idle).copied().map(GradientFault::LossReachesNothing);
    let reached = used(graph.upstream(losses));
    let all: BTreeSet<P> = trained.values().flatten().cloned().collect();
    idle.chain(all.difference(&reached).cloned().map(GradientFault::TrainedUnreached)).collect()
}
