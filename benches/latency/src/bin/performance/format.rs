//! Numbers and tables as text.

/// Microseconds, to three digits or four.
pub(crate) fn micros(micros: f64) -> String {
    match micros {
        0.0..10.0 => format!("{micros:.2} µs"),
        10.0..100.0 => format!("{micros:.1} µs"),
        100.0..10_000.0 => format!("{micros:.0} µs"),
        _ => format!("{:.1} ms", micros / 1e3),
    }
}

/// A number with commas, to the hundreds where it is large.
pub(crate) fn thousands(number: f64) -> String {
    let rounded = if number < 1e4 { number.round() } else { (number / 100.0).round() * 100.0 };
    let digits = rounded.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}

/// A table in Markdown.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        text += &format!("| {} |\n", row.join(" | "));
    }
    text
}
