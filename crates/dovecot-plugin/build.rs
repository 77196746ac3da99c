//! Passes Dovecot's ABI version on to the exported symbol, and sets how the module is linked.

fn main() {
    let abi = std::env::var("DEP_DOVECAST_SHIM_ABI_VERSION")
        .expect("dovecot-sys says which ABI it found");
    println!("cargo:rustc-env=DOVECOT_ABI_VERSION={abi}");
    // Dovecot's symbols resolve when it loads the module; ours bind among themselves; threads of
    // librdkafka may run on for a moment after dlclose, so the code stays mapped.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-Bsymbolic");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,now,-z,relro,-z,nodelete");
    // Unit tests link Dovecot's symbols in but never call them.
    println!("cargo:rustc-link-arg=-Wl,--unresolved-symbols=ignore-all");
}
