//! What a run came to, in the forms that people and programs read. This room decides nothing.

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
