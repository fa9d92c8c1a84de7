//! State that AWS keeps in addition to the table: queues, stream positions, published events and received calls.
//!
//! One SQLite database, in memory or in the data directory. Every method is one transaction; after it returns, its
//! result survives the end of the process. Waiting pollers are notified when a queue receives a message.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde_json::{Map, Value};
use tokio::sync::Notify;

use crate::clock;

/// SQLite could not read or write.
#[derive(Debug, thiserror::Error)]
#[error("journal: {0}")]
pub struct JournalError(#[from] rusqlite::Error);

type Result<T> = std::result::Result<T, JournalError>;

/// The journal.
pub(crate) struct Journal {
    connection: Mutex<Connection>,
    waiting: Mutex<HashMap<String, Arc<Notify>>>,
}

/// A message to put into a queue.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct NewMessage {
    pub(crate) queue: String,
    pub(crate) body: String,
    /// SQS's message attributes, as `SendMessage` has them.
    pub(crate) attributes: Value,
    /// Milliseconds until it can be received.
    pub(crate) delay: i64,
}

impl NewMessage {
    /// A message without attributes that can be received immediately.
    pub(crate) fn new(queue: impl Into<String>, body: impl Into<String>) -> Self {
        Self { queue: queue.into(), body: body.into(), attributes: Value::Object(Map::new()), delay: 0 }
    }
}

/// A message that is, or was, in a queue.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) queue: String,
    pub(crate) body: String,
    pub(crate) attributes: Value,
    pub(crate) sent_at: i64,
    pub(crate) first_received_at: i64,
    pub(crate) receives: u32,
    /// The receipt handle; every receive gets a new one.
    pub(crate) receipt: String,
}

