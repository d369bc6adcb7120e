//! Whoever runs `join` as root reads and writes for the node's own user: the one
//! whose directory it is. That user can put a link in the place of anything below
//! it, at any moment, to a file that only root may read, or to a directory that
//! only root may write in. So root does there what that user could do, and no
//! more: what a link leads to is the kernel's to judge.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use anyhow::Context as _;
use rustix::{
    process::{Gid, Uid, getegid, geteuid, getgroups},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

/// Whose a directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    user: Uid,
    group: Gid,
    of: String,
}

impl Owner {
    /// The owner of a directory, or of where it will be made. Of a link its own
    /// owner counts: who can make it lead elsewhere.
    ///
    /// # Errors
    /// It can't be looked at.
    pub(super) fn of(directory: &Path) -> anyhow::Result<Self> {
        let directory = std::path::absolute(directory)?;
        let is_there = |path: &&Path| fs::symlink_metadata(path).is_ok();
        let nearest = directory.ancestors().find(is_there);
        let nearest = nearest.unwrap_or(Path::new("/"));
        let shown = || nearest.display().to_string();
        let mut found = fs::symlink_metadata(nearest).with_context(shown)?;
        if found.is_symlink() && found.uid() == 0 {
            // The administrator's own word for where it is.
            found = fs::metadata(nearest).with_context(shown)?;
        }
        Ok(Self {
            user: Uid::from_raw(found.uid()),
            group: Gid::from_raw(found.gid()),
            of: shown(),
        })
    }

    /// Does something with this owner's rights and no others; what is made
    /// belongs to the owner. Only this thread's rights change, and only until it
    /// is done, so it must not wait for anything that another thread does.
    ///
    /// # Errors
    /// The owner is somebody else, and this is not root; or what was to be done
    /// failed.
    ///
    /// # Panics
    /// If the kernel does not give root its rights back.
    pub(super) fn doing<T>(&self, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        if geteuid() == self.user {
            return work();
        }
        let acting = Acting::begin(self).with_context(|| {
            format!(
                "{} belongs to another user (number {}): run this as root, or as that user",
                self.of,
                self.user.as_raw()
            )
        })?;
        let done = work();
        drop(acting);
        done
    }
}

/// Gives this thread its rights back when it is dropped.
struct Acting {
    user: Uid,
    group: Gid,
    groups: Vec<Gid>,
}

impl Acting {
    fn begin(owner: &Owner) -> rustix::io::Result<Self> {
        let groups = getgroups()?;
        // Where this is refused nothing has changed.
        set_thread_groups(&[owner.group])?;
        let acting = Self {
            user: geteuid(),
            group: getegid(),
            groups,
        };
        // The user last: it takes root to change the others.
        set_thread_res_gid(None::<Gid>, owner.group, None::<Gid>)?;
        set_thread_res_uid(None::<Uid>, owner.user, None::<Uid>)?;
        Ok(acting)
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        // To go on with another user's rights would be worse than to end.
        const BACK: &str = "this thread gets its rights back";
        set_thread_res_uid(None::<Uid>, self.user, None::<Uid>).expect(BACK);
        set_thread_res_gid(None::<Gid>, self.group, None::<Gid>).expect(BACK);
        set_thread_groups(&self.groups).expect(BACK);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::{PermissionsExt as _, chown, lchown, symlink},
        path::PathBuf,
        sync::atomic::{AtomicBool, Ordering},
    };

    use crate::identity::{make_directory, write_new};

    use super::*;

    const SERVICE: u32 = 4_242;

    /// A place in which another user has a directory, and root a secret and a
    /// directory; `None`: this is not root, who alone can give files away.
    fn place() -> Option<(tempfile::TempDir, PathBuf)> {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let data = place.path().join("data");
        fs::create_dir(&data).unwrap();
        chown(&data, Some(SERVICE), Some(SERVICE)).ok()?;
        let (secret, aside) = (place.path().join("shadow"), place.path().join("etc"));
        write_new(&secret, "root's", true, true).unwrap();
        fs::create_dir(&aside).unwrap();
        Some((place, data))
    }

