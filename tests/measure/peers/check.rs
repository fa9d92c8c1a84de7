//! Checks that a contender really does the steps, on the embedded DynamoDB, before anything is measured. The check looks at the
//! table afterwards, and at the requests to the bus and the subsystem.

use std::collections::HashMap;

use futures_util::future::try_join_all;
use local::{Service, runtime_api::PATIENCE};
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::{
    Trouble,
    function::Running,
    peers::{contender::Contender, stage},
    steps,
    store::{Exchange, Line},
};

/// The number of concurrent sign-ups of one person.
const AT_ONCE: usize = 20;

/// Takes a referral through its life with the contender's functions; returns the requirements that do not hold.
pub(crate) async fn check(contender: &Contender) -> Result<Vec<String>, Trouble> {
    let service = stage::service().await?;
    let mut life = Life { contender, service: &service, processes: HashMap::new(), broken: Vec::new() };
    life.mint().await?;
    life.refusals().await?;
    life.at_once().await?;
    life.convert().await?;
    life.issue().await?;
    life.deliver().await?;
    life.announce().await?;
    let Life { broken, processes, .. } = life;
    drop(processes);
    service.stop().await;
    Ok(broken)
}

/// A referral's life with a contender's functions, one process for each function.
struct Life<'a> {
    contender: &'a Contender,
    service: &'a Service,
    processes: HashMap<&'static str, Running>,
    broken: Vec<String>,
}

