//! A bar on the terminal while many files are worked through; nothing for one, and nothing when
//! standard error is no terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;

/// Goes through the names, with a bar when it pays.
pub(super) fn over(names: &[String]) -> impl Iterator<Item = &String> {
    let shown = names.len() > 1 && std::io::stderr().is_terminal();
    let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(names.len() as u64), target);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} {eta}") {
        bar.set_style(style);
    }
    let mut done = 0;
    names.iter().inspect(move |name| {
        bar.set_position(done);
        done += 1;
        bar.set_message((*name).clone());
    })
}
