//! Secrets that the functions need and the caller did not configure: generated at random and stored with the data.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// The environment variables, and the prefixes of their values.
const SECRETS: [(&str, &str); 3] = [("COOKIE_KEY", ""), ("FINGERPRINT_KEY", ""), ("WEBHOOK_SECRET", "whsec_")];

/// The secrets by environment variable: those stored in `data`, or new ones. They are stored because a restart with a
/// new cookie key would invalidate every visitor's cookie.
pub(crate) fn secrets(data: Option<&Path>) -> io::Result<BTreeMap<String, String>> {
    let Some(path) = data.map(|data| data.join("secrets.json")) else {
        return generate();
    };
    match File::open(&path) {
        Ok(file) => Ok(serde_json::from_reader(file)?),
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => {
            let secrets = generate()?;
            write_private(&path, serde_json::to_string_pretty(&secrets)?.as_bytes())?;
            Ok(secrets)
        }
        Err(problem) => Err(problem),
    }
}

#[allow(clippy::disallowed_methods, reason = "the local service generates what an operator would configure")]
fn generate() -> io::Result<BTreeMap<String, String>> {
    let secrets = SECRETS.map(|(name, prefix)| {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        Ok((name.to_owned(), format!("{prefix}{}", STANDARD.encode(key))))
    });
    secrets.into_iter().collect()
}

/// Writes a file that only its owner can read. A crash leaves the old file or the complete new one.
fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&fresh)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_stored_with_the_data_and_only_their_owner_can_read_them() {
        let data = std::env::temp_dir().join(crate::clock::id());
        std::fs::create_dir(&data).unwrap();
        let first = secrets(Some(&data)).unwrap();
        assert_eq!(secrets(Some(&data)).unwrap(), first);
        assert_ne!(secrets(None).unwrap(), first);
        assert!(first["WEBHOOK_SECRET"].starts_with("whsec_"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(data.join("secrets.json")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        std::fs::remove_dir_all(data).unwrap();
    }
}
