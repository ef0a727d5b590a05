//! The figures as a page: tables, the targets beside what was measured, the machine.

use super::Args;
use super::measure::Figures;
use super::servers::Server;
use std::fs;
use std::process::Command;

const TEMPLATE: &str = include_str!("../../proxy-performance.md.in");
const NAMES: [&str; 3] = ["direct", Server::NGINX, Server::PROXY];

/// The page.
pub fn page(args: &Args, figures: &Figures, load_before: &str) -> String {
    let mut page = TEMPLATE.to_owned();
    for (name, text) in [
        ("machine", machine()),
        ("load_before", load_before.to_owned()),
        ("nginx", nginx_version(args)),
        ("targets", targets(args, figures)),
        ("maxima", maxima(args, figures)),
        ("rate", rate(args, figures)),
        ("streams", streams(args, figures)),
        ("aborts", aborts(args, figures)),
        ("connections", args.connections.to_string()),
        ("seconds", args.seconds.to_string()),
        ("rounds", args.rounds.to_string()),
        ("sustained", args.sustained.to_string()),
        ("per_second", grouped(args.rate as f64)),
        ("held", grouped(args.streams as f64)),
        ("mined", percent(figures.get("mined share", Server::PROXY))),
    ] {
        page = page.replace(&format!("{{{name}}}"), &text);
    }
    page
}

/// A table with a column for each of those under load.
fn table(rows: &[(String, [String; 3])]) -> String {
    let mut lines =
        vec![format!("| | {} |", NAMES.join(" | ")), "| --- | ---: | ---: | ---: |".to_owned()];
    lines.extend(rows.iter().map(|(name, cells)| format!("| {name} | {} |", cells.join(" | "))));
    lines.join("\n")
}

fn row(name: impl Into<String>, cell: impl Fn(&str) -> String) -> (String, [String; 3]) {
    (name.into(), NAMES.map(cell))
}

fn maxima(args: &Args, figures: &Figures) -> String {
    let mut rows = Vec::new();
    for (name, what, p50, p99, cpu, failed) in [
        ("mined", "max", "max p50", "max p99", "max CPU", "max failed"),
        ("passed through", "pass", "pass p50", "pass p99", "pass CPU", "pass failed"),
        ("mined, later", "later", "later p50", "later p99", "later CPU", "later failed"),
    ] {
        let name = match what {
            "later" => format!("mined, after {} s of load", args.sustained),
            _ => name.to_owned(),
        };
        rows.push(row(format!("{name}: requests/s"), |of| number(figures.get(what, of), 0)));
        rows.push(row(format!("{name}: of nginx's"), |of| {
            percent(ratio(figures.get(what, of), figures.get(what, Server::NGINX)))
        }));
        rows.push(row(format!("{name}: p50 / p99, ms"), |of| pair(figures, p50, p99, of, 2)));
        rows.push(row(format!("{name}: its CPU a request, µs"), |of| {
            number(figures.get(cpu, of), 1)
        }));
        if NAMES.iter().any(|of| figures.get(failed, of).is_some_and(|count| count > 0.0)) {
            rows.push(row(format!("{name}: failed"), |of| number(figures.get(failed, of), 0)));
        }
    }
    table(&rows)
}

fn rate(_: &Args, figures: &Figures) -> String {
    let added = |what: &'static str| {
        move |of: &str| match of {
            "direct" => String::new(),
            of => number(added(figures, what, of), 3),
        }
    };
    table(&[
        row("p50 / p99, ms", |of| pair(figures, "rate p50", "rate p99", of, 3)),
        row("added to p50, ms", added("rate p50")),
        row("added to p99, ms", added("rate p99")),
        row("its CPU a request, µs", |of| number(figures.get("rate CPU", of), 1)),
    ])
}

fn streams(args: &Args, figures: &Figures) -> String {
    let open = grouped(args.streams as f64);
    table(&[
        row("256 paced: a chunk from engine to client, p50 / p99, ms", |of| {
            pair(figures, "paced p50", "paced p99", of, 3)
        }),
        row("256 paced: added to p50, ms", |of| match of {
            "direct" => String::new(),
            of => number(added(figures, "paced p50", of), 3),
        }),
        row("256 paced: its CPU a chunk, µs", |of| number(figures.get("paced CPU", of), 1)),
        row(format!("{open} held: really streaming"), |of| number(figures.get("held", of), 0)),
        row(format!("{open} held: resident memory a stream, kB"), |of| {
            number(figures.get("held kB", of), 1)
        }),
    ])
}

fn aborts(_: &Args, figures: &Figures) -> String {
    table(&[
        row("streams abandoned and noticed", |of| number(figures.get("aborted", of), 0)),
        row("client gone → engine aborted, p50 / p99, ms", |of| {
            pair(figures, "abort p50", "abort p99", of, 2)
        }),
        row("connections left at the engine", |of| number(figures.get("left behind", of), 0)),
    ])
}

