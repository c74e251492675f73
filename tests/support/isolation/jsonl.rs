//! Histories as text: the lines of Elle's list-append histories.
//!
//! - A line is an event: `{"index":0,"process":0,"type":"invoke","time":1,"value":[["append",1,2],["r",1,null]]}`.
//! - `invoke` is followed by `ok`, `fail` or `info` of the same process, or by nothing: then nobody knows.
//! - The times of a transaction are the indices of its events, which are ordered where times may be equal.
//! - A scan, which Elle does not know, is `["scan",1,9,[[2,[5,6]],[3,[7]]]]`.
//! - Only as much of JSON is read as such lines need: no fractions, no escapes.

use std::collections::BTreeMap;

use super::history::{Operation, Status, Transaction};

/// Reads a history.
///
/// # Errors
/// The number of the first line that is not as it must be, and why.
pub fn parse(text: &str) -> Result<Vec<Transaction>, String> {
    let mut history: Vec<Transaction> = Vec::new();
    let mut open: BTreeMap<u64, usize> = BTreeMap::new();
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    for (number, line) in lines {
        let event = Event::parse(line).map_err(|what| format!("line {}: {what}", number + 1))?;
        let Event { process, index, operations, .. } = event;
        let place = open.remove(&process);
        let status = match (event.name.as_str(), place) {
            ("invoke", None) => {
                open.insert(process, history.len());
                history.push(Transaction {
                    process,
                    status: Status::Info,
                    invoked: index,
                    completed: u64::MAX,
                    operations,
                });
                continue;
            }
            ("invoke", Some(_)) => return Err(format!("line {}: the process has not completed", number + 1)),
            ("ok", Some(_)) => Status::Ok,
            ("fail", Some(_)) => Status::Fail,
            ("info", Some(_)) => Status::Info,
            (_, _) => return Err(format!("line {}: nothing was invoked, or the type is not known", number + 1)),
        };
        if let Some(transaction) = place.and_then(|place| history.get_mut(place)) {
            transaction.status = status;
            transaction.completed = index;
            if status != Status::Fail {
                transaction.operations = operations;
            }
        }
    }
    Ok(history)
}

struct Event {
    index: u64,
    process: u64,
    name: String,
    operations: Vec<Operation>,
}

impl Event {
    fn parse(line: &str) -> Result<Self, String> {
        let mut parser = Parser { rest: line.trim() };
        let Json::Object(fields) = parser.value()? else { return Err("no object".into()) };
        if !parser.rest.is_empty() {
            return Err(format!("behind the object: {}", parser.rest));
        }
        let field = |name: &str| {
            let found = fields.iter().find(|(field, _)| field == name);
            found.map(|(_, value)| value).ok_or_else(|| format!("no field {name}"))
        };
        let number =
            |name: &str| field(name)?.number().and_then(|number| u64::try_from(number).map_err(|_| "below 0".into()));
        let Json::Text(name) = field("type")? else { return Err("the type is no text".into()) };
        let operations = field("value")?.list()?.iter().map(operation).collect::<Result<_, String>>()?;
        Ok(Self { index: number("index")?, process: number("process")?, name: name.clone(), operations })
    }
}

fn operation(json: &Json) -> Result<Operation, String> {
    let numbers = |json: &Json| json.list()?.iter().map(Json::number).collect::<Result<Vec<i64>, String>>();
    match json.list()? {
        [Json::Text(name), Json::Number(key), Json::Number(value)] if name == "append" => {
            Ok(Operation::Append { key: *key, value: *value })
        }
        [Json::Text(name), Json::Number(key), Json::Null] if name == "r" => {
            Ok(Operation::Read { key: *key, values: None })
        }
        [Json::Text(name), Json::Number(key), values] if name == "r" => {
            Ok(Operation::Read { key: *key, values: Some(numbers(values)?) })
        }
        [Json::Text(name), Json::Number(low), Json::Number(high), Json::Null] if name == "scan" => {
            Ok(Operation::Scan { low: *low, high: *high, keys: None })
        }
        [Json::Text(name), Json::Number(low), Json::Number(high), keys] if name == "scan" => {
            let found = |json: &Json| match json.list()? {
                [Json::Number(key), values] => Ok((*key, numbers(values)?)),
                _ => Err(String::from("a key that was found is no pair")),
            };
            let keys = keys.list()?.iter().map(found).collect::<Result<_, String>>()?;
            Ok(Operation::Scan { low: *low, high: *high, keys: Some(keys) })
        }
        other => Err(format!("no operation: {other:?}")),
    }
}

#[derive(Debug)]
enum Json {
    Null,
    Number(i64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    fn number(&self) -> Result<i64, String> {
        if let Self::Number(number) = self { Ok(*number) } else { Err(format!("no number: {self:?}")) }
    }

    fn list(&self) -> Result<&[Self], String> {
        if let Self::List(list) = self { Ok(list) } else { Err(format!("no list: {self:?}")) }
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    /// Reads this if it is next.
    fn take(&mut self, token: &str) -> bool {
        let behind = self.rest.strip_prefix(token).map(str::trim_start);
        self.rest = behind.unwrap_or(self.rest);
        behind.is_some()
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.take(token) { Ok(()) } else { Err(format!("no {token} before: {}", self.rest)) }
    }

    fn value(&mut self) -> Result<Json, String> {
        if self.take("null") {
            Ok(Json::Null)
        } else if self.take("[") {
            self.items("]", Self::value).map(Json::List)
        } else if self.take("{") {
            let field = |parser: &mut Self| {
                let name = parser.text()?;
                parser.expect(":")?;
                Ok((name, parser.value()?))
            };
            self.items("}", field).map(Json::Object)
        } else if self.rest.starts_with('"') {
            self.text().map(Json::Text)
        } else {
            let end = self.rest.find(|char: char| char != '-' && !char.is_ascii_digit()).unwrap_or(self.rest.len());
            let (digits, rest) = self.rest.split_at(end);
            self.rest = rest.trim_start();
            digits.parse().map(Json::Number).map_err(|error| format!("{error}: {digits}{rest}"))
        }
    }

    /// Reads things with commas between them, and what closes them.
    fn items<T>(&mut self, close: &str, item: impl Fn(&mut Self) -> Result<T, String>) -> Result<Vec<T>, String> {
        let mut items = Vec::new();
        if self.take(close) {
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            if self.take(close) {
                return Ok(items);
            }
            self.expect(",")?;
        }
    }

    fn text(&mut self) -> Result<String, String> {
        self.expect("\"")?;
        let Some((text, rest)) = self.rest.split_once('"').filter(|(text, _)| !text.contains('\\')) else {
            return Err(format!("a text without an end or with an escape: {}", self.rest));
        };
        self.rest = rest.trim_start();
        Ok(text.to_owned())
    }
}
