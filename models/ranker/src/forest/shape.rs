//! Which node leads where, checked to be one tree.

/// What a node leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Child {
    Node(usize),
    Leaf(usize),
}

impl Child {
    /// LightGBM writes a leaf as the complement of its number.
    fn read(written: i32) -> Self {
        match usize::try_from(written) {
            Ok(node) => Self::Node(node),
            Err(_) => Self::Leaf(!written as usize),
        }
    }
}

/// The children of every node, with the leaves in order from left to right.
#[derive(Debug)]
pub(super) struct Shape {
    pub children: Vec<[Child; 2]>,
    /// Leaf numbers from left to right.
    pub leaves: Vec<usize>,
    /// Of every node the positions in `leaves` of its left subtree: first, and one past the last.
    pub left_leaves: Vec<(usize, usize)>,
}

enum Step {
    Enter(Child),
    LeftDone(usize),
}

impl Shape {
    pub fn single_leaf() -> Self {
        Self {
            children: Vec::new(),
            leaves: vec![0],
            left_leaves: Vec::new(),
        }
    }

    /// Walks from node 0 through everything, each once. `left` and `right` are equally long.
    pub fn of(left: &[i32], right: &[i32]) -> Result<Self, String> {
        let nodes = left.len();
        let mut shape = Self {
            children: left
                .iter()
                .zip(right)
                .map(|(left, right)| [Child::read(*left), Child::read(*right)])
                .collect(),
            leaves: Vec::with_capacity(nodes + 1),
            left_leaves: vec![(0, 0); nodes],
        };
        let mut seen_node = vec![false; nodes];
        let mut seen_leaf = vec![false; nodes + 1];
        // Not recursive: leaf-wise growth may make a tree as deep as it has leaves.
        let mut steps = vec![Step::Enter(Child::Node(0))];
        while let Some(step) = steps.pop() {
            match step {
                Step::Enter(Child::Leaf(leaf)) => {
                    match seen_leaf.get_mut(leaf) {
                        Some(seen @ false) => *seen = true,
                        Some(true) => return Err(format!("leaf {leaf} has two parents")),
                        None => return Err(format!("leaf {leaf} does not exist")),
                    }
                    shape.leaves.push(leaf);
                }
                Step::Enter(Child::Node(node)) => {
                    match seen_node.get_mut(node) {
                        Some(seen @ false) => *seen = true,
                        Some(true) => return Err(format!("node {node} is reached twice")),
                        None => return Err(format!("node {node} does not exist")),
                    }
                    shape.left_leaves[node].0 = shape.leaves.len();
                    let [left, right] = shape.children[node];
                    steps.push(Step::Enter(right));
                    steps.push(Step::LeftDone(node));
                    steps.push(Step::Enter(left));
                }
                Step::LeftDone(node) => shape.left_leaves[node].1 = shape.leaves.len(),
            }
        }
        // A tree of n nodes that are each reached once has n + 1 leaves, so these are all.
        match seen_node.iter().position(|seen| !seen) {
            Some(node) => Err(format!("node {node} is reached from nowhere")),
            None => Ok(shape),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_are_numbered_from_left_to_right() {
        // 0 -> (1 -> (leaf 0, leaf 2), leaf 1)
        let shape = Shape::of(&[1, !0], &[!1, !2]).unwrap();
        assert_eq!(shape.leaves, [0, 2, 1]);
        assert_eq!(shape.left_leaves, [(0, 2), (0, 1)]);
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        for (left, right, complaint) in [
            (&[0][..], &[!0][..], "node 0 is reached twice"),
            (&[!0], &[!0], "leaf 0 has two parents"),
            (&[7], &[!0], "node 7 does not exist"),
            (&[!5], &[!0], "leaf 5 does not exist"),
            (&[!0, !1], &[!1, !2], "node 1 is reached from nowhere"),
            (&[i32::MIN], &[!0], "leaf 2147483647 does not exist"),
        ] {
            assert_eq!(Shape::of(left, right).unwrap_err(), complaint);
        }
    }
}
