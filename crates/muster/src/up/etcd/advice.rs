//! What to do about an etcd member that cannot be started: a way out that fits what it said last.

/// Words of the kernel for a disk that takes no more, or nothing at all.
const OF_A_DISK: [&str; 4] =
    ["no space left on device", "disk quota exceeded", "read-only file system", "input/output error"];

/// What to say, line by line, about member `name`, whose data are in `folder`, after its `last_lines`.
pub(crate) fn lines(name: &str, folder: &str, last_lines: &[String]) -> Vec<String> {
    let is_said = |what: &&&str| last_lines.iter().any(|line| line.to_lowercase().contains(**what));
    if let Some(what) = OF_A_DISK.iter().find(is_said) {
        return vec![
            format!(
                "The disk under {folder} is the trouble ({what}): see `df {folder}`, make room elsewhere on it or mend it."
            ),
            "Its data are needed: remove nothing there. Then stop and start again.".to_owned(),
        ];
    }
    vec![
        format!("If its data are damaged: stop, remove {folder}/{name}, start again; it joins the others."),
        format!("If more members are: remove {folder}. Registrations come back; drains and policies do not."),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(last: &str) -> String {
        lines("etcd-1", "/data/etcd", &["starting".to_owned(), last.to_owned()]).join("\n")
    }

    #[test]
    fn a_full_disk_gets_advice_about_the_disk_and_none_to_remove_data() {
        for last in [
            r#"FATAL etcd: failed to create WAL error="write /data/etcd/member/wal: no space left on device""#,
            "panic: Disk quota exceeded",
            "open /data/etcd/member/snap/db: read-only file system",
        ] {
            let said = said(last);
            assert!(said.contains("df /data/etcd") && said.contains("remove nothing"), "{last}: {said}");
            assert!(!said.contains("remove /data"), "{last}: {said}");
        }
    }

    #[test]
    fn damaged_data_may_be_removed_because_the_other_members_have_them() {
        assert!(said("panic: freepages: failed to get all reachable pages").contains("remove /data/etcd/etcd-1"));
    }
}
