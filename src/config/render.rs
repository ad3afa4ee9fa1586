//! Faults as rustc shows them: the only door to annotate-snippets.

use super::fault::{Fault, Faults, Warning};
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use std::ops::Range;

/// A longer line is not shown: a file on one line of megabytes would be copied for each of its faults.
const LINE_BYTES_MAX: usize = 2_000;

pub(super) fn faults(faults: &Faults, styled: bool) -> String {
    let mut text = String::new();
    for fault in &faults.list {
        text.push_str(&one(fault, Level::ERROR, styled));
        text.push_str("\n\n");
    }
    let count = faults.list.len() + faults.more_count;
    let noun = if count == 1 { "fault" } else { "faults" };
    text.push_str(&format!("{count} {noun}"));
    if faults.more_count > 0 {
        text.push_str(&format!(", the first {} shown", faults.list.len()));
    }
    text.push('\n');
    text
}

pub(super) fn warning(warning: &Warning, styled: bool) -> String {
    let mut text = one(&warning.0, Level::WARNING, styled);
    text.push('\n');
    text
}

fn one(fault: &Fault, level: Level<'static>, styled: bool) -> String {
    let title = if fault.path.is_empty() {
        fault.message.clone()
    } else {
        format!("{}: {}", fault.path, fault.message)
    };
    let mut group = Group::with_title(level.primary_title(title));
    group = match window(fault) {
        Some((line, text, span)) => group.element(
            Snippet::source(text)
                .path(&fault.source.name)
                .line_start(line)
                .annotation(AnnotationKind::Primary.span(span)),
        ),
        None => group.element(origin(fault)),
    };
    if let Some(help) = &fault.help {
        group = group.element(Level::HELP.message(help));
    }
    let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
    renderer.render(&[group])
}

fn origin(fault: &Fault) -> Origin<'_> {
    let origin = Origin::path(&fault.source.name);
    match &fault.place {
        Some(place) => origin.line(place.line).char_column(place.column),
        None => origin,
    }
}

/// The line of the fault, and where in it the fault is.
fn window(fault: &Fault) -> Option<(usize, &str, Range<usize>)> {
    let place = fault.place.as_ref()?;
    let bytes = fault.source.text.as_bytes();
    // Looks no farther than a line may be long: there may be many faults on one line of megabytes.
    let floor = place.bytes.start.saturating_sub(LINE_BYTES_MAX);
    let ceiling = bytes.len().min(place.bytes.start + LINE_BYTES_MAX);
    let before = bytes.get(floor..place.bytes.start)?.iter().rposition(|byte| *byte == b'\n');
    let from = before.map_or(floor, |at| floor + at + 1);
    let after = bytes.get(place.bytes.start..ceiling)?.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
    let to = after.map_or(ceiling, |at| place.bytes.start + at);
    let is_cut = (before.is_none() && floor > 0) || (after.is_none() && ceiling < bytes.len());
    if is_cut {
        return None;
    }
    let end = place.bytes.end.clamp(place.bytes.start, to);
    Some((place.line, fault.source.text.get(from..to)?, place.bytes.start - from..end - from))
}