impl Life<'_> {
    fn hold(&mut self, what: &str, holds: bool, found: &impl std::fmt::Debug) {
        if !holds {
            self.broken.push(format!("{what}: found {found:?}"));
        }
    }

    async fn start(&self, step: &'static str) -> Result<Running, Trouble> {
        let step = steps::named(step)?;
        let settings = stage::settings(self.service, step)?;
        Running::start(&self.contender.function(step)?, &[], &settings, Line::to(self.service).await?).await
    }

    /// Sends an event to the step's function; returns its answer, and the requests that it sent.
    async fn send(&mut self, step: &'static str, event: &Value) -> Result<(Value, Vec<Exchange>), Trouble> {
        let function = steps::named(step)?.function;
        let mut running = match self.processes.remove(function) {
            Some(running) => running,
            None => self.start(step).await?,
        };
        let (answer, _) = running.ask(PATIENCE, &event.to_string()).await?;
        let asked = running.line.take_exchanges();
        self.processes.insert(function, running);
        Ok((answer, asked))
    }

    async fn item(&self, pk: &str, sk: &str) -> Result<Option<Value>, Trouble> {
        let key = |text: &str| aws_sdk_dynamodb::types::AttributeValue::S(text.to_owned());
        let table = self.service.env().required("TABLE_NAME")?;
        let read = self.service.dynamodb().get_item().table_name(table).key("pk", key(pk)).key("sk", key(sk));
        let item = read.send().await?.item;
        Ok(item.map(serde_dynamo::from_item).transpose()?)
    }

    async fn referral(&self, referee: &str) -> Result<Value, Trouble> {
        Ok(self.item(&format!("REFEREE#{referee}"), "REFERRAL").await?.unwrap_or_default())
    }

    /// One code per user, however often it is requested.
    async fn mint(&mut self) -> Result<(), Trouble> {
        let (answer, _) =
            self.send("mint", &mint("alice", &json!({"code": "ALICE-2026", "device_fingerprint": "laptop"}))?).await?;
        self.hold("a mint makes a code", is(&answer, 201, "/code", "ALICE-2026"), &answer);
        let code = self.item("CODE#A11CE2026", "CODE").await?.unwrap_or_default();
        self.hold("the code's owner is in the table", code["owner"] == "alice", &code);
        let (answer, _) = self.send("mint", &mint("alice", &json!({"code": "OTHER-2026"}))?).await?;
        self.hold("a user with a code gets the same code", is(&answer, 200, "/code", "ALICE-2026"), &answer);
        let other = self.item("CODE#0THER2026", "CODE").await?;
        self.hold("the other code is not in the table", other.is_none(), &other);
        let (answer, _) = self.send("mint", &mint("carol", &json!({"code": "alice2026"}))?).await?;
        self.hold("a code has one owner", refused(&answer, 409, "code_taken"), &answer);
        let (answer, _) = self.send("mint", &mint("carol", &json!({"code": "CAROL-2026"}))?).await?;
        self.hold("a refused mint writes nothing", is(&answer, 201, "/code", "CAROL-2026"), &answer);
        Ok(())
    }

    async fn refusals(&mut self) -> Result<(), Trouble> {
        let cases = [
            ("alice", "ALICE-2026", json!({}), 422, "self_referral"),
            ("bob", "ALICE-2026", json!({"device_fingerprint": "laptop"}), 422, "device_match"),
            ("bob", "NOBODYS", json!({}), 404, "code_not_found"),
        ];
        for (referee, code, more, status, reason) in cases {
            let (answer, _) = self.send("attribute", &attribute(referee, code, more)?).await?;
            self.hold(reason, refused(&answer, status, reason), &answer);
            let referral = self.referral(referee).await?;
            self.hold("a refused sign-up writes nothing", referral.is_null(), &referral);
        }
        self.send("mint", &mint("mallory", &json!({"code": "MALLORY-1"}))?).await?;
        let mut flag = steps::event("conversion-account-flagged")?;
        flag["detail"]["user_id"] = json!("mallory");
        self.service.invoke("ConversionFunction", flag).await?;
        let (answer, _) = self.send("attribute", &attribute("bob", "MALLORY-1", json!({}))?).await?;
        self.hold("referrer_flagged", refused(&answer, 422, "referrer_flagged"), &answer);
        Ok(())
    }

    /// One referrer per person, although twenty sign-ups with two codes arrive at twenty processes concurrently.
    async fn at_once(&mut self) -> Result<(), Trouble> {
        let mut processes = try_join_all((0..AT_ONCE).map(|_| self.start("attribute"))).await?;
        let codes =
            ["ALICE-2026", "CAROL-2026"].map(|code| attribute("bob", code, json!({"device_fingerprint": "phone"})));
        let [first, second] = codes.map(|event| event.map(|event| event.to_string()));
        let (first, second) = (first?, second?);
        let asked = processes.iter_mut().enumerate().map(|(number, process)| {
            let event = if number % 2 == 0 { &first } else { &second };
            async { Ok::<_, Trouble>(process.ask(PATIENCE, event).await?.0) }
        });
        let answers = try_join_all(asked).await?;
        let new: Vec<&Value> = answers.iter().filter(|answer| answer["statusCode"] == 201).collect();
        let statuses: Vec<&Value> = answers.iter().map(|answer| &answer["statusCode"]).collect();
        // A 503 says that another process is handling the same sign-up.
        let known = statuses.iter().all(|status| [200, 201, 409, 503].map(Value::from).contains(*status));
        // A contender that stores answers repeats the first one exactly.
        let is_one = !new.is_empty() && new.iter().all(|answer| answer["body"] == new[0]["body"]);
        self.hold("twenty concurrent sign-ups are one referral", is_one && known, &statuses);
        let referral = self.referral("bob").await?;
        let answered = new.first().map(|answer| body(answer)["code"].clone()).unwrap_or_default();
        let is_answered = referral["status"] == "pending" && referral["code"] == answered;
        self.hold("the referral of the answer", is_answered, &referral);
        self.hold("written once", referral["rev"].as_f64() == Some(1.0), &referral);
        Ok(())
    }

    /// One order converts, whichever events follow it.
    async fn convert(&mut self) -> Result<(), Trouble> {
        let order = steps::event("conversion-order-completed")?;
        self.send("convert", &order).await?;
        let converted = self.referral("bob").await?;
        let is_converted = converted["status"] == "converted" && converted["conversion"]["order"] == "order-1001";
        self.hold("an order converts", is_converted && converted["due_at"].is_string(), &converted);
        self.send("convert", &order).await?;
        let again = self.referral("bob").await?;
        self.hold("the same order changes nothing", again == converted, &again);
        let mut other = order.clone();
        (other["id"], other["detail"]["order_id"]) = (json!("another"), json!("order-1002"));
        self.send("convert", &other).await?;
        let again = self.referral("bob").await?;
        self.hold("another order changes nothing", again == converted, &again);
        other["detail"]["user_id"] = json!("stranger");
        let (answer, _) = self.send("convert", &other).await?;
        self.hold("an order of a user who was not referred is acknowledged", answer.is_null(), &answer);
        let stranger = self.referral("stranger").await?;
        self.hold("that order writes no referral", stranger.is_null(), &stranger);
        Ok(())
    }

    /// One write issues both rewards, once.
    async fn issue(&mut self) -> Result<(), Trouble> {
        let record = steps::record(self.service).await?;
        let (answer, asked) = self.send("issue", &record).await?;
        self.hold("the record is processed", is_processed(&answer), &answer);
        let published = published(&asked);
        let is_announced = published.contains(&"referral.converted".to_owned());
        self.hold("the conversion is announced", is_announced, &published);
        let rewarded = self.referral("bob").await?;
        let amounts = ["referrer", "referee"].map(|side| rewarded["rewards"][side]["amount"].as_f64());
        let is_rewarded = rewarded["status"] == "rewarded" && amounts == [Some(1000.0); 2];
        self.hold("both rewards are issued", is_rewarded, &rewarded);
        let mut again = record.clone();
        again["Records"][0]["eventID"] = json!("another");
        self.send("issue", &again).await?;
        let found = self.referral("bob").await?;
        self.hold("the same record changes nothing", found == rewarded, &found);
        Ok(())
    }

    /// The subsystem is called once, under the reward's key and with a valid signature.
    async fn deliver(&mut self) -> Result<(), Trouble> {
        let message = steps::event("delivery-queue")?;
        let (answer, asked) = self.send("deliver", &message).await?;
        self.hold("the message is processed", is_processed(&answer), &answer);
        let calls: Vec<&Exchange> = asked.iter().filter(|asked| asked.operation == "call").collect();
        self.hold("the subsystem is called once", calls.len() == 1, &calls.len());
        for call in calls {
            let key = call.headers.get("idempotency-key").and_then(|key| key.to_str().ok());
            self.hold("the key is the reward's id", key == Some("bob:referrer"), &key);
            let secret = self.service.env().required("WEBHOOK_SECRET")?;
            let signed = Webhook::new(secret)?.verify(&call.body, &call.headers);
            self.hold("the signature is valid", signed.is_ok(), &signed);
        }
        let delivered = self.referral("bob").await?;
        let at = |side: &str| delivered["rewards"][side]["delivered_at"].is_string();
        self.hold("only this reward is marked delivered", at("referrer") && !at("referee"), &delivered);
        let mut again = message.clone();
        again["Records"][0]["messageId"] = json!("another");
        let (_, asked) = self.send("deliver", &again).await?;
        let calls = asked.iter().filter(|asked| asked.operation == "call").count();
        self.hold("a delivered reward is not sent again", calls == 0, &calls);
        Ok(())
    }

    /// The stream record with both rewards publishes both.
    async fn announce(&mut self) -> Result<(), Trouble> {
        let mut record = steps::record(self.service).await?;
        let change = &mut record["Records"][0]["dynamodb"];
        let mut old = change["NewImage"].clone();
        old["status"] = json!({"S": "converted"});
        old.as_object_mut().and_then(|old| old.remove("rewards"));
        change["OldImage"] = old;
        record["Records"][0]["eventID"] = json!("a third");
        let (_, asked) = self.send("issue", &record).await?;
        let published = published(&asked);
        let issued = published.iter().filter(|kind| *kind == "reward.issued").count();
        let are_announced = issued == 2 && published.contains(&"referral.rewarded".to_owned());
        self.hold("both rewards are announced", are_announced, &published);
        Ok(())
    }
}

