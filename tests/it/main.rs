//! The end-to-end tests, one file for each promise. They run the real binary, each in a folder of its own.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[macro_use]
mod common;

mod blocks;
mod browser;
mod browser_devices;
mod browser_looks;
mod browser_pack;
mod browser_rules;
mod chaos;
mod check_explain;
mod citations;
mod command_line;
mod direct;
mod docs;
mod field_names;
mod fleet;
mod folder;
mod former_style;
mod fuse;
mod fuse_simulation;
mod hostile_heads;
mod https;
mod idle;
mod journal;
mod known_devices;
mod languages;
mod libfota3;
mod limits;
mod loops;
mod migration;
mod never_torn;
mod on_event;
mod one_truth;
mod operator_access;
mod operator_api;
mod operator_crowd;
mod operator_events;
mod operator_heads;
mod operator_metrics;
mod operator_pack;
mod operator_preview;
mod operator_rules;
mod operator_uploads;
mod pack;
mod packages;
mod probe;
mod proxies;
mod publish;
mod ranges;
mod readme;
mod request_forms;
mod signals;
mod simulate;
mod state;
mod systemd;
mod tables;
mod tcp;
mod udp;
mod updatehttp;
mod user_mistakes;
mod verdicts;
mod without;
mod words;
