//! The text of a `--route`: `key=value` pairs joined with commas, the way `docker --mount` does it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::pattern::PathPattern;
use super::target::Target;
use super::{ErrorStyle, PollSpec, Replay, Route, Share, SourceSpec, SubscribeSpec};
use crate::cli::value::{self, ValueError};
use crate::status::{StatusRule, is_json_pointer};
use crate::template::Template;

mod error;
mod text;

pub use self::error::SpecError;
pub use self::text::split_specs;
use self::text::{Fits, KEYS, cure, split_escaped, unescape};

/// More than any app sends before its stream is under way, and few enough to keep for every topic.
const MAX_GREETING: usize = 100;

/// What the flags say for routes that don't say otherwise.
#[derive(Clone, Debug)]
pub struct RouteDefaults {
    /// `--heartbeat-interval`.
    pub heartbeat: Duration,
    /// `--linger`; `None` when it was not given.
    pub linger: Option<Duration>,
    /// `--retry`.
    pub retry: Duration,
    /// `--max-age`; zero is off.
    pub max_age: Duration,
    /// `--poll-interval`.
    pub interval: Duration,
    /// `--poll-max-interval`, or what stands for it.
    pub max_interval: Duration,
    /// `--poll-timeout`.
    pub timeout: Duration,
}

// === impl RouteDefaults ===

#[cfg(any(test, feature = "fuzzing"))]
impl RouteDefaults {
    /// What the flags say when none is given.
    pub(crate) fn usual() -> Self {
        Self {
            heartbeat: Duration::from_secs(15),
            linger: None,
            retry: Duration::from_secs(3),
            max_age: Duration::from_secs(600),
            interval: Duration::from_secs(1),
            max_interval: Duration::from_secs(5),
            timeout: Duration::from_secs(10),
        }
    }
}

// === impl Route ===

impl Route {
    /// Reads a route, and the template file that it names.
    ///
    /// # Errors
    /// When the text breaks the grammar, contradicts itself or names a file that can't be used.
    pub fn parse(text: &str, defaults: &RouteDefaults) -> Result<Self, SpecError> {
        let mut fields = Fields::parse(text)?;
        let path = fields.required("path", "/api/progress/{id}")?.ok_or(SpecError::NoPath)?;
        let path = PathPattern::parse(&path).map_err(|error| SpecError::Path(path, error))?;

        let fit = match (fields.has("poll"), fields.has("subscribe")) {
            (true, true) => return Err(SpecError::TwoSources),
            (false, false) => return Err(SpecError::NoSource),
            (true, false) => Fits::Poll,
            (false, true) => Fits::Subscribe,
        };
        fields.check_fit(fit)?;
        let (source, default_linger) = if fit == Fits::Poll {
            (SourceSpec::Poll(fields.poll(&path, defaults)?), Duration::from_secs(10))
        } else {
            (SourceSpec::Subscribe(fields.subscribe(&path, defaults)?), Duration::from_secs(5 * 60))
        };

        let shares =
            [("credentials", Share::Credentials), ("authorized", Share::Authorized), ("public", Share::Public)];
        let styles = [("event", ErrorStyle::Event), ("data", ErrorStyle::Data), ("off", ErrorStyle::Off)];
        let max_age = fields.duration("max-age", value::duration)?.unwrap_or(defaults.max_age);
        let route = Self {
            path,
            source,
            share: fields.one_of("share", &shares)?,
            errors: fields.one_of("errors", &styles)?,
            heartbeat: fields.duration("heartbeat", value::positive_duration)?.unwrap_or(defaults.heartbeat),
            linger: fields.duration("linger", value::duration)?.or(defaults.linger).unwrap_or(default_linger),
            retry: fields.duration("retry", value::positive_duration)?.unwrap_or(defaults.retry),
            max_age: (!max_age.is_zero()).then_some(max_age),
        };
        if route.share == Share::Authorized && route.max_age.is_none() {
            return Err(SpecError::AuthorizedForEver);
        }
        Ok(route)
    }
}

