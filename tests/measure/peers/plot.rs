//! The plot: bars in panels, as an SVG that is readable on a light and on a dark background.

use crate::peers::{costs::Spread, report::short};

/// Bars of one kind, in groups.
pub(crate) struct Panel {
    pub(crate) title: &'static str,
    pub(crate) groups: Vec<(String, Vec<Bar>)>,
}

/// A contender's value.
pub(crate) struct Bar {
    pub(crate) title: String,
    pub(crate) spread: Spread,
}

const WIDTH: f64 = 900.0;
const MARGIN: f64 = 24.0;
const LABELS: f64 = 250.0;
/// The space to the right of the longest bar, for its value.
const VALUES: f64 = 90.0;
const LINE: f64 = 24.0;
const GAP: f64 = 12.0;

const STYLE: &str = "\
    svg { --ground: #ffffff; --ink: #1c2128; --soft: #57606a;\n\
    \x20     --bar0: #c2410c; --bar1: #15803d; --bar2: #0e7490; --bar3: #4f46e5; }\n\
    @media (prefers-color-scheme: dark) {\n\
    \x20 svg { --ground: #0d1117; --ink: #e6edf3; --soft: #9da7b3;\n\
    \x20       --bar0: #ea580c; --bar1: #16a34a; --bar2: #0891b2; --bar3: #6366f1; }\n\
    }\n\
    text { font: 15px system-ui, sans-serif; fill: var(--ink); }\n\
    .title { font-size: 18px; font-weight: 600; }\n\
    .group { font-weight: 600; }\n\
    .note { fill: var(--soft); }\n\
    .end { text-anchor: end; }\n\
    .spread { stroke: var(--ink); stroke-width: 1.5; }\n";

const NOTE: &str = "Bars: medians. Lines: minimum to maximum of the rounds or, where steps share a bar, of the steps.";

/// Draws the panels one below the other.
pub(crate) fn draw(panels: &[Panel]) -> String {
    let (mut body, mut y) = (String::new(), MARGIN);
    for panel in panels {
        y = draw_panel(&mut body, panel, y) + GAP;
    }
    text(&mut body, "note", MARGIN, y, NOTE);
    y += MARGIN;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" role=\"img\" \
         aria-label=\"Costs of each contender\">\n<style>\n{STYLE}</style>\n\
         <rect width=\"{WIDTH}\" height=\"{y}\" fill=\"var(--ground)\"/>\n{body}</svg>\n"
    )
}

/// Draws one panel and returns the vertical position of the next one.
fn draw_panel(body: &mut String, panel: &Panel, top: f64) -> f64 {
    let bars = panel.groups.iter().flat_map(|(_, bars)| bars);
    let longest = bars.map(|bar| bar.spread.most).fold(f64::MIN_POSITIVE, f64::max);
    let scale = (WIDTH - 2.0 * MARGIN - LABELS - VALUES) / longest;
    let mut y = top + LINE;
    text(body, "title", MARGIN, y - 6.0, panel.title);
    for (name, bars) in &panel.groups {
        if !name.is_empty() {
            y += LINE;
            text(body, "group", MARGIN, y - 6.0, name);
        }
        for (number, bar) in bars.iter().enumerate() {
            draw_bar(body, bar, number, y, scale);
            y += LINE;
        }
    }
    y + GAP
}

fn draw_bar(body: &mut String, bar: &Bar, number: usize, y: f64, scale: f64) {
    let Spread { median, least, most } = bar.spread;
    let (left, middle) = (MARGIN + LABELS, y + LINE / 2.0);
    let at = |value: f64| left + value * scale;
    let width = (median * scale).max(1.0);
    text(body, "end", left - 10.0, middle + 5.0, &bar.title);
    put(
        body,
        &format!(
            "<rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\" rx=\"2\" fill=\"var(--bar{number})\"/>",
            y + 4.0,
            LINE - 8.0,
        ),
    );
    put(
        body,
        &format!(
            "<line class=\"spread\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/>",
            at(least),
            at(most),
        ),
    );
    text(body, "", at(most.max(median)) + 10.0, middle + 5.0, &short(median));
}

fn text(body: &mut String, class: &str, x: f64, y: f64, what: &str) {
    put(body, &format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{what}</text>"));
}

fn put(body: &mut String, line: &str) {
    body.push_str(line);
    body.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_fits_the_plot_and_each_bar_has_its_value() {
        let bar = |title: &str, median| Bar { title: title.to_owned(), spread: Spread::of([median]) };
        let bars = vec![bar("ours", 1.0), bar("theirs", 40.0)];
        let drawn = draw(&[Panel { title: "CPU, ms", groups: vec![(String::new(), bars)] }]);
        for text in ["CPU, ms", "ours", "theirs", ">1.0<", ">40.0<", "prefers-color-scheme: dark"] {
            assert!(drawn.contains(text), "{text}");
        }
        assert!(drawn.contains("width=\"512.0\"") && drawn.contains("width=\"12.8\""), "{drawn}");
    }
}