    /// Scenario: root runs `join` for a user who has put links in its directory:
    /// where the pair is read, to a file of root's; where the pair is written,
    /// to a directory of root's; and in the place of the directory itself.
    /// Guarantee: nothing of root's is read, written or given away; what is made
    /// below the directory is that user's; afterwards this thread has root's
    /// rights again. (Needs root: nobody else gives files away.)
    #[test]
    fn root_does_no_more_than_the_owner_could() {
        let Some((place, data)) = place() else { return };
        let (secret, aside) = (place.path().join("shadow"), place.path().join("etc"));
        let owner = Owner::of(&data).unwrap();
        let (pair, directory) = (data.join("kl-pu.pem"), data.join("identity"));
        symlink(&secret, &pair).unwrap();
        symlink(&aside, &directory).unwrap();
        for path in [&pair, &directory] {
            // As that user makes it: the link itself has the right owner.
            lchown(path, Some(SERVICE), Some(SERVICE)).unwrap();
        }
        let read = owner.doing(|| Ok(fs::read_to_string(&pair)?));
        assert!(read.is_err(), "{read:?}");
        let written = owner.doing(|| Ok(write_new(&directory.join("k.pem"), "k", true, true)?));
        assert!(written.is_err(), "{written:?}");
        // Over a link it is written all the same: the link goes, not its target.
        owner
            .doing(|| Ok(write_new(&pair, "new", true, true)?))
            .unwrap();
        assert_eq!(fs::read_to_string(&pair).unwrap(), "new");
        assert_eq!(fs::symlink_metadata(&pair).unwrap().uid(), SERVICE);

        let instead = place.path().join("instead");
        symlink(&aside, &instead).unwrap();
        lchown(&instead, Some(SERVICE), Some(SERVICE)).unwrap();
        let owner = Owner::of(&instead).unwrap();
        let made = owner.doing(|| Ok(make_directory(&instead.join("identity"))?));
        assert!(made.is_err(), "{made:?}");

        assert_eq!(fs::read_dir(&aside).unwrap().count(), 0);
        assert_eq!(fs::read_to_string(&secret).unwrap(), "root's");
        assert_eq!(fs::metadata(&secret).unwrap().uid(), 0);
        assert_eq!((geteuid(), getegid()), (Uid::ROOT, Gid::ROOT));
    }

    /// Scenario: while root reads and writes below another user's directory that
    /// user puts a link to root's directory in the place of its own and takes it
    /// away again, as fast as it can.
    /// Guarantee: whenever it does, nothing comes about in root's directory.
    /// (Needs root.)
    #[test]
    fn a_link_in_between_leads_nowhere() {
        const TIMES: usize = 2_000;
        let Some((place, data)) = place() else { return };
        let aside = place.path().join("etc");
        let owner = Owner::of(&data).unwrap();
        let (directory, away) = (data.join("identity"), data.join("away"));
        owner.doing(|| Ok(make_directory(&directory)?)).unwrap();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    fs::rename(&directory, &away).unwrap();
                    symlink(&aside, &directory).unwrap();
                    fs::remove_file(&directory).unwrap();
                    fs::rename(&away, &directory).unwrap();
                }
            });
            let pair = directory.join("kl-pu.pem");
            for _ in 0..TIMES {
                let _ = owner.doing(|| Ok(fs::write(&pair, "key")?));
            }
            is_over.store(true, Ordering::Relaxed);
        });
        assert_eq!(fs::read_dir(&aside).unwrap().count(), 0);
        let pair = fs::metadata(directory.join("kl-pu.pem")).unwrap();
        assert_eq!(pair.uid(), SERVICE, "some came about where they should");
    }
}
