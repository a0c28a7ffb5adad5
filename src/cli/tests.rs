use super::*;

fn parsed(args: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_read(std::iter::once("sidestream").chain(args.iter().copied()).map(OsString::from))
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_flag_has_its_environment_twin_and_a_group_in_the_help() {
    for arg in Cli::command().get_arguments().filter(|arg| !arg.is_positional()) {
        let name = arg.get_long().expect("flags are long");
        let twin = format!("SIDESTREAM_{}", name.to_uppercase().replace('-', "_"));
        assert_eq!(arg.get_env().and_then(|env| env.to_str()), Some(&*twin), "--{name}");
        assert!(arg.get_help_heading().is_some(), "--{name}");
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        assert!(!help.is_empty() && !help.ends_with('.'), "--{name}: {help}");
    }
}

#[test]
fn check_reads_the_flags_of_a_run() {
    let cli = parsed(&["check", "--route", "path=/x,subscribe", "--max-age", "0"]).unwrap();
    let Some(Command::Check(args)) = cli.command else { panic!("not check") };
    assert_eq!((args.route, args.max_age), (vec!["path=/x,subscribe".to_owned()], Duration::ZERO));
    assert!(parsed(&["--no-guard"]).unwrap().command.is_none());
}

// They would be dropped without a word.
#[test]
fn flags_before_a_subcommand_are_refused() {
    let tip = |args: &[&str]| parsed(args).unwrap_err().to_string();
    assert!(tip(&["--no-guard", "check"]).contains("a command comes before its flags: sidestream check [OPTIONS]"));
}

// It would be a typing error of a flag otherwise, or so it sounds.
#[test]
fn an_app_without_its_dashes_is_told_of_them() {
    let tip = parsed(&["--no-guard", "node", "build"]).unwrap_err().to_string();
    assert!(tip.contains("what starts the app comes behind two dashes: sidestream [OPTIONS] -- node"), "{tip}");
    let other = parsed(&["--no-such-flag"]).unwrap_err().to_string();
    assert!(!other.contains("two dashes"), "{other}");
}

#[test]
fn a_misspelled_command_is_named() {
    for args in [&["chekc"][..], &["--no-guard", "chekc"]] {
        let tip = parsed(args).unwrap_err().to_string();
        assert!(tip.contains("there is a command of a like name: sidestream check [OPTIONS]"), "{tip}");
        assert!(tip.contains("sidestream [OPTIONS] -- chekc"), "{tip}");
    }
}

// The parser takes it for a flag of one letter, and would have it started as the app.
#[test]
fn a_value_that_begins_with_a_dash_is_refused_as_a_value() {
    for (args, sentence) in [
        (
            &["--heartbeat-interval", "-5s"][..],
            "invalid value '-5s' for '--heartbeat-interval <TIME>': a duration can't be negative",
        ),
        (
            &["check", "--no-guard", "--max-connections", "-1", "--", "node"],
            "invalid value '-1' for '--max-connections <N>': it must be a whole number from 1 to 4294967295",
        ),
        (&["--no-guard", "-1"], "unexpected argument '-1' found"),
        (&["-1"], "unexpected argument '-1' found"),
        (&["--", "-1", "--no-guard"], ""),
        (&["--log-format", "json", "--no-such", "-1"], "unexpected argument '--no-such' found"),
    ] {
        let text = parsed(args).err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(text.lines().next().unwrap_or_default().trim_start_matches("error: "), sentence, "{args:?}");
    }
}

#[test]
fn what_follows_two_dashes_is_the_apps_alone() {
    let cli = parsed(&["--max-age", "0", "--", "node", "build", "--listen", "check", "--"]).unwrap();
    assert_eq!(cli.run.command, ["node", "build", "--listen", "check", "--"].map(OsString::from));
    let Some(Command::Check(args)) = parsed(&["check", "--", "check"]).unwrap().command else { panic!("not check") };
    assert_eq!(args.command, ["check"].map(OsString::from));
    assert!(parsed(&["node", "build"]).is_err());
}

#[test]
fn two_dashes_without_an_app_are_seen() {
    let lacks = |args: &[&str]| lacks_app(args.iter().map(OsString::from));
    assert!(lacks(&["sidestream", "--"]) && lacks(&["sidestream", "check", "--no-guard", "--"]));
    assert!(
        !lacks(&["sidestream"]) && !lacks(&["sidestream", "--", "node"]) && !lacks(&["sidestream", "--", "sh", "--"])
    );
}

#[test]
fn the_other_commands_take_their_own_flags_only() {
    let Some(Command::Demo(demo)) = parsed(&["demo", "--listen", ":0", "--log=debug"]).unwrap().command else {
        panic!("not demo")
    };
    assert_eq!((demo.listen, demo.admin_listen), (Some("0.0.0.0:0".parse().unwrap()), None));
    let Some(Command::Healthcheck(health)) = parsed(&["healthcheck"]).unwrap().command else {
        panic!("not healthcheck")
    };
    assert_eq!(health.admin_listen.on().and_then(ListenOn::addr), Some("127.0.0.1:9180".parse().unwrap()));
    assert_eq!(parsed(&["demo", "--route=x"]).unwrap_err().kind(), ErrorKind::UnknownArgument);
    assert_eq!(parsed(&["healthcheck", "--listen=:1"]).unwrap_err().kind(), ErrorKind::UnknownArgument);
}
