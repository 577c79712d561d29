//! A plan in words.

use heddle_graph::plan::{Action, NodePlan, Plan, RunReason};

/// One line: how much is there and how much runs.
pub fn summary(plan: &Plan) -> String {
    let (hits, work) = (plan.hits(), plan.work());
    let skipped = plan.nodes.len() - hits - work;
    let mut text = format!("{hits} of {} nodes in the cache, {work} to run", plan.nodes.len() - skipped);
    if work > 0 {
        text.push_str(&format!(" ({})", predicted(plan)));
    }
    text
}

fn predicted(plan: &Plan) -> String {
    let (seconds, complete) = plan.seconds();
    match (seconds > 0.0, complete) {
        (true, true) => format!("about {}", duration(seconds)),
        (true, false) => format!("at least {}", duration(seconds)),
        (false, _) => "cost unknown".to_owned(),
    }
}

/// The plan, a line a node.
pub fn table(plan: &Plan) -> String {
    let width = |text: fn(&NodePlan) -> &str| {
        plan.nodes.iter().map(|node| text(node).chars().count()).max().unwrap_or(0)
    };
    let (names, kinds) = (width(|node| &node.name), width(|node| &node.kind));
    let words = if plan.nodes.iter().any(|node| node.remote) { 14 } else { 5 };
    let mut lines = Vec::with_capacity(plan.nodes.len() + 1);
    for node in &plan.nodes {
        let (word, cost, why) = match &node.action {
            Action::Hit { .. } if node.remote => ("hit (remote)", String::new(), String::new()),
            Action::Hit { .. } => ("hit", String::new(), String::new()),
            Action::Skip => ("skip", String::new(), "not asked for".to_owned()),
            Action::Run { reason, seconds } => {
                let word = if matches!(reason, RunReason::Upstream { .. }) { "run?" } else { "run" };
                (word, seconds.map_or("?".to_owned(), duration), reason.to_string())
            }
        };
        let line = format!("{word:<words$}{:<names$}  {:<kinds$}  {cost:>8}  {why}", node.name, node.kind);
        lines.push(line.trim_end().to_owned());
    }
    lines.push(summary(plan));
    lines.join("\n")
}

/// Seconds for people.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.95 => format!("{:.0} ms", s * 1e3),
        s if s < 90.0 => format!("{s:.1} s"),
        s if s < 5400.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// A number for people, in groups of three digits.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let mut text = digits[..first].to_owned();
    for group in digits.as_bytes()[first..].chunks(3) {
        if !text.is_empty() {
            text.push(',');
        }
        text.extend(group.iter().map(|digit| char::from(*digit)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn digits_come_in_groups() {
        let numbers = [0, 12, 999, 1_000, 5_212, 123_456, 1_234_567];
        let written: Vec<String> = numbers.into_iter().map(grouped).collect();
        assert_eq!(written, ["0", "12", "999", "1,000", "5,212", "123,456", "1,234,567"]);
    }
}
