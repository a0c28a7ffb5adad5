use super::{launch::Launcher, *};

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
