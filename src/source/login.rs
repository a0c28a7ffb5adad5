//! Is a redirect a way to a login page? A session that expires in the middle of a job is answered with one by many apps,
//! and so is a job that has finished, with the way to its result; only where it leads tells them apart.

use http::{HeaderMap, header};

/// Segments of a path, and labels of a foreign host, that stand for logging in; compared without case, hyphen,
/// underscore and file extension.
const WORDS: [&str; 11] =
    ["login", "signin", "logon", "auth", "authorize", "oauth", "oauth2", "sso", "saml", "saml2", "accounts"];

/// Whether the answer sends its reader to log in. The root counts, too: it is where simple apps send strangers, and no
/// job's result.
pub(super) fn is_asked_for(headers: &HeaderMap) -> bool {
    let location = headers.get(header::LOCATION).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    location.is_some_and(|location| leads_to_login(location.trim()))
}

fn leads_to_login(location: &str) -> bool {
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
    is_root || host.split('.').chain(path.split('/')).any(is_login_word)
}

fn is_login_word(text: &str) -> bool {
    let stem = text.split('.').next().unwrap_or_default();
    let word: String = stem.chars().filter(|c| !matches!(c, '-' | '_')).collect::<String>().to_ascii_lowercase();
    WORDS.contains(&&*word)
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
            assert!(leads_to_login(location), "{location}");
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
            "",
        ] {
            assert!(!leads_to_login(location), "{location}");
        }
    }
}
