//! Where the output goes: standard output, or the file of `--output`.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, IsTerminal, Seek, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anstream::ColorChoice;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::plain::plain;

/// Columns when standard output is no terminal, as in `tcpleak | mail`.
const WIDTH_OF_A_PIPE: usize = 80;

/// Columns of a text report in a file.
const WIDTH_OF_A_FILE: usize = 100;

/// Where the output goes.
///
/// Every error keeps its [`io::ErrorKind`]: [`io::ErrorKind::BrokenPipe`] says that the reader has
/// had enough (`tcpleak | head`), which is a quiet end and not a failure.
#[derive(Debug)]
pub struct Destination(Kind);

#[derive(Debug)]
enum Kind {
    Stdout,
    /// A regular file, which may not exist yet; `lines` once [`Destination::append`] made it.
    Regular {
        path: PathBuf,
        lines: Option<File>,
    },
    /// A pipe, a terminal, `/dev/null`: written to, never replaced.
    Special {
        path: PathBuf,
        file: File,
    },
}

impl Destination {
    /// Standard output, or the file at `path`. A symbolic link is followed.
    ///
    /// # Errors
    ///
    /// When the file could not be written, so that nobody learns that after an hour of tracing.
    pub fn open(path: Option<&Path>) -> io::Result<Self> {
        let Some(path) = path else {
            return Ok(Self(Kind::Stdout));
        };
        let kind = open_file(path).map_err(|error| explain(path, error))?;
        Ok(Self(kind))
    }

    /// Whether this is a file that holds nothing but the last report, not a stream of reports.
    pub fn is_replaced(&self) -> bool {
        matches!(self.0, Kind::Regular { .. })
    }

    /// Whether styles may be written: on a terminal, unless `NO_COLOR` and its like say otherwise.
    pub fn colour(&self) -> ColorChoice {
        match self.0 {
            Kind::Stdout => anstream::AutoStream::choice(&io::stdout()),
            Kind::Regular { .. } | Kind::Special { .. } => ColorChoice::Never,
        }
    }

    /// Whether the other end of a pipe on standard output is closed.
    pub fn is_abandoned(&self) -> bool {
        if !matches!(self.0, Kind::Stdout) {
            return false;
        }
        let stdout = io::stdout();
        // No event is asked for: the kernel reports a closed end all the same.
        let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
        poll(&mut watched, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
            && watched[0].revents().contains(PollFlags::ERR)
    }

    /// Columns that a line may take.
    pub fn width(&self) -> usize {
        match self.0 {
            // Also asks standard error and standard input: `tcpleak | less` fits its terminal.
            Kind::Stdout => terminal_size::terminal_size()
                .map_or(WIDTH_OF_A_PIPE, |(width, _)| usize::from(width.0)),
            Kind::Regular { .. } | Kind::Special { .. } => WIDTH_OF_A_FILE,
        }
    }

    /// Rows of the terminal that this is; `None` when it is something else.
    pub fn screen(&self) -> Option<usize> {
        let stdout = io::stdout();
        let is_terminal = matches!(self.0, Kind::Stdout) && stdout.is_terminal();
        let size = is_terminal.then(|| terminal_size::terminal_size_of(stdout))??;
        Some(usize::from(size.1.0))
    }

    /// Makes `bytes` the whole content of a file: a reader finds the old content or the new one,
    /// never a part. A stream gets them after what it got before.
    ///
    /// # Errors
    ///
    /// Names the file and the next step. A file keeps its old content.
    pub fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &self.0 {
            Kind::Regular { path, .. } => replace(path, bytes)
                .map(drop)
                .map_err(|error| explain(path, error)),
            Kind::Stdout | Kind::Special { .. } => self.append(bytes),
        }
    }

    /// Adds whole lines. The first call replaces an existing file as [`Self::replace`] does; the
    /// following ones add to it, so that neither memory nor work grows with its length.
    ///
    /// # Errors
    ///
    /// Names the file and the next step. A line of which only a part could be written is cut off.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.0 {
            Kind::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout
                    .write_all(bytes)
                    .and_then(|()| stdout.flush())
                    .map_err(|error| {
                        io::Error::new(
                            error.kind(),
                            format!("cannot write to standard output: {error}"),
                        )
                    })
            }
            Kind::Special { path, file } => {
                file.write_all(bytes).map_err(|error| explain(path, error))
            }
            Kind::Regular { path, lines } => match lines {
                Some(file) => add(file, bytes),
                None => replace(path, bytes).map(|file| *lines = Some(file)),
            }
            .map_err(|error| explain(path, error)),
        }
    }
}

fn open_file(path: &Path) -> io::Result<Kind> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        // Replacing would unlink the device: as root that would cost the host its /dev/null.
        Ok(metadata) if !metadata.is_file() => {
            let file = OpenOptions::new().write(true).open(path)?;
            Ok(Kind::Special {
                path: path.into(),
                file,
            })
        }
        Ok(_) => regular(fs::canonicalize(path)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => regular(path.into()),
        Err(error) => Err(error),
    }
}

fn regular(path: PathBuf) -> io::Result<Kind> {
    successor(&path)?;
    Ok(Kind::Regular { path, lines: None })
}

/// An empty file beside `path`, to be renamed over it; removed when dropped before that.
fn successor(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(name);
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    let file = tempfile::Builder::new()
        .prefix(&prefix)
        // What any program asks for: the umask decides.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(directory)?;
    if let Ok(metadata) = fs::metadata(path) {
        let mode = metadata.permissions().mode() & 0o777;
        file.as_file()
            .set_permissions(Permissions::from_mode(mode))?;
    }
    Ok(file)
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = successor(path)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file.persist(path)?)
}

