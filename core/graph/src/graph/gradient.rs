//! Static gradient checks: a loss that reaches no trained node, a trained node that no loss reaches.
//!
//! Pure set logic on edges. Which nodes are trained and which losses count is for the caller to say.

use std::collections::BTreeSet;

use super::sealed::{Graph, NodeId};

/// A gradient that flows nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GradientFault {
    /// Nothing that this loss depends on is trained.
    LossReachesNothing(NodeId),
    /// No loss depends on this trained node.
    TrainedUnreached(NodeId),
}

/// All faults: losses in the order given, then trained nodes in topological order.
pub fn unreachable<N: ?Sized>(
    graph: &Graph<N>,
    losses: &[NodeId],
    trained: &BTreeSet<NodeId>,
) -> Vec<GradientFault> {
    let idle = |loss: &&NodeId| graph.upstream(&[**loss]).is_disjoint(trained);
    let idle = losses.iter().filter(idle).copied().map(GradientFault::LossReachesNothing);
    let reached = graph.upstream(losses);
    let unreached = trained.difference(&reached).copied().map(GradientFault::TrainedUnreached);
    idle.chain(unreached).collect()
}
