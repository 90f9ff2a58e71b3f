//! Generates `muster.v1`, and the descriptor that server reflection answers with.

use std::{env, io, path::PathBuf};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=proto/muster.proto");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?);
    tonic_prost_build::configure()
        // So that equal instances are equal bytes.
        .btree_map(".")
        .file_descriptor_set_path(out.join("muster.v1.bin"))
        .compile_protos(&["proto/muster.proto"], &["proto"])
}
