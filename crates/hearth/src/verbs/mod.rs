//! One verb, one file.

pub mod bench;
pub mod build;
pub mod check;
pub mod cp;
pub mod curl;
pub mod doctor;
pub mod env;
pub mod events;
pub mod exec;
pub mod keys;
pub mod logs;
pub mod ls;
pub mod names;
pub mod open;
pub mod public;
pub mod resume;
pub mod run;
pub mod serve;
pub mod shell;
pub mod suspend;
pub mod terminate;
pub mod tokens;
