//! Compares `openapi.yaml` with the routes of both APIs in the template and with the answers of both functions, in both directions:
//! every described answer happens, and every answer that happens is described.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    time::Duration,
};

use aws_sdk_dynamodb::types::AttributeValue;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use referrals::lambda::http::problem::Reason;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::{
    admin::{ask, function},
    world::{Answer, Fault, World},
};

const DOCUMENT: &str = include_str!("../../openapi.yaml");
const EVENT: &str = include_str!("../../events/attribution-code.json");
/// A function behind an API.
struct Handler {
    /// Its logical id in the template.
    function: &'static str,
    /// The logical id of its API.
    api: &'static str,
    /// The source of its router.
    route: &'static str,
}

const HANDLERS: [Handler; 2] = [
    Handler {
        function: "AttributionFunction",
        api: "HttpApi",
        route: include_str!("../../functions/attribution/src/route.rs"),
    },
    Handler { function: "AdminFunction", api: "AdminApi", route: include_str!("../../functions/admin/src/route.rs") },
];

impl Handler {
    /// The routes in the comments of its router.
    fn routes(&self) -> Routes {
        let lines = self.route.lines();
        let listed = lines.filter_map(|line| line.trim().strip_prefix("/// `")?.strip_suffix('`')?.split_once(' '));
        listed.map(|(method, path)| (method.to_owned(), path.to_owned())).collect()
    }
}

/// Every method that a client may try.
const METHODS: [&str; 8] = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];
/// Headers that must be described where they are sent. All others belong to the connection.
const HEADERS: [&str; 6] = ["allow", "cache-control", "link", "location", "retry-after", "set-cookie"];
/// The number of attempts of the functions' client.
const TRIES: usize = 4;

/// Method and path, as in a route key.
type Routes = BTreeSet<(String, String)>;
/// Operation, status, and the reason if the answer is a problem.
type Case = (String, u16, String);

/// The document, made strict: an undescribed field in an answer is an error.
struct Document(Value);

/// A method on a path. All references are resolved except those within schemas.
struct Operation {
    id: String,
    method: Method,
    path: String,
    /// Other paths of the same operation.
    aliases: Vec<String>,
    parameters: Vec<Value>,
    body: Option<Value>,
    responses: BTreeMap<u16, Value>,
    security: Value,
}

impl Operation {
    fn routes(&self) -> Vec<(String, String)> {
        let paths = self.aliases.iter().chain([&self.path]);
        paths.map(|path| (self.method.to_string(), path.clone())).collect()
    }
}

impl Document {
    fn read() -> Self {
        let mut document = local::yaml(DOCUMENT).unwrap();
        for schema in document["components"]["schemas"].as_object_mut().unwrap().values_mut() {
            if schema["type"] == "object" && schema["additionalProperties"].is_null() {
                schema["additionalProperties"] = json!(false);
            }
        }
        Self(document)
    }

    fn operations(&self) -> Vec<Operation> {
        let paths = self.0["paths"].as_object().unwrap();
        paths.iter().flat_map(|(path, item)| self.operations_at(path, item)).collect()
    }

    fn operations_at(&self, path: &str, item: &Value) -> Vec<Operation> {
        let is_method = |name: &str| name != "parameters" && !name.starts_with("x-");
        let methods = item.as_object().unwrap().iter().filter(|(name, _)| is_method(name));
        let operation = |(name, operation): (&String, &Value)| Operation {
            id: text(&operation["operationId"]),
            method: name.to_uppercase().parse().unwrap(),
            path: path.to_owned(),
            aliases: item["x-aliases"].as_array().into_iter().flatten().map(text).collect(),
            parameters: [item, operation]
                .into_iter()
                .flat_map(|level| level["parameters"].as_array().into_iter().flatten())
                .map(|parameter| self.resolved(parameter).clone())
                .collect(),
            body: operation.get("requestBody").cloned(),
            responses: operation["responses"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(status, response)| (status.parse().unwrap(), self.resolved(response).clone()))
                .collect(),
            security: operation.get("security").unwrap_or(&self.0["security"]).clone(),
        };
        methods.map(operation).collect()
    }