fn add(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let length = file.metadata()?.len();
    let written = file.write_all(bytes);
    if written.is_err() {
        // Best effort: the error that matters is the one that is returned.
        let _ = file
            .set_len(length)
            .and_then(|()| file.seek(io::SeekFrom::Start(length)));
    }
    written
}

/// The error with the name of the file and what to do about it.
fn explain(path: &Path, error: io::Error) -> io::Error {
    use io::ErrorKind::{
        InvalidFilename, IsADirectory, NotADirectory, NotFound, PermissionDenied, QuotaExceeded,
        ReadOnlyFilesystem, StorageFull,
    };
    let next_step = match error.kind() {
        IsADirectory | InvalidFilename => "give --output the name of a file",
        NotFound | NotADirectory => "create its directory first",
        PermissionDenied | ReadOnlyFilesystem => "give --output a directory that you may write to",
        StorageFull | QuotaExceeded => "free some space, or give --output another place",
        _ => "give --output another place",
    };
    let path = path.to_string_lossy();
    io::Error::new(
        error.kind(),
        format!("cannot write {}: {error}; {next_step}", plain(&path)),
    )
}

#[cfg(test)]
mod tests {
    use std::os::{fd::AsRawFd, unix::fs::FileTypeExt};

    use tempfile::{TempDir, tempdir};

    use super::*;

    fn open(path: &Path) -> io::Result<Destination> {
        Destination::open(Some(path))
    }

    fn names(directory: &TempDir) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let directory = tempdir().unwrap();
        let path = directory.path().join("report.json");
        fs::write(&path, "a much longer report of yesterday").unwrap();
        let mut reader = File::open(&path).unwrap();
        let mut destination = open(&path).unwrap();
        destination.replace(b"first").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        destination.replace(b"2nd").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "2nd");
        assert_eq!(
            io::read_to_string(&mut reader).unwrap(),
            "a much longer report of yesterday"
        );
        assert_eq!(names(&directory), ["report.json"]);
    }

    #[test]
    fn lines_replace_the_old_file_once_and_then_add_up() {
        let directory = tempdir().unwrap();
        let path = directory.path().join("reports.ndjson");
        fs::write(&path, "yesterday\n").unwrap();
        let mut destination = open(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "yesterday\n");
        for line in ["one\n", "two\n", "three\n"] {
            destination.append(line.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\n");
        assert_eq!(names(&directory), ["reports.ndjson"]);
    }

    #[test]
    fn a_file_keeps_its_permissions() {
        let directory = tempdir().unwrap();
        let path = directory.path().join("report");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        open(&path).unwrap().replace(b"new").unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o640
        );
    }

    #[test]
    fn a_new_file_has_the_permissions_of_any_other() {
        let directory = tempdir().unwrap();
        let (path, other) = (
            directory.path().join("report"),
            directory.path().join("other"),
        );
        open(&path).unwrap().replace(b"new").unwrap();
        fs::write(&other, "new").unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(path), mode(other));
    }

    #[test]
    fn a_symbolic_link_is_followed() {
        let directory = tempdir().unwrap();
        let (target, link) = (
            directory.path().join("target"),
            directory.path().join("link"),
        );
        fs::write(&target, "old").unwrap();
        std::os::unix::fs::symlink("target", &link).unwrap();
        open(&link).unwrap().replace(b"new").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn a_device_is_written_to_and_never_replaced() {
        let mut destination = open(Path::new("/dev/null")).unwrap();
        destination.replace(b"report").unwrap();
        destination.append(b"line\n").unwrap();
        assert!(
            fs::metadata("/dev/null")
                .unwrap()
                .file_type()
                .is_char_device()
        );
    }

    #[test]
    fn a_reader_that_goes_away_is_told_apart_from_a_failure() {
        let (reader, writer) = io::pipe().unwrap();
        let mut destination =
            open(Path::new(&format!("/proc/self/fd/{}", writer.as_raw_fd()))).unwrap();
        destination.append(b"one\n").unwrap();
        drop(reader);
        assert_eq!(
            destination.append(b"two\n").unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
    }

    #[test]
    fn an_error_names_the_file_and_the_next_step() {
        let directory = tempdir().unwrap();
        let message = |path: &Path| open(path).unwrap_err().to_string();
        let absent = message(&directory.path().join("absent/report"));
        assert!(absent.contains("absent/report: "), "{absent}");
        assert!(absent.ends_with("; create its directory first"), "{absent}");
        let folder = message(directory.path());
        assert!(
            folder.ends_with("; give --output the name of a file"),
            "{folder}"
        );
        let full = open(Path::new("/dev/full"))
            .unwrap()
            .append(b"line\n")
            .unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert!(
            full.to_string().starts_with("cannot write /dev/full: "),
            "{full}"
        );
        let hostile = message(Path::new("/absent/\x1b[2J/report"));
        assert!(hostile.contains("\\x1b[2J"), "{hostile}");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_known_before_the_first_report() {
        let directory = tempdir().unwrap();
        let path = directory.path().join("report");
        fs::write(&path, "old").unwrap();
        open(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(
            open(&path.join("below")).unwrap_err().kind(),
            io::ErrorKind::NotADirectory
        );
    }
}
