//! `request-attribute-reporter`: tells the gateway a number that is worked out of a response's token
//! usage, in dynamic metadata at the end of the response, for rate limits by cost.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cel::{Context, Env, Program, Value};

use super::{About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability};
use crate::config::Fields;
use crate::scheduling::{
    Directions, MetadataValue, ReadsAnswers, ResponseHook, RoutedRequest, TokenUsage,
};

pub(super) const TYPE: PluginType =
    PluginType { name: "request-attribute-reporter", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::ResponsePlugin],
    stability: Stability::Beta,
    since: "GIE v1.4",
    summary: "tells the gateway at the end of a response what it costs, in dynamic metadata",
    formula: "the expression, cut to an integer; not written where it is 0 or the condition is not true",
    parameters: Parameters::Listed(&[
        Parameter::each("attributes", &ATTRIBUTE, "exactly one").required()
    ]),
};

const ATTRIBUTE: [Parameter; 3] = [
    Parameter::fields("key", &KEY, "where the value is written").required(),
    Parameter::text("expression", "the value, in CEL over usage")
        .required()
        .example("usage.total_tokens"),
    Parameter::text("condition", "whether it is written, in CEL likewise")
        .example("\"usage.prompt_tokens > 100.0\""),
];

const KEY: [Parameter; 2] = [
    Parameter::text("namespace", "namespace of the metadata").default("envoy.lb"),
    Parameter::text("name", "name in it").required(),
];

/// Where the value goes if the configuration does not say.
const DEFAULT_NAMESPACE: &str = "envoy.lb";
/// The one variable that expressions may read.
const VARIABLE: &str = "usage";

/// The library reads and evaluates expressions by recursion, one level for each operator or bracket
/// at most, so these are bounded: beyond what anybody writes, within any stack.
const MAX_LENGTH: usize = 2000;
const MAX_SIGNS: usize = 40;
const SIGNS: &[u8] = b"+-*/%<>=?([{";
/// Reading takes far more of the stack than evaluating: 150 KB a level in a build for tests.
const READING_STACK: usize = 32 << 20;

struct RequestAttributeReporter {
    namespace: String,
    key: String,
    expression: Program,
    condition: Option<Program>,
    environment: Arc<Env>,
    has_complained: AtomicBool,
}

impl fmt::Debug for RequestAttributeReporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestAttributeReporter")
            .field("namespace", &self.namespace)
            .field("key", &self.key)
            .field("expression", &self.expression)
            .field("condition", &self.condition)
            .finish_non_exhaustive()
    }
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let mut attributes = p.each("attributes");
    let count = attributes.len();
    if count != 1 {
        p.error("attributes", format!("must have exactly one entry, found {count}"));
    }
    p.finish();
    let reporter = attributes.pop().filter(|_| count == 1).and_then(read_attribute);
    match reporter {
        Some(reporter) => Capabilities::default()
            .with::<dyn ResponseHook>(Arc::new(reporter))
            .reading_answers(ReadsAnswers::Usage),
        None => Capabilities::default(),
    }
}

/// The one attribute; `None` where that was reported to be wrong.
fn read_attribute(mut p: Fields<'_>) -> Option<RequestAttributeReporter> {
    let mut key = p.nested("key");
    let namespace = key.string("namespace").filter(|namespace| !namespace.is_empty());
    let name = key.string("name").unwrap_or_default();
    if name.is_empty() {
        key.error("name", "is required: the key to write the value under");
    }
    key.finish();
    let environment = Arc::new(Env::stdlib());
    let expression = compile(&mut p, "expression", &environment);
    if p.string("expression").is_none_or(str::is_empty) {
        p.error("expression", "is required: what the value is, in CEL");
    }
    let has_condition = p.string("condition").is_some_and(|text| !text.is_empty());
    let condition = compile(&mut p, "condition", &environment);
    let reporter = RequestAttributeReporter {
        namespace: namespace.unwrap_or(DEFAULT_NAMESPACE).to_owned(),
        key: name.to_owned(),
        expression: expression?,
        condition: match has_condition {
            true => Some(condition?),
            false => None,
        },
        environment,
        has_complained: AtomicBool::new(false),
    };
    reporter.try_out(&p);
    p.finish();
    Some(reporter)
}