    fn routes(&self) -> Routes {
        self.operations().iter().flat_map(Operation::routes).collect()
    }

    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(reference) => {
                let found = self.0.pointer(reference.trim_start_matches('#'));
                found.unwrap_or_else(|| panic!("{reference} leads nowhere"))
            }
            None => value,
        }
    }

    /// Asserts that `value` is valid by `schema`.
    #[track_caller]
    fn assert_valid(&self, schema: &Value, value: &Value, what: &str) {
        // The schema's references point to parts of the document, so the validator gets the whole document.
        let mut root = self.0.clone();
        root["allOf"] = json!([schema]);
        let validator = jsonschema::draft202012::options().should_validate_formats(true).build(&root).unwrap();
        let errors: Vec<_> =
            validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(errors.is_empty(), "{what}: {errors:#?}\n{value:#}");
    }

    /// The examples of a parameter, a header or a body, by name.
    fn examples(&self, of: &Value) -> Vec<(String, Value)> {
        let one = of.get("example").map(|value| ("example".to_owned(), value.clone()));
        let named = of["examples"].as_object().into_iter().flatten();
        let named = named.map(|(name, example)| (name.clone(), self.resolved(example)["value"].clone()));
        one.into_iter().chain(named).collect()
    }

    /// Every described answer of the service itself. The gateway's own answers cannot be produced here.
    fn cases(&self) -> BTreeSet<Case> {
        let mut cases = BTreeSet::new();
        for operation in self.operations() {
            for (status, response) in &operation.responses {
                let content = response["content"].as_object();
                // The answer to HEAD has no body, so it does not show the reason.
                let is_ours = content.is_none_or(|content| content.contains_key("application/problem+json"));
                if operation.method == Method::HEAD {
                    cases.extend(is_ours.then(|| (operation.id.clone(), *status, String::new())));
                    continue;
                }
                if content.is_none() {
                    cases.insert((operation.id.clone(), *status, String::new()));
                }
                for (kind, content) in content.into_iter().flatten() {
                    if kind == "application/problem+json" {
                        let reasons = reasons_of(content).into_iter();
                        cases.extend(reasons.map(|reason| (operation.id.clone(), *status, reason)));
                    } else if content["schema"]["$ref"] != "#/components/schemas/GatewayMessage" {
                        cases.insert((operation.id.clone(), *status, String::new()));
                    }
                }
            }
        }
        cases
    }

    /// Asserts that the operation's description allows this answer, and returns its case.
    #[track_caller]
    fn described(&self, operation: &Operation, answer: &Answer) -> Case {
        let what = format!("{} {answer:?}", operation.id);
        let status = answer.status.as_u16();
        let response = operation.responses.get(&status).unwrap_or_else(|| panic!("undescribed: {what}"));
        let kind = answer.headers.get("content-type").map(|kind| kind.to_str().unwrap());
        match (kind, response.get("content")) {
            _ if operation.method == Method::HEAD && answer.body == "" => {}
            (Some(kind), Some(content)) => {
                let content = content.get(kind).unwrap_or_else(|| panic!("undescribed type: {what}"));
                assert_ne!(content["schema"]["$ref"], "#/components/schemas/GatewayMessage", "{what}");
                self.assert_valid(&content["schema"], &answer.body, &what);
            }
            (None, None) => assert_eq!(answer.body, "", "{what}"),
            _ => panic!("undescribed body: {what}"),
        }
        let described = response["headers"].as_object().cloned().unwrap_or_default();
        let described: BTreeMap<_, _> = described.iter().map(|(name, header)| (name.to_lowercase(), header)).collect();
        for name in HEADERS {
            match (described.get(name), answer.headers.get(name)) {
                (Some(header), Some(value)) => {
                    let value = value.to_str().unwrap();
                    let value =
                        if header["schema"]["type"] == "integer" { value.parse().unwrap() } else { json!(value) };
                    self.assert_valid(&header["schema"], &value, &format!("{name} of {what}"));
                }
                (Some(header), None) => assert_ne!(header["required"], true, "no {name}: {what}"),
                (None, Some(_)) => panic!("undescribed {name}: {what}"),
                (None, None) => {}
            }
        }
        // Only a problem has a reason. The reason of a flag is text.
        let is_problem = kind == Some("application/problem+json") && operation.method != Method::HEAD;
        let reason = answer.body["reason"].as_str().filter(|_| is_problem).unwrap_or_default();
        (operation.id.clone(), status, reason.to_owned())
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

fn escaped(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// The reasons that one answer may have.
fn reasons_of(content: &Value) -> Vec<String> {
    let narrowed = &content["schema"]["allOf"][1]["properties"]["reason"]["enum"];
    narrowed.as_array().unwrap_or_else(|| panic!("no reasons: {content}")).iter().map(text).collect()
}

/// The string literals between two places of a source file.
fn literals<'a>(source: &'a str, from: &str, to: &str) -> BTreeSet<&'a str> {
    let (_, body) = source.split_once(from).unwrap();
    let (body, _) = body.split_once(to).unwrap();
    let is_word = |text: &&str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    body.split('"').skip(1).step_by(2).filter(is_word).collect()
}