/// A call that a stand-in endpoint received.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Received {
    pub(crate) subsystem: String,
    pub(crate) reversal: bool,
    pub(crate) headers: Value,
    /// The exact text, because the signature in the headers covers it.
    pub(crate) body: String,
    pub(crate) status: u16,
    pub(crate) at: i64,
}

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS messages (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        queue TEXT NOT NULL,
        body TEXT NOT NULL,
        attributes TEXT NOT NULL,
        sent_at INTEGER NOT NULL,
        visible_at INTEGER NOT NULL,
        receives INTEGER NOT NULL DEFAULT 0,
        first_received_at INTEGER NOT NULL DEFAULT 0,
        receipt TEXT,                          -- set while it is being worked on
        asked_for INTEGER NOT NULL DEFAULT 0   -- visible_at was set by ChangeMessageVisibility
    );
    CREATE INDEX IF NOT EXISTS messages_due ON messages (queue, visible_at) WHERE receipt IS NULL;
    CREATE TABLE IF NOT EXISTS positions (name TEXT PRIMARY KEY, position TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY, body TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS calls (
        seq INTEGER PRIMARY KEY,
        subsystem TEXT NOT NULL,
        reversal INTEGER NOT NULL,
        headers TEXT NOT NULL,
        body TEXT NOT NULL,
        status INTEGER NOT NULL,
        at INTEGER NOT NULL
    );";

impl Journal {
    /// Opens the journal at `path`, or one in memory. Messages that were in progress when the process ended can be
    /// received again immediately.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self> {
        let connection = match path {
            Some(path) => Connection::open(path)?,
            None => Connection::open_in_memory()?,
        };
        // The data must survive the end of the process at any moment. A power failure may lose the last instant.
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.execute_batch(SCHEMA)?;
        connection.execute(
            "UPDATE messages SET receipt = NULL, asked_for = 0, visible_at = ?1 WHERE receipt IS NOT NULL",
            params![clock::now()],
        )?;
        Ok(Self { connection: Mutex::new(connection), waiting: Mutex::default() })
    }

    /// Notified when `queue` receives a message, or gets one back.
    pub(crate) fn arrivals(&self, queue: &str) -> Arc<Notify> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(waiting.entry(queue.to_owned()).or_default())
    }

    /// Puts a message into its queue and returns its id.
    pub(crate) fn send(&self, new_message: &NewMessage) -> Result<String> {
        let id = self.write(|transaction| insert(transaction, new_message))?;
        self.arrivals(&new_message.queue).notify_one();
        Ok(id)
    }

    /// Stores published events together with the messages that the rules create for them; all or nothing.
    pub(crate) fn publish(&self, events: &[Value], new_messages: &[NewMessage]) -> Result<()> {
        self.write(|transaction| {
            for event in events {
                transaction.execute("INSERT INTO events (body) VALUES (?1)", params![event.to_string()])?;
            }
            new_messages.iter().try_for_each(|new_message| insert(transaction, new_message).map(drop))
        })?;
        new_messages.iter().for_each(|new_message| self.arrivals(&new_message.queue).notify_one());
        Ok(())
    }

    /// Receives up to `limit` due messages, the earliest due time first.
    pub(crate) fn receive(&self, queue: &str, limit: usize) -> Result<Vec<Message>> {
        let now = clock::now();
        self.write(|transaction| {
            let mut due = transaction.prepare_cached(
                "SELECT seq FROM messages WHERE queue = ?1 AND receipt IS NULL AND visible_at <= ?2
                 ORDER BY visible_at, seq LIMIT ?3",
            )?;
            let due = due.query_map(params![queue, now, i64::try_from(limit).unwrap_or(i64::MAX)], |row| row.get(0))?;
            let due = due.collect::<rusqlite::Result<Vec<i64>>>()?;
            let mut receive = transaction.prepare_cached(
                "UPDATE messages SET receives = receives + 1, receipt = ?2, asked_for = 0,
                        first_received_at = CASE first_received_at WHEN 0 THEN ?3 ELSE first_received_at END
                 WHERE seq = ?1
                 RETURNING id, queue, body, attributes, sent_at, first_received_at, receives, receipt",
            )?;
            due.into_iter().map(|seq| receive.query_row(params![seq, clock::id(), now], message)).collect()
        })
    }

    /// When the next message of `queue` is due, not counting messages in progress.
    pub(crate) fn next_due(&self, queue: &str) -> Result<Option<i64>> {
        let sql = "SELECT MIN(visible_at) FROM messages WHERE queue = ?1 AND receipt IS NULL";
        Ok(self.connection().prepare_cached(sql)?.query_row(params![queue], |row| row.get(0))?)
    }

    /// Deletes a processed message from its queue.
    pub(crate) fn delete(&self, message: &Message) -> Result<()> {
        let sql = "DELETE FROM messages WHERE id = ?1 AND receipt = ?2";
        self.connection().prepare_cached(sql)?.execute(params![message.id, message.receipt])?;
        Ok(())
    }

    /// Returns a message to its queue, due in `delay` milliseconds, or at the time that the function requested.
    pub(crate) fn return_to_queue(&self, message: &Message, delay: i64) -> Result<()> {
        let sql = "UPDATE messages SET receipt = NULL, visible_at = CASE asked_for WHEN 1 THEN visible_at ELSE ?3 END
                   WHERE id = ?1 AND receipt = ?2";
        let due = clock::now().saturating_add(delay);
        self.connection().prepare_cached(sql)?.execute(params![message.id, message.receipt, due])?;
        self.arrivals(&message.queue).notify_one();
        Ok(())
    }

    /// Deletes a message from its queue and puts a new one, made from it, into another; both or neither.
    pub(crate) fn move_to(&self, message: &Message, new_message: &NewMessage) -> Result<()> {
        self.write(|transaction| {
            let sql = "DELETE FROM messages WHERE id = ?1 AND receipt = ?2";
            match transaction.execute(sql, params![message.id, message.receipt])? {
                0 => Ok(()),
                _ => insert(transaction, new_message).map(drop),
            }
        })?;
        self.arrivals(&new_message.queue).notify_one();
        Ok(())
    }

    /// `ChangeMessageVisibility`: returns whether a message has that receipt.
    pub(crate) fn change_visibility(&self, queue: &str, receipt: &str, delay: i64) -> Result<bool> {
        let sql = "UPDATE messages SET asked_for = 1, visible_at = ?3 WHERE queue = ?1 AND receipt = ?2";
        let due = clock::now().saturating_add(delay);
        Ok(self.connection().prepare_cached(sql)?.execute(params![queue, receipt, due])? > 0)
    }

    /// Moves all messages of a queue that are not in progress to another queue, due `pause` milliseconds apart. Returns
    /// how many there were.
    pub(crate) fn move_all(&self, from: &str, to: &str, pause: i64) -> Result<usize> {
        let sql = "UPDATE messages SET queue = ?2, receives = 0, first_received_at = 0, visible_at = ?3 + ?4 * before
                   FROM (SELECT seq AS which, ROW_NUMBER() OVER (ORDER BY seq) - 1 AS before FROM messages
                         WHERE queue = ?1 AND receipt IS NULL)
                   WHERE seq = which";
        let moved = self.connection().prepare_cached(sql)?.execute(params![from, to, clock::now(), pause])?;
        self.arrivals(to).notify_one();
        Ok(moved)
    }

    /// How many messages `queue` holds, including those in progress; with `received`, only those received at least
    /// once.
    pub(crate) fn count(&self, queue: &str, received: bool) -> Result<u64> {
        let sql = "SELECT COUNT(*) FROM messages WHERE queue = ?1 AND receives >= ?2";
        Ok(self.connection().prepare_cached(sql)?.query_row(params![queue, i64::from(received)], |row| row.get(0))?)
    }

    /// Every message whose queue passes `wanted`, oldest first.
    pub(crate) fn messages(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<Message>> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(
            "SELECT id, queue, body, attributes, sent_at, first_received_at, receives, COALESCE(receipt, '')
             FROM messages ORDER BY seq",
        )?;
        let messages = statement.query_map([], message)?;
        Ok(messages
            .filter(|message| message.as_ref().map_or(true, |message| wanted(&message.queue)))
            .collect::<rusqlite::Result<_>>()?)
    }

    /// Every published event except the first `after`, in the order of publication.
    pub(crate) fn events(&self, after: u32) -> Result<Vec<Value>> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached("SELECT body FROM events ORDER BY seq LIMIT -1 OFFSET ?1")?;
        let events = statement.query_map([after], |row| json(row, 0))?;
        Ok(events.collect::<rusqlite::Result<_>>()?)
    }

    /// Stores a call to a stand-in endpoint.
    pub(crate) fn record_call(&self, call: &Received) -> Result<()> {
        let sql = "INSERT INTO calls (subsystem, reversal, headers, body, status, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let Received { subsystem, reversal, headers, body, status, at } = call;
        let headers = headers.to_string();
        self.connection().prepare_cached(sql)?.execute(params![subsystem, reversal, headers, body, status, at])?;
        Ok(())
    }

    /// Every call to a stand-in endpoint except the first `after`, in the order of arrival.
    pub(crate) fn calls(&self, after: u32) -> Result<Vec<Received>> {
        let connection = self.connection();
        let sql = "SELECT subsystem, reversal, headers, body, status, at FROM calls ORDER BY seq LIMIT -1 OFFSET ?1";
        let mut statement = connection.prepare_cached(sql)?;
        let calls = statement.query_map([after], |row| {
            Ok(Received {
                subsystem: row.get(0)?,
                reversal: row.get(1)?,
                headers: json(row, 2)?,
                body: row.get(3)?,
                status: row.get(4)?,
                at: row.get(5)?,
            })
        })?;
        Ok(calls.collect::<rusqlite::Result<_>>()?)
    }

    /// The position of the stream reader `name`.
    pub(crate) fn position(&self, name: &str) -> Result<Option<String>> {
        let sql = "SELECT position FROM positions WHERE name = ?1";
        Ok(self.connection().prepare_cached(sql)?.query_row(params![name], |row| row.get(0)).optional()?)
    }

    /// Stores the position of the stream reader `name`, together with a message for records that it gave up on.
    pub(crate) fn set_position(&self, name: &str, position: &str, failed: Option<&NewMessage>) -> Result<()> {
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO positions (name, position) VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET position = excluded.position",
                params![name, position],
            )?;
            failed.map_or(Ok(()), |new_message| insert(transaction, new_message).map(drop))
        })?;
        failed.inspect(|new_message| self.arrivals(&new_message.queue).notify_one());
        Ok(())
    }

    fn write<T>(&self, write: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        let result = write(&transaction)?;
        transaction.commit()?;
        Ok(result)
    }

    /// The database connection. A panic while holding the lock rolled its transaction back, so the connection stays
    /// usable.
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn insert(transaction: &Transaction<'_>, new_message: &NewMessage) -> rusqlite::Result<String> {
    let (id, now) = (clock::id(), clock::now());
    let sql = "INSERT INTO messages (id, queue, body, attributes, sent_at, visible_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let NewMessage { queue, body, attributes, delay } = new_message;
    let due = now.saturating_add(*delay);
    transaction.prepare_cached(sql)?.execute(params![id, queue, body, attributes.to_string(), now, due])?;
    Ok(id)
}

