use super::*;

#[test]
fn ends_are_told_as_shells_tell_them() {
    for (end, status, text, reason) in [
        (End::Exited(0), 0, "exit status 0", AppExit::Ok),
        (End::Exited(7), 7, "exit status 7", AppExit::Error),
        (End::Signalled(9), 137, "SIGKILL", AppExit::Signal),
        (End::Signalled(15), 143, "SIGTERM", AppExit::Signal),
        (End::Signalled(40), 168, "signal 40", AppExit::Signal),
    ] {
        assert_eq!((end.status(), end.to_string().as_str(), end.reason()), (status, text, reason));
    }
}

#[test]
fn an_end_as_ordered_is_told_from_a_death_in_the_drain() {
    let as_ordered = [End::Exited(0), End::Exited(143), End::Exited(130), End::Signalled(15), End::Signalled(2)];
    assert!(as_ordered.into_iter().all(End::is_as_ordered));
    let otherwise = [End::Exited(1), End::Exited(137), End::Signalled(9), End::Signalled(11)];
    assert!(!otherwise.into_iter().any(End::is_as_ordered));
}

#[test]
fn without_the_detour_it_starts_too() {
    let command = |program: &str, args: &[&str]| AppCommand {
        program: program.into(),
        args: args.iter().map(|arg| (*arg).into()).collect(),
    };
    let mut app = Launcher::direct(command("sh", &["-c", "exit 7"])).spawn(true).unwrap();
    assert_eq!(app.wait().unwrap().code(), Some(7));

    let error = Launcher::direct(command("/no/such/app", &[])).spawn(true).unwrap_err();
    assert_eq!(launch::end_of(&error), End::Exited(127));
}

#[test]
fn a_command_is_shown_as_it_was_written() {
    let command = AppCommand { program: "node".into(), args: vec!["build".into(), "--port=1".into()] };
    assert_eq!(command.to_string(), "node build --port=1");
}