/// Each target with its measurement.
fn targets(args: &Args, figures: &Figures) -> String {
    let ours = |what: &str| figures.get(what, Server::PROXY);
    let of_nginx = |what: &str| ratio(ours(what), figures.get(what, Server::NGINX));
    let paced = ratio(
        added(figures, "paced p50", Server::PROXY),
        added(figures, "paced p50", Server::NGINX),
    );
    let at_most = |value: Option<f64>, bound: f64| value.map(|value| value <= bound);
    let at_least = |value: Option<f64>, bound: f64| value.map(|value| value >= bound);
    let p99 = added(figures, "rate p99", Server::PROXY);
    let abandoned = (args.abandoned.div_ceil(50) * 50) as f64;
    let streams = args.streams as f64;
    let lines = [
        (
            format!("added p99 at {} requests/s under 1 ms", grouped(args.rate as f64)),
            format!("{} ms", number(p99, 3)),
            at_most(p99, 1.0),
        ),
        (
            "every request mined: at least 50 % of nginx's requests/s".to_owned(),
            percent(of_nginx("max")),
            at_least(of_nginx("max"), 0.5),
        ),
        (
            format!("the same after {} s of load", args.sustained),
            percent(of_nginx("later")),
            at_least(of_nginx("later"), 0.5),
        ),
        (
            "passed through: at least 80 % of nginx's requests/s".to_owned(),
            percent(of_nginx("pass")),
            at_least(of_nginx("pass"), 0.8),
        ),
        (
            "at most 60 µs of CPU a mined request".to_owned(),
            format!("{} µs", number(ours("max CPU"), 1)),
            at_most(ours("max CPU"), 60.0),
        ),
        (
            "paced streams: at most twice nginx's added time".to_owned(),
            format!("{} times", number(paced, 2)),
            at_most(paced, 2.0),
        ),
        (
            format!("{} streams at once, really streaming", grouped(streams)),
            number(ours("held"), 0),
            at_least(ours("held"), streams),
        ),
        (
            "client gone → engine aborted, p99 under 10 ms".to_owned(),
            format!("{} ms", number(ours("abort p99"), 2)),
            at_most(ours("abort p99"), 10.0),
        ),
        (
            format!("{} abandoned streams, all noticed", grouped(abandoned)),
            number(ours("aborted"), 0),
            at_least(ours("aborted"), abandoned),
        ),
        (
            "no connection of theirs left at the engine".to_owned(),
            number(ours("left behind"), 0),
            at_most(ours("left behind"), 0.0),
        ),
    ];
    let mut table = vec!["| target | measured | |".to_owned(), "| --- | ---: | --- |".to_owned()];
    table.extend(lines.map(|(target, measured, met)| {
        let met = met.map_or("", |met| if met { "met" } else { "missed" });
        format!("| {target} | {measured} | {met} |")
    }));
    table.join("\n")
}

/// What a target adds to the engine's own time.
fn added(figures: &Figures, what: &str, of: &str) -> Option<f64> {
    Some(figures.get(what, of)? - figures.get(what, "direct")?)
}

/// None where the other's figure is lost in the noise.
fn ratio(ours: Option<f64>, theirs: Option<f64>) -> Option<f64> {
    Some(ours? / theirs.filter(|theirs| *theirs > 0.0)?)
}

fn number(value: Option<f64>, places: usize) -> String {
    match (value, places) {
        (None, _) => String::new(),
        (Some(value), 0) => grouped(value),
        (Some(value), places) => format!("{value:.places$}"),
    }
}

fn pair(figures: &Figures, first: &str, second: &str, of: &str, places: usize) -> String {
    match (figures.get(first, of), figures.get(second, of)) {
        (Some(first), Some(second)) => format!("{first:.places$} / {second:.places$}"),
        _ => String::new(),
    }
}

fn percent(value: Option<f64>) -> String {
    value.map(|value| format!("{:.0} %", value * 100.0)).unwrap_or_default()
}

/// A whole number with its thousands apart.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The machine as it describes itself.
fn machine() -> String {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).map(str::to_owned);
        line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned())).unwrap_or_default()
    };
    let processors = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = field("/proc/meminfo", "MemTotal");
    let memory: u64 = memory.split(' ').next().and_then(|it| it.parse().ok()).unwrap_or(0);
    let system = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let system = system.trim().split('-').next().unwrap_or_default().to_owned();
    let model = field("/proc/cpuinfo", "model name");
    format!("{model}, {processors} processors, {} GB, Linux {system}", memory / 1_000_000)
}

fn nginx_version(args: &Args) -> String {
    let told = Command::new(&args.nginx).arg("-v").output();
    let told = told.map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
    let told = told.unwrap_or_default();
    told.trim().rsplit('/').next().unwrap_or_default().to_owned()
}