/// Whether `path` matches `template`.
fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        && template.iter().zip(path).all(|(wanted, part)| wanted.starts_with('{') || *wanted == part)
}

/// One request that is an example in the document.
#[derive(Clone, Default, Debug)]
struct Request {
    what: String,
    path: Map<String, Value>,
    query: Map<String, Value>,
    has_cookie: bool,
    body: Option<Value>,
}

impl Request {
    fn with(&self, parameter: &Value, example: &str, value: &Value) -> Self {
        let mut request = self.clone();
        let name = text(&parameter["name"]);
        request.what = format!("{name}: {example}");
        match parameter["in"].as_str() {
            Some("path") => drop(request.path.insert(name, value.clone())),
            Some("query") => drop(request.query.insert(name, value.clone())),
            Some("cookie") => request.has_cookie = true,
            other => panic!("{other:?} {name}"),
        }
        request
    }

    /// A request with the first example of every required parameter and cookie, and then one request for each other example.
    fn examples(document: &Document, operation: &Operation) -> Vec<Self> {
        let mut base = Self { what: "base".to_owned(), ..Self::default() };
        let is_needed = |parameter: &&Value| parameter["required"] == true || parameter["in"] == "cookie";
        for parameter in operation.parameters.iter().filter(is_needed) {
            let examples = document.examples(parameter);
            base = base.with(parameter, &examples[0].0, &examples[0].1);
        }
        let mut requests = Vec::new();
        if let Some(body) = &operation.body {
            for (name, value) in document.examples(&body["content"]["application/json"]) {
                requests.push(Self { what: format!("body: {name}"), body: Some(value), ..base.clone() });
            }
            base.body = requests[0].body.clone();
        } else {
            requests.push(base.clone());
        }
        for parameter in &operation.parameters {
            let examples = document.examples(parameter);
            assert!(!examples.is_empty(), "no example: {parameter}");
            requests.extend(examples.iter().map(|(name, value)| base.with(parameter, name, value)));
        }
        requests
    }

    async fn send(&self, world: &World, operation: &Operation, cookie: &str) -> Answer {
        let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let mut path = operation.path.clone();
        for (name, value) in &self.path {
            path = path.replace(&format!("{{{name}}}"), &escaped(&plain(value)));
        }
        let query: Vec<_> =
            self.query.iter().map(|(name, value)| format!("{name}={}", escaped(&plain(value)))).collect();
        let path = if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) };
        let cookie = if self.has_cookie { vec![("cookie", cookie)] } else { vec![] };
        let body = self.body.as_ref().map(Value::to_string).unwrap_or_default();
        world.send(operation.method.clone(), &path, &cookie, body).await
    }
}

#[test]
fn the_version_is_that_of_the_workspace() {
    assert_eq!(Document::read().0["info"]["version"], env!("CARGO_PKG_VERSION"));
}

