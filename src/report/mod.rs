//! The result of a run in the forms that people and programs read. Nothing is decided here.

pub mod catalog;
pub mod explain;
pub mod journal;
pub mod json;
mod lines;
pub mod metrics;
mod page;
mod picture;
pub mod terminal;
pub mod text;
