//! The `Dockerfile`, read line by line, and the program in a folder that has what the image has.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{said, tool};
use crate::harness::{
    node::repository_file,
    sidestream::{binary, finish, run},
    within,
};

/// The user of the image.
const NOBODY: &str = "65532:65532";

/// The instructions of each stage, each on one line.
fn stages() -> Vec<Vec<(String, String)>> {
    let text = fs::read_to_string(repository_file("Dockerfile")).expect("there is a Dockerfile");
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let mut stages = vec![Vec::new()];
    for line in lines.join("\n").replace("\\\n", " ").lines().filter(|line| !line.trim().is_empty()) {
        let (name, rest) = line.split_once(' ').expect("an instruction has an argument");
        if name == "FROM" {
            stages.push(Vec::new());
        }
        let rest = rest.split_whitespace().collect::<Vec<_>>().join(" ");
        stages.last_mut().expect("there is a stage").push((name.to_owned(), rest));
    }
    stages
}

#[test]
#[ignore = "needs hadolint; tests/run installs it"]
fn hadolint_has_nothing_to_say() {
    let mut hadolint = tool("hadolint");
    hadolint.arg("--no-color").arg(repository_file("Dockerfile"));
    assert_eq!(said(hadolint), "");
}

#[tokio::test]
async fn the_image_runs_as_nobody_has_no_shell_step_and_asks_itself_whether_it_is_well() {
    let stages = stages();
    let last = stages.last().expect("there is a stage");
    let all = |name: &str| last.iter().filter(|(it, _)| it == name).map(|(_, rest)| &**rest).collect::<Vec<_>>();

    // Whatever a step of the last stage ran would have to be in the image.
    assert_eq!(all("RUN"), [""; 0]);
    assert_eq!(all("USER"), [NOBODY]);
    assert_eq!(all("ENTRYPOINT"), [r#"["/usr/local/bin/sidestream"]"#]);
    let health = all("HEALTHCHECK");
    assert!(health[0].ends_with(r#"CMD ["/usr/local/bin/sidestream", "healthcheck"]"#), "{health:?}");
    assert_eq!(all("EXPOSE"), ["8080 9180"]);
    let labels = all("LABEL").join(" ");
    for label in ["title", "description", "licenses", "version", "revision"] {
        assert!(labels.contains(&format!("org.opencontainers.image.{label}=")), "{label}: {labels}");
    }
    let version = format!("VERSION={}", env!("CARGO_PKG_VERSION"));
    assert!(all("ARG").contains(&&*version), "{:?}", all("ARG"));
    // A variable that no flag knows would be passed over in silence.
    let help = run(["--help"]).await.stdout;
    for pair in all("ENV").iter().flat_map(|rest| rest.split(' ')) {
        let (name, _) = pair.split_once('=').expect("a variable has a value");
        assert!(help.contains(&format!("[env: {name}=")), "{name} is no twin of a flag");
    }
}

/// The context is a list of what may come in; what the stages copy must be on it.
#[test]
fn the_build_is_let_have_what_it_copies_and_nothing_else() {
    let ignored = fs::read_to_string(repository_file(".dockerignore")).expect("there is a .dockerignore");
    let rules: Vec<_> = ignored.lines().filter(|line| !line.starts_with('#')).collect();
    let mut allowed: BTreeSet<_> = rules.iter().filter_map(|rule| rule.strip_prefix('!')).collect();

    assert_eq!(rules[0], "*");
    for (_, rest) in stages().concat().iter().filter(|(name, _)| name == "COPY") {
        let words: Vec<_> = rest.split(' ').collect();
        if words[0].starts_with("--from=") {
            continue;
        }
        for source in &words[..words.len() - 1] {
            assert!(repository_file(source).exists(), "{source} does not exist");
            let pattern = if source.starts_with("LICENSE-") { "LICENSE-*" } else { source };
            allowed.remove(pattern);
            assert!(rules.contains(&&*format!("!{pattern}")), "{source} is not let in");
        }
    }
    assert_eq!(allowed, BTreeSet::new(), "let in, and not copied");
}

/// A base without a shell, of which glibc and libgcc are the only libraries, is enough; also for a user who owns nothing.
#[tokio::test]
#[ignore = "needs root for chroot; tests/run runs it"]
async fn the_program_runs_where_there_is_nothing_but_glibc() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = binary().get_program().to_owned();
    let mut ldd = Command::new("ldd");
    let libraries = said({
        ldd.arg(&program);
        ldd
    });
    let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/')).map(Path::new);
    let known = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"];
    for library in libraries.chain([Path::new(&program)]) {
        let is_program = library == Path::new(&program);
        let name = library.file_name().and_then(|name| name.to_str()).expect("a library has a name");
        assert!(is_program || known.contains(&name), "{name} is not in the image");
        let inside = if is_program { Path::new("/usr/local/bin/sidestream") } else { library };
        let to = folder.path().join(inside.strip_prefix("/").expect("paths are absolute"));
        fs::create_dir_all(to.parent().expect("a file has a folder")).expect("folders can be made");
        fs::copy(library, to).expect("files can be copied");
    }
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(folder.path(), readable).expect("the folder is ours");
    let inside = |args: &[&str]| {
        let mut chroot = Command::new("chroot");
        chroot.arg(format!("--userspec={NOBODY}")).arg(folder.path()).arg("/usr/local/bin/sidestream").args(args);
        chroot
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        chroot.spawn().expect("chroot is installed")
    };

    let mut demo =
        inside(&["demo", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--log-format=json", "--log=info"]);
    let log = BufReader::new(demo.stderr.take().expect("stderr is piped")).lines().map_while(Result::ok);
    let addr = tokio::task::spawn_blocking(move || {
        let mut log = log.filter_map(|line| {
            let (_, rest) = line.split_once(r#""side":"admin","addr":""#)?;
            Some(rest.split('"').next()?.to_owned())
        });
        let addr = log.next();
        std::thread::spawn(move || log.for_each(drop));
        addr
    });
    let addr = within("the program to listen", addr).await.expect("the thread lives").expect("it listens");
    let health = finish(inside(&["healthcheck", "--admin-listen", &addr])).await;
    kill_process(Pid::from_child(&demo), Signal::TERM).expect("the child is ours");
    let left = finish(demo).await;

    assert_eq!(health.code, Some(0), "{}", health.stderr);
    assert_eq!(left.code, Some(0));
}