/// Routes and their authorization: none, a signature, or a token or signature of an operator.
#[test]
fn the_routes_are_those_of_the_template() {
    let authorization = |security: &Value| match security {
        none if *none == json!([]) => json!("NONE"),
        signed if *signed == json!([{"signature": []}]) => json!("AWS_IAM"),
        either if *either == json!([{"signature": []}, {"token": []}]) => {
            json!({"Fn::If": ["HasAdminIssuer", "JWT", "AWS_IAM"]})
        }
        other => panic!("{other}"),
    };
    let operations = Document::read().operations();
    let of = |operation: &Operation| {
        let authorization = authorization(&operation.security);
        operation.routes().into_iter().map(move |route| (route, authorization.clone()))
    };
    let described: BTreeMap<_, _> = operations.iter().flat_map(of).collect();

    let template = local::template().unwrap();
    let resources = template["Resources"].as_object().unwrap().values();
    let routes = resources.filter(|resource| resource["Type"] == "AWS::ApiGatewayV2::Route");
    let (mut deployed, mut by_api) = (BTreeMap::new(), BTreeMap::<String, Routes>::new());
    for route in routes.map(|resource| &resource["Properties"]) {
        let key = text(&route["RouteKey"]);
        let (method, path) = key.split_once(' ').expect("method and path");
        let route_key = (method.to_owned(), path.to_owned());
        by_api.entry(text(&route["ApiId"])).or_default().insert(route_key.clone());
        assert!(deployed.insert(route_key, route["AuthorizationType"].clone()).is_none(), "twice: {key}");
    }
    assert_eq!(described, deployed);
    let handled = HANDLERS.iter().map(|handler| (handler.api.to_owned(), handler.routes()));
    assert_eq!(handled.collect::<BTreeMap<_, _>>(), by_api, "what each route.rs says of itself");
}

/// Combines all path segments that the routers contain in every way: they answer exactly the described paths.
#[tokio::test]
async fn the_routes_are_those_of_the_handlers() {
    let world = World::start().await;
    let documented = Document::read().routes();
    let listed: Routes = HANDLERS.iter().flat_map(Handler::routes).collect();
    assert_eq!(listed, documented, "the comments of route.rs");

    let paths: BTreeSet<_> = documented.iter().map(|(_, path)| path.as_str()).collect();
    for path in &paths {
        let takes: Vec<_> = documented.iter().filter(|(_, at)| at == path).map(|(method, _)| method.as_str()).collect();
        let concrete: Vec<_> = path.split('/').map(|part| if part.starts_with('{') { "xyz" } else { part }).collect();
        for method in METHODS {
            let answer = world.send(method.parse().unwrap(), &concrete.join("/"), &[], "").await;
            if takes.contains(&method) {
                let reason = answer.body["reason"].as_str().unwrap_or_default();
                assert!(!["not_found", "method_not_allowed"].contains(&reason), "{method} {path}: {answer:?}");
            } else {
                assert_eq!(answer.status, 405, "{method} {path}: {answer:?}");
                assert_eq!(answer.headers["allow"], takes.join(", "), "{method} {path}");
            }
        }
    }
    for handler in &HANDLERS {
        has_no_other_route(&world, handler).await;
    }
    world.end().await;
}

async fn has_no_other_route(world: &World, handler: &Handler) {
    let routes = handler.routes();
    let paths: BTreeSet<_> = routes.iter().map(|(_, path)| path.as_str()).collect();
    let mut words = literals(handler.route, "pub(crate) fn of", "\n    }\n");
    words.insert("xyz");
    words.retain(|word| !METHODS.contains(word));
    assert!(words.len() > 6 && words.contains("rewards"), "{words:?}");
    let depth = paths.iter().map(|path| path.matches('/').count()).max().unwrap();
    let mut event: Value = serde_json::from_str(EVENT).unwrap();
    event["requestContext"]["http"]["method"] = json!("DELETE");
    let mut level = vec![String::new()];
    for _ in 0..depth {
        level = level.iter().flat_map(|path| words.iter().map(move |word| format!("{path}/{word}"))).collect();
        // Every word after every beginning of a documented path.
        let begins = |path: &String, documented: &&str| {
            let parts: Vec<_> = documented.split('/').take(path.split('/').count()).collect();
            fits(&parts.join("/"), path)
        };
        for path in &level {
            event["rawPath"] = json!(path);
            event["requestContext"]["http"]["path"] = json!(path);
            // There are thousands of paths, so they go directly to the function.
            let answer = world.service().invoke(handler.function, event.clone()).await.unwrap();
            let expected = if paths.iter().any(|documented| fits(documented, path)) { 405 } else { 404 };
            assert_eq!(answer["statusCode"], expected, "{path}: {answer}");
        }
        level.retain(|path| paths.iter().any(|documented| begins(path, documented)));
    }
}