fn message(row: &Row<'_>) -> rusqlite::Result<Message> {
    Ok(Message {
        id: row.get(0)?,
        queue: row.get(1)?,
        body: row.get(2)?,
        attributes: json(row, 3)?,
        sent_at: row.get(4)?,
        first_received_at: row.get(5)?,
        receives: row.get(6)?,
        receipt: row.get(7)?,
    })
}

/// A column that this module wrote as JSON.
fn json(row: &Row<'_>, column: usize) -> rusqlite::Result<Value> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|problem| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(problem))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn journal() -> Journal {
        Journal::open(None).unwrap()
    }

    fn only(journal: &Journal, queue: &str) -> Message {
        let mut received = journal.receive(queue, 10).unwrap();
        assert_eq!(received.len(), 1, "{received:?}");
        received.remove(0)
    }

    #[test]
    fn a_message_has_one_receiver_until_it_is_returned() {
        let journal = journal();
        journal.send(&NewMessage::new("q", "hello")).unwrap();
        let first = only(&journal, "q");
        assert_eq!((first.body.as_str(), first.receives), ("hello", 1));
        assert!(journal.receive("q", 10).unwrap().is_empty());
        journal.return_to_queue(&first, 0).unwrap();
        let second = only(&journal, "q");
        assert_eq!((second.receives, second.first_received_at), (2, first.first_received_at));
        journal.delete(&first).unwrap();
        assert_eq!(journal.count("q", false).unwrap(), 1, "an old receipt deletes nothing");
        journal.delete(&second).unwrap();
        assert_eq!(journal.count("q", false).unwrap(), 0);
    }

    #[test]
    fn a_delayed_message_is_not_received_early() {
        let journal = journal();
        journal.send(&NewMessage { delay: 60_000, ..NewMessage::new("q", "later") }).unwrap();
        assert!(journal.receive("q", 10).unwrap().is_empty());
        assert!(journal.next_due("q").unwrap().unwrap() > clock::now() + 50_000);
        assert_eq!(journal.next_due("other").unwrap(), None);
        assert_eq!((journal.count("q", false).unwrap(), journal.count("q", true).unwrap()), (1, 0));
    }

    #[test]
    fn a_requested_visibility_overrides_the_retry_delay() {
        let journal = journal();
        journal.send(&NewMessage::new("q", "x")).unwrap();
        let message = only(&journal, "q");
        assert!(journal.change_visibility("q", &message.receipt, 60_000).unwrap());
        assert!(!journal.change_visibility("q", "no such receipt", 0).unwrap());
        journal.return_to_queue(&message, 0).unwrap();
        assert!(journal.receive("q", 10).unwrap().is_empty());
        assert!(journal.next_due("q").unwrap().unwrap() > clock::now() + 50_000);
    }

    #[test]
    fn a_message_is_moved_only_once() {
        let journal = journal();
        journal.send(&NewMessage::new("q", "x")).unwrap();
        let message = only(&journal, "q");
        let new_message = NewMessage { attributes: json!({"reason": "no"}), ..NewMessage::new("parked", "x") };
        journal.move_to(&message, &new_message).unwrap();
        journal.move_to(&message, &new_message).unwrap();
        let parked = journal.messages(|queue| queue == "parked").unwrap();
        assert_eq!(parked.len(), 1);
        assert_eq!(parked[0].attributes["reason"], "no");
    }

    #[test]
    fn messages_are_received_in_the_order_of_sending() {
        let journal = journal();
        let new_messages: Vec<_> = (0..5).map(|number: i32| NewMessage::new("q", number.to_string())).collect();
        journal.publish(&[json!({"id": 1})], &new_messages).unwrap();
        let bodies = |messages: Vec<Message>| messages.into_iter().map(|message| message.body).collect::<String>();
        assert_eq!(bodies(journal.receive("q", 3).unwrap()), "012");
        assert_eq!(bodies(journal.receive("q", 3).unwrap()), "34");
        assert_eq!(journal.events(0).unwrap(), [json!({"id": 1})]);
        assert_eq!(journal.events(1).unwrap(), [json!(null); 0]);
    }

    #[test]
    fn everything_survives_a_restart_and_messages_in_progress_are_received_again() {
        let directory = std::env::temp_dir().join(clock::id());
        std::fs::create_dir(&directory).unwrap();
        let path = directory.join("journal.sqlite");
        let call = Received {
            subsystem: "credit".to_owned(),
            reversal: false,
            headers: json!({"idempotency-key": "ref:referrer"}),
            // Neither sorted nor compact.
            body: r#"{"user_id": "bob", "amount":1}"#.to_owned(),
            status: 200,
            at: 1,
        };
        {
            let journal = Journal::open(Some(&path)).unwrap();
            journal.send(&NewMessage::new("q", "in hand")).unwrap();
            only(&journal, "q");
            journal.record_call(&call).unwrap();
            journal.set_position("stream", "7", None).unwrap();
            journal.set_position("stream", "8", Some(&NewMessage::new("failures", "record"))).unwrap();
        }
        let journal = Journal::open(Some(&path)).unwrap();
        assert_eq!(only(&journal, "q").receives, 2);
        assert_eq!(journal.calls(0).unwrap(), [call]);
        assert_eq!(journal.calls(1).unwrap(), []);
        assert_eq!(journal.position("stream").unwrap().as_deref(), Some("8"));
        assert_eq!(journal.count("failures", false).unwrap(), 1);
        drop(journal);
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test]
    async fn a_waiting_task_is_notified_of_a_message() {
        let journal = journal();
        let arrivals = journal.arrivals("q");
        journal.send(&NewMessage::new("q", "x")).unwrap();
        arrivals.notified().await;
    }
}
