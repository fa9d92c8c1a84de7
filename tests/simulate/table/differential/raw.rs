//! Random calls with conditions and updates, beyond those that the store uses, including ones that must be refused.

use std::collections::HashMap;

use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, Put, ReturnValue, ReturnValuesOnConditionCheckFailure, Select, TransactWriteItem, Update},
};
use fastrand::Rng;

use super::twins::{TABLE, Twins};

type Values = HashMap<String, AttributeValue>;

const ATTRIBUTES: [&str; 6] = ["a", "b", "c", "missing", "work", "due_at"];

/// One expression, or two of one request, with the names and values that they define.
#[derive(Default)]
struct Words {
    names: HashMap<String, String>,
    values: Values,
}

struct Caller {
    rng: Rng,
    client: Client,
    words: Words,
    /// Whether every name and value is defined and used.
    is_valid: bool,
}

/// Makes this many random calls; the answers are compared in wire format.
pub(super) async fn run(twins: &Twins, seed: u64, steps: usize) {
    let mut caller =
        Caller { rng: Rng::with_seed(seed), client: twins.client(), words: Words::default(), is_valid: false };
    for _ in 0..steps {
        (caller.words, caller.is_valid) = (Words::default(), false);
        match caller.rng.u32(0..10) {
            0..=1 => caller.put().await,
            2..=5 => caller.update().await,
            6..=7 => caller.transact().await,
            8 => caller.query().await,
            _ => caller.get().await,
        }
    }
}

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