/// The program of a field; `None` where there is none, or one that was reported.
fn compile(p: &mut Fields<'_>, field: &'static str, environment: &Arc<Env>) -> Option<Program> {
    let text = p.string(field).filter(|text| !text.is_empty())?;
    let signs = text.bytes().filter(|byte| SIGNS.contains(byte)).count();
    if text.len() > MAX_LENGTH || signs > MAX_SIGNS {
        let message = format!(
            "is too long: {MAX_LENGTH} bytes and {MAX_SIGNS} operators and brackets are the most"
        );
        p.error(field, message);
        return None;
    }
    let program = match read(text, environment) {
        Ok(program) => program,
        Err(errors) => {
            let first = errors.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
            p.error(field, format!("is no CEL expression: {}", first.trim()));
            return None;
        }
    };
    let references = program.references();
    let unknown = references.variables().into_iter().find(|name| *name != VARIABLE);
    if let Some(unknown) = unknown {
        p.error(field, format!("reads '{unknown}', but there is only '{VARIABLE}'"));
        return None;
    }
    Some(program)
}

/// Reads an expression on a stack of its own.
///
/// # Errors
/// What is wrong with it, for a person.
fn read(text: &str, environment: &Arc<Env>) -> Result<Program, String> {
    let (text, environment) = (text.to_owned(), environment.clone());
    let read = move || environment.compile(&text).map_err(|errors| errors.to_string());
    let thread = std::thread::Builder::new().stack_size(READING_STACK).spawn(read);
    let thread = thread.map_err(|error| format!("no thread can be started: {error}"))?;
    thread.join().unwrap_or_else(|_| Err("it cannot be read".to_owned()))
}

/// Token counts as expressions see them, under the names that responses have, as doubles: what
/// JSON numbers are to the reference (llm-d-router main at ebab6879).
fn variable(usage: TokenUsage) -> Value {
    let number = |count: u64| Value::Float(count as f64);
    let mut fields = HashMap::from([
        ("prompt_tokens".to_owned(), number(usage.prompt)),
        ("completion_tokens".to_owned(), number(usage.completion)),
        ("total_tokens".to_owned(), number(usage.prompt.saturating_add(usage.completion))),
    ]);
    if let Some(cached) = usage.cached {
        let details = HashMap::from([("cached_tokens".to_owned(), number(cached))]);
        fields.insert("prompt_tokens_details".to_owned(), Value::from(details));
    }
    Value::from(fields)
}

impl RequestAttributeReporter {
    /// The value for a response; `None` where the condition does not hold.
    ///
    /// # Errors
    /// What went wrong with which field.
    fn value(&self, usage: TokenUsage) -> Result<Option<i64>, String> {
        let mut context = Context::with_env(self.environment.clone());
        context.add_variable_from_value(VARIABLE, variable(usage));
        if let Some(condition) = &self.condition {
            match condition.execute(&context) {
                Ok(Value::Bool(true)) => {}
                Ok(_) => return Ok(None),
                Err(error) => return Err(format!("condition: {error}")),
            }
        }
        match self.expression.execute(&context) {
            Ok(Value::Float(value)) => Ok(Some(value as i64)),
            Ok(Value::Int(value)) => Ok(Some(value)),
            Ok(other) => Err(format!("expression: gives no number but a {}", other.type_of())),
            Err(error) => Err(format!("expression: {error}")),
        }
    }

    /// Says where it fails on counts such as every response has.
    fn try_out(&self, p: &Fields<'_>) {
        let usage = TokenUsage { prompt: 20, completion: 10, cached: Some(4) };
        if let Err(problem) = self.value(usage) {
            let (field, problem) = problem.split_once(": ").unwrap_or(("expression", &problem));
            p.warning(field, format!("fails on a usual response: {problem}"));
        }
    }
}

impl ResponseHook for RequestAttributeReporter {
    /// The value is cut to an integer; 0 is not written (llm-d-router main at ebab6879).
    fn response_end(
        &self,
        _: &RoutedRequest<'_>,
        usage: Option<&TokenUsage>,
        directions: &mut Directions,
    ) {
        match self.value(usage.copied().unwrap_or_default()) {
            Ok(None | Some(0)) => {}
            Ok(Some(value)) => {
                let value = MetadataValue::Number(value as f64);
                directions.set_metadata(&self.namespace, &self.key, value);
            }
            Err(problem) if !self.has_complained.swap(true, Ordering::Relaxed) => {
                tracing::warn!(key = %self.key, %problem, "a request attribute is not reported");
            }
            Err(_) => {}
        }
    }
}
