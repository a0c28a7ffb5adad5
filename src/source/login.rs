//! Is a redirect a way to a login page? A session that expires in the middle of a job is answered with one by many apps,
//! and so is a job that has finished, with the way to its result; only where it leads tells them apart.

use http::{HeaderMap, header, uri::PathAndQuery};

/// Segments of a path, and labels of a foreign host, that stand for logging in; compared without case, hyphen,
/// underscore and file extension.
const WORDS: [&str; 10] = ["login", "signin", "logon", "auth", "authorize", "oauth", "oauth2", "sso", "saml", "saml2"];
/// Labels of a host only: in a path these are as often an app's own accounts, with their jobs below.
const HOST_WORDS: [&str; 1] = ["accounts"];

/// Whether the answer to a request for `target` sends its reader to log in. The root counts, too: it is where simple apps
/// send strangers, and no job's result.
pub(super) fn is_asked_for(headers: &HeaderMap, target: &PathAndQuery) -> bool {
    let location = headers.get(header::LOCATION).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    location.is_some_and(|location| leads_to_login(location.trim(), target.path()))
}

fn leads_to_login(location: &str, asked: &str) -> bool {
    let place = location.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = match place.split_once("//") {
        // Only in front: two slashes further on are an odd path.
        Some((scheme, rest)) if scheme.is_empty() || scheme.ends_with(':') => {
            let path = rest.find('/').map_or("", |at| &rest[at..]);
            (&rest[..rest.len() - path.len()], path)
        }
        _ => ("", place),
    };
    let is_root = matches!(path, "" | "/") && place.len() == location.len() && !location.is_empty();
    let is_host = |label: &str| WORDS.contains(&label) || HOST_WORDS.contains(&label);
    is_root
        || host.split('.').any(|label| is_host(&word(label)))
        || beyond(path, asked).any(|segment| WORDS.contains(&&*word(segment)))
}

/// The segments of `path` behind those that it begins with like `asked`, and its last one in any case: a job that is polled
/// at `/api/auth/jobs/1` has its result below `/api/auth`, too, and the way to log in may be just there.
fn beyond<'a>(path: &'a str, asked: &str) -> impl Iterator<Item = &'a str> {
    let mut asked = asked.split('/');
    let mut is_shared = true;
    let path = path.trim_end_matches('/');
    let last = path.split('/').count() - 1;
    path.split('/').enumerate().filter_map(move |(index, segment)| {
        is_shared &= asked.next() == Some(segment);
        (!is_shared || index == last).then_some(segment)
    })
}

fn word(text: &str) -> String {
    let stem = text.split('.').next().unwrap_or_default();
    stem.chars().filter(|c| !matches!(c, '-' | '_')).collect::<String>().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    // What frameworks and identity providers send strangers to.
    #[test]
    fn the_ways_to_log_in_that_people_have_are_known() {
        for location in [
            "/login",
            "/login?next=%2Fapi%2Fvideos%2Fv1",
            "/accounts/login/?next=/api/videos/v1",
            "/users/sign_in",
            "/Sign-In",
            "/login.php",
            "/api/auth/signin?callbackUrl=%2F",
            "https://app.example/auth/login#x",
            "//sso.example",
            "https://login.example/common/oauth2/v2.0/authorize?client_id=1",
            "https://id.example/realms/x/protocol/openid-connect/auth?client_id=1",
            "https://accounts.example/o/consent",
            "/",
            "https://app.example",
        ] {
            assert!(leads_to_login(location, "/api/videos/v1"), "{location}");
        }
    }

    #[test]
    fn the_way_to_a_result_is_none() {
        for location in [
            "/results/v1",
            "/videos/v1.mp4",
            "v1/result",
            "/results/v1?next=/login",
            "https://cdn.example/v1.mp4?X-Signature=auth",
            "https://store.example/author/logins/v1",
            "/?video=v1",
            "/blogin//login-video.mp4",
            "/accounts/7/results/v1",
            "https://app.example/accounts/7/results/v1",
            "",
        ] {
            assert!(!leads_to_login(location, "/api/videos/v1"), "{location}");
        }
    }

    // An app that has all of its routes below such a word, or the jobs of its log-ins.
    #[test]
    fn a_word_on_the_way_to_the_job_itself_is_none() {
        let asked = "/api/auth/jobs/v1";
        for location in ["/api/auth/jobs/v1/result", "https://app.example/api/auth/results/v1", "/api/auth/jobs/v1"] {
            assert!(!leads_to_login(location, asked), "{location}");
        }
        for location in [
            "/api/auth/login",
            "/auth/jobs/v1",
            "/api/auth",
            "/api/auth/",
            "/v2/auth/jobs/v1",
            "https://sso.example/api/x",
        ] {
            assert!(leads_to_login(location, asked), "{location}");
        }
    }
}