#[test]
fn the_reasons_are_those_of_the_code() {
    let document = Document::read();
    let coded: BTreeSet<_> = Reason::ALL.into_iter().map(Reason::as_str).collect();
    let reasons: Vec<_> = document.0["components"]["schemas"]["Problem"]["properties"]["reason"]["enum"]
        .as_array()
        .unwrap()
        .iter()
        .map(text)
        .collect();
    assert_eq!(reasons.iter().map(String::as_str).collect::<BTreeSet<_>>(), coded);
    let answered: BTreeSet<_> = document.cases().into_iter().map(|(_, _, reason)| reason).collect();
    let answered: BTreeSet<_> = answered.iter().map(String::as_str).filter(|reason| !reason.is_empty()).collect();
    assert_eq!(answered, coded, "answered by some operation");
}

/// Ensures that the list of reasons above is complete.
#[test]
fn each_function_makes_problems_in_one_file() {
    for function in ["attribution", "admin"] {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../functions").join(function).join("src");
        let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        for file in files.filter(|file| file.extension().is_some_and(|kind| kind == "rs")) {
            let is_the_place = file.ends_with("problem.rs");
            assert_eq!(fs::read_to_string(&file).unwrap().contains("Problem::new("), is_the_place, "{file:?}");
        }
    }
}

/// All examples are valid by their schemas.
#[test]
fn the_examples_fit_their_schemas() {
    fn walk(document: &Document, value: &Value, at: &str) {
        match value {
            Value::Object(fields) => {
                if let Some(schema) = fields.get("schema") {
                    let examples = document.examples(value);
                    assert!(!examples.is_empty(), "no example at {at}");
                    for (name, example) in examples {
                        document.assert_valid(schema, &example, &format!("{at}, {name}"));
                    }
                    // There is one example per reason, with the reason as its name.
                    if at.ends_with("problem+json") {
                        let named: Vec<_> = document
                            .examples(value)
                            .into_iter()
                            .map(|(name, value)| (name, text(&value["reason"])))
                            .collect();
                        assert!(named.iter().all(|(name, reason)| name == reason), "{at}: {named:?}");
                        let named: BTreeSet<_> = named.into_iter().map(|(name, _)| name).collect();
                        assert_eq!(named, reasons_of(value).into_iter().collect(), "{at}");
                    }
                }
                fields.iter().for_each(|(name, value)| walk(document, value, &format!("{at}/{name}")));
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(i, item)| walk(document, item, &format!("{at}/{i}")))
            }
            _ => {}
        }
    }
    let document = Document::read();
    walk(&document, &document.0["paths"], "");
    for part in ["parameters", "responses"] {
        walk(&document, &document.0["components"][part], part);
    }
}

/// Writes a code directly to the table, in its canonical form: of another program, or expired.
async fn put_code(world: &World, user: &str, code: &str, program: &str, expires_at: &str) {
    let table = world.service().env().get("TABLE_NAME").unwrap();
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let put = || world.service().dynamodb().put_item().table_name(table).item("code", text(code));
    let item = put().item("pk", text(&format!("CODE#{code}"))).item("sk", text("CODE")).item("owner", text(user));
    let item = item.item("program", text(program)).item("expires_at", text(expires_at));
    item.item("created_at", text("2026-01-31T09:30:00.000Z")).send().await.unwrap();
    let note = put().item("pk", text(&format!("USER#{user}"))).item("sk", text(&format!("CODE#{program}")));
    note.send().await.unwrap();
}

