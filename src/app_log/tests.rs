use std::{fs::OpenOptions, io::Write, path::Path};

use prometheus::Registry;
use proptest::prelude::*;

use super::*;

const ERROR: &str = "stream failed: Invalid state: Controller is already closed\n";

/// A log in a directory of its own.
struct Place {
    directory: tempfile::TempDir,
    metrics: Arc<Metrics>,
}

impl Place {
    fn new() -> Self {
        let metrics = Arc::new(Metrics::register(&Registry::new(), &[]).unwrap());
        Self { directory: tempfile::tempdir().unwrap(), metrics }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The log's file as a logger opens it.
    fn writer(&self) -> File {
        writer(&self.path("app.log"))
    }

    /// Puts so many errors at the end of the log's file, which may have to be made.
    fn print(&self, errors: usize) {
        print(&mut self.writer(), errors);
    }

    fn open(&self) -> AppLog {
        AppLog::open(self.path("app.log"), Arc::clone(&self.metrics))
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    /// Looks, and says how many errors are counted since the start.
    fn look(&self, log: &mut AppLog) -> u64 {
        log.look();
        self.errors()
    }

    fn errors(&self) -> u64 {
        self.metrics.app_error_count()
    }
}

fn writer(path: &Path) -> File {
    OpenOptions::new().append(true).create(true).open(path).unwrap()
}

fn print(file: &mut File, errors: usize) {
    file.write_all(ERROR.repeat(errors).as_bytes()).unwrap();
}

#[test]
fn what_happened_before_the_start_is_not_counted() {
    let place = Place::new();
    place.print(3);

    let mut log = place.open();
    assert_eq!(place.look(&mut log), 0);

    place.print(1);
    log.look();
    assert_eq!(place.look(&mut log), 1);
}

#[test]
fn a_file_that_comes_later_is_read_from_its_beginning() {
    let place = Place::new();
    let mut log = place.open();
    log.look();

    place.print(2);
    assert_eq!(place.look(&mut log), 2);
}

// Also what came to the old file since the last look, and what still comes to it.
#[test]
fn a_rotation_by_rename_loses_nothing_and_counts_nothing_twice() {
    let place = Place::new();
    let mut old = place.writer();
    let mut log = place.open();

    print(&mut old, 1);
    place.rename("app.log", "app.log.1");
    place.print(1);
    assert_eq!(place.look(&mut log), 2);

    print(&mut old, 1);
    place.print(1);
    assert_eq!(place.look(&mut log), 4);
}

#[test]
fn while_there_is_no_new_file_the_old_one_is_read_on() {
    let place = Place::new();
    let mut old = place.writer();
    let mut log = place.open();
    place.rename("app.log", "app.log.1");

    for count in 1..4 {
        print(&mut old, 1);
        assert_eq!(place.look(&mut log), count);
    }
    place.print(1);
    assert_eq!(place.look(&mut log), 4);
}

#[test]
fn a_copied_and_truncated_file_is_read_from_its_beginning() {
    let place = Place::new();
    let mut app = place.writer();
    let mut log = place.open();
    print(&mut app, 3);
    log.look();

    app.set_len(0).unwrap();
    print(&mut app, 1);
    assert_eq!(place.look(&mut log), 4);

    // By the time it is looked at it has grown past where it was read to.
    app.set_len(0).unwrap();
    app.write_all(b"ready in 12 ms\n").unwrap();
    print(&mut app, 5);
    assert_eq!(place.look(&mut log), 9);
}

// `node app > app.log` has its place in the file, and leaves a hole when it is truncated.
#[test]
fn a_writer_that_does_not_append_is_followed_over_the_hole_it_leaves() {
    let place = Place::new();
    let mut app = File::create(place.path("app.log")).unwrap();
    let mut log = place.open();
    print(&mut app, 3);
    log.look();

    app.set_len(0).unwrap();
    print(&mut app, 1);
    assert_eq!(place.look(&mut log), 4);
}

#[test]
fn a_file_that_is_replaced_by_another_is_a_new_one() {
    let place = Place::new();
    place.print(1);
    let mut log = place.open();

    print(&mut writer(&place.path("new.log")), 2);
    place.rename("new.log", "app.log");
    assert_eq!(place.look(&mut log), 2);
}

#[test]
fn what_is_rotated_away_and_back_is_not_read_twice() {
    let place = Place::new();
    let mut log = place.open();
    place.print(1);
    log.look();
    place.rename("app.log", "app.log.1");
    place.print(1);
    log.look();
    place.rename("app.log.1", "app.log");
    place.print(1);
    assert_eq!(place.look(&mut log), 3);
}

#[test]
fn rotated_files_are_let_go() {
    let place = Place::new();
    let mut log = place.open();
    for n in 0..10 {
        place.print(1);
        log.look();
        place.rename("app.log", &format!("app.log.{n}"));
    }
    log.look();
    assert!(log.tails.len() <= OPEN_MAX, "{} are open", log.tails.len());

    place.print(1);
    for _ in 0..=QUIET_MAX {
        log.look();
    }
    assert_eq!((log.tails.len(), place.errors()), (1, 11));
}

#[test]
fn a_directory_of_that_name_is_waited_out() {
    let place = Place::new();
    let mut log = place.open();
    fs::create_dir(place.path("app.log")).unwrap();
    log.look();
    fs::remove_dir(place.path("app.log")).unwrap();
    place.print(1);
    assert_eq!(place.look(&mut log), 1);
}

/// What may happen to a log.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The app writes so many errors, each after a line of its own number.
    Write(usize),
    /// The file is renamed; the app goes on in it.
    Rename,
    /// The app opens the file by its name again.
    Reopen,
    /// The file is copied and truncated, right after a look.
    Truncate,
    Look,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_usize..4).prop_map(Step::Write),
        1 => Just(Step::Rename),
        2 => Just(Step::Reopen),
        1 => Just(Step::Truncate),
        3 => Just(Step::Look),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    // A rotated file that is written to again after ten quiet seconds is the one thing it may miss; no history here is
    // so long, and none rotates more often between two looks than files are kept.
    #[test]
    fn every_error_is_counted_once_whatever_is_done_to_the_file(steps in proptest::collection::vec(step(), 0..40)) {
        let place = Place::new();
        let path = place.path("app.log");
        let mut log = place.open();
        let mut app = place.writer();
        log.look();
        let (mut written, mut number) = (0, 0);
        for step in steps {
            match step {
                Step::Write(errors) => {
                    for _ in 0..errors {
                        number += 1;
                        app.write_all(format!("request {number}\n{ERROR}").as_bytes()).unwrap();
                    }
                    written += errors as u64;
                }
                Step::Rename => {
                    // Missed between two looks, a file was never seen under the name.
                    log.look();
                    if path.exists() {
                        place.rename("app.log", &format!("app.log.{number}.{written}"));
                    }
                }
                Step::Reopen => app = place.writer(),
                Step::Truncate => {
                    log.look();
                    app.set_len(0).unwrap();
                }
                Step::Look => log.look(),
            }
        }
        // A file that was made after the last look.
        log.look();
        prop_assert_eq!(place.errors(), written);
    }
}
