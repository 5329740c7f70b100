//! What the names of algorithms and strategies in a policy mean. A plugin of one's own adds to the built-in ones here.
//! The algorithms and strategies themselves are elsewhere.

mod build;

use core::fmt;

use crate::algorithm::{Algorithm, FIXED_WINDOW, LEAKY_BUCKET, SLIDING_WINDOW, TOKEN_BUCKET};
use crate::policy::format::options::{GRACEFUL, QUEUE, REJECT, THROTTLE};

use crate::policy::{Member, Mistake, Node, for_editors};
use crate::strategy::Strategy;

/// The algorithms and strategies that a policy can name.
#[derive(Clone)]
pub struct Catalogue {
    built_in: Vec<&'static dyn Algorithm>,
    added: Vec<&'static dyn Algorithm>,
    strategies: Vec<&'static StrategyKind>,
}

/// Makes a strategy from the node of its options and the pointer to that node.
pub type BuildStrategy = fn(&Node, &str) -> Result<Box<dyn Strategy>, Mistake>;

/// A kind of strategy: its name, what it can be told, and how one is made.
pub struct StrategyKind {
    /// The name that policies use.
    pub name: &'static str,
    /// What it does, in one sentence, for editors.
    pub doc: &'static str,
    /// The members that `{"type": name, ...}` may have.
    pub options: &'static [Member],
    /// Makes one from a node that fits `options`, with the defaults filled in. What only this function can find wrong
    /// is its `Err`.
    pub build: BuildStrategy,
}

static BUILT_IN: [StrategyKind; 5] = [
    StrategyKind {
        name: "retry_after",
        doc: for_editors("Refuses the request and says when to come back."),
        options: REJECT,
        build: |node, _| Ok(build::reject(node, true)),
    },
    StrategyKind {
        name: "hard",
        doc: for_editors("Refuses the request without saying when to come back."),
        options: REJECT,
        build: |node, _| Ok(build::reject(node, false)),
    },
    StrategyKind {
        name: "throttle",
        doc: for_editors("Holds the request until the algorithm admits it, then forwards it."),
        options: THROTTLE,
        build: |node, _| Ok(build::throttle(node)),
    },
    StrategyKind {
        name: "queue",
        doc: for_editors("Answers 202 with a ticket and carries the request out later, at the rule's rate."),
        options: QUEUE,
        build: |node, _| Ok(build::queue(node)),
    },
    StrategyKind {
        name: "graceful",
        doc: for_editors("Answers in a reduced form instead of refusing."),
        options: GRACEFUL,
        build: build::graceful,
    },
];

impl Catalogue {
    /// The algorithms and strategies that Tidegate comes with.
    pub fn builtin() -> Self {
        Self {
            built_in: vec![&TOKEN_BUCKET, &LEAKY_BUCKET, &FIXED_WINDOW, &SLIDING_WINDOW],
            added: Vec::new(),
            strategies: BUILT_IN.iter().collect(),
        }
    }

    /// The same catalogue with another algorithm. A name that is there already keeps its meaning.
    #[must_use]
    pub fn with_algorithm(mut self, algorithm: &'static dyn Algorithm) -> Self {
        if self.algorithm(algorithm.name()).is_none() {
            self.added.push(algorithm);
        }
        self
    }

    /// The same catalogue with another kind of strategy. A name that is there already keeps its meaning.
    #[must_use]
    pub fn with_strategy(mut self, kind: &'static StrategyKind) -> Self {
        if self.strategy(kind.name).is_none() {
            self.strategies.push(kind);
        }
        self
    }

    /// The algorithm of that name.
    pub fn algorithm(&self, name: &str) -> Option<&'static dyn Algorithm> {
        self.built_in.iter().chain(&self.added).find(|algorithm| algorithm.name() == name).copied()
    }

    /// The kind of strategy of that name.
    pub fn strategy(&self, name: &str) -> Option<&'static StrategyKind> {
        self.strategies.iter().find(|kind| kind.name == name).copied()
    }

    /// Whether the algorithm of that name is one that Tidegate comes with, which stores elsewhere know too.
    pub fn is_built_in(&self, algorithm: &str) -> bool {
        self.built_in.iter().any(|own| own.name() == algorithm)
    }

    /// The algorithms' names, the built-in ones first.
    pub fn algorithm_names(&self) -> Vec<&'static str> {
        self.built_in.iter().chain(&self.added).map(|algorithm| algorithm.name()).collect()
    }

    /// The strategies' names, the built-in ones first.
    pub fn strategy_names(&self) -> Vec<&'static str> {
        self.strategies.iter().map(|kind| kind.name).collect()
    }

    /// The kinds of strategies, the built-in ones first.
    pub fn strategies(&self) -> &[&'static StrategyKind] {
        &self.strategies
    }
}

impl Default for Catalogue {
    fn default() -> Self {
        Self::builtin()
    }
}

impl fmt::Debug for Catalogue {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Catalogue({}; {})", self.algorithm_names().join(", "), self.strategy_names().join(", "))
    }
}
