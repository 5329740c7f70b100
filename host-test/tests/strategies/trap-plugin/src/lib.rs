//! Tidegate with the strategy `trap`, which ends the VM that applies it: how a worker dies in the middle of its work.

use tidegate_engine::catalogue::{Catalogue, StrategyKind};
use tidegate_engine::strategy::{Action, Denial, Strategy};

#[derive(Debug)]
struct Trap;

impl Strategy for Trap {
    fn name(&self) -> &'static str {
        "trap"
    }

    fn apply(&self, denial: &Denial) -> Action {
        panic!("the rule {:?} was to end this VM", denial.rule)
    }
}

static TRAP: StrategyKind =
    StrategyKind { name: "trap", doc: "Ends the VM.", options: &[], build: |_, _| Ok(Box::new(Trap)) };

tidegate_filter::plugin!(Catalogue::builtin().with_strategy(&TRAP));