/// The pairs of a route that have not been read yet.
struct Fields(BTreeMap<&'static str, Option<String>>);

// === impl Fields ===

impl Fields {
    fn parse(text: &str) -> Result<Self, SpecError> {
        let mut fields = BTreeMap::new();
        let mut previous = None;
        for part in split_escaped(text, |c| c == ',') {
            let part = part.trim();
            if part.is_empty() {
                return Err(SpecError::EmptyPart);
            }
            let (written, value) = match part.split_once('=') {
                Some((key, value)) => (key.trim_end(), Some(unescape(value.trim_start()))),
                None => (part, None),
            };
            let Some((key, _)) = KEYS.iter().find(|(key, _)| *key == written) else {
                let cure = cure(written, value.is_some(), previous, fields.contains_key("path"));
                return Err(SpecError::UnknownKey { key: written.to_owned(), cure });
            };
            previous = Some(*key);
            if fields.insert(*key, value).is_some() {
                if *key == "path" {
                    return Err(SpecError::PathTwice);
                }
                return Err(SpecError::KeyTwice(key));
            }
        }
        Ok(Self(fields))
    }

    fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    fn check_fit(&self, fit: Fits) -> Result<(), SpecError> {
        let wanted = if fit == Fits::Poll { "subscribe" } else { "poll" };
        let misfit = |(key, fits): &&(&'static str, Fits)| self.has(key) && *fits != Fits::Both && *fits != fit;
        match KEYS.iter().find(misfit) {
            Some((key, _)) => Err(SpecError::DoesNotFit { key, wanted }),
            None => Ok(()),
        }
    }

    /// Takes a key out that can't do without a value, if it is there.
    fn required(&mut self, key: &'static str, example: &'static str) -> Result<Option<String>, SpecError> {
        match self.0.remove(key) {
            None => Ok(None),
            Some(Some(value)) if !value.is_empty() => Ok(Some(value)),
            Some(_) => Err(SpecError::NoValue(key, example)),
        }
    }

    fn poll(&mut self, path: &PathPattern, defaults: &RouteDefaults) -> Result<PollSpec, SpecError> {
        let target = self.required("poll", "/api/videos/{id}")?.ok_or(SpecError::NoSource)?;
        let target = fitting_target(target, path)?;
        let interval = self.duration("interval", value::positive_duration)?.unwrap_or(defaults.interval);
        let max_interval = match self.duration("max-interval", value::positive_duration)? {
            Some(max_interval) if max_interval < interval => {
                return Err(SpecError::Intervals { interval, max_interval });
            }
            Some(max_interval) => max_interval,
            // A route that only asks for a slower pace doesn't contradict a limit that it never named.
            None => defaults.max_interval.max(interval),
        };
        Ok(PollSpec {
            target,
            status: self.status()?,
            template: self.required("template", "progress.json")?.map(read_template).transpose()?,
            interval,
            max_interval,
            timeout: self.duration("timeout", value::positive_duration)?.unwrap_or(defaults.timeout),
        })
    }

    fn subscribe(&mut self, path: &PathPattern, defaults: &RouteDefaults) -> Result<SubscribeSpec, SpecError> {
        let target = match self.0.remove("subscribe").flatten() {
            Some(target) if target.is_empty() => return Err(SpecError::NoValue("subscribe", "/api/events")),
            Some(target) => Some(fitting_target(target, path)?),
            None => None,
        };
        let greeting = self.required("greeting", "1")?;
        let begins_within = self.duration("timeout", value::positive_duration)?;
        Ok(SubscribeSpec {
            target,
            status: self.status()?,
            replay: self.one_of("replay", &[("missed", Replay::Missed), ("latest", Replay::Latest)])?,
            greeting: match greeting {
                Some(text) => value::number_up_to(&text, MAX_GREETING).map_err(|error| SpecError::Value {
                    key: "greeting",
                    value: text,
                    error,
                })?,
                None => 0,
            },
            begins_within,
            timeout: begins_within.unwrap_or(defaults.timeout),
        })
    }

    fn status(&mut self) -> Result<StatusRule, SpecError> {
        let pointer = self.required("status", "/data/status")?;
        if let Some(pointer) = pointer.as_ref().filter(|pointer| pointer.is_empty() || !is_json_pointer(pointer)) {
            return Err(SpecError::Pointer(pointer.clone()));
        }
        let done = match self.required("done", "completed|failed")? {
            Some(text) => {
                let values: Vec<_> = text.split('|').map(|value| value.trim().to_owned()).collect();
                if values.iter().any(String::is_empty) {
                    return Err(SpecError::Done(text));
                }
                Some(values)
            }
            None => None,
        };
        Ok(StatusRule { pointer, done })
    }

    fn duration(
        &mut self,
        key: &'static str,
        parse: fn(&str) -> Result<Duration, ValueError>,
    ) -> Result<Option<Duration>, SpecError> {
        match self.required(key, "15s")? {
            Some(text) => match parse(&text) {
                Ok(duration) => Ok(Some(duration)),
                Err(error) => Err(SpecError::Value { key, value: text, error }),
            },
            None => Ok(None),
        }
    }

    /// One of a few names; the first where the key is not given.
    fn one_of<T: Copy>(&mut self, key: &'static str, allowed: &[(&'static str, T)]) -> Result<T, SpecError> {
        let names = || allowed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let Some(text) = self.required(key, allowed[0].0)? else { return Ok(allowed[0].1) };
        match allowed.iter().find(|(name, _)| *name == text) {
            Some((_, value)) => Ok(*value),
            None => Err(SpecError::NotAllowed { key, value: text, allowed: names() }),
        }
    }
}

/// Reads a target and sees to it that it uses exactly what the path captures.
fn fitting_target(text: String, path: &PathPattern) -> Result<Target, SpecError> {
    let target = match Target::parse(&text) {
        Ok(target) => target,
        Err(error) => return Err(SpecError::Target(text, error)),
    };
    if let Some(name) = target.names().find(|name| path.names().all(|known| known != *name)) {
        let known: Vec<_> = path.names().map(|name| format!("{{{name}}}")).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(SpecError::NotCaptured(name.to_owned(), text.clone(), known));
    }
    if let Some(name) = path.names().find(|name| target.names().all(|used| used != *name)) {
        return Err(SpecError::Unused(name.to_owned(), text.clone()));
    }
    if let Some(name) = target.rest_names().find(|name| path.rest_name() != Some(name)) {
        return Err(SpecError::OtherForm(name.to_owned(), format!("{{{name}}}"), text.clone()));
    }
    if let Some(name) = path.rest_name().filter(|name| text.contains(&format!("{{{name}}}"))) {
        return Err(SpecError::OtherForm(name.to_owned(), format!("{{*{name}}}"), text.clone()));
    }
    Ok(target)
}

fn read_template(file: String) -> Result<Arc<Template>, SpecError> {
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) => return Err(SpecError::TemplateFile(file, error)),
    };
    Template::parse(&text).map(Arc::new).map_err(|error| SpecError::Template(file, error))
}

#[cfg(test)]
mod tests;
