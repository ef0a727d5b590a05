//! Where each draw lies in the interval of its token: as a strip of digits for a terminal, and as a
//! picture.

use std::fmt::Write as _;
use tensorpow_core::interval::TOLERANCE;
use tensorpow_core::verify::Step;

/// Steps on one line of the strip.
const PER_LINE: usize = 64;
/// Columns of the line that shows one step.
const COLUMNS: usize = 50;

/// Tenths of the interval's width that the draw is above the lower edge; `!` for a draw outside.
pub(crate) fn digit(step: &Step) -> char {
    let interval = step.interval;
    if !interval.inside {
        return '!';
    }
    let width = (interval.upper - interval.lower).max(f32::MIN_POSITIVE);
    let tenths = ((step.draw - interval.lower) / width * 10.0).clamp(0.0, 9.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to 9
    char::from_digit(tenths as u32, 10).unwrap_or('9')
}

/// All steps, one digit each.
pub(super) fn strip(steps: &[Step]) -> String {
    let mut text = String::new();
    for line in steps.chunks(PER_LINE) {
        let digits: String = line.iter().map(digit).collect();
        let first = line.first().map_or(0, |step| step.j);
        let _ = writeln!(text, "  {first:>5}  {digits}");
    }
    text
}

/// One line a step: the interval and the draw on the way from 0 to 1, and the numbers.
pub(super) fn lines(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        let interval = step.interval;
        let (from, to, at) = (column(interval.lower), column(interval.upper), column(step.draw));
        let bar: String = (0..COLUMNS)
            .map(|i| match i {
                _ if i == at => {
                    if interval.inside {
                        '*'
                    } else {
                        '!'
                    }
                }
                _ if (from..=to).contains(&i) => '=',
                _ => '.',
            })
            .collect();
        let _ = writeln!(
            text,
            "  {:>5}  {bar}  u {:.7}  {:.7} to {:.7}  token {}",
            step.j, step.draw, interval.lower, interval.upper, step.token
        );
    }
    text
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped to the columns
fn column(at: f32) -> usize {
    ((at.clamp(0.0, 1.0) * COLUMNS as f32) as usize).min(COLUMNS - 1)
}

/// The picture: steps from left to right, 0 to 1 from bottom to top; a bar for each interval,
/// widened by the tolerance, and a dot for each draw, red outside. The classes let a page that shows
/// the picture choose other colours.
pub(crate) fn svg(steps: &[Step], title: &str) -> String {
    const LEFT: f32 = 46.0;
    const TOP: f32 = 34.0;
    const HEIGHT: f32 = 320.0;
    const PITCH: f32 = 4.0;
    let count = steps.last().map_or(1, |step| step.j + 1);
    #[allow(clippy::cast_precision_loss)] // steps of a window
    let width = count as f32 * PITCH;
    let y = |at: f32| TOP + HEIGHT * (1.0 - at.clamp(0.0, 1.0));
    let (full_width, full_height) = (LEFT + width + 14.0, TOP + HEIGHT + 36.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {full_width} {full_height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect class=\"paper\" width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text class=\"label\" x=\"{LEFT}\" y=\"18\" font-size=\"13\">{}</text>\n",
        escaped(title)
    );
    for tenth in [0.0_f32, 0.25, 0.5, 0.75, 1.0] {
        let at = y(tenth);
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {at}h{width}\" stroke=\"#ddd\"/>\
             <text class=\"label\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{tenth}</text>",
            LEFT - 6.0,
            at + 4.0
        );
    }
    for step in steps {
        #[allow(clippy::cast_precision_loss)] // as above
        let x = LEFT + step.j as f32 * PITCH;
        let interval = step.interval;
        let (upper, lower) = (y(interval.upper + TOLERANCE), y(interval.lower - TOLERANCE));
        let (class, colour) = if interval.inside { ("draw", "#1b6") } else { ("draw out", "#d22") };
        let _ = writeln!(
            svg,
            "<rect class=\"interval\" x=\"{x}\" y=\"{upper}\" width=\"{}\" height=\"{}\" fill=\"#9bd\"/>\
             <circle class=\"{class}\" cx=\"{}\" cy=\"{}\" r=\"1.4\" fill=\"{colour}\"/>",
            PITCH - 1.0,
            (lower - upper).max(0.5),
            x + (PITCH - 1.0) / 2.0,
            y(step.draw)
        );
        if step.j % 32 == 0 {
            let below = TOP + HEIGHT + 16.0;
            let _ =
                writeln!(svg, "<text class=\"label\" x=\"{x}\" y=\"{below}\">{}</text>", step.j);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// Text for XML; what XML cannot hold at all becomes a replacement character.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use tensorpow_core::interval::Interval;

    fn step(j: u32, draw: f32, inside: bool) -> Step {
        let interval = Interval { lower: 0.2, upper: 0.4, inside };
        Step { j, token: 9, draw, claimed: draw, interval }
    }

    #[test]
    fn a_draw_is_shown_where_it_lies() {
        let steps =
            [step(0, 0.2, true), step(1, 0.31, true), step(2, 0.4, true), step(3, 0.9, false)];
        assert_eq!(strip(&steps), "      0  059!\n");
        let lines = lines(&steps);
        assert_eq!(lines.lines().count(), 4);
        let bar = |i: usize| lines.lines().nth(i).unwrap().split_whitespace().nth(1).unwrap();
        assert_eq!(bar(1).find('*'), Some(15));
        assert_eq!(bar(3).find('!'), Some(45));
        assert_eq!(bar(3).matches('=').count(), 11);
    }

    #[test]
    fn the_picture_has_a_bar_and_a_dot_for_each_step() {
        let picture = svg(&[step(0, 0.3, true), step(1, 0.9, false)], "a <b> & \u{7}");
        assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
        assert_eq!(picture.matches("<circle").count(), 2);
        assert_eq!(picture.matches("#d22").count(), 1);
        assert!(picture.contains("a &lt;b&gt; &amp; \u{fffd}"));
    }
}
