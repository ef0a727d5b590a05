//! Sentences of generated prompts: a request and the circumstances around it. A placeholder in
//! braces is one choice from a word list, `{number}` one of 9 000 numbers. The entropy of a prompt
//! follows from its templates and is computed, not claimed.

use super::dice::Dice;
use super::words;

/// What a prompt asks for.
const REQUESTS: [&str; 16] = [
    "Write a plan for {person}, a {trade} in {place}, who wants to {act} a {quality} {thing} so that it {goal}.",
    "Explain {topic} to a {trade} from {place} with the help of a {quality} {thing} and a {quality} {thing}.",
    "Compare two ways to {act} a {quality} {thing} in {place} when {person} insists that it {goal}.",
    "Tell the story of {person} and {person}, who had to {act} a {quality} {thing} in {place} within {number} days.",
    "Draft a letter in which a {trade} asks {person} for permission to {act} the {quality} {thing} near {place}.",
    "List the mistakes a {trade} can make with a {quality} {thing} if {topic} is ignored and it {goal}.",
    "Summarise what {person} from {place} should know about {topic} before trying to {act} a {quality} {thing}.",
    "Describe a day in {place} on which a {trade} has to {act} {number} {quality} things, one of them a {thing}.",
    "Argue for and against the idea that a {quality} {thing} in {place} {goal} only if we {act} it first.",
    "Write a dialogue between {person}, a {trade}, and {person}, a {trade}, about {topic} and a {quality} {thing}.",
    "Give {person} step-by-step advice on how to {act} a {quality} {thing} that stands in {place} and barely {goal}.",
    "Invent a museum in {place} devoted to {topic}, whose most {quality} exhibit is a {quality} {thing}; a {trade} leads the tour.",
    "Estimate what it costs a {trade} in {place} to {act} {number} pieces of a {quality} {thing}, and show the reasoning.",
    "Review an imaginary handbook on {topic} by {person}, a former {trade} who once had to {act} a {quality} {thing} in {place}.",
    "Prepare questions for an interview with {person} of {place} on {topic}, the {quality} {thing} and why it {goal}.",
    "Outline a lesson in which a {trade} teaches {topic} to {number} pupils in {place} by letting them {act} a {quality} {thing}.",
];

/// What surrounds it.
const CIRCUMSTANCES: [&str; 16] = [
    "The {thing} was built by a {trade} called {person} and is now {quality}.",
    "Last winter {person} tried to {act} it and found a {quality} {thing} underneath.",
    "In {place} they would rather {act} the {thing} than discuss {topic}.",
    "There are {number} coins in the fund, and {person} keeps the books.",
    "A {trade} has offered to help if the result {goal}.",
    "The neighbours complain about the {quality} {thing} and about {topic}.",
    "It must be finished before {person} returns from {place}.",
    "An inventory lists {number} items, among them a {quality} {thing}.",
    "The only tool at hand is a {quality} {thing} borrowed from {person}.",
    "According to a {trade} in {place}, the secret is {topic}.",
    "Somebody suggested to {act} everything and start with a {quality} {thing}.",
    "The rain of the past {number} hours has left the {thing} {quality}.",
    "Nobody in {place} remembers why it {goal}, but a {trade} wrote it down.",
    "{person} studied {topic} for {number} weeks and doubts the plan.",
    "The agreement says: {act} first, and ask {person} about the {thing} later.",
    "Remember that a {quality} {thing} can only help when it {goal}.",
];

/// Numbers a `{number}` can be.
const NUMBERS: usize = 9_000;

/// What follows the last choice: how the answer should look.
const ENDINGS: [&str; 8] = [
    "Answer in plain words.",
    "Think of at least three objections.",
    "Use short paragraphs.",
    "Give numbers where you can.",
    "Begin with the most surprising point.",
    "Write for readers who have never seen one.",
    "End with a question.",
    "Stay practical.",
];

fn list(name: &str) -> Option<&'static [&'static str]> {
    Some(match name {
        "trade" => &words::TRADES,
        "place" => &words::PLACES,
        "thing" => &words::THINGS,
        "quality" => &words::QUALITIES,
        "act" => &words::ACTS,
        "topic" => &words::TOPICS,
        "person" => &words::PEOPLE,
        "goal" => &words::GOALS,
        _ => return None,
    })
}

/// The parts of a template: text, then the name of a placeholder, by turns.
fn parts(template: &str) -> impl Iterator<Item = (&str, &str)> {
    template.split('}').map(|part| part.split_once('{').unwrap_or((part, "")))
}

fn fill(template: &str, dice: &mut Dice, text: &mut String) {
    for (before, name) in parts(template) {
        text.push_str(before);
        match list(name) {
            Some(words) => text.push_str(dice.pick(words).copied().unwrap_or_default()),
            None if name == "number" => text.push_str(&(1_000 + dice.below(NUMBERS)).to_string()),
            None => {}
        }
    }
}

/// Appends one sentence that asks for something.
pub(super) fn request(dice: &mut Dice, text: &mut String) {
    fill(dice.pick(&REQUESTS).copied().unwrap_or_default(), dice, text);
}

/// Appends one sentence about the circumstances.
pub(super) fn circumstance(dice: &mut Dice, text: &mut String) {
    fill(dice.pick(&CIRCUMSTANCES).copied().unwrap_or_default(), dice, text);
}

/// Appends one sentence about the answer.
pub(super) fn ending(dice: &mut Dice, text: &mut String) {
    text.push_str(dice.pick(&ENDINGS).copied().unwrap_or_default());
}

/// Bits of the choices in the template of the set that has the fewest, and of the choice of the
/// template itself.
fn least_bits(templates: &[&str]) -> f64 {
    let bits = |template: &&str| -> f64 {
        parts(template)
            .map(|(_, name)| match list(name) {
                Some(words) => log2(words.len()),
                None if name == "number" => log2(NUMBERS),
                None => 0.0,
            })
            .sum()
    };
    log2(templates.len()) + templates.iter().map(bits).fold(f64::INFINITY, f64::min)
}

#[allow(clippy::cast_precision_loss)] // lists of a few thousand
fn log2(choices: usize) -> f64 {
    (choices.max(1) as f64).log2()
}

/// Least entropy of a request sentence in bits.
#[must_use]
pub(super) fn request_bits() -> f64 {
    least_bits(&REQUESTS)
}

/// Least entropy of a circumstance in bits.
#[must_use]
pub(super) fn circumstance_bits() -> f64 {
    least_bits(&CIRCUMSTANCES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_placeholder_has_a_list() {
        for template in REQUESTS.iter().chain(&CIRCUMSTANCES) {
            for (_, name) in parts(template) {
                let known = name.is_empty() || name == "number" || list(name).is_some();
                assert!(known, "{{{name}}} in {template:?}");
            }
        }
    }

    #[test]
    fn sentences_are_whole() {
        let mut dice = Dice::from_seed([1; 32]);
        for _ in 0..500 {
            let mut text = String::new();
            request(&mut dice, &mut text);
            text.push(' ');
            circumstance(&mut dice, &mut text);
            assert!(text.ends_with('.') && !text.contains(['{', '}']), "{text}");
        }
    }
}
