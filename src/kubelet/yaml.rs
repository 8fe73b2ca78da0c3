//! YAML as the kubelet reads it: the first document of a file, its scalars typed by the rules of
//! YAML 1.1. No crate has these rules as Kubernetes applies them.
//!
//! Rests on go-yaml v2 (`resolve.go`, `decode.go`), whose answer `sigs.k8s.io/yaml` turns into JSON
//! before the kubelet's decoder sees it: a plain `5`, `0x1f`, `1_000`, `.5`, `no` or `~` is not
//! text, but a date is, and so is everything in quotes.

mod compose;
mod keep;
mod node;
mod scalars;

pub use compose::parse;
pub use keep::keep;
pub use node::{Node, Value};
