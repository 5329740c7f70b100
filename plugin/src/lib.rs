//! `tidegate.wasm`: the filter with the built-in algorithms and strategies. A plugin with algorithms or strategies of
//! its own is a crate like this one with another catalogue.

use tidegate_engine::catalogue::Catalogue;

tidegate_filter::plugin!(Catalogue::builtin());
