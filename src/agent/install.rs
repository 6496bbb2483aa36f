//! `multimaster install <folder>`: how the binary gets into the MySQL container. The operator's image holds nothing else, so
//! the init container cannot use `cp`.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

use crate::args::InstallArgs;

/// Copies this binary and says on stderr if that fails.
pub fn main(args: &InstallArgs) -> ExitCode {
    match std::env::current_exe().and_then(|binary| install(&binary, &args.folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot copy the agent into {}: {error}", args.folder.display());
            ExitCode::FAILURE
        }
    }
}

/// Copies `binary` to `<folder>/multimaster`. Whoever looks sees all of it or nothing.
fn install(binary: &Path, folder: &Path) -> io::Result<()> {
    let unfinished = folder.join(".multimaster.new");
    fs::copy(binary, &unfinished)?;
    fs::set_permissions(&unfinished, Permissions::from_mode(0o755))?;
    File::open(&unfinished)?.sync_all()?;
    fs::rename(&unfinished, folder.join("multimaster"))
}
