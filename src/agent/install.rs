//! `multimaster install <folder>`: copies the binary into the MySQL container. The operator's image holds nothing but the binary, so the init
//! container has no `cp`.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

use crate::args::InstallArgs;

/// Copies this binary. If that fails, the error is on stderr and the exit code is 1.
pub fn main(args: &InstallArgs) -> ExitCode {
    match std::env::current_exe().and_then(|binary| install(&binary, &args.folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot copy the agent into {}: {error}", args.folder.display());
            ExitCode::FAILURE
        }
    }
}

/// Copies `binary` to `<folder>/multimaster`. The file has its final name only when it is whole.
fn install(binary: &Path, folder: &Path) -> io::Result<()> {
    let unfinished = folder.join(".multimaster.new");
    fs::copy(binary, &unfinished)?;
    fs::set_permissions(&unfinished, Permissions::from_mode(0o755))?;
    File::open(&unfinished)?.sync_all()?;
    fs::rename(&unfinished, folder.join("multimaster"))
}
