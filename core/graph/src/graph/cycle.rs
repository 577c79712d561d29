//! Order of the nodes, and cycles, each named once: `a -> b -> a`.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet, VecDeque, hash_map::Entry},
};

use petgraph::{algo::tarjan_scc, graph::DiGraph};

/// Positions of nodes: `uses[n]` are those that `n` takes values from.
pub(super) struct Order {
    /// A topological order of the nodes that no cycle holds up; of several that are ready, the first by name.
    pub sorted: Vec<usize>,
    /// A shortest cycle of each tangle, along the flow of values, beginning at its first node by name.
    pub cycles: Vec<Vec<usize>>,
}

/// Sorts nodes by their links and then their names.
pub(super) fn order(names: &[&str], uses: &[Vec<usize>]) -> Order {
    Order { sorted: sort(names, uses), cycles: cycles(names, uses) }
}

fn sort(names: &[&str], uses: &[Vec<usize>]) -> Vec<usize> {
    let mut waiting: Vec<usize> = uses.iter().map(Vec::len).collect();
    let users = reversed(uses);
    let mut ready: BinaryHeap<Reverse<(&str, usize)>> =
        (0..names.len()).filter(|at| waiting[*at] == 0).map(|at| Reverse((names[at], at))).collect();
    let mut sorted = Vec::with_capacity(names.len());
    while let Some(Reverse((_, at))) = ready.pop() {
        sorted.push(at);
        for user in &users[at] {
            waiting[*user] -= 1;
            if waiting[*user] == 0 {
                ready.push(Reverse((names[*user], *user)));
            }
        }
    }
    sorted
}

/// Who uses a node, once for each link.
fn reversed(uses: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut users = vec![Vec::new(); uses.len()];
    for (at, sources) in uses.iter().enumerate() {
        sources.iter().for_each(|source| users[*source].push(at));
    }
    users
}

fn cycles(names: &[&str], uses: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut graph = DiGraph::<(), ()>::with_capacity(names.len(), names.len());
    let indices: Vec<_> = names.iter().map(|_| graph.add_node(())).collect();
    for (at, sources) in uses.iter().enumerate() {
        sources.iter().for_each(|source| {
            graph.add_edge(indices[*source], indices[at], ());
        });
    }
    let users = reversed(uses);
    let tangles =
        tarjan_scc(&graph).into_iter().map(|tangle| tangle.iter().map(|index| index.index()).collect());
    let mut found: Vec<Vec<usize>> =
        tangles.filter_map(|tangle: Vec<usize>| shortest(&tangle, names, &users)).collect();
    found.sort_by_key(|cycle| names[cycle[0]]);
    found
}

/// A shortest way from the tangle's first node back to it; `None` if it is one node without a link to itself.
fn shortest(tangle: &[usize], names: &[&str], users: &[Vec<usize>]) -> Option<Vec<usize>> {
    let start = *tangle.iter().min_by_key(|at| names[**at])?;
    let inside: HashSet<usize> = tangle.iter().copied().collect();
    let mut came_from: HashMap<usize, usize> = HashMap::new();
    let mut open = VecDeque::from([start]);
    while let Some(at) = open.pop_front() {
        for next in users[at].iter().copied().filter(|next| inside.contains(next)) {
            if next == start {
                let mut cycle: Vec<usize> =
                    std::iter::successors(Some(at), |at| came_from.get(at).copied()).collect();
                cycle.reverse();
                return Some(cycle);
            }
            if let Entry::Vacant(vacant) = came_from.entry(next) {
                vacant.insert(at);
                open.push_back(next);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `"a<bc"`: a takes values from b and c. Gives the order and the cycles as text.
    fn check(nodes: &[&str], sorted: &str, cycles: &[&str]) {
        let names: Vec<&str> = nodes.iter().map(|node| &node[..1]).collect();
        let at = |c: char| names.iter().position(|name| name.starts_with(c)).expect("a node of the test");
        let uses: Vec<Vec<usize>> =
            nodes.iter().map(|node| node[1..].chars().skip(1).map(at).collect()).collect();
        let text = |order: &Vec<usize>| order.iter().map(|at| names[*at]).collect::<String>();
        let order = order(&names, &uses);
        assert_eq!(text(&order.sorted), sorted);
        assert_eq!(order.cycles.iter().map(text).collect::<Vec<_>>(), cycles);
    }

    #[test]
    fn order_depends_on_names_not_on_places() {
        check(&["c", "b<c", "a<c", "d<abb"], "cabd", &[]);
        check(&["d<abb", "a<c", "c", "b<c"], "cabd", &[]);
    }

    #[test]
    fn every_tangle_gives_one_shortest_cycle() {
        check(&["a<c", "b<a", "c<b", "d<c"], "", &["abc"]);
        check(&["a<a", "b", "c<d", "d<c"], "b", &["a", "cd"]);
        check(&["a<bc", "b<a", "c<b"], "", &["ab"]);
    }
}
