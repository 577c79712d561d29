//! The seeds of the fuzz targets that are about this crate.

#[path = "../../../tests/fuzz/src/manifest.rs"]
mod manifest;
#[path = "../../../tests/fuzz/src/seeds.rs"]
mod seeds;
#[path = "../../../tests/fuzz/src/tar.rs"]
mod tar;

#[test]
fn seeds_of_tar() {
    seeds::replay("tar", tar::check);
}

#[test]
fn seeds_of_manifest() {
    seeds::replay("manifest", manifest::check);
}