fn mint(user: &str, body: &Value) -> Result<Value, Trouble> {
    let mut event = steps::event("attribution-mint")?;
    let path = format!("/v1/users/{user}/code");
    event["requestContext"]["http"]["path"] = json!(path);
    event["rawPath"] = json!(path);
    event["pathParameters"]["user_id"] = json!(user);
    event["body"] = json!(body.to_string());
    Ok(event)
}

fn attribute(referee: &str, code: &str, mut body: Value) -> Result<Value, Trouble> {
    let mut event = steps::event("attribution-attribute")?;
    (body["referee_id"], body["code"]) = (json!(referee), json!(code));
    event["body"] = json!(body.to_string());
    Ok(event)
}

fn body(answer: &Value) -> Value {
    answer["body"].as_str().and_then(|body| serde_json::from_str(body).ok()).unwrap_or_default()
}

fn is(answer: &Value, status: u64, place: &str, value: &str) -> bool {
    answer["statusCode"] == status && body(answer).pointer(place).is_some_and(|found| found == value)
}

fn refused(answer: &Value, status: u64, reason: &str) -> bool {
    is(answer, status, "/reason", reason)
}

fn is_processed(answer: &Value) -> bool {
    answer["batchItemFailures"].as_array().is_some_and(Vec::is_empty)
}

/// The types of all events that were published.
fn published(asked: &[Exchange]) -> Vec<String> {
    let puts = asked.iter().filter(|asked| asked.operation == "PutEvents");
    let entries = puts.filter_map(|put| serde_json::from_slice::<Value>(&put.body).ok());
    let entries = entries.filter_map(|put| put["Entries"].as_array().cloned()).flatten();
    entries.filter_map(|entry| entry["DetailType"].as_str().map(str::to_owned)).collect()
}
