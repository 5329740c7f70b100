fn main() {
    let ok = xtask::edge::test(xtask::tools::IfMissing::Install).unwrap();
    std::process::exit(i32::from(!ok));
}
