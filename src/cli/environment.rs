//! The environment twins of the flags: which of them are set, which were set by a misspelled name, and how a flag is
//! called to somebody who never wrote it.

use std::ffi::OsStr;

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use super::spelling::nearest;

/// The flags whose values are those of their twins: each with the name of its variable.
#[derive(Clone, Debug, Default)]
pub struct Twins(Vec<(String, String)>);

// === impl Twins ===

impl Twins {
    /// Those that were read for these matches.
    pub(super) fn read(command: &Command, matches: &ArgMatches) -> Self {
        let is_read = |arg: &&Arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::EnvVariable);
        let twins = command.get_arguments().filter(|arg| arg.get_env().is_some()).filter(is_read);
        Self(twins.filter_map(|arg| Some((arg.get_long()?.to_owned(), twin(arg)?))).collect())
    }

    /// A sentence, with the variables of the flags that it names behind it: who set those wrote no flag.
    pub fn explain(&self, sentence: &str) -> String {
        let words: Vec<_> = sentence.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').collect();
        let is_named = |flag: &str| words.iter().any(|word| word.strip_prefix("--") == Some(flag));
        let named = self.0.iter().filter(|(flag, _)| is_named(flag));
        let named: Vec<_> = named.map(|(flag, variable)| format!("--{flag} is set by {variable}")).collect();
        if named.is_empty() { sentence.to_owned() } else { format!("{sentence} ({})", named.join(", ")) }
    }
}

/// A command line that doesn't see empty variables: a compose file has no other way to leave one out (`${X:-}`).
pub(super) fn without_empty(command: Command) -> Command {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    without(command, &is_empty)
}

/// A command line that sees no variable at all.
pub(super) fn without_any(command: Command) -> Command {
    without(command, &|_| true)
}

fn without(command: Command, is_unseen: &dyn Fn(&OsStr) -> bool) -> Command {
    let blind = |arg: Arg| if arg.get_env().is_some_and(is_unseen) { arg.env(None::<&'static str>) } else { arg };
    command.mut_args(blind).mut_subcommands(|command| without(command, is_unseen))
}

/// Puts the name of its variable before the flag that an error is about.
pub(super) fn name_variable(mut command: Command, error: &mut clap::Error) {
    // Only then do its flags know how they are printed.
    command.build();
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return };
    let Some(variable) = command.get_arguments().find(|arg| arg.to_string() == *flag).and_then(twin) else { return };
    let named = format!("{variable} ({flag})");
    error.insert(ContextKind::InvalidArg, ContextValue::String(named));
}

/// Variables that are no twins but nearly called so, each with the twin that was probably meant. Others that begin with
/// our name are none of our business: Kubernetes makes some of them for a service of that name.
pub(super) fn misspelled(
    command: &Command,
    variables: impl IntoIterator<Item = String>,
) -> impl Iterator<Item = (String, String)> {
    let twins: Vec<_> = command.get_arguments().filter_map(twin).collect();
    variables.into_iter().filter_map(move |variable| {
        let meant = nearest(&variable, twins.iter().map(|twin| &**twin), 2).filter(|meant| *meant != variable)?;
        // Two letters are most of a short name: SIDESTREAM_POD is not SIDESTREAM_LOG.
        let is_long = meant.len() >= "SIDESTREAM_".len() + 8;
        let meant = if is_long { Some(meant) } else { nearest(&variable, [meant], 1) }?.to_owned();
        Some((variable, meant))
    })
}

fn twin(arg: &Arg) -> Option<String> {
    arg.get_env().and_then(OsStr::to_str).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn a_sentence_names_the_variables_of_its_flags_and_no_other() {
        let pair = |flag: &str, variable: &str| (flag.to_owned(), variable.to_owned());
        let twins = Twins(vec![pair("listen", "SIDESTREAM_LISTEN"), pair("route", "SIDESTREAM_ROUTE")]);
        assert_eq!(twins.explain("--route 'a=b': no"), "--route 'a=b': no (--route is set by SIDESTREAM_ROUTE)");
        assert_eq!(
            twins.explain("--listen ':1' and --route: no"),
            "--listen ':1' and --route: no (--listen is set by SIDESTREAM_LISTEN, --route is set by SIDESTREAM_ROUTE)"
        );
        assert_eq!(twins.explain("--admin-listen 'listen'"), "--admin-listen 'listen'");
    }

    #[test]
    fn a_name_that_is_nearly_a_twins_is_found() {
        for (variable, meant) in [
            ("SIDESTREAM_HEARTBEAT_INTERVALL", "SIDESTREAM_HEARTBEAT_INTERVAL"),
            ("SIDESTREAM_UPSTRAEM", "SIDESTREAM_UPSTREAM"),
            ("SIDESTREAM_ROUTES", "SIDESTREAM_ROUTE"),
            ("SIDESTEAM_ROUTE", "SIDESTREAM_ROUTE"),
            ("SIDESTREAM_MAX_CONNECTION", "SIDESTREAM_MAX_CONNECTIONS"),
        ] {
            let found: Vec<_> = misspelled(&Cli::command(), [variable.to_owned()]).collect();
            assert_eq!(found, [(variable.to_owned(), meant.to_owned())]);
        }
    }

    #[test]
    fn the_flag_stays_beside_its_variable() {
        let mut error =
            Cli::command().try_get_matches_from(["sidestream", "--no-guard", "--drain", "soon"]).unwrap_err();
        name_variable(Cli::command(), &mut error);
        let text = error.to_string();
        assert!(text.starts_with("error: invalid value 'soon' for 'SIDESTREAM_DRAIN (--drain <TIME>)': "), "{text}");
    }

    // The first are what Kubernetes makes for a service called sidestream, and for its neighbours.
    #[test]
    fn names_of_others_are_left_alone() {
        let others = [
            "SERVICE_HOST",
            "SERVICE_PORT",
            "SERVICE_PORT_HTTP",
            "PORT",
            "PORT_8080_TCP",
            "PORT_8080_TCP_ADDR",
            "ADMIN_PORT",
            "ADMIN_SERVICE_HOST",
            "APP_PORT",
            "APP_SERVICE_PORT",
            "BIN",
            "SEED",
            "POD",
            "ROLE",
            "INTERLEAVINGS",
            "WRITE_DOCS",
        ];
        let own = Cli::command();
        let own = own.get_arguments().filter_map(twin);
        let variables = others.iter().map(|name| format!("SIDESTREAM_{name}")).chain(own).chain(["PATH".to_owned()]);
        assert_eq!(misspelled(&Cli::command(), variables).collect::<Vec<_>>(), []);
    }
}