/// Sends every example, and then the requests that cause the other described answers. Every answer must be described, and every
/// described answer must occur.
#[tokio::test]
async fn every_answer_is_described_and_every_described_answer_occurs() {
    let world = World::with(|options| options.pace.first_retry = Duration::from_millis(25)).await;
    let document = Document::read();
    let mut operations = document.operations();
    // First the code that the other examples use, and last the operators' requests, which need an undelivered reward.
    operations.sort_by_key(|operation| (operation.path.starts_with("/admin"), operation.id != "mintCode"));
    let find = |id: &str| operations.iter().find(|operation| operation.id == id).expect(id);
    let mut seen = BTreeSet::new();

    // An example cannot contain a valid signature, so the cookie of this World is sent instead.
    let mut cookie = String::new();
    for operation in &operations {
        if operation.path.starts_with("/admin") && world.referral("bob").await["status"] == "pending" {
            // Erin's referral can be reopened.
            world.attribute("erin", "ada-invites").await;
            world.post("/admin/referrals/erin/void", json!({"reason": "a test"})).await.with(200);
            // Bob's rewards and Carol's reversals stay undelivered while the examples use them.
            world.order("carol", "o-2").await;
            world.until_status("carol", "rewarded").await;
            world.until_idle().await;
            world.script("credit", json!({"answers": vec![503; 1000]})).await;
            world.order("bob", "o-1").await;
            world.until_status("bob", "rewarded").await;
            world.publish("order.cancelled", json!({"order_id": "o-2"})).await;
            world.until_status("carol", "voided").await;
            world
                .until("the reversals are announced", async || world.announced("reward.reversed").await.len() == 2)
                .await;
        }
        for request in Request::examples(&document, operation) {
            let answer = request.send(&world, operation, &cookie).await;
            let case = document.described(operation, &answer);
            // Readers try the examples first, so they have to succeed. The exception is the id without a code and a referral.
            let works = answer.status.as_u16() < 400 || request.path.values().any(|id| id == "auth0|5f7c");
            assert!(works, "{request:?} {answer:?}");
            seen.insert(case);
            if cookie.is_empty() {
                cookie = world.land("ada-invites").await.unwrap();
            }
        }
    }

    // One reward is refused, one is delivered.
    world.until_idle().await;
    world.script("credit", json!({"answers": [400]})).await;
    for reward in ["bob:referrer", "bob:referee"] {
        world.post(&format!("/admin/rewards/{reward}/resend"), json!({})).await.with(202);
        world.until_idle().await;
    }
    for reversal in ["carol:referrer:reversal", "carol:referee:reversal"] {
        world.post(&format!("/admin/reversals/{reversal}/resend"), json!({})).await.with(202);
        world.until_idle().await;
    }

    for operation in &operations {
        let path = |part: &str| {
            let parts = operation.path.split('/').map(|name| if name.starts_with('{') { part } else { name });
            parts.collect::<Vec<_>>().join("/")
        };
        let wrong = world.send(Method::DELETE, &path("ada"), &[], "").await;
        seen.insert(document.described(operation, &wrong));
        if operation.path.contains('{') {
            let slashed = world.send(operation.method.clone(), &path("a%2Fb"), &[], "").await;
            seen.insert(document.described(operation, &slashed));
        }
        let invalid = world.send(operation.method.clone(), &path("%23"), &[], "{").await;
        seen.insert(document.described(operation, &invalid));
        if operation.body.is_some() {
            let large = world.send(operation.method.clone(), &path("ada"), &[], vec![b' '; 64 * 1024 + 1]).await;
            seen.insert(document.described(operation, &large));
        }
    }

    let mut expect = async |id: &str, part: &str, body: Value, status: u16, reason: &str| {
        let operation = find(id);
        let path = operation.path.split('/').map(|name| if name.starts_with('{') { part } else { name });
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = world.send(operation.method.clone(), &path.collect::<Vec<_>>().join("/"), &[], body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.body["reason"].as_str().unwrap_or_default()),
            (status, reason),
            "{answer:?}"
        );
        seen.insert(document.described(operation, &answer));
    };
    expect("mintCode", "zoe", json!({"program": "other"}), 404, "program_not_found").await;
    expect("mintCode", "zoe", json!({"code": "ADA-1nvites"}), 409, "code_taken").await;
    expect("codeOfUser", "zoe", Value::Null, 404, "code_not_found").await;
    expect("code", "unknown", Value::Null, 404, "code_not_found").await;
    expect("referral", "zoe", Value::Null, 404, "referral_not_found").await;
    expect("land", "unknown", Value::Null, 302, "").await;
    expect("undelivered", "", Value::Null, 200, "").await;
    expect("resend", "ada:referee", Value::Null, 404, "reward_not_found").await;
    expect("resend", "bob:referee", Value::Null, 409, "already_delivered").await;
    expect("resendReversal", "ada:referee:reversal", Value::Null, 404, "reversal_not_found").await;
    expect("resendReversal", "carol:referee:reversal", Value::Null, 409, "already_delivered").await;
    world.publish("order.cancelled", json!({"order_id": "o-1"})).await;
    world.until_idle().await;
    expect("resend", "bob:referrer", Value::Null, 409, "reward_reversed").await;
    expect("endCode", "unknown", json!({"disabled": true}), 404, "code_not_found").await;
    world.mint("eve", "eve-1").await;
    expect("endCode", "eve-1", json!({"disabled": true}), 200, "").await;
    world.mint("eve", "eve-2").await;
    expect("endCode", "eve-1", json!({"expires_at": null}), 409, "other_code_live").await;
    expect("redrive", "gold", Value::Null, 404, "queue_not_found").await;
    for question in ["daily", "topReferrers", "cohorts"] {
        expect(question, "other", Value::Null, 404, "program_not_found").await;
    }
    // The messages in this queue are about rewards that are delivered or refused by now. At this rate each takes a second.
    expect("redrive", "credit", json!({"per_second": 1}), 202, "").await;
    expect("redrive", "credit", Value::Null, 409, "under_way").await;

    put_code(&world, "yan", "THERE", "other", "9999-12-31T23:59:59.000Z").await;
    put_code(&world, "yan", "ENDED", "default", "2026-02-28T00:00:00.000Z").await;
    world.put("/v1/users/flo/code", json!({"code": "flo-code"})).await.with(201);
    world.put("/v1/users/dan/code", json!({"code": "dan-code", "device_fingerprint": "laptop"})).await.with(201);
    world.attribute("dan", "ada-invites").await.with(201);
    world.publish("account.flagged", json!({"user_id": "flo", "reason": "a test"})).await;
    world.until_idle().await;
    let sign_up =
        |referee: &str, code: &str| json!({"referee_id": referee, "code": code, "device_fingerprint": "laptop"});
    for (referee, code, status, reason) in [
        ("zoe", "THERE", 404, "program_not_found"),
        ("zoe", "unknown", 404, "code_not_found"),
        ("bob", "flo-code", 409, "already_referred"),
        ("zoe", "ENDED", 410, "code_expired"),
        ("flo", "flo-code", 422, "self_referral"),
        ("zoe", "flo-code", 422, "referrer_flagged"),
        ("zoe", "dan-code", 422, "device_match"),
        ("bob", "ada-invites", 200, ""),
    ] {
        expect("attribute", "", sign_up(referee, code), status, reason).await;
    }
    expect("attribute", "", json!({"referee_id": "ada", "code": "dan-code"}), 422, "reciprocal_referral").await;
    let member = json!({"referee_id": "zoe", "code": "ada-invites", "signed_up_at": "2020-01-01T00:00:00Z"});
    expect("attribute", "", member, 422, "not_new").await;
    expect("referral", "bob", Value::Null, 200, "").await;

    let because =
        |order: &str, amount: u64| json!({"order_id": order, "amount": amount, "currency": "USD", "reason": "a test"});
    let order = || because("o-77", 4200);
    for id in ["explain", "referralEntry", "voidReferral", "reopenReferral", "convertReferral", "approveReferral"] {
        let body = if ["explain", "referralEntry"].contains(&id) { Value::Null } else { order() };
        expect(id, "unknown", body, 404, "referral_not_found").await;
    }
    expect("reopenReferral", "bob", order(), 409, "wrong_state").await;
    expect("convertReferral", "bob", order(), 409, "wrong_state").await;
    world.attribute("hal", "ada-invites").await.with(201);
    world.publish("order.cancelled", json!({"order_id": "o-76"})).await;
    world.until_idle().await;
    expect("convertReferral", "hal", because("o-1", 4200), 409, "order_claimed").await;
    expect("convertReferral", "hal", because("o-76", 4200), 409, "order_undone").await;
    let euro = json!({"order_id": "o-77", "amount": 4200, "currency": "EUR", "reason": "a test"});
    expect("convertReferral", "hal", euro, 422, "order_not_qualifying").await;
    world.put("/admin/accounts/hal/flag", json!({"flagged": true, "reason": "a test"})).await.with(200);
    expect("convertReferral", "hal", order(), 409, "rule_broken").await;
    world.post("/admin/referrals/hal/void", order()).await.with(200);
    expect("reopenReferral", "hal", order(), 409, "rule_broken").await;
    expect("rewardsOfUser", "bob", Value::Null, 200, "").await;
    let first = world.get("/v1/users/ada/referrals?limit=1").await;
    assert!(first.body["next_cursor"].is_string(), "{first:?}");
    document.described(find("referralsOfUser"), &first);
    // Wait for the delayed copies of all events, because their reads must not meet the faults below.
    world.until_redelivered().await;
    for (id, operation) in [
        ("mintCode", "TransactWriteItems"),
        ("codeOfUser", "GetItem"),
        ("code", "GetItem"),
        ("attribute", "BatchGetItem"),
        ("referral", "GetItem"),
        ("referralsOfUser", "Query"),
        ("rewardsOfUser", "Query"),
        ("undelivered", "Query"),
        ("resend", "GetItem"),
        ("resendAll", "Query"),
        ("reversals", "Query"),
        ("resendReversal", "BatchGetItem"),
        ("resendAllReversals", "Query"),
        ("endCode", "UpdateItem"),
        ("explain", "Query"),
        ("referralEntries", "Query"),
        ("referralEntry", "Query"),
        ("voidReferral", "GetItem"),
        ("reopenReferral", "GetItem"),
        ("convertReferral", "GetItem"),
        ("approveReferral", "GetItem"),
        ("flagAccount", "GetItem"),
    ] {
        world.wire().break_next(operation, [Fault::Throttled; TRIES]);
        let body = match id {
            "attribute" => sign_up("zoe", "ada-invites"),
            "endCode" => json!({"disabled": true}),
            "voidReferral" | "reopenReferral" | "convertReferral" | "approveReferral" => order(),
            "flagAccount" => json!({"flagged": true, "reason": "a test"}),
            "resendAll" | "resendAllReversals" => json!({"type": "credit", "since": "1970-01-01T00:00:00Z"}),
            _ => Value::Null,
        };
        let part = match id {
            "resend" => "unheard-of:referee",
            "resendReversal" => "unheard-of:referee:reversal",
            _ => "unheard-of",
        };
        expect(id, part, body, 503, "unavailable").await;
    }
    // A query reads all shards concurrently, and fails with the first shard that fails.
    for id in ["daily", "topReferrers", "cohorts", "liability"] {
        world.wire().break_next("analytics:Query", [Fault::Throttled; 10 * TRIES]);
        expect(id, "default", Value::Null, 503, "unavailable").await;
        world.wire().mend();
    }
    let other = world.get("/v1/users/ada/code?program=other").await;
    seen.insert(document.described(find("codeOfUser"), &other));
    for (id, path) in [
        ("undelivered", "/admin/rewards?limit=0"),
        ("reversals", "/admin/reversals?limit=0"),
        ("referralEntries", "/admin/referrals?limit=0"),
        ("liability", "/admin/liability?format=pdf"),
    ] {
        let wrong = world.get(path).await;
        seen.insert(document.described(find(id), &wrong));
    }
    // The World's wire does not carry calls to queues, so this function gets a separate wire. The four queues are read
    // concurrently.
    let (app, wire) = function(&world);
    for (id, method, path) in
        [("deadLetters", "GET", "/admin/dead-letters"), ("redrive", "POST", "/admin/dead-letters/credit/redrive")]
    {
        wire.break_next("GetQueueAttributes", [Fault::Internal; 4 * TRIES]);
        let answer = ask(&app, method, path, "").await;
        seen.insert(document.described(find(id), &answer));
        wire.mend();
    }
    assert_eq!(document.cases(), seen, "described, and seen");
    world.end().await;
}
