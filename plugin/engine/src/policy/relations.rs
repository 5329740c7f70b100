//! What rules are to each other: their names are unique, and what `replaces` names exists and does not go round.

use super::format::MOST_RULES;
use super::json::Node;
use super::mistake::{Mistake, Mistakes, entry, member, quoted};
use super::rule::Rule;
use crate::sorted::Sorted;

/// Circles beyond this are not looked for: a thousand rules can form more of them than memory holds.
const MOST_CIRCLES: usize = 20;

/// The indices of the entries by their names. Adds a mistake for each name that stands twice; the first one counts.
pub(super) fn unique_names<'a>(
    entries: &'a [Node],
    pointer: &str,
    what: &str,
    mistakes: &mut Mistakes,
) -> Sorted<&'a str, usize> {
    let mut names = Sorted::default();
    for (index, node) in entries.iter().enumerate().take(MOST_RULES) {
        let Some(name) = node.word("name") else { continue };
        if let Some(first) = names.get(&name) {
            let allowed = format!("a name that no other {what} has; {} has this one", entry(pointer, *first));
            mistakes.add(Mistake::new(&member(&entry(pointer, index), "name"), quoted(name), allowed));
        } else {
            names.insert(name, index);
        }
    }
    names
}

/// For each rule, the indices of those that it replaces. Adds a mistake for each name that no rule has, each name
/// that stands twice in a list, and each circle.
pub(super) fn replaced(rules: &[Node], names: &Sorted<&str, usize>, mistakes: &mut Mistakes) -> Vec<Vec<usize>> {
    let mut all = Vec::new();
    for (index, rule) in rules.iter().enumerate().take(MOST_RULES) {
        let pointer = member(&entry("/rules", index), "replaces");
        let mut replaced = Vec::new();
        let entries = rule.get("replaces").map(Node::entries).unwrap_or_default();
        for (position, name) in entries.iter().enumerate().take(MOST_RULES) {
            let Some(name) = name.text() else { continue };
            let place = entry(&pointer, position);
            if let Some(target) = Rule::named(name, names, &place, mistakes) {
                if replaced.contains(&target) {
                    mistakes.add(Mistake::new(&place, format!("{} again", quoted(name)), "each rule once"));
                } else {
                    replaced.push(target);
                }
            }
        }
        all.push(replaced);
    }
    for circle in circles(&all) {
        let name_of = |index: &usize| rules.get(*index).and_then(|rule| rule.word("name")).unwrap_or_default();
        let path: Vec<&str> = circle.iter().chain(circle.first()).map(name_of).collect();
        let last = circle.last().copied().unwrap_or_default();
        let found = format!("a circle, {}", quoted(&path.join(" -> ")));
        let place = member(&entry("/rules", last), "replaces");
        mistakes.add(Mistake::new(&place, found, "rules that do not lead back to this one"));
    }
    all
}

/// The edges that lead back to where the search came from, as the circles they close: depth first, each edge once.
fn circles(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut found = Vec::new();
    let mut done = vec![false; edges.len()];
    for start in 0..edges.len() {
        // The path from `start`: each rule with the edges of it that are still to be followed.
        let mut path: Vec<(usize, &[usize])> = Vec::new();
        let mut next = Some(start);
        while found.len() < MOST_CIRCLES {
            if let Some(index) = next.take() {
                if let Some(came_by) = path.iter().position(|(on_path, _)| *on_path == index) {
                    found.push(path.iter().skip(came_by).map(|(on_path, _)| *on_path).collect());
                } else if !done.get(index).copied().unwrap_or(true) {
                    path.push((index, edges.get(index).map(Vec::as_slice).unwrap_or_default()));
                }
            }
            let Some((index, rest)) = path.last_mut() else { break };
            if let Some((first, others)) = rest.split_first() {
                *rest = others;
                next = Some(*first);
            } else {
                if let Some(mark) = done.get_mut(*index) {
                    *mark = true;
                }
                path.pop();
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles_are_found_once() {
        assert_eq!(circles(&[vec![1], vec![2], vec![]]), Vec::<Vec<usize>>::new());
        assert_eq!(circles(&[vec![0]]), [[0]]);
        assert_eq!(circles(&[vec![1], vec![2], vec![0], vec![0]]), [[0, 1, 2]]);
        assert_eq!(circles(&[vec![1, 2], vec![2], vec![]]), Vec::<Vec<usize>>::new());
        assert_eq!(circles(&[vec![1], vec![0], vec![3], vec![2]]), [[0, 1], [2, 3]]);
    }
}