impl Caller {
    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.rng.usize(0..choices.len())]
    }

    fn key(&mut self) -> Values {
        let (pk, sk) = (self.pick(&["p1", "p2", "p3"]), self.pick(&["s1", "s2"]));
        Values::from([("pk".to_owned(), text(pk)), ("sk".to_owned(), text(sk))])
    }

    fn string(&mut self) -> String {
        self.pick(&["", "a", "ab", "abc", "b", "é", "😀", "Z"]).to_owned()
    }

    fn number(&mut self) -> String {
        let numbers = ["0", "-0", "1", "1.0", "01", "1e0", "10", "1E1", "-1", "0.1", "2", "3", "99999999999999999999"];
        self.pick(&numbers).to_owned()
    }

    fn set(&mut self) -> Vec<String> {
        let mut members = vec!["a", "ab", "b", "c", "d"];
        self.rng.shuffle(&mut members);
        members.truncate(self.rng.usize(1..4));
        members.into_iter().map(str::to_owned).collect()
    }

    fn value(&mut self) -> AttributeValue {
        match self.rng.u32(0..9) {
            0..=1 => AttributeValue::S(self.string()),
            2..=4 => AttributeValue::N(self.number()),
            5 => AttributeValue::Ss(self.set()),
            6 => AttributeValue::Bool(self.rng.bool()),
            7 => AttributeValue::L(vec![AttributeValue::N(self.number()), AttributeValue::S(self.string())]),
            _ => AttributeValue::M(Values::from([("x".to_owned(), AttributeValue::N(self.number()))])),
        }
    }

    /// An attribute's value; index keys are strings in nineteen of twenty cases.
    fn attribute(&mut self, name: &str) -> AttributeValue {
        if ["work", "due_at"].contains(&name) && self.rng.u32(0..20) > 0 {
            return text(self.pick(&["1", "2", "3"]));
        }
        self.value()
    }

    fn item(&mut self) -> Values {
        let mut item = self.key();
        for name in ["a", "b", "c", "work", "due_at"] {
            if self.rng.u32(0..3) > 0 {
                item.insert(name.to_owned(), self.attribute(name));
            }
        }
        item
    }

    fn named(&mut self, name: &str) -> String {
        let place = format!("#{name}");
        if self.is_valid || self.rng.u32(0..150) > 0 {
            self.words.names.insert(place.clone(), name.to_owned());
        }
        place
    }

    fn any_name(&mut self) -> String {
        let name = self.pick(&ATTRIBUTES);
        self.named(name)
    }

    fn valued(&mut self, value: AttributeValue) -> String {
        let place = format!(":v{}", self.words.values.len());
        if self.is_valid || self.rng.u32(0..150) > 0 {
            self.words.values.insert(place.clone(), value);
        }
        place
    }

    /// A string or a number, which have an order.
    fn ordered(&mut self) -> AttributeValue {
        if self.rng.bool() { AttributeValue::S(self.string()) } else { AttributeValue::N(self.number()) }
    }

    fn operand(&mut self) -> String {
        let name = self.any_name();
        if self.rng.u32(0..4) == 0 { format!("size({name})") } else { name }
    }

    fn condition(&mut self, depth: u32) -> String {
        if depth > 0 && self.rng.u32(0..3) > 0 {
            let (one, other) = (self.condition(depth - 1), self.condition(depth - 1));
            return match self.rng.u32(0..6) {
                0 => format!("{one} AND {other}"),
                1 => format!("{one} OR {other}"),
                2 => format!("{one} and ({other})"),
                3 => format!("NOT {one} OR {other}"),
                4 => format!("NOT ({one} OR {other})"),
                _ => format!("({one} OR {other}) AND {one}"),
            };
        }
        let operand = self.operand();
        match self.rng.u32(0..11) {
            0 => format!("attribute_exists({})", self.any_name()),
            1 => format!("attribute_not_exists({})", self.any_name()),
            2 => {
                let (sign, value) = (self.pick(&["=", "<>"]), self.value());
                format!("{operand} {sign} {}", self.valued(value))
            }
            3..=5 => {
                let (sign, value) = (self.pick(&["<", "<=", ">", ">=", "=", "<>"]), self.ordered());
                format!("{operand} {sign} {}", self.valued(value))
            }
            6 => {
                let (one, other) = (self.value(), self.value());
                format!("{operand} IN ({}, {})", self.valued(one), self.valued(other))
            }
            7 => {
                // AWS always refuses bounds in the wrong order or of two types; Dynoxide does not check them in
                // transactions. So bounds are in order here, and the other cases are in `tests`.
                let [low, high] = match self.rng.bool() {
                    true => ["a", "abc"].map(text),
                    false => ["0.5", "1e1"].map(|number| AttributeValue::N(number.to_owned())),
                };
                format!("{operand} BETWEEN {} AND {}", self.valued(low), self.valued(high))
            }
            8 => {
                let value = if self.is_valid { text("a") } else { self.value() };
                format!("begins_with({}, {})", self.any_name(), self.valued(value))
            }
            9 => {
                let value = self.ordered();
                format!("contains({}, {})", self.any_name(), self.valued(value))
            }
            _ => {
                let (left, right) = (self.named("a"), self.named("b"));
                format!("{left} {} {right}", self.pick(&["=", "<>", "<", ">="]))
            }
        }
    }

    fn update_expression(&mut self, may_touch_key: bool) -> String {
        let mut attributes = ATTRIBUTES.to_vec();
        self.rng.shuffle(&mut attributes);
        if !self.is_valid && self.rng.u32(0..40) == 0 {
            attributes[1] = attributes[0];
        }
        // AWS does not document whether this or a condition is checked first.
        if may_touch_key && self.rng.u32(0..20) == 0 {
            attributes[0] = "pk";
        }
        let mut clauses = Vec::new();
        if self.rng.u32(0..3) > 0 {
            let parts = attributes[..2].iter().map(|name| {
                let value = self.attribute(name);
                format!("{} = {}", self.named(name), self.valued(value))
            });
            clauses.push(format!("SET {}", parts.collect::<Vec<_>>().join(", ")));
        }
        if self.rng.u32(0..3) == 0 {
            clauses.push(format!("REMOVE {}", self.named(attributes[2])));
        }
        if self.rng.u32(0..3) == 0 || clauses.is_empty() {
            let value = match self.rng.u32(0..12) {
                0 if !self.is_valid => self.value(),
                0..=5 => AttributeValue::N(self.number()),
                _ => AttributeValue::Ss(self.set()),
            };
            let name = if clauses.is_empty() { self.pick(&["a", "b", "c"]) } else { attributes[3] };
            clauses.push(format!("ADD {} {}", self.named(name), self.valued(value)));
        }
        self.rng.shuffle(&mut clauses);
        clauses.join(" ")
    }

    fn old_item_on_failure(&mut self) -> Option<ReturnValuesOnConditionCheckFailure> {
        self.rng.bool().then_some(ReturnValuesOnConditionCheckFailure::AllOld)
    }

    fn maybe_condition(&mut self) -> Option<String> {
        (self.rng.u32(0..3) > 0).then(|| self.condition(2))
    }

    fn names(&mut self) -> Option<HashMap<String, String>> {
        if !self.is_valid && self.rng.u32(0..80) == 0 {
            self.words.names.insert("#spare".to_owned(), "spare".to_owned());
        }
        (!self.words.names.is_empty()).then(|| self.words.names.clone())
    }

    fn values(&mut self) -> Option<Values> {
        if !self.is_valid && self.rng.u32(0..80) == 0 {
            self.words.values.insert(":spare".to_owned(), text("spare"));
        }
        (!self.words.values.is_empty()).then(|| self.words.values.clone())
    }

    async fn put(&mut self) {
        let condition = self.maybe_condition();
        let put = self.client.put_item().table_name(TABLE).set_item(Some(self.item()));
        let put = put.set_condition_expression(condition).set_expression_attribute_names(self.names());
        let put = put.set_expression_attribute_values(self.values());
        let put = put.set_return_values_on_condition_check_failure(self.old_item_on_failure());
        let _compared = put.set_return_values(self.rng.bool().then_some(ReturnValue::AllOld)).send().await;
    }

    async fn update(&mut self) {
        let condition = self.maybe_condition();
        let update = self.update_expression(condition.is_none());
        let call = self.client.update_item().table_name(TABLE).set_key(Some(self.key())).update_expression(update);
        let call = call.set_condition_expression(condition).set_expression_attribute_names(self.names());
        let call = call.set_expression_attribute_values(self.values());
        let call = call.set_return_values_on_condition_check_failure(self.old_item_on_failure());
        let _compared = call.set_return_values(self.rng.bool().then_some(ReturnValue::AllNew)).send().await;
    }

    async fn transact(&mut self) {
        // AWS finds these errors before it reads any item; Dynoxide finds them in a transaction only when it reaches
        // the write.
        self.is_valid = true;
        let mut writes = Vec::new();
        for _ in 0..self.rng.usize(1..4) {
            self.words = Words::default();
            let condition = self.maybe_condition();
            let write = TransactWriteItem::builder();
            writes.push(if self.rng.bool() {
                let put = Put::builder().table_name(TABLE).set_item(Some(self.item()));
                let put = put.set_condition_expression(condition).set_expression_attribute_names(self.names());
                let put = put.set_expression_attribute_values(self.values());
                let put = put.set_return_values_on_condition_check_failure(self.old_item_on_failure());
                write.put(put.build().unwrap()).build()
            } else {
                let update = self.update_expression(false);
                let update = Update::builder().table_name(TABLE).set_key(Some(self.key())).update_expression(update);
                let update = update.set_condition_expression(condition).set_expression_attribute_names(self.names());
                let update = update.set_expression_attribute_values(self.values());
                let update = update.set_return_values_on_condition_check_failure(self.old_item_on_failure());
                write.update(update.build().unwrap()).build()
            });
        }
        // Few tokens, so that some are repeated, with the same or with other writes.
        let token = (self.rng.u32(0..4) == 0).then(|| format!("token-{}", self.rng.u32(0..200)));
        let times = if token.is_some() { 2 } else { 1 };
        for _ in 0..times {
            let call = self.client.transact_write_items().set_transact_items(Some(writes.clone()));
            let _compared = call.set_client_request_token(token.clone()).send().await;
        }
    }

    async fn query(&mut self) {
        let (index, hash, range) = match self.rng.u32(0..3) {
            0 => (None, "pk", "sk"),
            _ => (Some("work"), "work", "due_at"),
        };
        let choices: &[&str] = if index.is_some() { &["1", "2", "3"] } else { &["p1", "p2"] };
        let (one, low, high) = (self.pick(choices), self.pick(&["1", "2", "s1"]), self.pick(&["2", "3", "s2"]));
        let (hash, range) = (self.named(hash), self.named(range));
        let part = match self.rng.u32(0..9) {
            0 => format!("{range} BETWEEN {} AND {}", self.valued(text(low)), self.valued(text(high))),
            1 => format!("begins_with({range}, {})", self.valued(text("s"))),
            2 => format!("{range} <> {}", self.valued(text(low))),
            3 => format!("({range} = {})", self.valued(text(low))),
            _ => format!("{range} {} {}", self.pick(&["=", "<", "<=", ">", ">="]), self.valued(text(high))),
        };
        let expression = match self.rng.u32(0..10) {
            0 => part,
            1 => format!("{part} AND {hash} = {}", self.valued(text(one))),
            2 => format!("{hash} = {} OR {part}", self.valued(text(one))),
            3 => format!("{hash} < {} AND {part}", self.valued(text(one))),
            _ => format!("{hash} = {} AND {part}", self.valued(text(one))),
        };
        let forward = self.rng.bool();
        let limit = self.rng.bool().then(|| self.rng.i32(1..4));
        let select = [None, None, Some(Select::Count), Some(Select::AllProjectedAttributes)];
        let select = select[self.rng.usize(0..4)].clone();
        let (names, values) = (self.names(), self.values());
        let mut start = None;
        for _ in 0..10 {
            let call = self.client.query().table_name(TABLE).set_index_name(index.map(str::to_owned));
            let call = call.key_condition_expression(&expression).scan_index_forward(forward).set_limit(limit);
            let call = call.set_select(select.clone()).set_exclusive_start_key(start);
            let call = call.set_expression_attribute_names(names.clone());
            match call.set_expression_attribute_values(values.clone()).send().await {
                Ok(page) if page.last_evaluated_key.is_some() => start = page.last_evaluated_key,
                _ => break,
            }
        }
    }

    async fn get(&mut self) {
        let key = self.key();
        let _compared = self.client.get_item().table_name(TABLE).set_key(Some(key)).send().await;
    }
}
